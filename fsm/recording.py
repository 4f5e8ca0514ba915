"""Recorded values: the bytes of an item's open-ended part, kept while a frame of its own reads it (operation RECORD).

    text     [{"a": [1]}, {"b": 2 ...          record = the bytes since the second brace
             ─┬─ ────┬───   ───┬──
              │      │         └ recorded      a RECORD cell a byte, made when the token has ended
              │      └ a value (fsm/values.py), one letter of the item's text
              └ the frame of the items; its ext is how many bytes were recorded before this value: 0, or more where it
                lies inside another recorded value

A configuration's record is NIL where nothing is recorded. Inside a token it is the RECORD cell before the token, or
-2 - the place in the token where recording began, so that stepping through a token makes no cells.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import intern
from fsm.layout import CE, NIL, RECORD
from fsm.values import read_value


@njit
def recorded(H, record, depth):
    """How many bytes are recorded before byte ``depth`` of the token."""
    if record <= -2:
        return depth + 2 + record
    return depth + (H[H[CE] + 8 * record + 3] if record != NIL else 0)


@njit
def recorded_value(H, first, record, path, depth, byte):
    """The VALUE cell of what was recorded from ``first`` on, with ``byte`` (0: its closing bracket) as the last byte;
    -1 when there is no room. ``path[:depth]`` are the token's bytes before."""
    stop = recorded(H, record, depth)
    text = np.empty(stop - first + 1, np.uint8)
    at = stop - 1
    while at >= first and at >= stop - depth:
        text[at - first] = path[depth - stop + at]
        at -= 1
    while at >= first:
        r = H[CE] + 8 * record
        text[at - first] = H[r + 2]
        record = H[r + 1]
        at -= 1
    text[stop - first] = byte if byte != 0 else (0x5D if text[0] == 0x5B else 0x7D)
    return read_value(H, text, stop - first + 1)


@njit
def with_token(H, record, path):
    """The record after a token, as a cell; -1 when there is no room."""
    if record == NIL:
        return np.int32(NIL)
    first = 0 if record > 0 else -2 - record
    length = recorded(H, record, 0) if record > 0 else 0
    cell = max(record, NIL)
    for i in range(first, len(path)):
        length += 1
        cell = intern(H, RECORD, cell, path[i], length, 0, 0, 0, 0, True)
        if cell < 0:
            return np.int32(-1)
    return np.int32(cell)
