"""What the linear layers of a model see of a text: moments of their inputs, layer by layer.

The hidden states of all windows of the text stand before one layer at a time; after it was quantized they move on
through what it has become, so that later layers are calibrated on the inputs that they will really get (as GPTQ does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from engine.base import StepBatch
from engine.decoder import Layer, Linear, TorchRunner

INPUTS = ("qkv", "output", "gate_up", "down")
"""The linear layers of a `Layer`."""


class Moments:
    """Sums over the inputs x of one linear layer, each [columns] or [columns, columns]."""

    def __init__(self, columns: int) -> None:
        self.seen = 0
        self.second = torch.zeros(columns, columns)
        """Σ x xᵀ"""
        self.absolute = torch.zeros(columns)
        """Σ |x|"""
        self.peak = torch.zeros(columns)
        """max |x|"""

    def add(self, x: Tensor) -> None:
        """Inputs [T, columns]."""
        self.seen += len(x)
        self.second += x.T @ x
        self.absolute += x.abs().sum(0)
        self.peak = torch.maximum(self.peak, x.abs().amax(0))

    @property
    def magnitude(self) -> Tensor:
        """mean |x|"""
        return self.absolute / self.seen

    def scaled(self, scales: Tensor) -> Tensor:
        """Σ x xᵀ of the inputs x / s."""
        return self.second / scales / scales[:, None]


@dataclass(frozen=True, slots=True)
class _Watched(Linear):
    moments: Moments = field(kw_only=True)

    def __call__(self, x: Tensor) -> Tensor:
        self.moments.add(x)
        return Linear.__call__(self, x)


class Calibration:
    """The windows of a text before the layer that is next."""

    def __init__(self, runner: TorchRunner, windows: Sequence[Sequence[int]]) -> None:
        """``windows``: token ids, each at most as long as ``runner``'s cache; of equal length."""
        self._runner = runner
        self._places = runner.places(window_batch(windows[0]))
        self._hidden = [runner.embed(np.array(window, np.int32)) for window in windows]

    def observe(self, layer: Layer) -> dict[str, Moments]:
        """By name of `INPUTS`, what ``layer`` gets as inputs. The windows stay before it."""
        watched = {
            name: _Watched(linear.weight, linear.bias, moments=Moments(linear.weight.shape[1]))
            for name in INPUTS
            if isinstance(linear := getattr(layer, name), Linear)
        }
        seen = replace(layer, **watched)
        for hidden in self._hidden:
            self._runner.run_layer(seen, hidden, self._places)
        return {name: linear.moments for name, linear in watched.items()}

    def advance(self, layer: Layer) -> None:
        """Move all windows through ``layer``."""
        self._hidden = [self._runner.run_layer(layer, hidden, self._places) for hidden in self._hidden]


def window_batch(tokens: Sequence[int], start: int = 0) -> StepBatch:
    """``tokens`` at positions from ``start`` on of the only sequence, whose blocks of 16 are in order; all logits."""
    places = np.arange(start, start + len(tokens), dtype=np.int32)
    blocks = -(-(start + len(tokens)) // 16)
    return StepBatch(
        tokens=np.array(tokens, np.int32),
        positions=places,
        slots=places[None],
        query_start=np.array([0, len(tokens)], np.int32),
        context_lens=np.array([start + len(tokens)], np.int32),
        block_tables=np.arange(blocks, dtype=np.int32)[None, None],
        logit_rows=np.arange(len(tokens), dtype=np.int32),
    )
