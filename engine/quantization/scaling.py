"""Moving difficulty between a layer's inputs and its weights: AWQ and SmoothQuant.

A linear layer computes the same with inputs x / s and weights W · s (a factor a column), and 1 / s can be folded into
whatever made the inputs: a norm's weight, or the rows of the projection before. So nothing changes but what is rounded.

    AWQ          s = mean|x|^α, α searched for the least error of the rounded layers' outputs; then each group's range
                 is shrunk as far as that error still falls                             Lin et al., arXiv:2306.00978
    SmoothQuant  s = max|x|^α / max|w|^(1 - α), so that activations, too, fit 8 bits    Xiao et al., arXiv:2211.10438

An output's squared error over all inputs seen is Δ H Δᵀ with H = Σ x xᵀ, so no inputs have to be kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.grid import Grid
from engine.quantization.rounding import Scheme, fit, make_grid, nearest, to_numbers

STEPS = 20
"""Values of α that AWQ tries, from 0."""

SHRINKS = [1 - i / 20 for i in range(11)]
"""Ranges of a group that AWQ tries, from the whole one to half of it."""

LEAST = 1e-5


def output_error(change: Tensor, moments: Tensor) -> float:
    """Σ over inputs of |Δ x|²."""
    return float(((change @ moments) * change).sum())


def awq_scales(weights: Tensor, magnitude: Tensor, moments: Tensor, scheme: Scheme) -> Tensor:
    """s [columns] for ``weights`` [rows, columns] of all layers that share the input.

    ``magnitude``: mean|x| [columns]; ``moments``: H.
    """
    best, least = torch.ones_like(magnitude), float("inf")
    for step in range(STEPS):
        scales = magnitude.clamp(min=LEAST) ** (step / STEPS)
        scales /= (scales.max() * scales.min()).sqrt()
        error = output_error(nearest(weights * scales, scheme) / scales - weights, moments)
        if error < least:
            best, least = scales, error
    return best


def clipped(weights: Tensor, moments: Tensor, scheme: Scheme) -> Grid:
    """Rounding to nearest in the range of each group of each row whose error is least."""
    size = weights.shape[1] if scheme.group < 0 else scheme.group
    numbers: list[Tensor] = []
    scales: list[Tensor] = []
    zeros: list[Tensor] = []
    for part, start in zip(weights.split(size, dim=1), range(0, weights.shape[1], size), strict=True):
        own = moments[start : start + part.shape[1], start : start + part.shape[1]]
        least = torch.full((len(part),), float("inf"))
        chosen = [torch.empty_like(part), torch.empty(len(part)), torch.empty(len(part))]
        for shrink in SHRINKS:
            scale, zero = fit(part, scheme, shrink)
            found = to_numbers(part, scale[:, None], zero[:, None], scheme)
            change = (found - zero[:, None]) * scale[:, None] - part
            error = ((change @ own) * change).sum(1)
            better = error < least
            least = torch.where(better, error, least)
            for kept, new in zip(chosen, (found, scale, zero), strict=True):
                kept[better] = new[better]
        for all_of_it, kept in zip((numbers, scales, zeros), chosen, strict=True):
            all_of_it.append(kept)
    return make_grid(torch.cat(numbers, 1), torch.stack(scales, 1), torch.stack(zeros, 1), scheme)


def smooth_scales(weights: Tensor, peak: Tensor, alpha: float) -> Tensor:
    """s [columns]; ``peak``: max|x| [columns]."""
    largest = weights.abs().amax(0).clamp(min=LEAST)
    return (peak.clamp(min=LEAST) ** alpha / largest ** (1 - alpha)).clamp(min=LEAST)
