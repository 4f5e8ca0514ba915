"""The kernels that run a program's byte machine: nogil numba over the heap of fsm/layout.py, no Python object inside.

    step        one byte from (state, frame)
    advance     one token a sequence, batched over programs; interns the configuration reached
    walk        one depth-first pass over the token trie: the mask of a configuration
    lookup      the rows of a batch of configurations, where known

A step may end in MISS: the static state (or the return) is not expanded yet. The kernels then change nothing that is visible
and report what is missing. FULL means that a dynamic table has no room: the caller grows the heap and asks again.

`tests/fsm/interpreter.py` is the oracle: the same machine in plain Python.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from fsm.layout import (
    CAP_CE, CAP_CH, CAP_DH, CAP_DS, CAP_RT, CE, CH, CONFIG, CR, DH, DS, ED, EXT, HEIGHT, HI, KEY_CONFIG, KEY_FRAME,
    KEY_TEXT, LO, MAX_TOKEN_BYTES, N_CE, N_DH, N_DS, NIL, PARENT, RET, RG, RT, SATURATE, SCRATCH, SEEN, SEEN_KEYS, SS, ST, TEXT,
)  # fmt: skip
from grammar.tables import (
    ADDED, CLOSE, COUNT, DECLARED, END_ACCEPT, ENDING, GOTO, KEY, MAYKEY, NONE, POP, PUSH, REDO, XKEY,
)  # fmt: skip

OK, REFUSED, MISS, FULL, COLD = range(5)
MISS_RETURN = 5
"""Inside the kernels: a return is missing; (state, frame) then hold (ret, verdict). Reported as MISS with verdict > 0."""

_ADVANCE, _WALK = 0, 1


@intrinsic
def _as_pointer(typingctx, address):  # type: ignore[no-untyped-def]
    """An integer address as a void pointer, for `carray`."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@njit
def heap_at(address, length):
    return nb.carray(_as_pointer(address), (length,), dtype=np.int32)


# -- hash-consing ------------------------------------------------------------------------------------------------------


@njit
def mix(h, x):
    h = (h ^ np.uint32(x)) * np.uint32(0x85EBCA6B)
    return np.uint32(h ^ (h >> np.uint32(13)))


@njit
def cell_slot(f0, f1, f2, f3, f4, f5, f6, f7):
    """Where the search for a cell begins (to be masked)."""
    h = mix(mix(mix(mix(mix(mix(mix(mix(np.uint32(17), f0), f1), f2), f3), f4), f5), f6), f7)
    return np.uint32(h * np.uint32(0xC2B2AE35) >> np.uint32(7))


@njit
def intern(H, f0, f1, f2, f3, f4, f5, f6, f7, insert):
    """The cell with these fields; -1 if there is none and (not ``insert`` or no room)."""
    mask = np.uint32(H[CAP_CH] - 1)
    slot = cell_slot(f0, f1, f2, f3, f4, f5, f6, f7) & mask
    table = H[CH]
    cells = H[CE]
    while True:
        found = H[table + slot]
        if found == 0:
            break
        c = cells + 8 * (found - 1)
        if (
            H[c] == f0 and H[c + 1] == f1 and H[c + 2] == f2 and H[c + 3] == f3
            and H[c + 4] == f4 and H[c + 5] == f5 and H[c + 6] == f6 and H[c + 7] == f7
        ):  # fmt: skip
            return found - 1
        slot = (slot + np.uint32(1)) & mask
    cell = H[N_CE]
    if not insert or cell >= H[CAP_CE] - SCRATCH:
        return np.int32(-1)
    c = cells + 8 * cell
    H[c] = f0
    H[c + 1] = f1
    H[c + 2] = f2
    H[c + 3] = f3
    H[c + 4] = f4
    H[c + 5] = f5
    H[c + 6] = f6
    H[c + 7] = f7
    H[H[CR] + cell] = -1
    H[table + slot] = cell + 1
    H[N_CE] = cell + 1
    return cell


# -- sets of declared keys ---------------------------------------------------------------------------------------------


@njit
def _words(H, key_set):
    """Index of a set's first word in the heap; the word before it holds the number of words."""
    if key_set >= 0:
        return H[SS] + key_set
    return H[DS] - 2 - key_set


