"""Linear layers on a GPU: dense ones for cuBLAS, and those whose weights stay packed in the file's own blocks.

A GGUF matrix goes to the device as it lies in the file; everything else becomes the activations' type. Projections that
share an input are one matrix where their blocks are of one type, else they run one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from engine.model.weights import GgufWeights, Weights
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
        packed = [self._packed(name + ".weight") for name in names]
        biases = [name + ".bias" for name in names if name + ".bias" in self._weights]
        bias = torch.cat([self.tensor(name) for name in biases]) if biases else None
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


def _packed_part(weight: GgufWeight) -> Callable[[Tensor], Tensor]:
    return lambda x: linear_gguf(x, weight)
