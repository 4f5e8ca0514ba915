"""Static tables of a byte machine: what the grammar room writes and the fsm room runs.

A machine is a deterministic pushdown automaton over bytes, expanded lazily (docs/architecture.md §3). This file is the
border between the rooms: the operation codes, the append-only `Tables` a machine writes into, and the `Delta` that
carries what was appended to another process.

    state ──byte──▶ edge = (lo, hi, op, t, a, b, c)     bytes lo..hi take it; at most one edge a byte, sorted
    frame = (ret, hi, lo, ext, seen, text, parent)      the registers of the innermost open value

    op        what it does to (state, frame)                                   the byte is refused when
    GOTO      state = t
    PUSH      push frame(ret=a, registers b); state = t
    ENDING    as PUSH, where the innermost value could end                     as POP, or a key of set c may still come
    POP       pop; state = after(frame.ret, verdict a)                         frame.lo > 0
    REDO      as POP, then take the same byte again in the new state           frame.lo > 0
    COUNT     hi -= 1 unless unlimited, lo -= 1 unless 0; state = t            hi == 0
    WITHIN    as COUNT where c is 1, else as GOTO                              as COUNT where c is 1; or then no run
                                                                               (x, y) of lengths a has x <= hi, y >= lo
    KEY       state = t                                                        hi == 0, or no key of [a, b) may come
    XKEY      text = text + byte; state = t                                    hi == 0, or neither a key of [a, b)
                                                                               nor an additional key (below) may come
    MAYKEY    state = t                                                        as XKEY
    FEWKEY    as XKEY, where b texts of additional keys begin with             hi == 0, or neither a key of set a nor an
              text + byte                                                      additional key may come that was not seen
    MAYFEW    state = t, where there are b additional keys                     as FEWKEY
    DECLARED  declared key a ends: ext = set b, or ext - {a} when b is NONE;   hi == 0, or key a may not come
              text = empty; hi, lo count down; state = t
    ADDED     an additional key ends: seen += text; ext = set b unless NONE;   hi == 0, the text was seen before,
              text = empty; hi, lo count down; state = t                       or an additional key may not come
    CLOSE     an object ends: as POP with verdict a                            as POP, or a key of set b may still come
    ITEM      an item ends: as ADDED, then take the same byte again            as ADDED
    RECORD    as PUSH; what the frame reads is recorded, from this byte on     hi == 0
    KEEP      an edge without a byte (lo = hi = -1): taken when a recorded     a texts of items begin with text + value
              value returns to its state; text = text + value, state = t
    SHIFT     as PUSH, then take the same byte again in the new state          never
    REDUCE    drop b frames; state = after(top.ret, a), the top frame stays;   never
              take the same byte again

A machine that uses SHIFT or REDUCE is an LR parser (`grammar.lark`) and may be *nondeterministic*: edges of a state may
overlap, and every one that takes the byte is an alternative. There the end of the text is a byte too, END_OF_TEXT.

``hi`` counts down what may still come (code points, items, properties; NONE = unlimited), ``lo`` what must. ``ext`` is
the set of declared keys that may still come; keys of one object are numbered in byte order of their spelled form, so
that a prefix is an interval of numbers. An additional key may come when ext ∩ set c is empty (c = the required keys
under declared order, NONE = always). ``seen`` holds the texts of additional keys. MAYKEY is XKEY without the text: it
guards the comma or quote before a key.

WITHIN's ``a`` is a set of lengths (`Tables.lengths`): how much may still come before a value that is begun can end.

The items of an array of unique items are read as such keys. A part of an item that is open-ended is recorded: a frame
of its own reads it, and when that is popped its *value* follows ``text`` as if it were one letter, however it was
spelled (fsm/values.py). While a value is recorded, ``ext`` of the frame below it is where its record begins.

``after(ret, 0) = ret``; other verdicts are looked up in the table of returns and, if missing, asked of
`Machine.resume`. At the end of the text a state with ``end == END_ACCEPT`` accepts if no frame but the root is open;
``end >= 0`` pops with that verdict (when frame.lo == 0) and asks again; ``END_ASK`` accepts if END_OF_TEXT can be
taken.
"""