@njit
def _any_in(H, key_set, lo, hi):
    """Whether the set has a key in [lo, hi)."""
    if key_set == NONE or lo >= hi:
        return False
    base = _words(H, key_set)
    first = lo >> 5
    last = (hi - 1) >> 5
    for w in range(first, last + 1):
        word = np.uint32(H[base + w])
        if w == first:
            word &= np.uint32(0xFFFFFFFF) << np.uint32(lo & 31)
        if w == last and (hi & 31) != 0:
            word &= (np.uint32(1) << np.uint32(hi & 31)) - np.uint32(1)
        if word != 0:
            return True
    return False


@njit
def _meet(H, one, other):
    """Whether two sets (of the same object) share a key."""
    if one == NONE or other == NONE:
        return False
    x = _words(H, one)
    y = _words(H, other)
    for w in range(H[x - 1]):
        if (H[x + w] & H[y + w]) != 0:
            return True
    return False


@njit
def _without(H, key_set, key):
    """The set less ``key``, interned; NONE when there is no room."""
    source = _words(H, key_set)
    words = H[source - 1]
    start = H[N_DS]
    if start + words + 1 > H[CAP_DS] or 2 * (H[N_DH] + 1) > H[CAP_DH]:
        return np.int32(NONE)
    target = H[DS] + start + 1
    H[target - 1] = words
    h = np.uint32(words)
    for w in range(words):
        word = H[source + w]
        if w == key >> 5:
            word &= ~(np.int32(1) << np.int32(key & 31))
        H[target + w] = word
        h = mix(h, word)
    mask = np.uint32(H[CAP_DH] - 1)
    slot = np.uint32(h * np.uint32(0xC2B2AE35) >> np.uint32(7)) & mask
    while True:
        found = H[H[DH] + slot]
        if found == 0:
            break
        other = H[DS] + found
        same = H[other - 1] == words
        if same:
            for w in range(words):
                if H[other + w] != H[target + w]:
                    same = False
                    break
        if same:
            return np.int32(-2 - found)
        slot = (slot + np.uint32(1)) & mask
    H[H[DH] + slot] = start + 1
    H[N_DS] = start + 1 + words
    H[N_DH] += 1
    return np.int32(-2 - (start + 1))


# -- one byte ----------------------------------------------------------------------------------------------------------


