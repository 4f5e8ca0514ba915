"""Images while nobody uses them, in some sixtieth of their size.

Who wakes a program begins at its start: the numbers of configurations mean nothing to anybody, and most cells stand for
texts that were read, or might have been. So only the cells that rows are remembered under are kept (a mark and sweep,
in an image whose cells are numbered children first), and what is then left is written by columns, each as narrow as its
numbers are, columns that mostly count upwards as differences, for zlib to find the rest.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from fsm.layout import CONFIG, KEY_CONFIG, KEY_FRAME, NIL, ROOT_FRAME, SEEN, TEXT

Int32s = NDArray[np.int32]

_KINDS = (np.int8, np.uint8, np.int16, np.int32)

_CELLS_IN = {TEXT: (1,), SEEN: (1, 2), CONFIG: (2,), KEY_FRAME: (5, 6, 7), KEY_CONFIG: (2,)}
"""Which fields of a cell are cells, by kind."""


def lasting_cells(cells: Int32s, rows: Int32s, start: int) -> NDArray[np.int64]:
    """Ascending numbers of the cells that ``start`` and what rows are remembered under need.

    All of them where some hold values or what is being recorded (fsm/values.py): their parts are of many kinds."""
    kinds = cells[:, 0]
    if kinds.min() < KEY_CONFIG:
        return np.arange(len(cells))
    kept = np.zeros(len(cells), np.bool_)
    kept[[NIL, ROOT_FRAME]] = True
    new = np.append(np.flatnonzero((kinds == KEY_CONFIG) & (rows != -1)), start)
    while len(new):
        kept[new] = True
        parts = [cells[new[kinds[new] == kind]][:, fields].ravel() for kind, fields in _CELLS_IN.items()]
        new = np.unique(np.concatenate(parts))
        new = new[(new >= 0) & ~kept[new]]
    return np.flatnonzero(kept)


def renumbered(cells: Int32s, kept: NDArray[np.int64]) -> Int32s:
    """The ``kept`` cells, with the numbers that they have among themselves."""
    if len(kept) == len(cells):
        return cells
    numbers = np.full(len(cells) + 1, -1, np.int32)  # the last is for -1, which is no cell
    numbers[kept] = np.arange(len(kept))
    found = cells[kept]
    for kind, fields in _CELLS_IN.items():
        where = np.flatnonzero(found[:, 0] == kind)
        for field in fields:
            found[where, field] = numbers[found[where, field]]
    return found


def narrowed(table: Int32s, climbing: Collection[int]) -> bytes:
    """int32[n, width] by columns; ``climbing``: those written as differences, modulo 2**32."""
    parts = [len(table).to_bytes(4, "little")]
    for i, column in enumerate(table.T):
        column = np.diff(column, prepend=np.int32(0)) if i in climbing else column
        kind = 0 if not len(column) else next(k for k, dtype in enumerate(_KINDS) if _fits(column, dtype))
        parts += [bytes((kind,)), column.astype(_KINDS[kind]).tobytes()]
    return b"".join(parts)


def _fits(column: Int32s, dtype: type[np.signedinteger] | type[np.unsignedinteger]) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= column.min() and column.max() <= limits.max


def widened(data: bytes, at: int, width: int, climbing: Collection[int]) -> tuple[Int32s, int]:
    """What `narrowed` wrote at data[at:], and where it ends."""
    table = np.empty((int.from_bytes(data[at : at + 4], "little"), width), np.int32)
    at += 4
    for i in range(width):
        column = np.frombuffer(data, _KINDS[data[at]], len(table), at + 1)
        table[:, i] = np.cumsum(column, dtype=np.int32) if i in climbing else column
        at += 1 + column.nbytes
    return table, at
