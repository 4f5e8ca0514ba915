"""Rounding a matrix to a grid: the scheme, the grid of a group, and plain rounding to nearest (RTN).

    symmetric    scale = 2 max|w| / (2^bits - 1), zero 0            numbers -2^(bits-1) .. 2^(bits-1) - 1
    asymmetric   scale = (max w - min w) / (2^bits - 1)             zero where w = 0 lies, so that 0 stays 0

Scales are rounded to half precision first, since that is how they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.model.grid import Grid

SMALLEST = 2.0**-14
"""Half precision's smallest normal number, the scale of a group of zeros."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """``group``: inputs that share a scale, -1 for all of a row; the last group of a row may be shorter."""

    bits: int
    group: int = -1
    symmetric: bool = True

    def group_of(self, columns: int) -> Tensor:
        """int64 [columns]"""
        return torch.arange(columns) // (columns if self.group < 0 else self.group)

    @property
    def lowest(self) -> int:
        return -(1 << (self.bits - 1))

    @property
    def highest(self) -> int:
        return (1 << (self.bits - 1)) - 1


def fit(weights: Tensor, scheme: Scheme, shrink: float = 1.0) -> tuple[Tensor, Tensor]:
    """Scale and zero of every row of ``weights`` [..., columns of one group]; its range may be shrunk (clipped)."""
    low, high = weights.amin(-1).clamp(max=0) * shrink, weights.amax(-1).clamp(min=0) * shrink
    if scheme.symmetric:
        high = torch.maximum(high, -low)
        low = -high
    scales = ((high - low) / ((1 << scheme.bits) - 1)).clamp(min=SMALLEST).half().float()
    if scheme.symmetric:
        return scales, torch.zeros_like(scales)
    return scales, scheme.lowest - torch.round(low / scales)


def fit_groups(weights: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Scales and zeros [rows, groups] of a whole matrix."""
    size = weights.shape[1] if scheme.group < 0 else scheme.group
    found = [fit(part, scheme) for part in weights.split(size, dim=1)]
    return torch.stack([scales for scales, _ in found], 1), torch.stack([zeros for _, zeros in found], 1)


def to_numbers(weights: Tensor, scales: Tensor, zeros: Tensor, scheme: Scheme) -> Tensor:
    """Nearest numbers of the grid; arguments broadcast."""
    return torch.clamp(torch.round(weights / scales) + zeros, scheme.lowest, scheme.highest)


def nearest(weights: Tensor, scheme: Scheme) -> Tensor:
    """What `round_to_nearest` stands for, in floats."""
    size = weights.shape[1] if scheme.group < 0 else scheme.group
    parts: list[Tensor] = []
    for part in weights.split(size, dim=1):
        scales, zeros = (found[:, None] for found in fit(part, scheme))
        parts.append((to_numbers(part, scales, zeros, scheme) - zeros) * scales)
    return torch.cat(parts, 1)


def round_to_nearest(weights: Tensor, scheme: Scheme) -> Grid:
    """Every weight [rows, columns] to the nearest number of its group's grid."""
    scales, zeros = fit_groups(weights, scheme)
    group_of = scheme.group_of(weights.shape[1])
    return make_grid(to_numbers(weights, scales[:, group_of], zeros[:, group_of], scheme), scales, zeros, scheme)


def make_grid(numbers: Tensor, scales: Tensor, zeros: Tensor, scheme: Scheme) -> Grid:
    """A `Grid` of float tensors that hold integers."""
    group_of = scheme.group_of(numbers.shape[1])
    whole = numbers.shape[1] % scales.shape[1] == 0 and (scheme.group < 0 or numbers.shape[1] % scheme.group == 0)
    return Grid(
        scheme.bits,
        numbers.to(torch.int8).numpy(),
        scales.numpy(),
        zeros.to(torch.int16).numpy(),
        None if whole else group_of.numpy().astype(np.int32),
    )