@njit
def _returned(H, ret, verdict):
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
def step(H, state, top, sp, byte, minh, mode, path, depth, base_at):
    """One byte. Returns (status, state, frame, scratch pointer, lowest frame height consulted).

    ``path[:depth]`` are the token's bytes before this one, needed only to name additional keys in a walk; ``mode`` _ADVANCE
    interns key texts as they grow, _WALK leaves the known texts without a trace: text = -2 - depth.
    """
    while True:
        s = H[ST] + 3 * state
        count = H[s + 1]
        if count < 0:
            return MISS, state, top, sp, minh
        e = H[ED] + 8 * H[s]
        last = e + 8 * count
        while e < last and H[e + 1] < byte:
            e += 8
        if e >= last or H[e] > byte:
            return REFUSED, state, top, sp, minh
        op = H[e + 2]
        target = H[e + 3]
        if op == GOTO:
            return OK, target, top, sp, minh
        a = H[e + 4]
        b = H[e + 5]
        if op == PUSH or op == ENDING:
            f = H[CE] + 8 * top
            if op == ENDING:
                if H[f] < minh:
                    minh = H[f]
                if H[f + LO] > 0 or _meet(H, H[f + EXT], H[e + 6]):
                    return REFUSED, state, top, sp, minh
            height = H[f] + 1
            sp -= 1
            g = H[CE] + 8 * sp
            r = H[RG] + 3 * b
            H[g + HEIGHT] = height
            H[g + RET] = a
            H[g + HI] = H[r]
            H[g + LO] = H[r + 1]
            H[g + EXT] = H[r + 2]
            H[g + SEEN_KEYS] = NIL
            H[g + KEY_TEXT] = NIL
            H[g + PARENT] = top
            return OK, target, sp, sp, minh

        f = H[CE] + 8 * top
        if H[f] < minh:
            minh = H[f]
        if op == POP or op == REDO or op == CLOSE:
            if H[f + LO] > 0 or H[f] == 1:
                return REFUSED, state, top, sp, minh
            if op == CLOSE and _meet(H, H[f + EXT], b):
                return REFUSED, state, top, sp, minh
            ret = H[f + RET]
            top = H[f + PARENT]
            state = _returned(H, ret, a)
            if state < 0:
                return MISS_RETURN, ret, a, sp, minh
            if op == REDO:
                continue
            return OK, state, top, sp, minh

        hi = H[f + HI]
        if hi == 0:
            return REFUSED, state, top, sp, minh
        if op == COUNT:
            lo = H[f + LO]
            if hi < 0 and lo == 0:
                return OK, target, top, sp, minh
            sp -= 1
            g = _scratch_copy(H, top, sp)
            H[g + HI] = hi - 1 if hi > 0 else hi
            H[g + LO] = lo - 1 if lo > 0 else 0
            return OK, target, sp, sp, minh
        ext = H[f + EXT]
        if op == KEY:
            if not _any_in(H, ext, a, b):
                return REFUSED, state, top, sp, minh
            return OK, target, top, sp, minh
        c = H[e + 6]
        if op == XKEY or op == MAYKEY:
            if not _any_in(H, ext, a, b) and _meet(H, ext, c):
                return REFUSED, state, top, sp, minh
            if op == MAYKEY:
                return OK, target, top, sp, minh
            text = H[f + KEY_TEXT]
            if text >= 0:
                longer = intern(H, TEXT, text, byte, 0, 0, 0, 0, 0, mode == _ADVANCE)
                if longer < 0:
                    if mode == _ADVANCE:
                        return FULL, state, top, sp, minh
                    base_at[depth] = text
                    longer = np.int32(-2 - depth)
                sp -= 1
                g = _scratch_copy(H, top, sp)
                H[g + KEY_TEXT] = longer
                top = sp
            return OK, target, top, sp, minh

        # A key ends: DECLARED or ADDED.
        seen = H[f + SEEN_KEYS]
        if op == DECLARED:
            if not _any_in(H, ext, a, a + 1):
                return REFUSED, state, top, sp, minh
            if b == NONE:
                b = _without(H, ext, a)
                if b == NONE:
                    return FULL, state, top, sp, minh
            ext = b
        else:
            if _meet(H, ext, c):
                return REFUSED, state, top, sp, minh
            text = _text_of(H, H[f + KEY_TEXT], base_at, path, depth, True)
            if text < 0:
                return FULL, state, top, sp, minh
            rest = seen
            while rest != NIL:
                r = H[CE] + 8 * rest
                if H[r + 1] == text:
                    return REFUSED, state, top, sp, minh
                rest = H[r + 2]
            seen = intern(H, SEEN, text, seen, 0, 0, 0, 0, 0, True)
            if seen < 0:
                return FULL, state, top, sp, minh
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
        return OK, target, sp, sp, minh


@njit
def ended(H, state, top, minh):
    """Whether the text may end here. Returns (status, accepting, lowest height consulted, what is missing: where, verdict)."""
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
        state = _returned(H, ret, end)
        if state < 0:
            return MISS, False, minh, ret, np.int32(end)


# -- tokens ------------------------------------------------------------------------------------------------------------


@njit
def _settle(H, state, top, chain):
    """Intern the scratch frames under ``top`` and the configuration; -1 when there is no room."""
    floor = H[CAP_CE] - SCRATCH
    n = 0
    while top >= floor:
        chain[n] = top
        n += 1
        top = H[H[CE] + 8 * top + PARENT]
    for i in range(n - 1, -1, -1):
        f = H[CE] + 8 * chain[i]
        top = intern(H, H[f], H[f + 1], H[f + 2], H[f + 3], H[f + 4], H[f + 5], H[f + 6], top, True)
        if top < 0:
            return np.int32(-1)
    return intern(H, CONFIG, state, top, 0, 0, 0, 0, 0, True)


@njit
def _advance_one(H, config, data, start, stop, chain, base_at):
    c = H[CE] + 8 * config
    state = H[c + 1]
    top = H[c + 2]
    sp = H[CAP_CE]
    minh = np.int32(1 << 30)
    for i in range(start, stop):
        status, state, top, sp, minh = step(H, state, top, sp, np.int32(data[i]), minh, _ADVANCE, data, 0, base_at)
        if status != OK:
            return status, config, state, top
    reached = _settle(H, state, top, chain)
    if reached < 0:
        return FULL, config, state, top
    return OK, reached, state, top


