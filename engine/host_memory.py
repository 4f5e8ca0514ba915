"""Keys and values of blocks in the host's memory, and the copies between there and the device.

A block lies in one piece there, the bytes of all layers one after the other:

    device   layer 0 keys [heads, blocks, …]  layer 0 values  layer 1 keys …     a block is scattered over all of them
    host     place 0 | layer 0 keys, layer 0 values, layer 1 keys … | place 1 |  …

so that a move is some gathers on the device and one copy a block over the bus. On a GPU the memory is pinned, copies do
not wait for the host, and everything is ordered by the device's stream: a block may be overwritten by the next launch.
With device "cpu" the same code moves bytes within memory, which is how it is tested.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PART = 64 << 20
"""Bytes that are allocated at a time: torch rounds what it pins up to a power of two."""

AT_ONCE = 64
"""Blocks that are gathered at a time, which bounds the staging memory on the device."""


class HostBlocks:
    """Implements `engine.base.HostMemory` over the caches of a runner's layers.

    ``caches``: tensors [heads, blocks, ...] on one device, contiguous; ``nbytes`` of host memory at most.
    """

    def __init__(self, caches: Sequence[Tensor], nbytes: int) -> None:
        self._caches = [cache.flatten(2).view(torch.uint8) for cache in caches if cache.numel()]
        self._device = caches[0].device
        self._block_bytes = sum(cache.shape[0] * cache.shape[2] for cache in self._caches)
        self.num_blocks = nbytes // self._block_bytes
        self._per_part = max(1, PART // self._block_bytes)
        pinned = self._device.type == "cuda"
        self._parts = [
            torch.empty(
                (min(self._per_part, self.num_blocks - start), self._block_bytes), dtype=torch.uint8, pin_memory=pinned
            )
            for start in range(0, self.num_blocks, self._per_part)
        ]

    def nbytes(self) -> int:
        """Bytes of the host's memory that are held."""
        return sum(part.nbytes for part in self._parts)

    @torch.inference_mode()
    def move(self, stores: list[tuple[int, int]], loads: list[tuple[int, int]]) -> None:
        """See `HostMemory.move`."""
        for start in range(0, len(stores), AT_ONCE):
            self._store(stores[start : start + AT_ONCE])
        for start in range(0, len(loads), AT_ONCE):
            self._load(loads[start : start + AT_ONCE])

    def _store(self, moves: list[tuple[int, int]]) -> None:
        staging = self._staging(len(moves))
        blocks = self._index([block for block, _ in moves])
        for cache, part in zip(self._caches, self._split(staging), strict=True):
            part.copy_(cache[:, blocks].transpose(0, 1))
        for row, (_, place) in zip(staging, moves, strict=True):
            self._place(place).copy_(row, non_blocking=True)

    def _load(self, moves: list[tuple[int, int]]) -> None:
        staging = self._staging(len(moves))
        for row, (place, _) in zip(staging, moves, strict=True):
            row.copy_(self._place(place), non_blocking=True)
        blocks = self._index([block for _, block in moves])
        for cache, part in zip(self._caches, self._split(staging), strict=True):
            cache[:, blocks] = part.transpose(0, 1)

    def _staging(self, blocks: int) -> Tensor:
        return torch.empty((blocks, self._block_bytes), dtype=torch.uint8, device=self._device)

    def _split(self, staging: Tensor) -> list[Tensor]:
        """Views [blocks, heads, bytes] of a staging tensor, one a cache."""
        sizes = [cache.shape[0] * cache.shape[2] for cache in self._caches]
        parts = staging.split(sizes, dim=1)
        return [part.unflatten(1, (len(cache), -1)) for part, cache in zip(parts, self._caches, strict=True)]

    def _place(self, place: int) -> Tensor:
        return self._parts[place // self._per_part][place % self._per_part]

    def _index(self, blocks: list[int]) -> Tensor:
        return torch.tensor(blocks, device=self._device)
