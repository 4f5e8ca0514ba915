"""Hash-consed cells and sets of keys in a program's heap (fsm/layout.py): the kernels below those that run bytes.

Equal tuples get equal numbers, which is what makes a configuration a state id. Open addressing with linear probing;
nothing is ever removed, a heap that grows is rehashed (fsm/rehash.py).
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit  # pyright: ignore[reportPrivateImportUsage]
from numba.core import cgutils, types
from numba.extending import intrinsic

from fsm.layout import CAP_CE, CAP_CH, CAP_DH, CAP_DS, CE, CH, CR, DH, DS, N_CE, N_DH, N_DS, SCRATCH, SS
from grammar.tables import NONE


@intrinsic
def as_pointer(typingctx, address):  # type: ignore[no-untyped-def]
    """An integer address as a void pointer, for `carray`."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@njit
def heap_at(address, length):
    return carray(as_pointer(address), (length,), dtype=np.int32)  # pyright: ignore[reportCallIssue]


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
def first_word(H, key_set):
    """Index of a set's first word in the heap; the word before it holds the number of words."""
    if key_set >= 0:
        return H[SS] + key_set
    return H[DS] - 2 - key_set


@njit
def any_in(H, key_set, lo, hi):
    """Whether the set has a key in [lo, hi)."""
    if key_set == NONE or lo >= hi:
        return False
    base = first_word(H, key_set)
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
def meet(H, one, other):
    """Whether two sets (of the same object) share a key."""
    if one == NONE or other == NONE:
        return False
    x = first_word(H, one)
    y = first_word(H, other)
    for w in range(H[x - 1]):
        if (H[x + w] & H[y + w]) != 0:
            return True
    return False


@njit
def without(H, key_set, key):
    """The set less ``key``, interned; NONE when there is no room."""
    source = first_word(H, key_set)
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
