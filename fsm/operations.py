"""One byte in a program's byte machine: the operations of `grammar.tables`, over the heap of fsm/layout.py.

A step may end in MISS: the static state (or the return) is not expanded yet. The kernels then change nothing that is
visible and report what is missing. FULL means that a dynamic table has no room: the caller grows the heap and asks
again.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import any_in, intern, meet, mix, without
from fsm.layout import (
    CAP_RT,
    CE,
    COUNTED_SEEN,
    ED,
    EXT,
    HEIGHT,
    HI,
    KEY_TEXT,
    LO,
    NIL,
    PARENT,
    RET,
    RG,
    RT,
    SEEN,
    SEEN_KEYS,
    SS,
    ST,
    TEXT,
)  # fmt: skip
from fsm.recording import recorded, recorded_value
from grammar.tables import (
    CLOSE,
    COUNT,
    DECLARED,
    END_ACCEPT,
    ENDING,
    FEWKEY,
    GOTO,
    ITEM,
    KEEP,
    KEY,
    MAYFEW,
    MAYKEY,
    NONE,
    POP,
    PUSH,
    RECORD,
    REDO,
    WITHIN,
    XKEY,
)  # fmt: skip

OK, REFUSED, MISS, FULL, COLD = range(5)
MISS_RETURN = 5
"""Inside the kernels: a return is missing; (state, frame) then hold (ret, verdict). Reported as MISS with verdict >
0."""

ADVANCE, WALK, LEAF = 0, 1, 2
"""Modes of `step`."""


@njit
def returned(H, ret, verdict):
    """after(ret, verdict), or -1 when the static tables do not know it."""
    if verdict == 0:
        return ret
    mask = H[CAP_RT] - 1
    slot = np.int64(mix(mix(np.uint32(17), ret), verdict)) & mask
    while True:
        r = H[RT] + 4 * slot
        if H[r + 3] == 0:
            return np.int32(-1)
        if H[r] == ret and H[r + 1] == verdict:
            return H[r + 2]
        slot = (slot + 1) & mask


@njit
def _scratch_copy(H, frame, sp):
    """A scratch copy of ``frame`` at ``sp``."""
    f = H[CE] + 8 * frame
    g = H[CE] + 8 * sp
    for i in range(8):
        H[g + i] = H[f + i]
    return g


@njit
def note_miss(missing, known, where, verdict):
    """Add (where, verdict) to the first ``known`` rows of ``missing`` if it is not among them and there is room; how
    many rows there are then."""
    for k in range(known):
        if missing[k, 0] == where and missing[k, 1] == verdict:
            return known
    if known < len(missing):
        missing[known, 0] = where
        missing[known, 1] = verdict
        known += 1
    return known


@njit
def can_fit(H, lengths, hi, lo):
    """Whether some length of a set (`Tables.lengths`) is at least ``lo`` and at most ``hi`` (below 0: no limit)."""
    base = H[SS] + lengths
    for run in range(0, H[base - 1], 2):
        if (hi < 0 or H[base + run] <= hi) and H[base + run + 1] >= lo:
            return True
    return False


@njit
def _text_of(H, text, base_at, path, depth, insert):
    """The TEXT cell of a key text that left the known texts at depth -2 - text of the walk (see XKEY)."""
    if text >= 0:
        return text
    start = -2 - text
    node = base_at[start]
    for d in range(start, depth):
        node = intern(H, TEXT, node, path[d], 0, 0, 0, 0, 0, insert)
        if node < 0:
            return np.int32(-1)
    return node


@njit
def _seen_below(H, seen, text):
    """How many seen texts begin with ``text``."""
    count = 0
    while seen != NIL:
        s = H[CE] + 8 * seen
        longer = H[s + 1]
        while longer != text and longer != NIL:
            longer = H[H[CE] + 8 * longer + 1]
        if longer == text:
            count += 1
        seen = H[s + 2]
    return count


@njit
def _push(H, sp, top, ret, registers):
    """A frame at ``sp`` above ``top``."""
    g = H[CE] + 8 * sp
    r = H[RG] + 3 * registers
    H[g + HEIGHT] = H[H[CE] + 8 * top] + 1
    H[g + RET] = ret
    H[g + HI] = H[r]
    H[g + LO] = H[r + 1]
    H[g + EXT] = H[r + 2]
    H[g + SEEN_KEYS] = NIL
    H[g + KEY_TEXT] = NIL
    H[g + PARENT] = top


@njit
def _keep_edge(H, state):
    """Where the KEEP edge of a state is: 0 if it has none, -1 if the state is not expanded."""
    s = H[ST] + 3 * state
    if H[s + 1] <= 0:
        return np.int32(min(H[s + 1], 0))
    e = H[ED] + 8 * H[s]
    return np.int32(e) if H[e + 2] == KEEP else np.int32(0)


@njit
def _kept(H, frame, edge, record, path, depth, byte):
    """The item's text in ``frame`` with the recorded value that ends with ``byte`` (0: with its closing bracket), and
    whether the KEEP edge lets it pass; text -1 when there is no room."""
    f = H[CE] + 8 * frame
    value = recorded_value(H, H[f + EXT], record, path, depth, byte)
    if value < 0:
        return np.int32(-1), False
    text = intern(H, TEXT, H[f + KEY_TEXT], -1 - value, 0, 0, 0, 0, 0, True)
    if text < 0:
        return np.int32(-1), False
    H[COUNTED_SEEN] = 1
    return np.int32(text), _seen_below(H, H[f + SEEN_KEYS], text) < H[edge + 4]


@njit
def step(H, state, top, sp, record, byte, minh, mode, path, depth, base_at):
    """One byte. Returns (status, state, frame, scratch pointer, record, lowest frame height consulted).

    ``path[:depth]`` are the token's bytes before this one; ``record`` as in fsm/recording.py. ``mode`` ADVANCE interns
    key texts as they grow, WALK leaves the known texts without a trace: text = -2 - depth. LEAF is for a last byte of
    which only the status and the height count: it leaves out what comes after it."""
    while True:
        s = H[ST] + 3 * state
        count = H[s + 1]
        if count < 0:
            return MISS, state, top, sp, record, minh
        e = H[ED] + 8 * H[s]
        last = e + 8 * count
        while e < last and H[e + 1] < byte:
            e += 8
        if e >= last or H[e] > byte:
            return REFUSED, state, top, sp, record, minh
        op = H[e + 2]
        target = H[e + 3]
        if op == GOTO:
            return OK, target, top, sp, record, minh
        a = H[e + 4]
        b = H[e + 5]
        if op == PUSH or op == ENDING:
            f = H[CE] + 8 * top
            if op == ENDING:
                if H[f] < minh:
                    minh = H[f]
                if H[f + LO] > 0 or meet(H, H[f + EXT], H[e + 6]):
                    return REFUSED, state, top, sp, record, minh
                if record != NIL:
                    edge = _keep_edge(H, H[f + RET])
                    if edge < 0:
                        return MISS, H[f + RET], top, sp, record, minh
                    if edge > 0:
                        below = H[f + PARENT]
                        minh = min(minh, H[H[CE] + 8 * below])
                        text, passes = _kept(H, below, edge, record, path, depth, 0)
                        if text < 0:
                            return FULL, state, top, sp, record, minh
                        if not passes:
                            return REFUSED, state, top, sp, record, minh
            sp -= 1
            _push(H, sp, top, a, b)
            return OK, target, sp, sp, record, minh

        f = H[CE] + 8 * top
        if H[f] < minh:
            minh = H[f]
        if op == POP or op == REDO or op == CLOSE:
            if H[f + LO] > 0 or H[f] == 1:
                return REFUSED, state, top, sp, record, minh
            if op == CLOSE and meet(H, H[f + EXT], b):
                return REFUSED, state, top, sp, record, minh
            ret = H[f + RET]
            top = H[f + PARENT]
            state = returned(H, ret, a)
            if state < 0:
                return MISS_RETURN, ret, a, sp, record, minh
            if op == REDO:
                continue
            if record != NIL:
                edge = _keep_edge(H, state)
                if edge < 0:
                    return MISS, state, top, sp, record, minh
                if edge > 0:
                    minh = min(minh, H[H[CE] + 8 * top])
                    text, passes = _kept(H, top, edge, record, path, depth, byte)
                    if text < 0:
                        return FULL, state, top, sp, record, minh
                    if not passes:
                        return REFUSED, state, top, sp, record, minh
                    sp -= 1
                    g = _scratch_copy(H, top, sp)
                    if H[g + EXT] == 0:
                        record = np.int32(NIL)
                    H[g + EXT] = NONE
                    H[g + KEY_TEXT] = text
                    return OK, H[edge + 3], sp, sp, record, minh
            return OK, state, top, sp, record, minh

        hi = H[f + HI]
        if op == WITHIN:
            lo = H[f + LO]
            if H[e + 6] == 0:
                if not can_fit(H, a, hi, lo):
                    return REFUSED, state, top, sp, record, minh
                return OK, target, top, sp, record, minh
            if hi == 0 or not can_fit(H, a, hi - 1 if hi > 0 else hi, lo - 1 if lo > 0 else lo):
                return REFUSED, state, top, sp, record, minh
            op = COUNT
        if hi == 0:
            return REFUSED, state, top, sp, record, minh
        if op == COUNT:
            lo = H[f + LO]
            if mode == LEAF or (hi < 0 and lo == 0):
                return OK, target, top, sp, record, minh
            sp -= 1
            g = _scratch_copy(H, top, sp)
            H[g + HI] = hi - 1 if hi > 0 else hi
            H[g + LO] = lo - 1 if lo > 0 else 0
            return OK, target, sp, sp, record, minh
        ext = H[f + EXT]
        if op == RECORD:
            text = _text_of(H, H[f + KEY_TEXT], base_at, path, depth, True)
            if text < 0:
                return FULL, state, top, sp, record, minh
            sp -= 1
            g = _scratch_copy(H, top, sp)
            H[g + KEY_TEXT] = text
            H[g + EXT] = recorded(H, record, depth) if record != NIL else 0
            if record == NIL:
                record = np.int32(-2 - depth)
            top = sp
            sp -= 1
            _push(H, sp, top, a, b)
            return OK, target, sp, sp, record, minh
        if op == KEY:
            if not any_in(H, ext, a, b):
                return REFUSED, state, top, sp, record, minh
            return OK, target, top, sp, record, minh
        c = H[e + 6]
        if op == MAYFEW or op == FEWKEY:
            H[COUNTED_SEEN] = 1  # the keys seen decide about more than repetition: masks must not forget them
        if op == MAYFEW:
            if not meet(H, ext, a) and (meet(H, ext, c) or _seen_below(H, H[f + SEEN_KEYS], NIL) >= b):
                return REFUSED, state, top, sp, record, minh
            return OK, target, top, sp, record, minh
        if op == XKEY or op == MAYKEY or op == FEWKEY:
            declared = meet(H, ext, a) if op == FEWKEY else any_in(H, ext, a, b)
            if not declared and meet(H, ext, c):
                return REFUSED, state, top, sp, record, minh
            if op == MAYKEY:
                return OK, target, top, sp, record, minh
            text = H[f + KEY_TEXT]
            if op == FEWKEY and text >= 0 and not declared:
                # A text that is not interned begins no key that was seen.
                known = intern(H, TEXT, text, byte, 0, 0, 0, 0, 0, False)
                if known >= 0 and _seen_below(H, H[f + SEEN_KEYS], known) >= b:
                    return REFUSED, state, top, sp, record, minh
            if text >= 0 and mode != LEAF:
                longer = intern(H, TEXT, text, byte, 0, 0, 0, 0, 0, mode == ADVANCE)
                if longer < 0:
                    if mode == ADVANCE:
                        return FULL, state, top, sp, record, minh
                    base_at[depth] = text
                    longer = np.int32(-2 - depth)
                sp -= 1
                g = _scratch_copy(H, top, sp)
                H[g + KEY_TEXT] = longer
                top = sp
            return OK, target, top, sp, record, minh

        # A key or an item ends: DECLARED, ADDED or ITEM.
        seen = H[f + SEEN_KEYS]
        if op == DECLARED:
            if not any_in(H, ext, a, a + 1):
                return REFUSED, state, top, sp, record, minh
            if mode == LEAF:
                return OK, target, top, sp, record, minh
            if b == NONE:
                b = without(H, ext, a)
                if b == NONE:
                    return FULL, state, top, sp, record, minh
            ext = b
        else:
            if meet(H, ext, c):
                return REFUSED, state, top, sp, record, minh
            final = mode == LEAF and op != ITEM
            text = _text_of(H, H[f + KEY_TEXT], base_at, path, depth, not final)
            if text < 0 and final:
                return OK, target, top, sp, record, minh  # no key that was seen
            if text < 0:
                return FULL, state, top, sp, record, minh
            rest = seen
            while rest != NIL:
                r = H[CE] + 8 * rest
                if H[r + 1] == text:
                    return REFUSED, state, top, sp, record, minh
                rest = H[r + 2]
            if final:
                return OK, target, top, sp, record, minh
            seen = intern(H, SEEN, text, seen, 0, 0, 0, 0, 0, True)
            if seen < 0:
                return FULL, state, top, sp, record, minh
            if b != NONE:
                ext = b
        sp -= 1
        g = _scratch_copy(H, top, sp)
        lo = H[f + LO]
        H[g + HI] = hi - 1 if hi > 0 else hi
        H[g + LO] = lo - 1 if lo > 0 else 0
        H[g + EXT] = ext
        H[g + SEEN_KEYS] = seen
        H[g + KEY_TEXT] = NIL
        if op == ITEM:
            H[COUNTED_SEEN] = 1
            state, top = target, sp
            continue
        return OK, target, sp, sp, record, minh


@njit
def ended(H, state, top, minh):
    """Whether the text may end here. Returns (status, accepting, lowest height consulted, what is missing: where,
    verdict)."""
    while True:
        s = H[ST] + 3 * state
        if H[s + 1] < 0:
            return MISS, False, minh, state, np.int32(0)
        end = H[s + 2]
        f = H[CE] + 8 * top
        if end == END_ACCEPT:
            if H[f] < minh:
                minh = H[f]
            return OK, H[f] == 1, minh, state, np.int32(0)
        if end < 0:
            return OK, False, minh, state, np.int32(0)
        if H[f] < minh:
            minh = H[f]
        if H[f + LO] > 0 or H[f] == 1:
            return OK, False, minh, state, np.int32(0)
        ret = H[f + RET]
        top = H[f + PARENT]
        state = returned(H, ret, end)
        if state < 0:
            return MISS, False, minh, ret, np.int32(end)
