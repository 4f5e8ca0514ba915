"""Loops: states that whole runs of bytes leave as they are. Kernels beside those of fsm/masks.py.

Inside a string most bytes lead back to the state they were read in: any letter in ``^[a-z]*$``, any character but a
slash in ``^[^/]+$``, any but a space in ``^(\\S+\\s+){0,9}\\S+$`` (a space leads to another such state). Where a walk
reaches a trie node in a state that all bytes below leave as it is, all tokens below are allowed, and the walk need not
go there. The trie says what comes below a node (`fsm.trie`), this file what a state lets pass:

    loops[state] = [ASCII bytes 0..63, ASCII bytes 64..127, lead bytes, KNOWN and so on, set, three words of dead bytes,
                    the state that the bytes lead to]

That is the state itself, or where it has no loop, one that has: after the first letter of a key that must differ from
others, any letter leads to where they cannot be meant any more. A lead byte passes where each well-formed character
that it begins (RFC 3629 §4) leads there. Characters may count down the length of the string; then as many must be left
as come below. They may add to the text of an additional key; then such a key must be allowed to come.

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

FLAGS, SET, DEAD, HOME, WIDTH = 3, 4, 5, 8, 9
"""Columns of ``loops`` behind the bytes that pass (`ASCII_LOW`, `ASCII_HIGH` and `LEADS`, as in `TokenTrie.below`)."""

KNOWN, LOOPS, COUNTED, LIMITED, KEYS, PARTIAL = 1, 2, 4, 8, 16, 32
"""Flags: the row was written; some bytes pass; a register counts them; what may follow must fit (WITHIN, its set of
lengths in the last column); an additional key grows by them (XKEY, its set of keys in the last column); there was a
state inside a character that is not expanded yet (`Image.apply` clears such rows)."""

ALL, READ, ALIVE = 1, 2, 4
"""Answers of `passes_all` and `passes_below`."""

_FIRST_LEAD, _LAST_LEAD = 0xC2, 0xF4

_WORTH_IT = 24
"""Nodes: finding a state's loop takes as long as walking these."""


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
def _find_bytes(H, state, home, keys, chosen, loops):
    """Write which bytes lead from a state to ``home``, and how: flags, the set that decides."""
    s = H[ST] + 3 * state
    flags, undecided = KNOWN, chosen == NONE and not keys
    for e in range(H[ED] + 8 * H[s], H[ED] + 8 * (H[s] + H[s + 1]), 8):
        op = H[e + 2]
        if H[e + 3] != home and H[e + 1] < _FIRST_LEAD:
            continue
        if undecided and not flags & LOOPS:
            keys = op == XKEY
            chosen = H[e + 6] if keys else NONE
        if undecided and op == WITHIN and chosen == NONE:
            chosen = H[e + 4]
        if not _passes(H, e, keys, chosen, True):
            continue
        found, whole = False, 0
        for b in range(H[e], min(H[e + 1], _LAST_LEAD) + 1):
            if b < 0x80 and H[e + 3] == home:
                loops[state, ASCII_LOW if b < 64 else ASCII_HIGH] |= np.int64(1) << np.int64(b & 63)
                found = True
            elif b >= _FIRST_LEAD:
                # Lead bytes are followed by the same bytes as their neighbours, but for some.
                if b == H[e] or b == _FIRST_LEAD or b in (0xE0, 0xE1, 0xED, 0xEE, 0xF0, 0xF1, 0xF4):
                    whole = _whole_lead(H, e, b, home, keys, chosen)
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
    loops[state, HOME] = home


@njit
def _find_loop(H, state, loops):
    """Write the row of a state that is expanded: what leads back to it, or else to the first state that has a loop."""
    _find_bytes(H, state, state, False, NONE, loops)
    if loops[state, FLAGS] & LOOPS:
        return
    partial = loops[state, FLAGS] & PARTIAL
    s = H[ST] + 3 * state
    for e in range(H[ED] + 8 * H[s], H[ED] + 8 * (H[s] + H[s + 1]), 8):
        home = H[e + 3]
        if H[e] >= 0x80 or H[e] == H[e + 1] or (H[e + 2] != GOTO and H[e + 2] != COUNT and H[e + 2] != XKEY):
            continue
        if loops[home, FLAGS] == 0 and H[H[ST] + 3 * home + 1] >= 0:
            _find_bytes(H, home, home, False, NONE, loops)
        if loops[home, FLAGS] & LOOPS and loops[home, HOME] == home:
            kind = loops[home, FLAGS]
            _find_bytes(H, state, home, kind & KEYS != 0, np.int32(loops[home, SET]), loops)
            if loops[state, FLAGS] & ~(kind | PARTIAL):
                loops[state, :FLAGS] = 0
                loops[state, FLAGS] = KNOWN
            loops[state, FLAGS] |= partial
            return
        if H[H[ST] + 3 * home + 1] < 0:
            loops[state, FLAGS] |= PARTIAL


@njit
def may_pass(H, state, nodes, loops):
    """Whether a state lets any byte pass, as far as that is known, or worth finding out for so many ``nodes``."""
    if loops[state, FLAGS] == 0:
        if nodes < _WORTH_IT or H[H[ST] + 3 * state + 1] < 0:
            return False
        _find_loop(H, state, loops)
    return loops[state, FLAGS] & LOOPS != 0


@njit
def passes_all(H, state, top, byte, below, node, loops):
    """Whether a state that may let bytes pass does so with the ``byte`` of a trie node, and the state that it leads to
    with all that comes below it: 0 no, or it must be walked; `ALL`; `ALIVE`: all but the dead bytes, which nothing
    passes. With `READ` where frame ``top`` decided."""
    kind = ASCII_LOW if byte < 64 else ASCII_HIGH if byte < 128 else LEADS
    if (byte >= 128 and byte < _FIRST_LEAD) or not loops[state, kind] >> np.int64(byte & 63) & 1:
        return 0
    return passes_below(H, loops[state, HOME], top, 1, below, node, loops)


@njit
def passes_below(H, state, top, begun, below, node, loops):
    """As `passes_all`, of what comes below the node alone in a state that has a loop; ``begun``: characters before that
    which count too."""
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
    flags = loops[state, FLAGS]
    if not flags & (COUNTED | KEYS):
        return passes
    f = H[CE] + 8 * top
    left = H[f + HI]
    if flags & KEYS:
        return 0 if left == 0 or meet(H, H[f + EXT], np.int32(loops[state, SET])) else passes | READ
    if left >= 0:
        left -= np.int32(characters) + begun
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
    loops[states, DEAD:HOME] = words[:, 3:]
    loops[states, HOME] = states
    loops[states, FLAGS] = KNOWN | LOOPS | np.where(lasting[:, 1] > 0, COUNTED, 0)