from __future__ import annotations

from array import array
from itertools import chain
from typing import Protocol

import msgspec

(
    GOTO, PUSH, ENDING, POP, REDO, COUNT, KEY, XKEY, MAYKEY, DECLARED, ADDED, CLOSE, FEWKEY, MAYFEW, SHIFT, REDUCE,
    WITHIN, ITEM, RECORD, KEEP,
) = range(20)  # fmt: skip
_LEAVING = (POP, REDO, CLOSE, REDUCE)
_PUSHING = (PUSH, RECORD, ENDING)

NONE = -1
ENDLESS = 2**31 - 1
UNEXPANDED = -1
END_REJECT, END_ACCEPT, END_ASK = -1, -2, -3
END_OF_TEXT = 256

ByteWords = tuple[int, int, int]
"""A set of bytes that begin characters: bit b of the first word, b - 64 of the second, b - 0xC0 of the third."""

MAX_HEADS = 128
"""Alternatives that a nondeterministic machine may follow at once; a byte that more would survive is refused."""

Edge = tuple[int, int, int, int, int, int, int]
"""(lo, hi, op, t, a, b, c)"""


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """What was appended to a machine's tables since the last delta. Arrays are raw little-endian int32/uint32 bytes.

    ``defined``: rows (state, first edge, edge count, end). ``edges``: rows of 7 (lo, hi, op, t, a, b, c).
    ``registers``: rows (hi, lo, ext). ``sets``: uint32 words; a set's id is the offset of its first word, the word
    before holds its length. ``returns``: rows (ret, verdict, state). ``plain``, ``keyed``: states of
    `Tables.mark_plain` and `mark_keyed`. ``lasting``: uint32 rows of `Tables.mark_lasting` (state, counted, words).
    ``n_states``: states known after this delta, expanded or not. ``reach``: the largest number that an edge compares a
    register with; larger registers are all alike to it. ``parses``: as in `Tables`.
    """

    n_states: int
    defined: bytes
    edges: bytes
    registers: bytes
    sets: bytes
    returns: bytes
    plain: bytes
    keyed: bytes
    lasting: bytes
    reach: int
    parses: bool

    @property
    def n_defined(self) -> int:
        return len(self.defined) // 16


