"""Kernels that build the hash tables of an image: at its birth and after its heap has moved."""

from __future__ import annotations

import numpy as np
from numba import njit

from fsm.cells import cell_slot, intern, mix
from fsm.layout import (
    CAP_CH,
    CAP_DH,
    CAP_RT,
    CE,
    CH,
    CONFIG,
    DH,
    DS,
    N_CE,
    N_DS,
    N_RT,
    NIL,
    ROOT_FRAME,
    RT,
)  # fmt: skip


@njit("int32(int32[::1], int32)", nogil=True, cache=True)
def first_cells(H, start_state):
    """The empty text, the root frame and the first configuration; returns the configuration."""
    intern(H, 0, 0, 0, 0, 0, 0, 0, 0, True)
    intern(H, 1, -1, -1, 0, -1, NIL, NIL, NIL, True)
    return intern(H, CONFIG, start_state, ROOT_FRAME, 0, 0, 0, 0, 0, True)


@njit("void(int32[::1])", nogil=True, cache=True)
def rehash(H):
    """Fill the empty hash tables of cells and made sets from the cells and sets themselves."""
    mask = np.uint32(H[CAP_CH] - 1)
    for cell in range(H[N_CE]):
        c = H[CE] + 8 * cell
        slot = cell_slot(H[c], H[c + 1], H[c + 2], H[c + 3], H[c + 4], H[c + 5], H[c + 6], H[c + 7]) & mask
        while H[H[CH] + slot] != 0:
            slot = (slot + np.uint32(1)) & mask
        H[H[CH] + slot] = cell + 1
    mask = np.uint32(H[CAP_DH] - 1)
    start = np.int32(0)
    while start < H[N_DS]:
        base = H[DS] + start + 1
        words = H[base - 1]
        h = np.uint32(words)
        for w in range(words):
            h = mix(h, H[base + w])
        slot = np.uint32(h * np.uint32(0xC2B2AE35) >> np.uint32(7)) & mask
        while H[H[DH] + slot] != 0:
            slot = (slot + np.uint32(1)) & mask
        H[H[DH] + slot] = start + 1
        start += words + 1


@njit("void(int32[::1], int32, int32, int32)", nogil=True, cache=True)
def insert_return(H, ret, verdict, state):
    """after(ret, verdict) = state; the caller keeps the table at most half full."""
    mask = H[CAP_RT] - 1
    slot = np.int64(mix(mix(np.uint32(17), ret), verdict)) & mask
    while H[H[RT] + 4 * slot + 3] != 0:
        slot = (slot + 1) & mask
    r = H[RT] + 4 * slot
    H[r] = ret
    H[r + 1] = verdict
    H[r + 2] = state
    H[r + 3] = 1
    H[N_RT] += 1
