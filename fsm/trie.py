"""All ordinary tokens of a vocabulary as one flat trie, laid out for a walk by a compiled loop.

Nodes are numbered in depth-first order, children by byte. A node is the byte that leads to it; there is no root.
For the tokens 0 = "a", 1 = "ab", 2 = "ac", 3 = "b", 4 = "ab":

    node   byte  depth  skip  first          order = [0, 1, 4, 2, 3]
    0      a     0      3     0
    1      ·b    1      2     1              tokens that end at node i:           order[first[i] : first[i + 1]]
    2      ·c    1      3     3              tokens that end at i or below:       order[first[i] : first[skip[i]]]
    3      b     0      4     4
    (end)                     5

The walk keeps one automaton state a depth and needs no stack of its own:

    i = 0
    while i < n:
        state[depth[i] + 1] = step(state[depth[i]], byte[i])
        i = skip[i] if the step was refused else i + 1
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

ASCII_LOW, ASCII_HIGH, LEADS, CHARACTERS = 0, 1, 2, 3
"""Of what comes below a node: the ASCII bytes, bit b % 64 of `ASCII_LOW` or `ASCII_HIGH`; those from 0xC0 on, bit
b - 0xC0 of `LEADS`; and how many characters begin there at most, with the bit below."""

ILL_FORMED = 1 << 32
"""Bit of `CHARACTERS`: what comes below is no UTF-8 (RFC 3629)."""


class TokenTrie:
    """The trie of the tokens ``data[offset[i] : offset[i + 1]]``; empty ones are left out.

    ``byte``: uint8[n]; ``depth``: uint16[n], bytes before this one; ``skip``: int32[n], first node after the subtree;
    ``first``: int32[n + 1] into ``order``; ``order``: int32[T], ids of all T ordinary tokens in byte order, equal ones
    by id. ``below``: uint64[n, 4], what comes below a node (`ASCII_LOW` and so on). ``starts``: int32[256], the first
    node whose path begins with a byte or a higher one. ValueError for a token longer than 65,535 bytes.
    """

    def __init__(self, data: NDArray[np.uint8], offset: NDArray[np.int32]) -> None:
        lengths = np.diff(offset)
        if lengths.max(initial=0) > np.iinfo(np.uint16).max:
            raise ValueError(f"token {int(lengths.argmax())} has {int(lengths.max())} bytes, more than 65,535")
        raw, bounds = data.tobytes(), offset.tolist()
        pieces = {i: raw[bounds[i] : bounds[i + 1]] for i in np.flatnonzero(lengths).tolist()}
        self.order: NDArray[np.int32] = np.array(sorted(pieces, key=pieces.__getitem__), np.int32)
        shared = np.zeros(len(self.order), np.int32)
        _share(data, offset, self.order, shared)
        n = len(data) - int(shared.sum())
        self.byte: NDArray[np.uint8] = np.empty(n, np.uint8)
        self.depth: NDArray[np.uint16] = np.empty(n, np.uint16)
        self.skip: NDArray[np.int32] = np.empty(n, np.int32)
        self.first: NDArray[np.int32] = np.empty(n + 1, np.int32)
        _fill(data, offset, self.order, shared, self.byte, self.depth, self.skip, self.first)
        self.below: NDArray[np.uint64] = np.zeros((n, 4), np.uint64)
        _summarise(self.byte, self.depth, self.below)
        outermost = np.flatnonzero(self.depth == 0)
        later = np.searchsorted(self.byte[outermost], np.arange(256, dtype=np.uint8))
        self.starts: NDArray[np.int32] = np.append(outermost, n)[later].astype(np.int32)

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.byte)


@numba.njit("void(uint8[::1], int32[::1], int32[::1], int32[::1])", nogil=True, cache=True)
def _share(
    data: NDArray[np.uint8], offset: NDArray[np.int32], order: NDArray[np.int32], shared: NDArray[np.int32]
) -> None:
    """Writes how many leading bytes each token has in common with its predecessor in order; the rest become nodes."""
    previous, previous_end = 0, 0
    for k in range(len(order)):
        start, end = offset[order[k]], offset[order[k] + 1]
        longest = min(end - start, previous_end - previous)
        common = 0
        while common < longest and data[start + common] == data[previous + common]:
            common += 1
        shared[k] = common
        previous, previous_end = start, end


@numba.njit(
    "void(uint8[::1], int32[::1], int32[::1], int32[::1], uint8[::1], uint16[::1], int32[::1], int32[::1])",
    nogil=True,
    cache=True,
)
def _fill(
    data: NDArray[np.uint8],
    offset: NDArray[np.int32],
    order: NDArray[np.int32],
    shared: NDArray[np.int32],
    byte: NDArray[np.uint8],
    depth: NDArray[np.uint16],
    skip: NDArray[np.int32],
    first: NDArray[np.int32],
) -> None:
    """Lays out the nodes: a token closes those past the bytes it shares with its predecessor, and opens the rest."""
    branch = np.empty(65536, np.int32)  # the open node at each depth
    opened = 0
    n = 0
    for k in range(len(order)):
        start = offset[order[k]]
        length = offset[order[k] + 1] - start
        for d in range(shared[k], opened):
            skip[branch[d]] = n
        for d in range(shared[k], length):
            branch[d] = n
            byte[n] = data[start + d]
            depth[n] = d
            first[n] = k
            n += 1
        opened = length
    for d in range(opened):
        skip[branch[d]] = n
    first[n] = len(order)


@numba.njit("void(uint8[::1], uint16[::1], uint64[:,::1])", nogil=True, cache=True)
def _summarise(byte: NDArray[np.uint8], depth: NDArray[np.uint16], below: NDArray[np.uint64]) -> None:
    """Writes ``below``. Where a continuation byte comes first it is not known what it continues: such paths count as
    ill-formed from there on until a character begins."""
    one = np.uint64(1)
    n = len(byte)
    branch = np.empty(65537, np.int32)  # the open node at each depth
    due = np.zeros(65537, np.uint8)  # continuation bytes that must follow the node at depth - 1
    first = np.zeros(65537, np.uint8)  # the least of those that may come next
    last = np.zeros(65537, np.uint8)
    ill = np.zeros(n, np.uint8)
    parent = np.full(n, -1, np.int32)
    for i in range(n):
        d = np.int64(depth[i])
        b = byte[i]
        branch[d] = i
        if d > 0:
            parent[i] = branch[d - 1]
        waits = due[d] if d > 0 else 0
        due[d + 1], first[d + 1], last[d + 1] = 0, 0x80, 0xBF
        if 0x80 <= b <= 0xBF:
            ill[i] = waits == 0 or b < first[d] or b > last[d]
            due[d + 1] = max(waits, 1) - 1
        else:
            ill[i] = waits > 0 or b == 0xC0 or b == 0xC1 or b > 0xF4
            if b >= 0xC2:
                due[d + 1] = 1 if b < 0xE0 else 2 if b < 0xF0 else 3
            if b == 0xE0:
                first[d + 1] = 0xA0
            elif b == 0xED:
                last[d + 1] = 0x9F
            elif b == 0xF0:
                first[d + 1] = 0x90
            elif b == 0xF4:
                last[d + 1] = 0x8F
    for i in range(n - 1, -1, -1):
        p = parent[i]
        if p < 0:
            continue
        b = byte[i]
        if b < 0x80:
            below[p, ASCII_LOW if b < 64 else ASCII_HIGH] |= one << np.uint64(b & 63)
        elif b >= 0xC0:
            below[p, LEADS] |= one << np.uint64(b - 0xC0)
        for kind in (ASCII_LOW, ASCII_HIGH, LEADS):
            below[p, kind] |= below[i, kind]
        flag = np.uint64(ILL_FORMED)
        here, there = below[p, CHARACTERS], below[i, CHARACTERS]
        begun = (there & ~flag) + np.uint64(b < 0x80 or b >= 0xC0)
        bad = (here | there | (flag if ill[i] else np.uint64(0))) & flag
        below[p, CHARACTERS] = max(here & ~flag, begun) | bad
