"""Masks: which tokens may come next in a configuration, and where that is already known. Kernels beside those of
fsm/steps.py.

    lookup      rows of a batch of configurations, where known
    fill        the mask of one configuration: a depth-first pass over the trie of all tokens
    remember    its row, for every configuration that the walk could not have told apart

A mask depends on the static state and on the frames that the walk consulted, no more. So a row is kept under (state,
those frames with their counters saturated): the next item of an array, or the same object elsewhere, finds it without a
walk.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import heap_at, intern, meet
from fsm.head_keys import hint_of_heads, key_of_heads
from fsm.heads import HIGHEST, WORK, read_heads, step_heads, walk_heads
from fsm.layout import (
    CAP_CE,
    CE,
    COUNTED_SEEN,
    CR,
    ED,
    EXT,
    HI,
    KEY_CONFIG,
    KEY_FRAME,
    KEY_TEXT,
    LO,
    MAX_HEADS,
    MAX_TOKEN_BYTES,
    NIL,
    PARENT,
    PARSER,
    RET,
    SATURATE,
    SEEN_KEYS,
    ST,
)  # fmt: skip
from fsm.loops import ALL, HOME, READ, may_pass, passes_all, passes_below, passes_byte
from fsm.operations import LEAF, note_miss
from fsm.profiles import QUOTE
from fsm.steps import COLD, FULL, MISS, MISS_RETURN, OK, REFUSED, WALK, may_end, step
from grammar.tables import ADDED, GOTO, XKEY

_LEVELS = -2
"""A state's hint holds, in place of a row, `_LEVELS` less the levels of frames that its masks consult."""


@njit
def _saturated(counter, limit):
    return limit if counter < 0 or counter > limit else counter


@njit
def _has_token(byte, skip, reverse, n, ends):
    """Whether a trie goes on with these ``n`` bytes (in reverse), and where the text ``ends`` there with a quote."""
    lo, hi = 0, len(byte)
    for i in range(n, -1 if ends else 0, -1):
        wanted = reverse[i - 1] if i > 0 else np.uint8(QUOTE)
        node = lo
        while node < hi and byte[node] < wanted:
            node = skip[node]
        if node >= hi or byte[node] != wanted:
            return False
        lo, hi = node + 1, skip[node]
    return True


@njit
def _in_key(H, state):
    """Whether the state is inside a key whose text counts."""
    s = H[ST] + 3 * state
    for e in range(H[s + 1]):
        op = H[H[ED] + 8 * (H[s] + e) + 2]
        if op == XKEY or op == ADDED:
            return True
    return False


@njit
def _may_repeat(H, frame, begun, byte, skip, quoted_byte, quoted_skip):
    """Whether a single token could spell a key of this object a second time. 2: end the key that is ``begun`` as one
    seen before, or hold a seen key whole. 1: only end the key that is begun and hold it whole after that. 0: neither;
    masks then know nothing of the keys seen or of the text begun."""
    reverse = np.empty(MAX_TOKEN_BYTES, np.uint8)
    f = H[CE] + 8 * frame
    text = H[f + KEY_TEXT]
    seen = H[f + SEEN_KEYS]
    again = 0
    if begun and text != NIL:
        key = text
        n = 0
        while key != NIL and n < MAX_TOKEN_BYTES:
            k = H[CE] + 8 * key
            reverse[n] = H[k + 2]
            n += 1
            key = H[k + 1]
        if key == NIL and _has_token(quoted_byte, quoted_skip, reverse, n, False):
            again = 1
    while seen != NIL:
        s = H[CE] + 8 * seen
        key = H[s + 1]
        n = 0
        while key != NIL and key != text and n < MAX_TOKEN_BYTES:
            k = H[CE] + 8 * key
            reverse[n] = H[k + 2]
            n += 1
            key = H[k + 1]
        if begun and key == text and _has_token(byte, skip, reverse, n, True):
            return 2
        while key != NIL and n < MAX_TOKEN_BYTES:
            k = H[CE] + 8 * key
            reverse[n] = H[k + 2]
            n += 1
            key = H[k + 1]
        if key == NIL and _has_token(quoted_byte, quoted_skip, reverse, n, True):
            return 2
        seen = H[s + 2]
    return again


