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


class TokenTrie:
    """The trie of the tokens ``data[offset[i] : offset[i + 1]]``; empty ones are left out.

    ``byte``: uint8[n]; ``depth``: uint16[n], bytes before this one; ``skip``: int32[n], first node after the subtree;
    ``first``: int32[n + 1] into ``order``; ``order``: int32[T], ids of all T ordinary tokens in byte order, equal ones
    by id. ValueError for a token longer than 65,535 bytes.
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
