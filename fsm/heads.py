"""Several heads on shared stacks: the kernels that run a nondeterministic LR machine (`grammar.lark`).

A configuration is then a set of heads (state, stack), and a stack is a set of stacks, written as a tree that shares all
it can. It is Tomita's graph-structured stack (1985), made canonical so that it can be hash-consed: a set of stacks with
the same top is one frame over the set of what lies below it, frames are ordered by their fields, and equal sets are one
number. So a head stands for every way to have come to its state, equal configurations are equal numbers, and what one
byte costs does not grow with the number of ways to read the text.

    1 + 2 * 3   read as (1 + 2) * 3 or as 1 + (2 * 3), before what comes next:

    state E ── frame * ──┬── frame E ── root            [E *] and [E + E *]: one head, one frame *, two below it
                         └── frame E ── frame + ── root

    frame    as in fsm/layout.py; height = 1 + the greatest height below; parent = what lies below: a frame or a
    STACKS   (STACKS, frame, rest): two or more frames, ascending by their fields
    CONFIG   (CONFIG, state, stack, rest): heads in ascending order of their states
    UNION    (UNION, one, other): memory of a union; its row is the result

JSON inside a grammar (`%json`) is run by fsm/operations.py, a frame at a time: what its frames count and which keys
they have seen is part of their fields, so that frames are merged only where these agree.

Nothing is scratch here: frames are interned in walks too, since heads that meet are recognised by their numbers.
`tests/fsm/parsing.py` is the oracle.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import intern
from fsm.layout import (
    CAP_CE,
    CE,
    CONFIG,
    CR,
    ED,
    HEIGHT,
    HI,
    KEY_CONFIG,
    KEY_FRAME,
    LO,
    MAX_HEADS,
    NIL,
    PARENT,
    RET,
    RG,
    SATURATE,
    SCRATCH,
    ST,
    STACKS,
    UNION,
)  # fmt: skip
from fsm.operations import ADVANCE, FULL, MISS, MISS_RETURN, OK, REFUSED, note_miss, returned, step
from grammar.tables import END_OF_TEXT, GOTO, PUSH, REDO, REDUCE, SHIFT

WORK = 8 * MAX_HEADS
"""Heads that one byte may pass through, those of its shifts and reductions included."""

HIGHEST = np.int32(1 << 30)


# -- sets of stacks ----------------------------------------------------------------------------------------------------


@njit
def _first(H, stack):
    """The first frame of a set of stacks."""
    return H[H[CE] + 8 * stack + 1] if H[H[CE] + 8 * stack] == STACKS else stack


@njit
def _rest(H, stack):
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
def _both(H, one, other):
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
        f, g = _first(H, x), _first(H, y)
        order = _order(H, f, g)
        rest_x = _rest(H, x) if order <= 0 else x
        rest_y = _rest(H, y) if order >= 0 else y
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
def _height(H, stack):
    """The greatest height of a set of stacks."""
    height = np.int32(0)
    while stack != NIL:
        height = max(height, H[H[CE] + 8 * _first(H, stack) + HEIGHT])
        stack = _rest(H, stack)
    return height


@njit
def _push(H, ret, registers, stack):
    """The frame (ret, registers) over a set of stacks; -1 when there is no room."""
    r = H[RG] + 3 * registers
    return intern(H, _height(H, stack) + 1, ret, H[r], H[r + 1], H[r + 2], NIL, NIL, stack, True)


@njit
def _kept(H, top):
    """The interned copy of a frame that may be scratch; -1 when there is no room."""
    if top < H[CAP_CE] - SCRATCH:
        return top
    f = H[CE] + 8 * top
    return intern(H, H[f], H[f + 1], H[f + 2], H[f + 3], H[f + 4], H[f + 5], H[f + 6], H[f + 7], True)


# -- one byte ----------------------------------------------------------------------------------------------------------


@njit
def _add(H, states, stacks, done, n, state, stack):
    """Put a head among the ``n`` of a list: into that of the same state, unless it is one of the first ``done`` and has
    been dealt with. Returns the new length; -1: no room in the heap, -2: in the list."""
    for i in range(n):
        if states[i] == state:
            if stacks[i] == stack:
                return n
            if i >= done:
                both = _both(H, stacks[i], stack)
                if both < 0:
                    return -1
                stacks[i] = both
                return n
    if n == len(states):
        return -2
    states[n] = state
    stacks[n] = stack
    return n + 1


@njit
def _below(H, stack, drop, frames, spare):
    """The frames that are on top when ``drop`` frames have been taken off; their number, -1 when there are too many."""
    n = 0
    while stack != NIL:
        if n == len(frames):
            return -1
        frames[n] = _first(H, stack)
        n += 1
        stack = _rest(H, stack)
    for _ in range(drop):
        m = 0
        for i in range(n):
            stack = H[H[CE] + 8 * frames[i] + PARENT]
            while stack != NIL:
                frame = _first(H, stack)
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
                stack = _rest(H, stack)
        n = m
        for i in range(n):
            frames[i] = spare[i]
    return n


@njit
def _leave(H, frame, verdict, minh):
    """Pop a frame whose value has ended: (OK, REFUSED or MISS_RETURN; the state after it and what lies below it, or
    what is missing: where, verdict; lowest height consulted)."""
    f = H[CE] + 8 * frame
    minh = min(minh, H[f + HEIGHT])
    if H[f + LO] > 0 or H[f + HEIGHT] == 1:
        return REFUSED, np.int32(0), np.int32(0), minh
    target = returned(H, H[f + RET], verdict)
    if target < 0:
        return MISS_RETURN, H[f + RET], verdict, minh
    return OK, target, H[f + PARENT], minh


@njit
def _only_edge(H, state, byte):
    """The edge of ``state`` that takes ``byte`` where it is the only one, else -1. Most bytes go on inside a token."""
    s = H[ST] + 3 * state
    found = np.int32(-1)
    for k in range(H[s + 1]):
        e = H[ED] + 8 * (H[s] + k)
        if H[e] > byte:
            break
        if H[e + 1] >= byte:
            if found >= 0:
                return np.int32(-1)
            found = np.int32(e)
    return found


@njit
def step_heads(H, states, stacks, n, byte, after_states, after_stacks, work, minh):
    """One byte from ``n`` heads to those in ``after_*``. Returns (status, heads after it, lowest height consulted,
    what is missing: where, verdict). ``work``: int32[4, WORK], scratch.

    A byte that more than MAX_HEADS heads would survive is REFUSED."""
    if n == 1:
        edge = _only_edge(H, states[0], byte)
        if edge >= 0 and H[edge + 2] == GOTO:
            after_states[0] = H[edge + 3]
            after_stacks[0] = stacks[0]
            return OK, 1, minh, np.int32(0), np.int32(0)
    work_states, work_stacks, frames, spare = work[0], work[1], work[2], work[3]
    for i in range(n):
        work_states[i] = states[i]
        work_stacks[i] = stacks[i]
    todo = n
    out = 0
    i = 0
    while i < todo:
        state, stack = work_states[i], work_stacks[i]
        i += 1
        s = H[ST] + 3 * state
        if H[s + 1] < 0:
            return MISS, 0, minh, state, np.int32(0)
        if byte == END_OF_TEXT and H[s + 2] >= 0:
            count = _below(H, stack, 0, frames, spare)
            for f in range(count):
                status, target, top, minh = _leave(H, frames[f], H[s + 2], minh)
                if status == MISS_RETURN:
                    return status, 0, minh, target, top
                if status == OK:
                    todo = _add(H, work_states, work_stacks, i, todo, target, top)
                if todo < 0:
                    return (FULL if todo == -1 else REFUSED), 0, minh, state, np.int32(0)
        for k in range(H[s + 1]):
            e = H[ED] + 8 * (H[s] + k)
            if H[e] > byte:
                break
            if H[e + 1] < byte:
                continue
            op = H[e + 2]
            target = H[e + 3]
            if op == GOTO or op == PUSH:
                top = stack if op == GOTO else _push(H, H[e + 4], H[e + 5], stack)
                out = _add(H, after_states, after_stacks, 0, out, target, top) if top >= 0 else -1
                if out < 0:
                    return (FULL if out == -1 else REFUSED), 0, minh, state, np.int32(0)
                continue
            if op == SHIFT:
                top = _push(H, H[e + 4], H[e + 5], stack)
                todo = _add(H, work_states, work_stacks, i, todo, target, top) if top >= 0 else -1
                if todo < 0:
                    return (FULL if todo == -1 else REFUSED), 0, minh, state, np.int32(0)
                continue
            count = _below(H, stack, H[e + 5] if op == REDUCE else 0, frames, spare)
            if count < 0:
                return REFUSED, 0, minh, state, np.int32(0)
            if op != REDUCE:
                path = np.empty(1, np.uint8)
                base_at = np.empty(1, np.int32)
                for f in range(count):
                    if op == REDO:
                        status, target, top, minh = _leave(H, frames[f], H[e + 4], minh)
                    else:
                        status, target, top, _, _, minh = step(
                            H, state, frames[f], H[CAP_CE], np.int32(NIL), byte, minh, ADVANCE, path, 0, base_at
                        )
                    if status == REFUSED:
                        continue
                    if status != OK:
                        return status, 0, minh, target, top
                    if op == REDO:
                        todo = _add(H, work_states, work_stacks, i, todo, target, top)
                    else:
                        top = _kept(H, top)
                        out = _add(H, after_states, after_stacks, 0, out, target, top) if top >= 0 else -1
                    if todo < 0 or out < 0:
                        return (FULL if min(todo, out) == -1 else REFUSED), 0, minh, state, np.int32(0)
                continue
            for f in range(count):
                top = frames[f]
                minh = min(minh, H[H[CE] + 8 * top + HEIGHT])
                ret = H[H[CE] + 8 * top + RET]
                target = returned(H, ret, H[e + 4])
                if target < 0:
                    return MISS_RETURN, 0, minh, ret, H[e + 4]
                todo = _add(H, work_states, work_stacks, i, todo, target, top)
                if todo < 0:
                    return (FULL if todo == -1 else REFUSED), 0, minh, state, np.int32(0)
    return (OK if out else REFUSED), out, minh, np.int32(0), np.int32(0)


# -- configurations ----------------------------------------------------------------------------------------------------


@njit
def read_heads(H, config, states, stacks):
    """Write a configuration's heads into two lists; returns their number."""
    n = 0
    while config != NIL:
        c = H[CE] + 8 * config
        states[n] = H[c + 1]
        stacks[n] = H[c + 2]
        n += 1
        config = H[c + 3]
    return n


