"""GPTQ (Frantar et al., arXiv:2210.17323): columns are rounded one by one, and those that follow make up for it.

With H = Σ x xᵀ of a layer's inputs, rounding column i with error e = (w_i - q_i) / U_ii moves the columns after it by
-e · U_i, where U is the upper Cholesky factor of H⁻¹. Columns go in blocks, so that the bulk of the update is one
matrix product.

In act-order the columns with the largest inputs go first. "static": every group's grid is found before that and columns
stay where they are, so that no kernel has to look inputs up. "group": groups are of columns that follow each other in
that order, and each group's grid is found when it is reached, from weights that have made up for what came before; each
input's group must then be stored (g_idx).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from engine.model.grid import Grid
from engine.quantization.rounding import Scheme, fit, fit_groups, make_grid, to_numbers

ActOrder = Literal["static", "group", "none"]

BLOCK = 128
"""Columns that are rounded before the rest is updated."""

DAMPING = 0.01
"""Share of H's mean diagonal that is added to it."""


def gptq(weights: Tensor, moments: Tensor, scheme: Scheme, *, act_order: ActOrder = "static") -> Grid:
    """``weights`` [rows, columns]; ``moments``: H [columns, columns], up to a factor."""
    columns = weights.shape[1]
    order = torch.arange(columns) if act_order == "none" else torch.argsort(moments.diagonal(), descending=True)
    by_order = act_order == "group"
    group_of = scheme.group_of(columns) if by_order else scheme.group_of(columns)[order]
    scales, zeros = fit_groups(weights, scheme)
    left = weights[:, order].clone()
    factor = inverse_factor(moments[order][:, order])
    numbers = torch.empty_like(left)
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        errors = torch.empty(len(left), end - start)
        for i in range(start, end):
            group = group_of[i]
            if by_order and (i == 0 or group != group_of[i - 1]):
                scales[:, group], zeros[:, group] = fit(left[:, group_of == group], scheme)
            scale, zero = scales[:, group], zeros[:, group]
            numbers[:, i] = to_numbers(left[:, i], scale, zero, scheme)
            error = (left[:, i] - (numbers[:, i] - zero) * scale) / factor[i, i]
            left[:, i:end] -= error[:, None] * factor[i, i:end]
            errors[:, i - start] = error
        left[:, end:] -= errors @ factor[start:end, end:]
    back = torch.argsort(order)
    grid = make_grid(numbers[:, back], scales, zeros, scheme)
    return replace(grid, group_of=group_of[back].numpy().astype(np.int32)) if by_order else grid


def inverse_factor(moments: Tensor) -> Tensor:
    """U with Uᵀ U = (H + damping)⁻¹, upper triangular. Inputs that are always 0 count as 1: their weights are free."""
    damped = moments.double().clone()
    diagonal = damped.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal += DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).to(moments.dtype)
