"""Loops: states that whole runs of bytes leave as they are. Kernels beside those of fsm/masks.py.

Inside a string most bytes lead back to the state they were read in: any letter in ``^[a-z]*$``, any character but a
slash in ``^[^/]+$``, any but a space in ``^(\\S+\\s+){0,9}\\S+$`` (a space leads to another such state). Where a walk
reaches a trie node in a state that all bytes below leave as it is, all tokens below are allowed, and the walk need not
go there. The trie says what comes below a node (`fsm.trie`), this file what a state lets pass:

    loops[state] = [ASCII bytes 0..63, ASCII bytes 64..127, lead bytes, KNOWN and so on, set, three words of dead bytes]

A lead byte passes where each well-formed character that it begins (RFC 3629 §4) leads back. Characters may count down
the length of the string; then as many must be left as come below. They may add to the text of an additional key; then
such a key must be allowed to come.

Patterns that are searched for, ``foo`` or ``^.*a.{20}``, have states that no byte leads back to, but a place that some
bytes never leave: the grammar room says so (`Tables.mark_lasting`), and which bytes lead nowhere at all. What comes
below a node is then allowed or refused byte by byte, and the states that it leads to need not be known.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fsm.cells import meet
from fsm.layout import CE, ED, EXT, HI, LO, ST
from fsm.operations import can_fit
from fsm.trie import ASCII_HIGH, ASCII_LOW, CHARACTERS, ILL_FORMED, LEADS
from grammar.tables import COUNT, GOTO, NONE, WITHIN, XKEY

FLAGS, SET, DEAD, WIDTH = 3, 4, 5, 8
"""Columns of ``loops`` behind the bytes that pass (`ASCII_LOW`, `ASCII_HIGH` and `LEADS`, as in `TokenTrie.below`)."""

KNOWN, LOOPS, COUNTED, LIMITED, KEYS, PARTIAL = 1, 2, 4, 8, 16, 32
"""Flags: the row was written; some bytes pass; a register counts them; what may follow must fit (WITHIN, its set of
lengths in the last column); an additional key grows by them (XKEY, its set of keys in the last column); there was a
state inside a character that is not expanded yet (`Image.apply` clears such rows)."""

ALL, READ, ALIVE = 1, 2, 4
"""Answers of `passes_all`."""

_FIRST_LEAD, _LAST_LEAD = 0xC2, 0xF4


@njit
def _passes(H, edge, keys, chosen, begins):
    """Whether an edge changes no more than the registers that count, or with ``keys`` the text of an additional key:
    with the set of the state's other edges, if they have any; on a character's first byte or on another."""
    op = H[edge + 2]
    if keys:
        return op == XKEY and H[edge + 4] == H[edge + 5] and H[edge + 6] == chosen
    if op == WITHIN:
        return H[edge + 4] == chosen and (H[edge + 6] == 1) == begins
    return op == GOTO or (op == COUNT and begins)


@njit
def _next_edge(H, state, byte, keys, chosen):
    """The edge on a byte inside a character; 0 where there is none that changes nothing else, -1 where that is not
    known yet."""
    s = H[ST] + 3 * state
    if H[s + 1] < 0:
        return -1
    for e in range(H[ED] + 8 * H[s], H[ED] + 8 * (H[s] + H[s + 1]), 8):
        if H[e] <= byte <= H[e + 1]:
            return e if _passes(H, e, keys, chosen, False) else 0
    return 0


@njit
def _last_byte(H, state, lo, hi, home, keys, chosen):
    """Whether each of the bytes lo..hi leads to ``home``: 1, 0, or -1 where that is not known yet."""
    while lo <= hi:
        e = _next_edge(H, state, lo, keys, chosen)
        if e <= 0 or H[e + 3] != home:
            return min(e, 0)
        lo = H[e + 1] + 1
    return 1


def _bytes_before(rest):
    """As `_last_byte`, with continuation bytes after it: those of ``rest``."""

    @njit
    def lead_home(H, state, lo, hi, home, keys, chosen):
        while lo <= hi:
            e = _next_edge(H, state, lo, keys, chosen)
            whole = min(e, 0) if e <= 0 else rest(H, H[e + 3], 0x80, 0xBF, home, keys, chosen)
            if e <= 0 or whole <= 0:
                return whole
            lo = H[e + 1] + 1
        return 1

    return lead_home


_two_bytes = _bytes_before(_last_byte)
_three_bytes = _bytes_before(_two_bytes)


@njit
def _whole_lead(H, edge, lead, home, keys, chosen):
    """Whether all characters that begin with a byte of the edge lead back to ``home``: as `_last_byte`."""
    lo = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
    hi = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
    state = H[edge + 3]
    if lead < 0xE0:
        return _last_byte(H, state, lo, hi, home, keys, chosen)
    if lead < 0xF0:
        return _two_bytes(H, state, lo, hi, home, keys, chosen)
    return _three_bytes(H, state, lo, hi, home, keys, chosen)


@njit
def _find_loop(H, state, loops):
    """Write the state's row, of a state that is expanded."""
    s = H[ST] + 3 * state
    flags, keys, chosen = KNOWN, False, NONE
    for e in range(H[ED] + 8 * H[s], H[ED] + 8 * (H[s] + H[s + 1]), 8):
        op = H[e + 2]
        if H[e + 3] != state and H[e + 1] < _FIRST_LEAD:
            continue
        if not flags & LOOPS:
            keys = op == XKEY
            chosen = H[e + 6] if keys else NONE
        if op == WITHIN and chosen == NONE:
            chosen = H[e + 4]
        if not _passes(H, e, keys, chosen, True):
            continue
        found = False
        for b in range(H[e], min(H[e + 1], _LAST_LEAD) + 1):
            if b < 0x80 and H[e + 3] == state:
                loops[state, ASCII_LOW if b < 64 else ASCII_HIGH] |= np.int64(1) << np.int64(b & 63)
                found = True
            elif b >= _FIRST_LEAD:
                whole = _whole_lead(H, e, b, state, keys, chosen)
                if whole < 0:
                    flags |= PARTIAL
                elif whole > 0:
                    loops[state, LEADS] |= np.int64(1) << np.int64(b - 0xC0)
                    found = True
        if found:
            flags |= LOOPS
            if op != GOTO:
                flags |= KEYS if keys else COUNTED
            if op == WITHIN:
                flags |= LIMITED
    loops[state, FLAGS] = flags
    loops[state, SET] = chosen