@njit
def _row_key(H, config, levels, shared, byte, skip, quoted_byte, quoted_skip, insert):
    """The KEY_CONFIG cell of a configuration's state and ``levels`` topmost frames; -1 when absent (or no room).
    ``shared``: leave out the keys seen where they cannot matter, and the record; right for walks that did not count
    them (`COUNTED_SEEN`)."""
    c = H[CE] + 8 * config
    state, top = H[c + 1], H[c + 2]
    record = np.int32(NIL) if shared else H[c + 3]
    chain = np.empty(64, np.int32)
    n = 0
    while n < levels and top != NIL:
        chain[n] = top
        n += 1
        top = H[H[CE] + 8 * top + PARENT]
    below = np.int32(NIL)
    limit = H[SATURATE]
    for i in range(n - 1, -1, -1):
        f = H[CE] + 8 * chain[i]
        seen, text = H[f + SEEN_KEYS], H[f + KEY_TEXT]
        begun = i == 0 and _in_key(H, state)
        if shared and (seen != NIL or text != NIL):
            repeats = _may_repeat(H, chain[i], begun, byte, skip, quoted_byte, quoted_skip)
            seen = seen if repeats == 2 else np.int32(NIL)
            text = text if repeats > 0 else np.int32(NIL)
        hi, lo = _saturated(H[f + HI], limit), min(H[f + LO], limit)
        below = intern(H, KEY_FRAME, H[f + RET], hi, lo, H[f + EXT], seen, text, below, insert)
        if below < 0:
            return np.int32(-1)
    return intern(H, KEY_CONFIG, state, below, levels, 1 if shared else 0, record, 0, 0, insert)


@njit(
    "int64(int64[:,::1], int32[::1], int32[::1], uint8[::1], int32[::1], uint8[::1], int32[::1], int64[::1], int64,"
    " int32[::1], uint8[::1])",
    nogil=True, cache=True,
)  # fmt: skip
def lookup(desc, programs, states, byte, skip, quoted_byte, quoted_skip, used, now, out, status):
    """out[i] = row of states[i] if known (status OK), by configuration or by the frames its state is known to consult;
    else COLD; returns how many are. ``byte``, ``skip``: the trie of all tokens; ``quoted_*``: `Profiles.quoted`.
    ``used[row] = now`` for the rows found."""
    cold = 0
    for i in range(len(programs)):
        status[i] = OK
        if programs[i] == 0:
            out[i] = 0
            continue
        H = heap_at(desc[programs[i], 0], desc[programs[i], 1])
        config = states[i]
        row = H[H[CR] + config]
        if row < 0 and H[PARSER]:
            hint = hint_of_heads(H, config, False)
            key = key_of_heads(H, config, _LEVELS - H[H[CR] + hint], False) if hint >= 0 else np.int32(-1)
            if key >= 0 and H[H[CR] + key] >= 0:
                row = H[H[CR] + key]
                H[H[CR] + config] = row
        elif row < 0:
            c = H[CE] + 8 * config
            hint = intern(H, KEY_CONFIG, H[c + 1], -1, -1, 0, 0, 0, 0, False)
            if hint >= 0:
                levels = _LEVELS - H[H[CR] + hint]
                for shared in (True, False):
                    key = _row_key(H, config, levels, shared, byte, skip, quoted_byte, quoted_skip, False)
                    if key >= 0 and H[H[CR] + key] >= 0:
                        row = H[H[CR] + key]
                        H[H[CR] + config] = row
                        break
        out[i] = row
        if row < 0:
            status[i] = COLD
            cold += 1
        else:
            used[row] = now
    return cold


@njit(
    "int32(int32[::1], int32, int32, boolean, int32, uint8[::1], int32[::1], uint8[::1], int32[::1])",
    nogil=True, cache=True,
)  # fmt: skip
def remember(H, config, levels, shared, row, byte, skip, quoted_byte, quoted_skip):
    """Record that ``config`` has ``row``, found by consulting ``levels`` frames; ``shared`` as in `_row_key`. FULL when
    there is no room, else OK."""
    c = H[CE] + 8 * config
    state = H[c + 1]
    if H[PARSER]:
        hint = hint_of_heads(H, config, True)
        if hint < 0:
            return FULL
        levels = max(_LEVELS - H[H[CR] + hint], levels)
        H[H[CR] + hint] = _LEVELS - levels
        key = key_of_heads(H, config, levels, True)
        if key == -1:
            return FULL
        if key >= 0:
            H[H[CR] + key] = row
    elif levels <= 64:
        hint = intern(H, KEY_CONFIG, state, -1, -1, 0, 0, 0, 0, True)
        if hint < 0:
            return FULL
        levels = max(_LEVELS - H[H[CR] + hint], levels)
        H[H[CR] + hint] = _LEVELS - levels
        key = _row_key(H, config, levels, shared, byte, skip, quoted_byte, quoted_skip, True)
        if key < 0:
            return FULL
        H[H[CR] + key] = row
    H[H[CR] + config] = row
    return OK


