"""CUDA graphs of decode steps: hundreds of launches replayed as one.

A graph is captured for each of a few batch sizes, the largest first so that the others share its memory. A step is
copied into the tensors of the next larger size; rows past it are padding: their slot is -1, so nothing is written, and
their context is 0, so nothing is attended to. The number of launches, grids and splits depends on the size alone.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.paged_attention import Plan


@dataclass(frozen=True, slots=True)
class StepTensors:
    """One step's integers on the device; int32, as in `StepBatch`."""

    tokens: Tensor
    positions: Tensor
    slots: list[Tensor]
    """For each group of layers."""
    logit_rows: Tensor
    plans: list[Plan]
    """For each group of layers; they differ in their tables."""


class DecodeGraphs:
    """Captured steps of a function from `StepTensors` to logits."""

    def __init__(
        self,
        compute: Callable[[StepTensors], Tensor],
        sizes: tuple[int, ...],
        shape: tuple[int, int],
        device: torch.device,
    ) -> None:
        """``sizes``: ascending; ``shape``: groups of layers, and blocks of the longest context. Captures at once."""
        self._sizes = sizes
        self._device = device
        groups, width = shape
        self._tables = torch.zeros(groups, sizes[-1], width, dtype=torch.int32, device=device)
        self._steps: dict[int, StepTensors] = {}
        self._logits: dict[int, Tensor] = {}
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        pool = torch.cuda.graph_pool_handle()
        with torch.inference_mode():
            for size in reversed(sizes):
                step = self._padding(size)
                stream = torch.cuda.Stream(device)
                stream.wait_stream(torch.cuda.current_stream(device))
                with torch.cuda.stream(stream):
                    compute(step)  # compiles, and lets cuBLAS choose, outside the capture
                torch.cuda.current_stream(device).wait_stream(stream)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=pool):
                    self._logits[size] = compute(step)
                self._steps[size], self._graphs[size] = step, graph

    def fits(self, n: int) -> bool:
        """Whether a decode step of ``n`` sequences can be replayed."""
        return n <= self._sizes[-1]

    def run(self, step: StepTensors) -> Tensor:
        """Logits [n, V] of a decode step, valid until the next."""
        n = len(step.tokens)
        size = self._sizes[bisect.bisect_left(self._sizes, n)]
        to = self._steps[size]
        for mine, given, neutral in (
            (to.tokens, step.tokens, 0),
            (to.positions, step.positions, 0),
            (to.plans[0].contexts, step.plans[0].contexts, 0),
            *((ours, given, -1) for ours, given in zip(to.slots, step.slots, strict=True)),
        ):
            mine[:n] = given
            mine[n:] = neutral
        for ours, given in zip(to.plans, step.plans, strict=True):
            ours.tables[:n, : given.tables.shape[1]] = given.tables
        self._graphs[size].replay()
        return self._logits[size][:n]

    def _padding(self, size: int) -> StepTensors:
        def integers(value: int, *shape: int) -> Tensor:
            return torch.full(shape, value, dtype=torch.int32, device=self._device)

        places = torch.arange(size + 1, dtype=torch.int32, device=self._device)
        decode = torch.stack((places[:size], torch.zeros_like(places[:size])), dim=1)
        contexts, none = integers(0, size), integers(0, 0, 2)
        plans = [Plan(decode, none, places, contexts, tables[:size]) for tables in self._tables]
        slots = [integers(-1, size) for _ in plans]
        return StepTensors(integers(0, size), integers(0, size), slots, places[:size], plans)