@njit
def _configuration(H, states, stacks, n):
    """The configuration of some heads, whose lists are sorted on the way; -1 when there is no room."""
    for i in range(1, n):
        state, stack = states[i], stacks[i]
        k = i
        while k > 0 and states[k - 1] > state:
            states[k] = states[k - 1]
            stacks[k] = stacks[k - 1]
            k -= 1
        states[k] = state
        stacks[k] = stack
    config = np.int32(NIL)
    for i in range(n - 1, -1, -1):
        config = intern(H, CONFIG, states[i], stacks[i], config, 0, 0, 0, 0, True)
        if config < 0:
            return np.int32(-1)
    return config


@njit
def advance_heads(H, config, data, start, stop):
    """Some bytes from a configuration: (status, configuration reached, what is missing: where, verdict)."""
    states = np.empty((2, MAX_HEADS), np.int32)
    stacks = np.empty((2, MAX_HEADS), np.int32)
    work = np.empty((4, WORK), np.int32)
    n = read_heads(H, config, states[0], stacks[0])
    here = 0
    for i in range(start, stop):
        status, n, _, where, verdict = step_heads(
            H, states[here], stacks[here], n, np.int32(data[i]), states[1 - here], stacks[1 - here], work, HIGHEST
        )
        if status != OK:
            return status, config, where, verdict
        here = 1 - here
    reached = _configuration(H, states[here], stacks[here], n)
    if reached < 0:
        return FULL, config, np.int32(0), np.int32(0)
    return OK, reached, np.int32(0), np.int32(0)


