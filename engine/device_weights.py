"""Linear layers on a GPU: dense ones for cuBLAS, and those whose weights stay packed in the file's own blocks.

A GGUF matrix goes to the device as it lies in the file, one on a grid as `engine.device_grids` packs it; everything
else becomes the activations' type. Projections that share an input are one matrix where their blocks are of one type or
their grids of one kind, else they run one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from engine.device_grids import device_weight, joined
from engine.model.weights import GgufWeights, SafetensorsWeights, Weights
from kernels import matmul
from kernels.matmul_gguf import BLOCKS, GgufWeight, linear_gguf


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x Wᵀ + b over parts whose outputs lie side by side."""

    parts: tuple[Callable[[Tensor], Tensor], ...]
    nbytes: int

    def __call__(self, x: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return self.parts[0](x)
        return torch.cat([part(x) for part in self.parts], dim=-1)


class Loader:
    """Reads weights by their Hugging Face names and puts them on a device."""

    def __init__(self, weights: Weights, dtype: torch.dtype, device: torch.device) -> None:
        self._weights = weights
        self._dtype = dtype
        self._device = device

    def tensor(self, name: str) -> Tensor:
        """A weight in the activations' type."""
        return torch.from_numpy(self._weights[name]).to(device=self._device, dtype=self._dtype)

    def linear(self, names: list[str]) -> Linear:
        """The linear layers ``names`` side by side; names without ".weight"."""
        on_grid = self._on_grid(names)
        if on_grid is not None:
            return on_grid
        packed = [self._packed(name + ".weight") for name in names]
        bias = self._biases(names)
        kinds = {kind for kind, _ in packed}
        if None in kinds:
            weight = torch.cat([self.tensor(name + ".weight") for name in names])
            held = weight.nbytes + (0 if bias is None else bias.nbytes)
            return Linear((lambda x: linear(x, weight, bias),), held)
        runs: list[tuple[str, list[Tensor]]] = []
        for kind, raw in packed:
            assert kind is not None and raw is not None
            if runs and runs[-1][0] == kind:
                runs[-1][1].append(raw)
            else:
                runs.append((kind, [raw]))
        parts: list[Callable[[Tensor], Tensor]] = []
        held = begin = 0
        for kind, raws in runs:
            raw = torch.cat(raws)
            weight = GgufWeight(kind, raw, None if bias is None else bias[begin : begin + len(raw)].contiguous())
            parts.append(_packed_part(weight))
            held += raw.nbytes
            begin += len(raw)
        return Linear(tuple(parts), held + (0 if bias is None else bias.nbytes))

    def _on_grid(self, names: list[str]) -> Linear | None:
        """Layers of a quantized checkpoint, as one matrix or one after the other; None if a kernel is missing."""
        if not isinstance(self._weights, SafetensorsWeights):
            return None
        grids = [grid for name in names if (grid := self._weights.grid(name + ".weight")) is not None]
        if len(grids) < len(names):
            return None
        whole = joined(grids)
        bias = self._biases(names)
        if whole is not None:
            grids, biases = [whole], [bias]
        else:
            biases = [None] * len(grids) if bias is None else list(bias.split([grid.shape[0] for grid in grids]))
        weights = [device_weight(grid, part, self._device) for grid, part in zip(grids, biases, strict=True)]
        if any(weight is None for weight in weights):
            return None
        found = [weight for weight in weights if weight is not None]
        return Linear(tuple(map(_grid_part, found)), sum(weight.nbytes() for weight in found))

    def _biases(self, names: list[str]) -> Tensor | None:
        """The biases of ``names`` one after the other, if they have any."""
        biases = [name + ".bias" for name in names if name + ".bias" in self._weights]
        return torch.cat([self.tensor(name) for name in biases]) if biases else None

    def head(self, name: str, embedding: Tensor) -> Linear:
        """The layer that makes logits; a dense one that is tied to the embedding is the embedding itself."""
        if name == "model.embed_tokens" and self._packed(name + ".weight")[0] is None:
            return Linear((lambda x: linear(x, embedding),), 0)
        return self.linear([name])

    def _packed(self, name: str) -> tuple[str | None, Tensor | None]:
        """The blocks of a matrix and their type, if a kernel reads them."""
        if not isinstance(self._weights, GgufWeights):
            return None, None
        tensor = self._weights.packed(name)
        if tensor.type not in BLOCKS:
            return None, None
        return tensor.type, torch.from_numpy(np.ascontiguousarray(tensor.data)).to(self._device)


def _grid_part(weight: matmul.Weight) -> Callable[[Tensor], Tensor]:
    return lambda x: matmul.linear(x, weight)


def _packed_part(weight: GgufWeight) -> Callable[[Tensor], Tensor]:
    return lambda x: linear_gguf(x, weight)
