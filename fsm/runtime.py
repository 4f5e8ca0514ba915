"""`Runtime`: all programs of one vocabulary, served in batch. Implements `engine.base.Masks`.

    states ──lookup──▶ rows known?  yes: done (a warm step)
                       no: walk the token trie once, intern the mask in the row pool, remember the row under
                           (state, frames consulted), so that the same situation elsewhere is a look-up too

Static states that are not expanded end in MISS and are queued in `take_misses` for whoever owns the machine (a grammar
worker, or the caller itself in embedded use); `apply` brings its answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fsm import masks, steps
from fsm.closing import Closing, Search, Way
from fsm.image import MISSING, NOT_ALLOWED, Image, PackedImage
from fsm.layout import HI, PARSER
from fsm.profiles import Profiles
from fsm.rows import RowPool
from fsm.tokens import TokenTable
from fsm.trie import TokenTrie
from grammar.controls import MARK
from grammar.tables import Delta

LONGEST_FORCED = 200
"""Bytes that are looked ahead."""

MANY_FORCED = 10_000
"""States of a program whose forced bytes are remembered."""

Miss = tuple[int, int]
"""(state, 0): expand the state; (ret, verdict above 0): resume after that verdict."""


@dataclass(slots=True)
class Figures:
    """Counters since the start: row look-ups by kind, and the trie nodes that cold masks visited."""

    warm: int = 0
    cold: int = 0
    misses: int = 0
    nodes: int = 0


@dataclass(slots=True)
class _Slot:
    image: Image
    generation: int
    closing: Closing
    forced: dict[int, bytes] = field(default_factory=dict)
    misses: set[Miss] = field(default_factory=set)


class Sleeping(NamedTuple):
    """A program while nobody uses it, and the batch in which it was last right about rows."""

    image: PackedImage
    batch: int

    @property
    def nbytes(self) -> int:
        return len(self.image.data)


class Runtime:
    """Programs over one `TokenTable`. Program 0 is the null program: everything allowed, always accepting, one state
    (0)."""

    def __init__(self, table: TokenTable, pool: RowPool | None = None) -> None:
        self.table = table
        self.pool = pool or RowPool(table.vocab_size)
        self.figures = Figures()
        self._trie = table.trie
        self._profiles = Profiles(table)
        self._keys = (self._trie.byte, self._trie.skip, self._profiles.quoted.byte, self._profiles.quoted.skip)
        self._slots: list[_Slot | None] = [None]
        self._free: list[int] = []
        self._wanting: set[int] = set()
        self._desc: NDArray[np.int64] = np.zeros((64, 2), np.int64)
        self._mask: NDArray[np.uint32] = np.zeros(self.pool.words, np.uint32)
        self._missing: NDArray[np.int32] = np.zeros((256, 2), np.int32)
        self._info: NDArray[np.int64] = np.zeros(4, np.int64)
        self._scratch: NDArray[np.int64] = np.zeros(4, np.int64)
        self._ending = np.array(table.eos_ids, np.int32)

    # -- programs ------------------------------------------------------------------------------------------------------

    def add(self, image: Image) -> int:
        """Register a program; returns its number."""
        if self._free:
            program = self._free.pop()
        else:
            program = len(self._slots)
            self._slots.append(None)
            if program >= len(self._desc):
                self._desc = np.concatenate([self._desc, np.zeros_like(self._desc)])
        self._slots[program] = _Slot(image, -1, Closing(self, program))
        self._refresh(program)
        return program

    def drop(self, program: int) -> None:
        """Forget a program that no sequence uses any more. Its rows stay in the pool."""
        self._slots[program] = None
        self._wanting.discard(program)
        self._desc[program] = 0
        self._free.append(program)

    def sleep(self, program: int) -> Sleeping:
        """Forget a program that no sequence uses for now, less what `wake` brings back."""
        sleeping = Sleeping(self._slot(program).image.pack(), self.pool.now)
        self.drop(program)
        return sleeping

    def wake(self, sleeping: Sleeping) -> int:
        """The program again, under a new number; its configurations have new ones, but for the start, and its masks are
        warm as long as their rows are kept."""
        image = Image.unpack(sleeping.image)
        image.forget_rows(self.pool.since(sleeping.batch))
        return self.add(image)

    def trim(self, n_bytes: int, in_use: Iterable[int]) -> None:
        """Where the rows hold more than ``n_bytes``, drop those longest not asked for until they hold half of it.
        ``in_use``: the rows that sequences know by number."""
        if self.pool.nbytes() <= n_bytes:
            return
        kept = self.pool.recent(n_bytes // 2, np.fromiter(in_use, np.int32))
        for slot in self._slots:
            if slot is not None:
                slot.image.forget_rows(~kept)
        self.pool.keep(kept)

    def start(self, program: int) -> int:
        return 0 if program == 0 else self._slot(program).image.start

    def apply(self, program: int, delta: Delta) -> None:
        """Append what the grammar room has written for ``program``."""
        self._slot(program).image.apply(delta)
        self._refresh(program)

    def take_misses(self, program: int) -> list[Miss]:
        """The expansions that sequences of ``program`` wait for, sorted; the queue is empty afterwards."""
        slot = self._slot(program)
        misses = sorted(slot.misses)
        slot.misses.clear()
        self._wanting.discard(program)
        return misses

    def missing(self) -> set[int]:
        """The programs whose sequences wait for expansions."""
        return set(self._wanting)

    def nbytes(self) -> int:
        """Bytes of all programs and rows."""
        return self.pool.nbytes() + sum(slot.image.nbytes for slot in self._slots if slot is not None)

    def nbytes_of(self, program: int) -> int:
        """Bytes of one program's tables."""
        return self._slot(program).image.nbytes

    def image(self, program: int) -> Image:
        """The tables of a program other than 0, to be read until the next call."""
        return self._slot(program).image

    # -- batch calls (engine.base.Masks) -------------------------------------------------------------------------------

    def advance(
        self,
        programs: NDArray[np.int32],
        states: NDArray[np.int32],
        tokens: NDArray[np.int32],
        out: NDArray[np.int32],
        status: NDArray[np.uint8],
    ) -> None:
        """out[i] = state after tokens[i]; states[i] where status[i] is REFUSED or MISS. ``out`` must not alias
        ``states``."""
        missing = self._room_for(len(programs))
        table = self.table
        while True:
            steps.advance(self._desc, programs, states, tokens, table.read, table.read_offset, out, status, missing)
            if not status.any():
                return
            full = np.flatnonzero(status == steps.FULL)
            if not len(full):
                break
            for program in set(programs[full].tolist()):
                self._make_room(program)
        for i in np.flatnonzero(status == steps.MISS):
            self._note_miss(int(programs[i]), missing[i])

    def rows(
        self, programs: NDArray[np.int32], states: NDArray[np.int32], out: NDArray[np.int32], status: NDArray[np.uint8]
    ) -> None:
        """out[i] = row of the tokens allowed in states[i]; status OK or MISS."""
        pool = self.pool
        pool.now += 1
        cold = masks.lookup(self._desc, programs, states, *self._keys, pool.used, pool.now, out, status)
        self.figures.warm += len(programs) - cold
        if cold:
            for i in np.flatnonzero(status == steps.COLD):
                row = self._fill(int(programs[i]), int(states[i]))
                out[i] = max(row, 0)
                status[i] = steps.OK if row >= 0 else steps.MISS

    def accepting(self, programs: NDArray[np.int32], states: NDArray[np.int32], out: NDArray[np.bool_]) -> None:
        """out[i] = the text so far is a complete sentence. A state that is not expanded yet counts as not accepting;
        it has no row yet either, so a caller that has a row has the right answer."""
        status = np.empty(len(programs), np.uint8)
        steps.accepting(self._desc, programs, states, out.view(np.uint8), status, self._room_for(len(programs)))

    def way(self, program: int, state: int) -> Search[Way | None]:
        """Search for tokens that complete a sentence of a program other than 0 (`fsm.closing`)."""
        return self._slot(program).closing.way(state)

    # -- one configuration ---------------------------------------------------------------------------------------------

    def allowed_bytes(self, program: int, state: int) -> NDArray[np.bool_] | None:
        """bool[256], which bytes may come next; None on a miss."""
        out = np.empty(256, np.uint8)
        while True:
            image = self._slot(program).image
            code = masks.allowed_bytes(image.heap, state, out, self._missing, self._info)
            if code != steps.FULL:
                break
            self._make_room(program)
        if code == steps.MISS:
            self._note_misses(program, int(self._info[1]))
            return None
        return out.view(np.bool_)

    def after_byte(self, program: int, state: int, byte: int) -> int:
        """`after_text` of one byte."""
        return self.after_text(program, state, bytes((byte,)))

    def complete(self, program: int, state: int) -> bool | None:
        """Whether the text so far is a complete sentence; None on a miss."""
        return self._complete(program, state)[1]

    def after_text(self, program: int, state: int, text: bytes) -> int:
        """The state after at most 255 bytes; MISSING or NOT_ALLOWED, both below 0, where there is none."""
        data = np.frombuffer(text, np.uint8)
        while True:
            code = steps.follow(self._slot(program).image.heap, state, data.copy(), self._info)
            if code != steps.FULL:
                break
            self._make_room(program)
        if code == steps.MISS:
            self._note_miss(program, self._info[2:])
            return MISSING
        return int(self._info[0]) if code == steps.OK else NOT_ALLOWED

    def forced(self, program: int, state: int) -> bytes | None:
        """The bytes that every completion starts with; None on a miss, so that they never depend on what happens to be
        expanded. Known states are looked up."""
        slot = self._slot(program)
        known = slot.forced.get(state)
        if known is not None:
            return known
        text, here = bytearray(), state
        while len(text) < LONGEST_FORCED and not (complete := self.complete(program, here)):
            allowed = self.allowed_bytes(program, here)
            if complete is None or allowed is None:
                return None
            (choices,) = np.nonzero(allowed)
            if len(choices) != 1 or choices[0] == MARK:  # a control token is no text
                break
            here = self.after_byte(program, here, int(choices[0]))
            if here == MISSING:
                return None
            text.append(int(choices[0]))
        if len(slot.forced) == MANY_FORCED:
            slot.forced.clear()
        slot.forced[state] = bytes(text)
        return bytes(text)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _fill(self, program: int, state: int) -> int:
        """The row of a configuration that has none yet, or -1 on a miss."""
        inside = self._inside(program, state)
        if inside is None:
            self._mask[:] = 0
            code = self._walk(program, state, self._trie)
        else:
            np.copyto(self._mask, inside)
            code = self._walk(program, state, self._profiles.quoting)
        levels, missing, _, counted = self._info.tolist()
        if code == steps.MISS:
            self._note_misses(program, missing)
            return -1
        self.figures.cold += 1
        row = self.pool.intern(self._mask)
        # What may be inside depends on the innermost frame, even where no token leaves it.
        levels = max(levels, int(inside is not None))
        heap = self._slot(program).image.heap
        while masks.remember(heap, state, levels, not counted, row, *self._keys) == steps.FULL:
            self._make_room(program)
            heap = self._slot(program).image.heap
        return row

    def _inside(self, program: int, state: int) -> NDArray[np.uint32] | None:
        """The part of the mask that does not leave the string or key that the text is in, where `Profiles` has it."""
        image = self._slot(program).image
        if image.heap[PARSER]:
            return None
        where = image.field(state, 1)
        if where in image.plain:
            return self._profiles.string(image.field(image.field(state, 2), HI))
        if where in image.keyed and masks.may_add(image.heap, state):
            return self._profiles.key
        return None

    def _walk(self, program: int, state: int, trie: TokenTrie) -> int:
        """Add to the mask which of a trie's tokens may come in a configuration, and the end of the text. OK or MISS."""
        arrays = (trie.byte, trie.depth, trie.skip, trie.first, trie.order, trie.below, trie.starts)
        while True:
            image = self._slot(program).image
            code = masks.fill(
                image.heap, state, *arrays, image.loops, self._ending, self._mask, self._missing, self._info
            )
            self.figures.nodes += int(self._info[2])
            if code != steps.FULL:
                return code
            self._make_room(program)

    def _complete(self, program: int, state: int) -> tuple[int, bool | None]:
        """(levels consulted, accepting); accepting is None on a miss."""
        info = self._scratch
        while (code := steps.complete(self._slot(program).image.heap, state, info)) == steps.FULL:
            self._make_room(program)
        if code == steps.MISS:
            self._note_miss(program, info[2:])
            return int(info[0]), None
        return int(info[0]), bool(info[1])

    def _slot(self, program: int) -> _Slot:
        slot = self._slots[program]
        assert slot is not None, f"program {program} was dropped"
        return slot

    def _refresh(self, program: int) -> None:
        slot = self._slot(program)
        if slot.generation != slot.image.generation:
            slot.generation = slot.image.generation
            self._desc[program] = slot.image.heap.ctypes.data, len(slot.image.heap)

    def _make_room(self, program: int) -> None:
        self._slot(program).image.make_room()
        self._refresh(program)

    def _room_for(self, n: int) -> NDArray[np.int32]:
        if n > len(self._missing):
            self._missing = np.zeros((n, 2), np.int32)
        return self._missing[:n]

    def _note_miss(self, program: int, miss: NDArray[np.integer]) -> None:
        self._slot(program).misses.add((int(miss[0]), int(miss[1])))
        self._wanting.add(program)
        self.figures.misses += 1

    def _note_misses(self, program: int, n: int) -> None:
        for i in range(n):
            self._note_miss(program, self._missing[i])