@njit
def _allow(bits, order, start, stop):
    """Set the bits of order[start:stop]."""
    for k in range(start, stop):
        token = order[k]
        bits[token >> 5] |= np.uint32(1) << np.uint32(token & 31)


@njit
def _allow_below(bits, order, first, byte, skip, node, passes, state, loops):
    """Set the bits of the tokens that end at a node or below it: of `ALL`, or of those that no dead byte leads to."""
    end = skip[node]
    if passes & ALL:
        _allow(bits, order, first[node], first[end])
        return
    _allow(bits, order, first[node], first[node + 1])
    node += 1
    while node < end:
        alive = passes_byte(state, byte[node], loops)
        if alive:
            _allow(bits, order, first[node], first[node + 1])
        node = node + 1 if alive else skip[node]


@njit
def _walk(H, config, byte, depth, skip, first, order, below, starts, loops, bits, missing, info):
    """One depth-first pass over the trie, for `fill`."""
    c = H[CE] + 8 * config
    states = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    tops = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    sps = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    records = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    # Of each depth's state: the edge where the last byte was found, since children come in the order of their bytes;
    # behind its last edge; the node behind those that are read in it; whether it may let bytes pass.
    found = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    last = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    ends = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    lets = np.empty(MAX_TOKEN_BYTES + 1, np.bool_)
    path = np.empty(MAX_TOKEN_BYTES, np.uint8)
    base_at = np.empty(MAX_TOKEN_BYTES, np.int32)
    state, top, sp, record = H[c + 1], H[c + 2], H[CAP_CE], H[c + 3]
    height = H[H[CE] + 8 * top]
    minh = np.int32(1 << 30)
    misses = 0
    visited = 0
    n = np.int32(len(byte))
    # A node's children are read in the state after it: the first ones here, others as the walk comes to them.
    d, i, end = np.int32(-1), np.int32(0), n
    H[COUNTED_SEEN] = 0
    while True:
        if i < end and d + 1 < MAX_TOKEN_BYTES:
            d += 1
            states[d], tops[d], sps[d], records[d], ends[d] = state, top, sp, record, end
            s = H[ST] + 3 * state
            found[d] = H[ED] + 8 * H[s]
            last[d] = found[d] + 8 * max(H[s + 1], 0)
            lets[d] = may_pass(H, state, end - i, loops)
        else:
            i = end
        # The next node that the walk can enter, at this depth or above.
        entered = False
        while not entered:
            while d >= 0 and i >= ends[d]:
                d -= 1
            if d < 0:
                break
            visited += 1
            b = byte[i]
            state, top = states[d], tops[d]
            if lets[d]:
                passes = passes_all(H, state, top, b, below, i, loops)
                if passes > 0:
                    if passes & READ:
                        minh = min(minh, H[H[CE] + 8 * top])
                    _allow_below(bits, order, first, byte, skip, i, passes, loops[state, HOME], loops)
                    i = skip[i]
                    continue
            e = found[d]
            while e < last[d] and H[e + 1] < b:
                e += 8
            found[d] = e
            if e >= last[d]:
                if H[H[ST] + 3 * state + 1] < 0:
                    misses = note_miss(missing, misses, state, np.int32(0))
                i = ends[d]
                continue
            if H[e] > b:
                # Nothing before this edge.
                if d == 0:
                    i = starts[H[e]]
                else:
                    i = skip[i]
                    while i < ends[d] and byte[i] < H[e]:
                        i = skip[i]
                continue
            sp, record = sps[d], records[d]
            if H[e + 2] == GOTO:
                # Most bytes of most walks, so worth doing without `step`.
                state = H[e + 3]
                entered = True
                continue
            mode = WALK if skip[i] > i + 1 else LEAF
            code, state, top, sp, record, minh = step(
                H, state, top, sp, record, np.int32(b), minh, mode, path, d, base_at
            )
            if code == OK:
                entered = True
            elif code == FULL:
                return FULL
            else:
                if code != REFUSED:
                    misses = note_miss(missing, misses, state, top if code == MISS_RETURN else np.int32(0))
                i = skip[i]
        if not entered:
            break
        path[d] = byte[i]
        end = skip[i]
        if end > i + 1 and may_pass(H, state, end - i, loops) and loops[state, HOME] == state:
            passes = passes_below(H, state, top, 0, below, i, loops)
            if passes > 0:
                if passes & READ:
                    minh = min(minh, H[H[CE] + 8 * top])
                _allow_below(bits, order, first, byte, skip, i, passes, state, loops)
                i = end
                continue
        _allow(bits, order, first[i], first[i + 1])
        i += 1
    info[0] = max(0, height - minh + 1)
    info[1] = misses
    info[2] = visited
    info[3] = H[COUNTED_SEEN]
    return MISS if misses else OK


