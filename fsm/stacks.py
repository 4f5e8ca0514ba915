"""Sets of stacks: what the heads of a nondeterministic LR machine stand on (fsm/heads.py).

Tomita's graph-structured stack (1985), made canonical so that it can be hash-consed: a set of stacks with the same top
is one frame over the set of what lies below it, frames are ordered by their fields, and equal sets are one number.

    frame    as in fsm/layout.py; height = 1 + the greatest height below; parent = what lies below: a frame or a
    STACKS   (STACKS, frame, rest): two or more frames, ascending by their fields
    UNION    (UNION, one, other): memory of a union; its row is the result
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import intern
from fsm.layout import CE, CR, HEIGHT, NIL, PARENT, RET, RG, STACKS, UNION


@njit
def first_frame(H, stack):
    """The first frame of a set of stacks."""
    return H[H[CE] + 8 * stack + 1] if H[H[CE] + 8 * stack] == STACKS else stack


@njit
def other_frames(H, stack):
    """The other frames; NIL when there are none."""
    return H[H[CE] + 8 * stack + 2] if H[H[CE] + 8 * stack] == STACKS else np.int32(NIL)


@njit
def _order(H, one, other):
    """-1, 0 or 1: how the fields of two frames compare, what lies below them aside."""
    f, g = H[CE] + 8 * one, H[CE] + 8 * other
    for i in range(RET, PARENT):
        if H[f + i] != H[g + i]:
            return -1 if H[f + i] < H[g + i] else 1
    return 0


@njit
def _over(H, frame, height, below):
    """``frame`` over another set of stacks; -1 when there is no room."""
    f = H[CE] + 8 * frame
    return intern(H, height, H[f + 1], H[f + 2], H[f + 3], H[f + 4], H[f + 5], H[f + 6], below, True)


@njit
def _set_of(H, frame, rest):
    """The set of ``frame`` and the frames of ``rest``, which come after it."""
    if rest == NIL:
        return frame
    return intern(H, STACKS, frame, rest, 0, 0, 0, 0, 0, True)


@njit
def _known_union(H, one, other):
    """The union of two sets of stacks if it needs no work; -1: it does."""
    if one == other or other == NIL:
        return one
    if one == NIL:
        return other
    memory = intern(H, UNION, min(one, other), max(one, other), 0, 0, 0, 0, 0, False)
    return H[H[CR] + memory] if memory >= 0 else np.int32(-1)


@njit
def union(H, one, other):
    """The union of two sets of stacks; -1 when there is no room.

    Sets with equal tops are one frame over the union of what lies below, and so on down to where they are the same
    number; no recursion, since a function that calls itself cannot be loaded from numba's cache."""
    found = _known_union(H, one, other)
    if found >= 0:
        return found
    todo = np.empty((64, 2), np.int32)
    todo[0, 0], todo[0, 1] = one, other
    n = 1
    while n > 0:
        x, y = todo[n - 1]
        if _known_union(H, x, y) >= 0:
            n -= 1
            continue
        f, g = first_frame(H, x), first_frame(H, y)
        order = _order(H, f, g)
        rest_x = other_frames(H, x) if order <= 0 else x
        rest_y = other_frames(H, y) if order >= 0 else y
        below_x, below_y = H[H[CE] + 8 * f + PARENT], H[H[CE] + 8 * g + PARENT]
        rest = _known_union(H, rest_x, rest_y)
        below = _known_union(H, below_x, below_y) if order == 0 else np.int32(0)
        if rest < 0 or below < 0:
            if n + 2 > len(todo):
                more = np.empty((2 * len(todo), 2), np.int32)
                more[:n] = todo[:n]
                todo = more
            if rest < 0:
                todo[n, 0], todo[n, 1] = rest_x, rest_y
                n += 1
            if below < 0:
                todo[n, 0], todo[n, 1] = below_x, below_y
                n += 1
            continue
        if order > 0:
            f = g
        elif order == 0:
            f = _over(H, f, max(H[H[CE] + 8 * f + HEIGHT], H[H[CE] + 8 * g + HEIGHT]), below)
        found = _set_of(H, f, rest) if f >= 0 else np.int32(-1)
        memory = intern(H, UNION, min(x, y), max(x, y), 0, 0, 0, 0, 0, True)
        if found < 0 or memory < 0:
            return np.int32(-1)
        H[H[CR] + memory] = found
    return _known_union(H, one, other)


@njit
def height_of(H, stack):
    """The greatest height of a set of stacks."""
    height = np.int32(0)
    while stack != NIL:
        height = max(height, H[H[CE] + 8 * first_frame(H, stack) + HEIGHT])
        stack = other_frames(H, stack)
    return height


@njit
def push(H, ret, registers, stack):
    """The frame (ret, registers) over a set of stacks; -1 when there is no room."""
    r = H[RG] + 3 * registers
    return intern(H, height_of(H, stack) + 1, ret, H[r], H[r + 1], H[r + 2], NIL, NIL, stack, True)


@njit
def frames_under(H, stack, drop, frames, spare):
    """The frames that are on top when ``drop`` frames have been taken off; their number, -1 when there are too many."""
    n = 0
    while stack != NIL:
        if n == len(frames):
            return -1
        frames[n] = first_frame(H, stack)
        n += 1
        stack = other_frames(H, stack)
    for _ in range(drop):
        m = 0
        for i in range(n):
            stack = H[H[CE] + 8 * frames[i] + PARENT]
            while stack != NIL:
                frame = first_frame(H, stack)
                known = False
                for k in range(m):
                    if spare[k] == frame:
                        known = True
                        break
                if not known:
                    if m == len(spare):
                        return -1
                    spare[m] = frame
                    m += 1
                stack = other_frames(H, stack)
        n = m
        for i in range(n):
            frames[i] = spare[i]
    return n
