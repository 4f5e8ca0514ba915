"""`Image`: one program's tables as the kernels see them, grown as the grammar room publishes and the kernels demand."""

from __future__ import annotations

import zlib
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fsm import layout as at
from fsm import loops
from fsm.packing import lasting_cells, narrowed, renumbered, widened
from fsm.rehash import first_cells, insert_return, rehash
from grammar.tables import UNEXPANDED, Delta

MISSING, NOT_ALLOWED = -1, -2
"""In the place of a configuration: it is not known yet, or there is none."""


class _Section(NamedTuple):
    """Header slots (start, used, capacity; None where it has none) and ints per entry."""

    start: int
    used: int | None
    capacity: int | None
    width: int


_STATES = _Section(at.ST, at.N_ST, at.CAP_ST, 3)
_EDGES = _Section(at.ED, at.N_ED, at.CAP_ED, 8)
_REGISTERS = _Section(at.RG, at.N_RG, at.CAP_RG, 3)
_SETS = _Section(at.SS, at.N_SS, at.CAP_SS, 1)
_RETURNS = _Section(at.RT, at.N_RT, at.CAP_RT, 4)
_CELLS = _Section(at.CE, at.N_CE, at.CAP_CE, 8)
_CELL_HASH = _Section(at.CH, None, at.CAP_CH, 1)
_CELL_ROWS = _Section(at.CR, None, None, 1)
_MADE_SETS = _Section(at.DS, at.N_DS, at.CAP_DS, 1)
_MADE_HASH = _Section(at.DH, at.N_DH, at.CAP_DH, 1)
_STEPS = _Section(at.MM, None, at.CAP_MM, 4)
_SECTIONS = (
    _STATES, _EDGES, _REGISTERS, _SETS, _RETURNS, _CELLS, _CELL_HASH, _CELL_ROWS, _MADE_SETS, _MADE_HASH, _STEPS,
)  # fmt: skip

_CLIMBING = {_STATES: (0,), _EDGES: (3, 4), _CELLS: range(8), _CELL_ROWS: (0,)}
"""Columns in which most numbers are a little above those before (fsm/packing.py)."""

_NEW_STATE = np.array([0, UNEXPANDED, -1], np.int32)

_MOST_STEPS = 8192
"""Steps made that are remembered."""


class PackedImage(NamedTuple):
    """An image while nobody uses it."""

    data: bytes
    start: int
    longest: int


