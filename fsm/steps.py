"""The kernels that run a program's byte machine: nogil numba over the heap of fsm/layout.py, no Python object inside.
One byte is fsm/operations.py's, or fsm/heads.py's where there may be several alternatives.

    advance     one token a sequence, batched over programs; interns the configuration reached, and remembers the step
    follow      some bytes from a configuration
    complete    whether a text may end

`tests/fsm/interpreter.py` is the oracle: the same machine in plain Python.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import heap_at, intern, mix
from fsm.heads import advance_heads, heads_accept
from fsm.layout import CAP_CE, CAP_MM, CE, CONFIG, MAX_TOKEN_BYTES, MM, PARENT, PARSER, SCRATCH
from fsm.operations import ADVANCE, COLD, FULL, MISS, MISS_RETURN, OK, REFUSED, WALK, ended, step
from fsm.recording import with_token

__all__ = ["ADVANCE", "COLD", "FULL", "MISS", "MISS_RETURN", "OK", "REFUSED", "WALK", "ended", "step"]


# -- tokens ------------------------------------------------------------------------------------------------------------


@njit
def _settle(H, state, top, record, path, chain):
    """Intern the scratch frames under ``top``, the record after the token, and the configuration; -1 when there is no
    room."""
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
    record = with_token(H, record, path)
    if record < 0:
        return np.int32(-1)
    return intern(H, CONFIG, state, top, record, 0, 0, 0, 0, True)


@njit
def _advance_one(H, config, data, start, stop, chain, base_at):
    if H[PARSER]:
        return advance_heads(H, config, data, start, stop)
    c = H[CE] + 8 * config
    state = H[c + 1]
    top = H[c + 2]
    record = H[c + 3]
    sp = H[CAP_CE]
    minh = np.int32(1 << 30)
    path = data[start:stop]
    for i in range(len(path)):
        status, state, top, sp, record, minh = step(
            H, state, top, sp, record, np.int32(path[i]), minh, ADVANCE, path, i, base_at
        )
        if status != OK:
            return status, config, state, top
    reached = _settle(H, state, top, record, path, chain)
    if reached < 0:
        return FULL, config, state, top
    return OK, reached, state, top


@njit(
    "void(int64[:,::1], int32[::1], int32[::1], int32[::1], uint8[::1], int32[::1], int32[::1], uint8[::1],"
    " int32[:,::1])",
    nogil=True, cache=True,
)  # fmt: skip
def advance(desc, programs, states, tokens, data, offset, out, status, missing):
    """out[i] = configuration of programs[i] after tokens[i] from states[i]. status[i]: OK, REFUSED, MISS (missing[i] =
    (state, 0) or (ret, verdict)) or FULL; out[i] is then states[i]. Ids without bytes, or with too many, are
    REFUSED."""
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
        known = H[MM] + 4 * (np.int64(mix(mix(np.uint32(7), states[i]), token)) & (H[CAP_MM] - 1))
        if H[known] == states[i] and H[known + 1] == token:
            out[i] = H[known + 2]
            status[i] = OK
            continue
        code, reached, state, top = _advance_one(H, states[i], data, offset[token], offset[token + 1], chain, base_at)
        if code == MISS:
            missing[i, 0], missing[i, 1] = state, 0
        elif code == MISS_RETURN:
            missing[i, 0], missing[i, 1] = state, top
            code = MISS
        else:
            out[i] = reached
        if code == OK:
            H[known], H[known + 1], H[known + 2] = states[i], token, reached
        status[i] = code


@njit
def may_end(H, config):
    """(OK, MISS or FULL; whether the text may end; frames consulted; what is missing: where, verdict)."""
    if H[PARSER]:
        code, yes, levels, where, verdict = heads_accept(H, config)
        return (MISS if code == MISS_RETURN else code), yes, levels, where, verdict
    c = H[CE] + 8 * config
    code, yes, minh, where, verdict = ended(H, H[c + 1], H[c + 2], np.int32(1 << 30))
    return code, yes, max(0, H[H[CE] + 8 * H[c + 2]] - minh + 1), where, verdict


@njit("void(int64[:,::1], int32[::1], int32[::1], uint8[::1], uint8[::1], int32[:,::1])", nogil=True, cache=True)
def accepting(desc, programs, states, out, status, missing):
    """out[i] = 1 where the text so far is a complete sentence; status[i]: OK or MISS."""
    for i in range(len(programs)):
        out[i] = 1
        status[i] = OK
        if programs[i] != 0:
            H = heap_at(desc[programs[i], 0], desc[programs[i], 1])
            code, yes, _, where, verdict = may_end(H, states[i])
            out[i] = 1 if yes else 0
            status[i] = code
            missing[i, 0], missing[i, 1] = where, verdict


@njit("int32(int32[::1], int32, int64[::1])", nogil=True, cache=True)
def complete(H, config, info):
    """Whether the text so far is a complete sentence. info: [levels consulted, yes, where, verdict]; OK or MISS."""
    code, yes, levels, where, verdict = may_end(H, config)
    info[0] = levels
    info[1] = 1 if yes else 0
    info[2] = where
    info[3] = verdict
    return code


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
