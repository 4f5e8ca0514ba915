"""`GpuSampler`: masked sampling on the device; `kernels/sampling.py` says what it computes, bit for bit.

    penalise, add_bias    kernels/sampling_values.py   only where a row has a history or a bias
    scan                  kernels/sampling_scan.py     one read of the logits
    decide                kernels/sampling_decide.py   the token, from what the scan left
    search                kernels/sampling_search.py   ends at once except where a cut keeps thousands of ids
    scan_own, report      kernels/logprobs.py          only where a row reports log-probabilities

Nothing waits for the device and no size depends on what is drawn, so the launches can be captured in a CUDA graph as
long as the batch's shape stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsm.rows import SPARSE_LIMIT
from kernels import logprobs, sampling_decide, sampling_scan, sampling_search, sampling_values
from kernels.device_rows import DeviceRows
from kernels.noise import EXACT
from kernels.sampling import MAX_VOCABULARY, SamplingBatch

MAX_TOP = 128
"""Most likely ids a row can report."""


@dataclass(slots=True)
class DeviceResult:
    """As `kernels.sampling.SamplingResult`, on the device; rows that report nothing hold old values."""

    token: Tensor
    """int32 [R]"""
    logprob: Tensor
    """float32 [R]"""
    top_ids: Tensor
    """int32 [R, K]"""
    top_logprobs: Tensor
    """float32 [R, K]"""


class GpuSampler:
    """Draws tokens for batches over one vocabulary. Owns scratch memory, which grows with the batch: one call at a
    time, and results last until the next.

    ``tile``: ids a program of the scan; ``capacity``: candidates a slice keeps; both powers of two. ``limit``:
    candidates that are sorted, and at least the size of a sparse row.
    """

    def __init__(
        self, vocab_size: int, device: torch.device, *, tile: int = 4096, capacity: int = 256, limit: int = 1024
    ) -> None:
        if not 0 < vocab_size <= MAX_VOCABULARY:
            raise ValueError(f"vocabulary size {vocab_size} is not in 1..{MAX_VOCABULARY}")
        if limit < SPARSE_LIMIT:
            raise ValueError(f"limit is {limit}; a sparse row may have {SPARSE_LIMIT} ids")
        self.vocab_size = vocab_size
        self._device = device
        self._tile, self._capacity, self._limit = tile, capacity, limit
        self._slices = -(-vocab_size // tile)
        self._words = -(-vocab_size // 32)
        self._scratch: dict[str, Tensor] = {}

    def sample(self, logits: Tensor, rows: DeviceRows, batch: SamplingBatch) -> DeviceResult:
        """Draw one token for each of the R rows of ``logits`` [R, V], float32, bfloat16 or float16 of any strides,
        which stay as they are.

        A row whose mask allows nothing gets token -1. ValueError where shapes disagree or more than `MAX_TOP` ids are
        to be reported; ids of histories and biases are trusted to be below V.
        """
        n_rows, n_top = len(batch.mask_rows), int(batch.n_logprobs.max(initial=-1))
        if logits.shape != (n_rows, self.vocab_size) or rows.words != self._words:
            raise ValueError(f"logits {tuple(logits.shape)} are not {n_rows} rows of {self.vocab_size} ids")
        if n_top > MAX_TOP:
            raise ValueError(f"n_logprobs is {n_top}; at most {MAX_TOP} ids can be reported")
        result = DeviceResult(
            self._room("token", torch.int32, n_rows),
            self._room("logprob", torch.float32, n_rows),
            self._room("top_ids", torch.int32, n_rows, max(n_top, 0)),
            self._room("top_logprobs", torch.float32, n_rows, max(n_top, 0)),
        )
        if n_rows:
            table, n_changed = sampling_values.columns(batch)
            columns = self._upload(table)
            values, marks = self._change(logits, batch, columns, n_changed)
            self._draw(logits, rows, columns, values, marks, result.token)
            if n_top >= 0:
                self._report(logits, columns, n_top, result)
        return result

    def _change(self, logits: Tensor, batch: SamplingBatch, columns: Tensor, n_changed: int) -> tuple[Tensor, Tensor]:
        """Scratch rows with the values that penalties and bias change, and marks of where they are."""
        values = self._room("values", torch.float32, n_changed, self.vocab_size)
        marks = self._room("marks", torch.int32, n_changed, self._words)
        if n_changed:
            marks.zero_()
        shape = (values, marks, self.vocab_size, self._words)
        longest = int(np.diff(batch.history_start).max())
        if longest:
            ids, counts = self._upload(batch.history_ids), self._upload(batch.history_counts)
            sampling_values.penalise[(len(columns), -(-longest // 1024))](
                logits, *logits.stride(), columns, ids, counts, *shape, TILE=1024, **EXACT
            )
        longest = int(np.diff(batch.bias_start).max())
        if longest:
            ids, bias = self._upload(batch.bias_ids), self._upload(batch.bias)
            sampling_values.add_bias[(len(columns), -(-longest // 1024))](
                logits, *logits.stride(), columns, ids, bias, *shape, TILE=1024, **EXACT
            )
        return values, marks

    def _draw(
        self, logits: Tensor, rows: DeviceRows, columns: Tensor, values: Tensor, marks: Tensor, token: Tensor
    ) -> None:
        n_rows, slices = len(columns), self._slices
        row = (logits, *logits.stride(), self.vocab_size, self._words, columns)
        largest, bound, weight = (
            self._room(name, torch.float32, n_rows, slices) for name in ("largest", "bound", "weight")
        )
        first, level, count = (self._room(name, torch.int32, n_rows, slices) for name in ("first", "level", "count"))
        keys = self._room("keys", torch.int64, n_rows, slices, self._capacity)
        merged = self._room("merged", torch.int64, n_rows, self._limit)
        is_open = self._room("open", torch.int32, n_rows)
        sampling_scan.scan[(n_rows, slices)](
            *row, rows.kind, rows.start, rows.bits, values, marks, largest, first, bound, weight, level, count, keys,
            TILE=self._tile, CAPACITY=self._capacity, num_warps=8, **EXACT,
        )  # fmt: skip
        sampling_decide.decide[(n_rows,)](
            *row, rows.kind, rows.start, rows.count, rows.ids, rows.bits, values, marks,
            slices, largest, first, bound, weight, level, count, keys, merged, token, is_open,
            SLICES=_power_of_two(slices), TILE=self._tile, CAPACITY=self._capacity, LIMIT=self._limit,
            PART=min(self._tile, 1024), num_warps=8, **EXACT,
        )  # fmt: skip
        sampling_search.search[(n_rows,)](
            *row, rows.kind, rows.start, rows.bits, values, marks, is_open, token,
            TILE=min(self._tile, 1024), num_warps=8, **EXACT,
        )  # fmt: skip

    def _report(self, logits: Tensor, columns: Tensor, n_top: int, result: DeviceResult) -> None:
        n_rows, slices, room = len(columns), self._slices, _power_of_two(n_top)
        largest = self._room("own_largest", torch.float32, n_rows, slices)
        weight = self._room("own_weight", torch.float32, n_rows, slices)
        keys = self._room("own_keys", torch.int64, n_rows, slices, room)
        logprobs.scan_own[(n_rows, slices)](
            logits, *logits.stride(), self.vocab_size, columns, n_top, largest, weight, keys,
            TILE=self._tile, TOP=room, num_warps=8, **EXACT,
        )  # fmt: skip
        logprobs.report[(n_rows,)](
            logits, *logits.stride(), columns, slices, n_top, largest, weight, keys, result.token,
            result.logprob, result.top_ids, result.top_logprobs,
            SLICES=_power_of_two(slices), TOP=room, **EXACT,
        )  # fmt: skip

    def _room(self, name: str, dtype: torch.dtype, *shape: int) -> Tensor:
        """Scratch of a shape, kept between calls and grown by doubling."""
        size = int(np.prod(shape))
        held = self._scratch.get(name)
        if held is None or len(held) < size:
            held = torch.zeros(max(size, 0 if held is None else 2 * len(held), 1), dtype=dtype, device=self._device)
            self._scratch[name] = held
        return held[:size].view(shape)

    def _upload(self, array: NDArray[Any]) -> Tensor:
        source = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type == "cpu":
            return source
        return source.pin_memory().to(self._device, non_blocking=True)


def _power_of_two(n: int) -> int:
    """The smallest one that is not below ``n`` or 1."""
    return 1 << max(n - 1, 0).bit_length()
