"""Several heads on shared stacks: the kernels that run a nondeterministic LR machine (`grammar.lark`).

A configuration is then a set of heads (state, stack), and a stack is a set of stacks that shares all it can
(fsm/stacks.py). So a head stands for every way to have come to its state, equal configurations are equal numbers, and
what one byte costs does not grow with the number of ways to read the text.

    1 + 2 * 3   read as (1 + 2) * 3 or as 1 + (2 * 3), before what comes next:

    state E ── frame * ──┬── frame E ── root            [E *] and [E + E *]: one head, one frame *, two below it
                         └── frame E ── frame + ── root

    CONFIG   (CONFIG, state, stack, rest): heads in ascending order of their states

JSON inside a grammar (`%json`) is run by fsm/operations.py, a frame at a time: what its frames count and which keys
they have seen is part of their fields, so that frames are merged only where these agree.

Nothing is scratch here: frames are interned in walks too, since heads that meet are recognised by their numbers.
What masks depend on is fsm/head_keys.py's. `tests/fsm/parsing.py` is the oracle.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import intern
from fsm.layout import (
    CAP_CE,
    CE,
    CONFIG,
    ED,
    HEIGHT,
    LO,
    MAX_HEADS,
    NIL,
    PARENT,
    RET,
    SCRATCH,
    ST,
)  # fmt: skip
from fsm.operations import ADVANCE, FULL, MISS, MISS_RETURN, OK, REFUSED, note_miss, returned, step
from fsm.stacks import frames_under, height_of, push, union
from grammar.tables import END_OF_TEXT, GOTO, PUSH, REDO, REDUCE, SHIFT

WORK = 8 * MAX_HEADS
"""Heads that one byte may pass through, those of its shifts and reductions included."""

HIGHEST = np.int32(1 << 30)


# -- one byte ----------------------------------------------------------------------------------------------------------


@njit
def _kept(H, top):
    """The interned copy of a frame that may be scratch; -1 when there is no room."""
    if top < H[CAP_CE] - SCRATCH:
        return top
    f = H[CE] + 8 * top
    return intern(H, H[f], H[f + 1], H[f + 2], H[f + 3], H[f + 4], H[f + 5], H[f + 6], H[f + 7], True)


@njit
def _add(H, states, stacks, done, n, state, stack):
    """Put a head among the ``n`` of a list: into that of the same state, unless it is one of the first ``done`` and has
    been dealt with. Returns the new length; -1: no room in the heap, -2: in the list."""
    for i in range(n):
        if states[i] == state:
            if stacks[i] == stack:
                return n
            if i >= done:
                both = union(H, stacks[i], stack)
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
            count = frames_under(H, stack, 0, frames, spare)
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
                top = stack if op == GOTO else push(H, H[e + 4], H[e + 5], stack)
                out = _add(H, after_states, after_stacks, 0, out, target, top) if top >= 0 else -1
                if out < 0:
                    return (FULL if out == -1 else REFUSED), 0, minh, state, np.int32(0)
                continue
            if op == SHIFT:
                top = push(H, H[e + 4], H[e + 5], stack)
                todo = _add(H, work_states, work_stacks, i, todo, target, top) if top >= 0 else -1
                if todo < 0:
                    return (FULL if todo == -1 else REFUSED), 0, minh, state, np.int32(0)
                continue
            count = frames_under(H, stack, H[e + 5] if op == REDUCE else 0, frames, spare)
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
        height = max(height, height_of(H, stacks[i]))
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