class Image:
    """One program in one int32 heap (fsm/layout.py). ``start``: its first configuration; ``generation`` changes when
    `heap` moves."""

    def __init__(self, start_state: int, max_token_bytes: int) -> None:
        capacities = {_STATES: 64, _EDGES: 256, _REGISTERS: 8, _SETS: 16, _RETURNS: 16, _CELLS: 512 + at.SCRATCH}
        capacities |= {_CELL_HASH: 1024, _CELL_ROWS: 512 + at.SCRATCH, _MADE_SETS: 64, _MADE_HASH: 64}
        capacities[_STEPS] = 512
        self.heap: NDArray[np.int32] = np.zeros(at.HEADER, np.int32)
        self.generation = 0
        self.plain: set[int] = set()
        """States between two characters of an unconstrained string (`Tables.mark_plain`)."""
        self.keyed: set[int] = set()
        """States between two characters of a key that may become any text (`Tables.mark_keyed`)."""
        self.loops: NDArray[np.int64] = np.zeros((0, loops.WIDTH), np.int64)
        """By state, what leaves it as it is: written by the kernels (fsm/loops.py)."""
        self._lay_out(capacities)
        self._longest = max_token_bytes
        self.heap[at.SATURATE] = max_token_bytes + 1
        self.start = int(first_cells(self.heap, start_state))

    @property
    def nbytes(self) -> int:
        return self.heap.nbytes + self.loops.nbytes

    @property
    def n_configurations(self) -> int:
        """Cells in use: configurations, frames, key texts."""
        return int(self.heap[at.N_CE])

    def apply(self, delta: Delta) -> None:
        """Append what the grammar room has written."""
        defined = np.frombuffer(delta.defined, np.int32).reshape(-1, 4)
        edges = np.frombuffer(delta.edges, np.int32).reshape(-1, 7)
        registers = np.frombuffer(delta.registers, np.int32).reshape(-1, 3)
        sets = np.frombuffer(delta.sets, np.int32)
        returns = np.frombuffer(delta.returns, np.int32).reshape(-1, 3)
        if delta.plain or delta.keyed:
            self.plain.update(np.frombuffer(delta.plain, np.int32).tolist())
            self.keyed.update(np.frombuffer(delta.keyed, np.int32).tolist())
        heap = self.heap
        new_states = delta.n_states - int(heap[at.N_ST])
        self._reserve({_STATES: new_states, _EDGES: len(edges), _REGISTERS: len(registers), _SETS: len(sets)})
        while 2 * (int(self.heap[at.N_RT]) + len(returns)) > int(self.heap[at.CAP_RT]):
            self._grow_returns()
        heap = self.heap
        if new_states:
            self._append(_STATES, new_states)[:] = _NEW_STATE
        states = self._view(_STATES)
        states[defined[:, 0]] = defined[:, 1:]
        if len(states) > len(self.loops):
            # By half, so that states that come in many small deltas are not copied with each.
            grown = np.zeros((len(states) * 3 // 2, loops.WIDTH), np.int64)
            grown[: len(self.loops)] = self.loops
            self.loops = grown
        self.loops[self.loops[:, loops.FLAGS] & loops.PARTIAL > 0] = 0
        if delta.lasting:
            loops.write_lasting(self.loops, np.frombuffer(delta.lasting, np.uint32).reshape(-1, 14))
        self._append(_EDGES, len(edges))[:, :7] = edges
        self._append(_REGISTERS, len(registers))[:] = registers
        self._append(_SETS, len(sets))[:, 0] = sets
        for ret, verdict, state in returns.tolist():
            insert_return(self.heap, ret, verdict, state)
        self.heap[at.PARSER] |= delta.parses
        # Rows found under a smaller bound stay right: no state that they consulted compares with more.
        self.heap[at.SATURATE] = self._longest + 1 + delta.reach

    def make_room(self) -> None:
        """Double the dynamic tables: what a kernel asks for with FULL."""
        heap = self.heap
        cells = int(heap[at.CAP_CE]) - at.SCRATCH
        capacities = self._capacities()
        capacities |= {_CELLS: 2 * cells + at.SCRATCH, _CELL_HASH: 4 * cells, _CELL_ROWS: 2 * cells + at.SCRATCH}
        capacities |= {_MADE_SETS: 2 * capacities[_MADE_SETS], _MADE_HASH: 2 * capacities[_MADE_HASH]}
        capacities[_STEPS] = min(2 * capacities[_STEPS], _MOST_STEPS)
        # A single set must fit even into a small table.
        capacities[_MADE_SETS] = max(capacities[_MADE_SETS], 4 * int(heap[at.N_SS]))
        self._lay_out(capacities)

    def forget_rows(self, dropped: NDArray[np.bool_]) -> None:
        """Walk again where a row of ``dropped`` (bool[rows of the pool]) was known."""
        start = int(self.heap[at.CR])
        rows = self.heap[start : start + self.n_configurations]
        # Unions keep sets of stacks in the place of rows (fsm/stacks.py).
        kinds = self._view(_CELLS)[:, 0]
        known = np.flatnonzero((rows >= 0) & (kinds != at.UNION))
        rows[known[dropped[rows[known]]]] = -1

    def pack(self) -> PackedImage:
        """What whoever begins at the start needs of it (fsm/packing.py)."""
        header, start = self.heap[: at.HEADER].copy(), self.start
        tables = {section: self._table(section) for section in _SECTIONS}
        if not header[at.PARSER]:
            kept = lasting_cells(tables[_CELLS], tables[_CELL_ROWS][:, 0], start)
            tables[_CELLS], tables[_CELL_ROWS] = renumbered(tables[_CELLS], kept), tables[_CELL_ROWS][kept]
            header[at.N_CE], start = len(kept), int(np.searchsorted(kept, start))
        parts = [narrowed(table, _CLIMBING.get(section, ())) for section, table in tables.items()]
        marks = [np.array([sorted(marked)], np.int32).T for marked in (self.plain, self.keyed)]
        parts += [narrowed(table, ()) for table in (self.loops[: header[at.N_ST]].view(np.int32), *marks)]
        return PackedImage(zlib.compress(header.tobytes() + b"".join(parts)), start, self._longest)

    @classmethod
    def unpack(cls, packed: PackedImage) -> Image:
        """The image that `pack` was called on, less the configurations that it has met."""
        image = cls.__new__(cls)
        data = zlib.decompress(packed.data)
        parts = [np.frombuffer(data, np.int32, at.HEADER).copy()]
        where, position = parts[0].nbytes, at.HEADER
        for section in _SECTIONS:
            table, where = widened(data, where, section.width, _CLIMBING.get(section, ()))
            parts[0][section.start] = position
            parts.append(table.ravel())
            position += table.size
        image.heap = np.concatenate(parts)
        wide, where = widened(data, where, 2 * loops.WIDTH, ())
        image.loops = wide.view(np.int64)
        plain, where = widened(data, where, 1, ())
        keyed, _ = widened(data, where, 1, ())
        image.plain, image.keyed = set(plain[:, 0].tolist()), set(keyed[:, 0].tolist())
        image.generation, image.start, image._longest = 0, packed.start, packed.longest
        image._lay_out(image._capacities())
        return image

    def field(self, cell: int, which: int) -> int:
        """One field of a cell (fsm/layout.py)."""
        return int(self.heap[int(self.heap[at.CE]) + 8 * cell + which])

    def edges(self, state: int) -> NDArray[np.int32]:
        """The edges of an expanded static state: rows (lo, hi, op, t, a, b, c, unused)."""
        first, count, _ = self._view(_STATES)[state].tolist()
        return self._view(_EDGES)[first : first + count]

    def end(self, state: int) -> int:
        """What an expanded static state says of the end of the text (`grammar.tables`)."""
        return int(self._view(_STATES)[state, 2])

    def byte_classes(self) -> list[int]:
        """The first of each run of bytes that every edge so far takes all or none of."""
        edges = self._view(_EDGES)
        return np.unique(np.concatenate([[0], edges[:, 0], edges[:, 1] + 1])).tolist()

    def keys(self, key_set: int) -> NDArray[np.uint32]:
        """The words of a set of declared keys."""
        start = int(self.heap[at.SS]) + key_set if key_set >= 0 else int(self.heap[at.DS]) - 2 - key_set
        return self.heap[start : start + int(self.heap[start - 1])].view(np.uint32)

    def expanded(self, state: int) -> bool:
        return int(self._view(_STATES)[state, 1]) != UNEXPANDED

    # -- layout --------------------------------------------------------------------------------------------------------

    def _capacities(self) -> dict[_Section, int]:
        caps = {s: int(self.heap[s.capacity]) for s in _SECTIONS if s.capacity is not None}
        return caps | {_CELL_ROWS: caps[_CELLS]}

    def _entries(self, section: _Section) -> int:
        """How many entries must move with the heap; hashes of cells and sets are made anew, steps forgotten."""
        if section in (_CELL_HASH, _MADE_HASH, _STEPS):
            return 0
        if section is _RETURNS:
            return int(self.heap[at.CAP_RT])
        return int(self.heap[at.N_CE if section is _CELL_ROWS else cast(int, section.used)])

    def _reserve(self, more: dict[_Section, int]) -> None:
        capacities = self._capacities()
        grown = False
        for section, extra in more.items():
            assert section.used is not None
            need = int(self.heap[section.used]) + extra
            if need > capacities[section]:
                capacities[section] = max(need, 2 * capacities[section])
                grown = True
        if grown:
            self._lay_out(capacities)

    def _lay_out(self, capacities: dict[_Section, int]) -> None:
        """Move every section into a new heap with these capacities; rehash what is hashed."""
        old = self.heap
        heap = np.zeros(at.HEADER + sum(s.width * capacities[s] for s in _SECTIONS), np.int32)
        heap[: at.HEADER] = old[: at.HEADER]
        position = at.HEADER
        for section in _SECTIONS:
            heap[section.start] = position
            capacity = capacities[section]
            if section.capacity is not None:
                heap[section.capacity] = capacity
            entries = self._entries(section)
            if entries:
                source = int(old[section.start])
                heap[position : position + section.width * entries] = old[source : source + section.width * entries]
            position += section.width * capacity
        self.heap = heap
        self.generation += 1
        if int(heap[at.N_CE]):
            rehash(heap)

    def _table(self, section: _Section) -> NDArray[np.int32]:
        """The entries that must move with the heap."""
        start, entries = int(self.heap[section.start]), self._entries(section)
        return self.heap[start : start + section.width * entries].reshape(entries, section.width)

    def _view(self, section: _Section) -> NDArray[np.int32]:
        start = int(self.heap[section.start])
        assert section.used is not None
        used = int(self.heap[section.used])
        return self.heap[start : start + section.width * used].reshape(used, section.width)

    def _append(self, section: _Section, rows: int) -> NDArray[np.int32]:
        """So many more rows of a section that has room for them, all zero."""
        assert section.used is not None
        first = int(self.heap[section.used])
        self.heap[section.used] = first + rows
        return self._view(section)[first:]

    # -- returns -------------------------------------------------------------------------------------------------------

    def _grow_returns(self) -> None:
        start, capacity = int(self.heap[at.RT]), int(self.heap[at.CAP_RT])
        entries = self.heap[start : start + 4 * capacity].reshape(-1, 4)
        entries = entries[entries[:, 3] != 0].tolist()
        self.heap[start : start + 4 * capacity] = 0
        self.heap[at.N_RT] = 0
        self._lay_out(self._capacities() | {_RETURNS: 2 * capacity})
        for ret, verdict, state, _ in entries:
            insert_return(self.heap, ret, verdict, state)