@njit
def heads_accept(H, config):
    """Whether the text may end: (status, yes, frames consulted, what is missing: where, verdict)."""
    states = np.empty((2, MAX_HEADS), np.int32)
    stacks = np.empty((2, MAX_HEADS), np.int32)
    work = np.empty((4, WORK), np.int32)
    n = read_heads(H, config, states[0], stacks[0])
    height = _highest(H, stacks[0], n)
    status, _, minh, where, verdict = step_heads(
        H, states[0], stacks[0], n, np.int32(END_OF_TEXT), states[1], stacks[1], work, HIGHEST
    )
    levels = max(0, height - minh + 1)
    if status == MISS or status == MISS_RETURN or status == FULL:
        return status, False, levels, where, verdict
    return OK, status == OK, levels, where, verdict


@njit
def _highest(H, stacks, n):
    height = np.int32(0)
    for i in range(n):
        height = max(height, _height(H, stacks[i]))
    return height


@njit
def walk_heads(H, config, byte, depth, skip, first, order, bits, missing, info):
    """`fsm.masks.walk` for a configuration of heads."""
    longest = 0
    for i in range(len(depth)):
        longest = max(longest, depth[i])
    states = np.empty((longest + 2, MAX_HEADS), np.int32)
    stacks = np.empty((longest + 2, MAX_HEADS), np.int32)
    count = np.empty(longest + 2, np.int32)
    work = np.empty((4, WORK), np.int32)
    count[0] = read_heads(H, config, states[0], stacks[0])
    height = _highest(H, stacks[0], count[0])
    minh = HIGHEST
    misses = 0
    visited = 0
    n = len(byte)
    i = 0
    while i < n:
        d = np.int32(depth[i])
        visited += 1
        code, after, minh, where, verdict = step_heads(
            H, states[d], stacks[d], count[d], np.int32(byte[i]), states[d + 1], stacks[d + 1], work, minh
        )
        if code == OK:
            count[d + 1] = after
            for k in range(first[i], first[i + 1]):
                token = order[k]
                bits[token >> 5] |= np.uint32(1) << np.uint32(token & 31)
            i += 1
            continue
        if code == FULL:
            return FULL
        if code != REFUSED:
            misses = note_miss(missing, misses, where, verdict)
        i = skip[i]
    info[0] = max(0, height - minh + 1)
    info[1] = misses
    info[2] = visited
    info[3] = 0
    return MISS if misses else OK


# -- what masks depend on ----------------------------------------------------------------------------------------------

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
            tasks[n, 0], tasks[n, 1], tasks[n, 2] = H[H[CE] + 8 * _first(H, here) + PARENT], left - 1, 0
            n += 1
            continue
        if stage == 1:
            f = H[CE] + 8 * _first(H, here)
            hi = limit if H[f + HI] < 0 or H[f + HI] > limit else H[f + HI]
            lo = min(H[f + LO], limit)
            key = intern(H, KEY_FRAME, H[f + RET], hi, lo, H[f + 4], H[f + 5], H[f + 6], cells[m - 1], insert)
            if key < 0:
                return np.int32(_ABSENT), budget
            cells[m - 1] = key
            if _rest(H, here) == NIL:
                n -= 1
                continue
            tasks[n - 1, 2] = 2
            tasks[n, 0], tasks[n, 1], tasks[n, 2] = _rest(H, here), left, 0
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