@njit
def passes_all(H, state, top, byte, below, node, loops):
    """Whether a state lets the ``byte`` of a trie node pass and all that comes below it: 0 no, or it must be walked;
    `ALL`; `ALIVE`: all but the dead bytes, which nothing passes. With `READ` where frame ``top`` decided."""
    if loops[state, FLAGS] == 0:
        if H[H[ST] + 3 * state + 1] < 0:
            return 0
        _find_loop(H, state, loops)
    flags = loops[state, FLAGS]
    if not flags & LOOPS:
        return 0
    kind = ASCII_LOW if byte < 64 else ASCII_HIGH if byte < 128 else LEADS
    if (byte >= 128 and byte < _FIRST_LEAD) or not loops[state, kind] >> np.int64(byte & 63) & 1:
        return 0
    passes = ALL
    for k in (ASCII_LOW, ASCII_HIGH, LEADS):
        other = below[node, k] & ~np.uint64(loops[state, k])
        if other:
            if other & ~np.uint64(loops[state, DEAD + k]):
                return 0
            passes = ALIVE
    characters = below[node, CHARACTERS]
    if characters & np.uint64(ILL_FORMED):
        return 0
    if not flags & (COUNTED | KEYS):
        return passes
    f = H[CE] + 8 * top
    left = H[f + HI]
    if flags & KEYS:
        return 0 if left == 0 or meet(H, H[f + EXT], np.int32(loops[state, SET])) else passes | READ
    if left >= 0:
        left -= np.int32(characters) + 1
        if left < 0:
            return 0
    if flags & LIMITED and not can_fit(H, np.int32(loops[state, SET]), left, H[f + LO]):
        return 0
    return passes | READ


@njit
def passes_byte(state, byte, loops):
    """Whether a state that lets all but dead bytes pass (`ALIVE`) does so with a byte: continuation bytes belong to a
    character that passes."""
    if 0x80 <= byte < 0xC0:
        return True
    kind = ASCII_LOW if byte < 64 else ASCII_HIGH if byte < 128 else LEADS
    return (loops[state, kind] >> np.int64(byte & 63) & 1) != 0


def write_lasting(loops: NDArray[np.int64], lasting: NDArray[np.uint32]) -> None:
    """Write the rows of states that `Tables.mark_lasting` was told of."""
    words = np.ascontiguousarray(lasting[:, 2:]).view(np.int64)
    states = lasting[:, 0]
    loops[states, :FLAGS] = words[:, :3]
    loops[states, DEAD:] = words[:, 3:]
    loops[states, FLAGS] = KNOWN | LOOPS | np.where(lasting[:, 1] > 0, COUNTED, 0)
