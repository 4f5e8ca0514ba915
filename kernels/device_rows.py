"""`DeviceRows`: the rows of a `RowPool`, kept on the device, so that a step sends row ids and no masks.

Replaces a bitmask per sequence and step (4.1 MB for 256 rows of 128,256 ids) by four bytes each. Rows are append-only,
so a step copies what the host has appended since the last one: in the steady state nothing. Copies go through pinned
memory on the stream of the kernels that read the rows, which is all the ordering they need; a tensor that has become
too small is replaced by one of at least twice its length, and the kernels already launched keep the old one alive.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsm.rows import RowPool


class DeviceRows:
    """The mirror of one pool.

    ``kind``, ``start``, ``count``, ``ids``: int32; ``bits``: int32[dense rows * words], row after row. Their meaning is
    the pool's; entries past what was mirrored are undefined.
    """

    def __init__(self, pool: RowPool, device: torch.device) -> None:
        self.words = pool.words
        self._pool = pool
        self._device = device
        self._mirrored = [0, 0, 0]
        self.kind, self.start, self.count, self.ids, self.bits = (
            torch.zeros(n, dtype=torch.int32, device=device) for n in (256, 256, 256, 4096, 16 * pool.words)
        )
        self.update()

    def update(self) -> None:
        """Copy what was appended to the pool. Does not wait for the device."""
        pool = self._pool
        now = [pool.n_rows, pool.n_ids, pool.n_dense]
        if now == self._mirrored:
            return
        rows, ids, dense = self._mirrored
        for name in ("kind", "start", "count"):
            self._append(name, rows, getattr(pool, name)[rows : pool.n_rows].astype(np.int32))
        self._append("ids", ids, pool.ids[ids : pool.n_ids])
        self._append("bits", dense * self.words, pool.bits[dense : pool.n_dense].reshape(-1).view(np.int32))
        self._mirrored = now

    def _append(self, name: str, at: int, new: NDArray[np.int32]) -> None:
        if not len(new):
            return
        tensor: Tensor = getattr(self, name)
        if at + len(new) > len(tensor):
            grown = torch.zeros(max(at + len(new), 2 * len(tensor)), dtype=torch.int32, device=self._device)
            grown[:at] = tensor[:at]
            setattr(self, name, grown)
            tensor = grown
        source = torch.from_numpy(np.ascontiguousarray(new))
        if self._device.type == "cuda":
            source = source.pin_memory()
        tensor[at : at + len(new)].copy_(source, non_blocking=True)

    def nbytes(self) -> int:
        """Bytes held on the device."""
        return sum(t.nbytes for t in (self.kind, self.start, self.count, self.ids, self.bits))
