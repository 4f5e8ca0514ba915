"""What masks depend on, of several heads (fsm/heads.py): their states and the topmost frames of their stacks."""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import intern
from fsm.heads import read_heads
from fsm.layout import CE, HI, KEY_CONFIG, KEY_FRAME, LO, MAX_HEADS, NIL, PARENT, RET, SATURATE, STACKS
from fsm.stacks import first_frame, other_frames

_ABSENT, _TOO_MANY = -1, -2
_BUDGET = 256
"""Frames of a key; configurations that depend on more have keys of their own."""


@njit
def _cut(H, stack, levels, budget, insert):
    """A set of stacks as masks see it: its ``levels`` topmost frames. (cell, budget left); a negative cell: absent or
    no room, or more frames than the budget."""
    # A task writes the cell of (set, levels) to the end of `cells`: first what lies below its first frame, then the
    # frame over it, then the other frames, then the set of both.
    tasks = np.empty((2 * _BUDGET + 4, 3), np.int32)
    cells = np.empty(2 * _BUDGET + 4, np.int32)
    tasks[0, 0], tasks[0, 1], tasks[0, 2] = stack, levels, 0
    n, m = 1, 0
    limit = H[SATURATE]
    while n > 0:
        here, left, stage = tasks[n - 1]
        if stage == 0:
            if here == NIL or left == 0:
                cells[m] = NIL
                m += 1
                n -= 1
                continue
            if budget == 0:
                return np.int32(_TOO_MANY), budget
            budget -= 1
            tasks[n - 1, 2] = 1
            tasks[n, 0], tasks[n, 1], tasks[n, 2] = H[H[CE] + 8 * first_frame(H, here) + PARENT], left - 1, 0
            n += 1
            continue
        if stage == 1:
            f = H[CE] + 8 * first_frame(H, here)
            hi = limit if H[f + HI] < 0 or H[f + HI] > limit else H[f + HI]
            lo = min(H[f + LO], limit)
            key = intern(H, KEY_FRAME, H[f + RET], hi, lo, H[f + 4], H[f + 5], H[f + 6], cells[m - 1], insert)
            if key < 0:
                return np.int32(_ABSENT), budget
            cells[m - 1] = key
            if other_frames(H, here) == NIL:
                n -= 1
                continue
            tasks[n - 1, 2] = 2
            tasks[n, 0], tasks[n, 1], tasks[n, 2] = other_frames(H, here), left, 0
            n += 1
            continue
        key = intern(H, STACKS, cells[m - 2], cells[m - 1], 0, 0, 0, 0, 0, insert)
        if key < 0:
            return np.int32(_ABSENT), budget
        m -= 1
        cells[m - 1] = key
        n -= 1
    return cells[0], budget


@njit
def key_of_heads(H, config, levels, insert):
    """The KEY_CONFIG cell of a configuration's states and the ``levels`` topmost frames of their stacks; -1 when absent
    or no room, -2 when the frames are too many to be worth a key."""
    states = np.empty(MAX_HEADS, np.int32)
    stacks = np.empty(MAX_HEADS, np.int32)
    n = read_heads(H, config, states, stacks)
    budget = _BUDGET
    key = np.int32(NIL)
    for i in range(n - 1, -1, -1):
        cut, budget = _cut(H, stacks[i], levels, budget, insert)
        if cut < 0:
            return cut
        key = intern(H, KEY_CONFIG, states[i], cut, levels, 0, key, 0, 0, insert)
        if key < 0:
            return key
    return key


@njit
def hint_of_heads(H, config, insert):
    """The cell under which the frames consulted by a configuration's states are remembered; -1 when absent."""
    states = np.empty(MAX_HEADS, np.int32)
    stacks = np.empty(MAX_HEADS, np.int32)
    n = read_heads(H, config, states, stacks)
    key = np.int32(NIL)
    for i in range(n - 1, -1, -1):
        key = intern(H, KEY_CONFIG, states[i], -1, -1, 0, key, 0, 0, insert)
        if key < 0:
            return key
    return key