class Tables:
    """Append-only static tables, written by one machine a few values at a time, into arrays that are sent as such."""

    def __init__(self) -> None:
        self.parses = False
        """There are states of an LR parser, expanded or not."""
        self.n_states = 0
        self.n_edges = 0
        self._successors: list[tuple[int, ...] | None] = []
        self._defined = array("i")
        self._edges = array("i")
        self._registers = array("i")
        self._sets = array("I")
        self._returns = array("i")
        self._plain = array("i")
        self._keyed = array("i")
        self._lasting = array("I")
        self._marks = [0, 0, 0, 0, 0, 0, 0, 0]
        self._register_ids: dict[tuple[int, int, int], int] = {}
        self._set_ids: dict[tuple[int, int], int] = {}
        self._length_ids: dict[tuple[tuple[int, int | None], ...], int] = {}
        self._reach = 0
        self._return_ids: dict[tuple[int, int], int] = {}

    def state(self) -> int:
        """A new state, not yet expanded."""
        self.n_states += 1
        self._successors.append(None)
        return self.n_states - 1

    def expanded(self, state: int) -> bool:
        return self._successors[state] is not None

    def successors(self, state: int) -> tuple[int, ...]:
        """The states that an expanded state's edges lead to, those to resume after a pushed value included."""
        found = self._successors[state]
        assert found is not None, f"state {state} is not expanded"
        return found

    def define(self, state: int, edges: list[Edge], end: int = END_REJECT) -> None:
        """Give ``state`` its edges, once. They are sorted here, and disjoint unless they are an LR parser's."""
        assert self._successors[state] is None, f"state {state} is already expanded"
        edges = sorted(edges)
        leads: dict[int, None] = {}
        for _, _, op, target, a, _, _ in edges:
            if op == GOTO:
                leads[target] = None
                continue
            if op not in _LEAVING:
                leads[target] = None
            if op in _PUSHING:
                leads[a] = None
        self._successors[state] = tuple(leads)
        self._defined.extend((state, self.n_edges, len(edges), end))
        self._edges.extend(chain.from_iterable(edges))
        self.n_edges += len(edges)

    def registers(self, hi: int = NONE, lo: int = 0, ext: int = NONE) -> int:
        """Id of the initial registers of a pushed frame."""
        key = (hi, lo, ext)
        found = self._register_ids.get(key)
        if found is None:
            found = self._register_ids[key] = len(self._registers) // 3
            self._registers.extend(key)
        return found

    def key_set(self, bits: int, n_keys: int) -> int:
        """Id of a set of declared keys; bit k of ``bits`` stands for key k of ``n_keys``."""
        found = self._set_ids.get((bits, n_keys))
        if found is None:
            words = max(1, (n_keys + 31) // 32)
            self._sets.append(words)
            found = self._set_ids[bits, n_keys] = len(self._sets)
            self._sets.extend((bits >> (32 * w)) & 0xFFFFFFFF for w in range(words))
        return found

    def lengths(self, runs: tuple[tuple[int, int | None], ...]) -> int:
        """Id of a set of lengths: from x to y (None: no end) for each run, ascending."""
        found = self._length_ids.get(runs)
        if found is None:
            self._sets.append(2 * len(runs))
            found = self._length_ids[runs] = len(self._sets)
            for x, y in runs:
                self._sets.extend((x, ENDLESS if y is None else y))
                self._reach = max(self._reach, x, y or 0)
        return found

    def returns(self, ret: int, verdict: int, state: int) -> None:
        """Record ``after(ret, verdict) = state`` for a verdict above 0."""
        if (ret, verdict) not in self._return_ids:
            self._return_ids[ret, verdict] = state
            self._returns.extend((ret, verdict, state))

    def returned(self, ret: int, verdict: int) -> int | None:
        return ret if verdict == 0 else self._return_ids.get((ret, verdict))

    def mark_plain(self, state: int) -> None:
        """Say that ``state`` is between two characters of an unconstrained JSON string: until a quote comes, what may
        follow depends on frame.hi alone, in every program alike."""
        self._plain.append(state)

    def mark_keyed(self, state: int) -> None:
        """Say that ``state`` is between two characters of an object's key that may become any text: until a quote
        comes, what may follow is the same everywhere, as long as an additional key may come (its XKEY edges)."""
        self._keyed.append(state)

    def mark_lasting(self, state: int, passing: ByteWords, dead: ByteWords, counted: bool) -> None:
        """Say that from ``state``, which is between two characters, a text can be completed after any number of
        characters that begin with bytes of ``passing``, wherever they lead; ``counted``: as far as frame.hi lets them
        come. No byte of ``dead`` comes before the string that the text is in ends."""
        words = (word >> shift & 0xFFFFFFFF for word in (*passing, *dead) for shift in (0, 32))
        self._lasting.extend((state, counted, *words))

    def delta(self) -> Delta:
        """Everything appended since the last call."""
        parts: list[bytes] = []
        written = (
            self._defined, self._edges, self._registers, self._sets, self._returns, self._plain, self._keyed,
            self._lasting,
        )  # fmt: skip
        for i, values in enumerate(written):
            parts.append(values[self._marks[i] :].tobytes())
            self._marks[i] = len(values)
        return Delta(self.n_states, *parts, reach=self._reach, parses=self.parses)


class Machine(Protocol):
    """A compiled constraint, seen by the room that runs it. Deterministic: equal calls in equal order, equal
    numbering."""

    tables: Tables
    start: int
    """The first state; the root frame lies below it."""

    def admit(self) -> None:
        """The constraint is accepted: what still grows may grow to ten times its fuel (`grammar.fuel`), because a text
        that has begun must be able to go on."""
        ...

    def expand(self, state: int) -> None:
        """Define ``state`` in the tables. ConstraintTooLarge when the fuel is spent."""
        ...

    def resume(self, ret: int, verdict: int) -> int:
        """The state after a value that ended with ``verdict`` above 0; records it in the tables."""
        ...