@njit(
    "void(int64[:,::1], int32[::1], int32[::1], int32[::1], uint8[::1], int32[::1], int32[::1], uint8[::1], int32[:,::1])",
    nogil=True, cache=True,
)  # fmt: skip
def advance(desc, programs, states, tokens, data, offset, out, status, missing):
    """out[i] = configuration of programs[i] after tokens[i] from states[i]. status[i]: OK, REFUSED, MISS (missing[i] =
    (state, 0) or (ret, verdict)) or FULL; out[i] is then states[i]. Ids without bytes, or with too many, are REFUSED."""
    chain = np.empty(SCRATCH, np.int32)
    base_at = np.empty(1, np.int32)
    for i in range(len(programs)):
        program = programs[i]
        if program == 0:
            out[i] = 0
            status[i] = OK
            continue
        token = tokens[i]
        out[i] = states[i]
        status[i] = REFUSED
        if token < 0 or token + 1 >= len(offset):
            continue
        if offset[token] == offset[token + 1] or offset[token + 1] - offset[token] > MAX_TOKEN_BYTES:
            continue
        H = heap_at(desc[program, 0], desc[program, 1])
        code, reached, state, top = _advance_one(
            H, states[i], data, offset[token], offset[token + 1], chain, base_at
        )
        if code == MISS:
            missing[i, 0], missing[i, 1] = state, 0
        elif code == MISS_RETURN:
            missing[i, 0], missing[i, 1] = state, top
            code = MISS
        else:
            out[i] = reached
        status[i] = code


@njit("void(int64[:,::1], int32[::1], int32[::1], uint8[::1], uint8[::1], int32[:,::1])", nogil=True, cache=True)
def accepting(desc, programs, states, out, status, missing):
    """out[i] = 1 where the text so far is a complete sentence; status[i]: OK or MISS."""
    for i in range(len(programs)):
        out[i] = 1
        status[i] = OK
        if programs[i] != 0:
            H = heap_at(desc[programs[i], 0], desc[programs[i], 1])
            c = H[CE] + 8 * states[i]
            code, yes, _, where, verdict = ended(H, H[c + 1], H[c + 2], np.int32(1 << 30))
            out[i] = 1 if yes else 0
            status[i] = code
            missing[i, 0], missing[i, 1] = where, verdict


@njit("int32(int32[::1], int32, int64[::1])", nogil=True, cache=True)
def complete(H, config, info):
    """Whether the text so far is a complete sentence. info: [levels consulted, yes, where, verdict]; OK or MISS."""
    c = H[CE] + 8 * config
    height = H[H[CE] + 8 * H[c + 2]]
    code, yes, minh, where, verdict = ended(H, H[c + 1], H[c + 2], np.int32(1 << 30))
    info[0] = max(0, height - minh + 1)
    info[1] = 1 if yes else 0
    info[2] = where
    info[3] = verdict
    return code


# -- masks -------------------------------------------------------------------------------------------------------------


@njit
def _saturated(counter, limit):
    return limit if counter < 0 or counter > limit else counter


@njit
def _row_key(H, state, top, levels, insert):
    """The KEY_CONFIG cell of (state, the ``levels`` topmost frames); -1 when absent (or no room)."""
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
        below = intern(
            H, KEY_FRAME, H[f + RET], _saturated(H[f + HI], limit), min(H[f + LO], limit), H[f + EXT], H[f + SEEN_KEYS],
            H[f + KEY_TEXT], below, insert,
        )  # fmt: skip
        if below < 0:
            return np.int32(-1)
    return intern(H, KEY_CONFIG, state, below, levels, 0, 0, 0, 0, insert)


@njit("void(int64[:,::1], int32[::1], int32[::1], int32[::1], uint8[::1])", nogil=True, cache=True)
def lookup(desc, programs, states, out, status):
    """out[i] = row of states[i] if known (status OK), by configuration or by the frames its state is known to consult; else COLD."""
    for i in range(len(programs)):
        status[i] = OK
        if programs[i] == 0:
            out[i] = 0
            continue
        H = heap_at(desc[programs[i], 0], desc[programs[i], 1])
        config = states[i]
        row = H[H[CR] + config]
        if row < 0:
            c = H[CE] + 8 * config
            hint = intern(H, KEY_CONFIG, H[c + 1], -1, -1, 0, 0, 0, 0, False)
            if hint >= 0:
                key = _row_key(H, H[c + 1], H[c + 2], H[H[CR] + hint], False)
                if key >= 0:
                    row = H[H[CR] + key]
                    H[H[CR] + config] = row
        out[i] = row
        if row < 0:
            status[i] = COLD