@njit(
    "int32(int32[::1], int32, uint8[::1], uint16[::1], int32[::1], int32[::1], int32[::1], uint64[:,::1], int32[::1],"
    " int64[:,::1], int32[::1], uint32[::1], int32[:,::1], int64[::1])",
    nogil=True, cache=True,
)  # fmt: skip
def fill(H, config, byte, depth, skip, first, order, below, starts, loops, ending, bits, missing, info):
    """The mask of a configuration.

    Trie arrays as in fsm/trie.py, ``loops`` as in fsm/loops.py: subtrees that a state lets pass are not walked.
    ``ending``: the ids that end a text. ``bits``: uint32[W], cleared by the caller; bit i set <=> token i keeps a valid
    completion reachable, or ends one. ``missing``: rows (state, 0) or (ret, verdict) that the walk could not enter,
    their number in info[1]; with any, the status is MISS and the mask is not usable. info: [levels of frames consulted,
    missing, nodes visited, whether the keys seen were counted]."""
    if H[PARSER]:
        code = walk_heads(H, config, byte, depth, skip, first, order, bits, missing, info)
    else:
        code = _walk(H, config, byte, depth, skip, first, order, below, starts, loops, bits, missing, info)
    if code != OK:
        return code
    code, complete, levels, where, verdict = may_end(H, config)
    info[0] = max(info[0], levels)
    if code == MISS:
        info[1] = note_miss(missing, 0, where, verdict)
    if code == OK and complete:
        _allow(bits, ending, 0, len(ending))
    return code


@njit("boolean(int32[::1], int32)", nogil=True, cache=True)
def may_add(H, config):
    """Whether an additional key may come in a configuration inside a key (`Tables.mark_keyed`)."""
    c = H[CE] + 8 * config
    s = H[ST] + 3 * H[c + 1]
    f = H[CE] + 8 * H[c + 2]
    for e in range(H[ED] + 8 * H[s], H[ED] + 8 * (H[s] + H[s + 1]), 8):
        if H[e + 2] == XKEY:
            return H[f + HI] != 0 and not meet(H, H[f + EXT], H[e + 6])
    return False


@njit("int32(int32[::1], int32, uint8[::1], int32[:,::1], int64[::1])", nogil=True, cache=True)
def allowed_bytes(H, config, out, missing, info):
    """out[b] = 1 where byte b may come next (uint8[256]); ``missing`` and info[1] as in `fill`."""
    c = H[CE] + 8 * config
    path = np.empty(1, np.uint8)
    base_at = np.empty(1, np.int32)
    heads = np.empty((4, MAX_HEADS), np.int32)
    work = np.empty((4, WORK), np.int32)
    n = read_heads(H, config, heads[0], heads[1]) if H[PARSER] else 0
    misses = 0
    for b in range(256):
        if H[PARSER]:
            code, _, _, state, top = step_heads(
                H, heads[0], heads[1], n, np.int32(b), heads[2], heads[3], work, HIGHEST
            )
        else:
            code, state, top, _, _, _ = step(
                H, H[c + 1], H[c + 2], H[CAP_CE], H[c + 3], np.int32(b), np.int32(1 << 30), WALK, path, 0, base_at
            )
        out[b] = 1 if code == OK else 0
        if code == FULL:
            return FULL
        if code == MISS or code == MISS_RETURN:
            if misses < len(missing):
                missing[misses, 0] = state
                missing[misses, 1] = top if code == MISS_RETURN else 0
                misses += 1
    info[1] = misses
    return MISS if misses else OK
