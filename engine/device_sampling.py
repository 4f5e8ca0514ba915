"""Sampling where the logits are: `kernels.gpu_sampler` as the step loop's `SamplingKernel`.

Mask rows follow the pool on the device, so a step sends parameters and row ids and reads back tokens; reading them is
the only time the host waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fsm.rows import RowPool
from kernels.device_rows import DeviceRows
from kernels.gpu_sampler import GpuSampler
from kernels.sampling import SamplingBatch, SamplingResult


class DeviceSampling:
    """Draws tokens over one pool's vocabulary; implements `engine.base.SamplingKernel`."""

    def __init__(self, pool: RowPool, device: str | torch.device) -> None:
        self._pool = pool
        self._rows = DeviceRows(pool, torch.device(device))
        self._sampler = GpuSampler(pool.vocab_size, torch.device(device))

    @torch.inference_mode()
    def sample(self, logits: Tensor, pool: RowPool, batch: SamplingBatch, out: SamplingResult) -> None:
        """As `SamplingKernel.sample`. ValueError: another pool than the one that is mirrored."""
        if pool is not self._pool:
            raise ValueError("the rows of another pool are on the device")
        self._rows.update()
        found = self._sampler.sample(logits, self._rows, batch)
        n, k = len(found.token), found.top_ids.shape[1]
        if k or (batch.n_logprobs >= 0).any():
            out.logprob[:n] = found.logprob.cpu().numpy()
            out.top_ids[:n, :k] = found.top_ids.cpu().numpy()
            out.top_logprobs[:n, :k] = found.top_logprobs.cpu().numpy()
        out.token[:n] = found.token.cpu().numpy()