@njit("int32(int32[::1], int32, int32, int32)", nogil=True, cache=True)
def remember(H, config, levels, row):
    """Record that ``config`` has ``row``, found by consulting ``levels`` frames. FULL when there is no room, else OK."""
    c = H[CE] + 8 * config
    state = H[c + 1]
    if levels <= 64:
        hint = intern(H, KEY_CONFIG, state, -1, -1, 0, 0, 0, 0, True)
        if hint < 0:
            return FULL
        H[H[CR] + hint] = max(H[H[CR] + hint], levels)
        key = _row_key(H, state, H[c + 2], H[H[CR] + hint], True)
        if key < 0:
            return FULL
        H[H[CR] + key] = row
    H[H[CR] + config] = row
    return OK


@njit(
    "int32(int32[::1], int32, uint8[::1], uint16[::1], int32[::1], int32[::1], int32[::1], uint32[::1], int32[:,::1],"
    " int64[::1])",
    nogil=True, cache=True,
)  # fmt: skip
def walk(H, config, byte, depth, skip, first, order, bits, missing, info):
    """The mask of a configuration: one depth-first pass over the trie of all tokens.

    Trie arrays as in fsm/trie.py. ``bits``: uint32[W], cleared by the caller; bit i set <=> token i keeps a valid completion
    reachable. ``missing``: rows (state, 0) or (ret, verdict) that the pass could not enter, their number in info[1]; with any, the
    status is MISS and the mask is not usable. info: [levels of frames consulted, missing, nodes visited].
    """
    c = H[CE] + 8 * config
    states = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    tops = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    sps = np.empty(MAX_TOKEN_BYTES + 1, np.int32)
    path = np.empty(MAX_TOKEN_BYTES, np.uint8)
    base_at = np.empty(MAX_TOKEN_BYTES, np.int32)
    states[0] = H[c + 1]
    tops[0] = H[c + 2]
    sps[0] = H[CAP_CE]
    height = H[H[CE] + 8 * tops[0]]
    minh = np.int32(1 << 30)
    misses = 0
    visited = 0
    n = len(byte)
    i = 0
    while i < n:
        d = np.int32(depth[i])
        b = byte[i]
        visited += 1
        if d >= MAX_TOKEN_BYTES:
            i = skip[i]
            continue
        code, state, top, sp, minh = step(H, states[d], tops[d], sps[d], np.int32(b), minh, _WALK, path, d, base_at)
        if code == OK:
            states[d + 1] = state
            tops[d + 1] = top
            sps[d + 1] = sp
            path[d] = b
            for k in range(first[i], first[i + 1]):
                token = order[k]
                bits[token >> 5] |= np.uint32(1) << np.uint32(token & 31)
            i += 1
            continue
        if code == FULL:
            return FULL
        if code != REFUSED:
            verdict = top if code == MISS_RETURN else np.int32(0)
            known = False
            for k in range(misses):
                if missing[k, 0] == state and missing[k, 1] == verdict:
                    known = True
                    break
            if not known and misses < len(missing):
                missing[misses, 0] = state
                missing[misses, 1] = verdict
                misses += 1
        i = skip[i]
    info[0] = max(0, height - minh + 1)
    info[1] = misses
    info[2] = visited
    return MISS if misses else OK


@njit("int32(int32[::1], int32, uint8[::1], int32[:,::1], int64[::1])", nogil=True, cache=True)
def allowed_bytes(H, config, out, missing, info):
    """out[b] = 1 where byte b may come next (uint8[256]); ``missing`` and info[1] as in `walk`."""
    c = H[CE] + 8 * config
    path = np.empty(1, np.uint8)
    base_at = np.empty(1, np.int32)
    misses = 0
    for b in range(256):
        code, state, top, _, _ = step(
            H, H[c + 1], H[c + 2], H[CAP_CE], np.int32(b), np.int32(1 << 30), _WALK, path, 0, base_at
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


@njit("int32(int32[::1], int32, uint8[::1], int64[::1])", nogil=True, cache=True)
def follow(H, config, text, info):
    """The configuration after some bytes (at most MAX_TOKEN_BYTES), in info[0]; the status as in `advance`, what is
    missing in info[2:4]."""
    chain = np.empty(SCRATCH, np.int32)
    base_at = np.empty(1, np.int32)
    code, reached, state, top = _advance_one(H, config, text, 0, len(text), chain, base_at)
    info[0] = reached
    info[2] = state
    info[3] = top if code == MISS_RETURN else 0
    return MISS if code == MISS_RETURN else code
