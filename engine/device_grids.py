"""Grids of a quantized checkpoint as the packed matrices of `kernels.matmul`, on a device.

    up to 4 bits, whole groups of 32 or a multiple    "gptq", zeros from 1 to 16, or "awq", zeros from 0 to 15
    the same in act-order, groups of equal size       "gptq", inputs sorted by group
    5 to 8 bits, symmetric, one scale a row           "int8"

Numbers of fewer than 4 bits lie in nibbles. Every other grid is decoded to the activations' type by the caller.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.model.checkpoint import AWQ_ORDER, pack_words
from engine.model.grid import Grid
from kernels.matmul import Weight

NIBBLE = 8
"""What is added to a signed number to make it a nibble."""


def device_weight(grid: Grid, bias: Tensor | None, device: torch.device) -> Weight | None:
    """None where no kernel has such a grid. ``bias`` [rows] is on the device; scales of up to 4 bits become float16."""
    rows, columns = grid.shape
    groups = grid.scales.shape[1]

    def sent(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    if grid.bits > 4:
        if groups > 1 or grid.zeros.any():
            return None
        return Weight("int8", rows, columns, sent(grid.numbers), sent(grid.scales[:, 0]), bias=bias)
    order = None if grid.group_of is None else np.argsort(grid.group_of, kind="stable").astype(np.int32)
    if rows % 8 or columns % groups or columns // groups % 32:
        return None
    if grid.group_of is not None and (np.bincount(grid.group_of, minlength=groups) != columns // groups).any():
        return None
    numbers = grid.numbers.astype(np.int32) + NIBBLE
    zeros = grid.zeros.T.astype(np.int32) + NIBBLE
    scales = sent(grid.scales.T.astype(np.float16))
    if zeros.min() >= 1 and zeros.max() <= 16:
        packed = pack_words(numbers if order is None else numbers[:, order], 4).T
        return Weight(
            "gptq", rows, columns, sent(packed), scales, sent(pack_words(zeros - 1, 4)),
            None if order is None else sent(order), bias,
        )  # fmt: skip
    if order is not None or zeros.min() < 0 or zeros.max() > 15:
        return None
    return Weight("awq", rows, columns, sent(_awq_words(numbers.T)), scales, sent(_awq_words(zeros)), None, bias)


def joined(grids: list[Grid]) -> Grid | None:
    """One matrix of several with the same inputs; None where their grids differ in kind."""
    first = grids[0]
    if any(grid.bits != first.bits or grid.scales.shape[1] != first.scales.shape[1] for grid in grids):
        return None
    if any(not np.array_equal(grid.groups(), first.groups()) for grid in grids):
        return None
    return Grid(
        first.bits,
        np.concatenate([grid.numbers for grid in grids]),
        np.concatenate([grid.scales for grid in grids]),
        np.concatenate([grid.zeros for grid in grids]),
        first.group_of,
    )


def _awq_words(fields: NDArray[np.int32]) -> NDArray[np.int32]:
    """[n, outputs] → int32 [n, outputs / 8]"""
    return pack_words(fields.reshape(len(fields), -1, 8)[..., AWQ_ORDER].reshape(fields.shape), 4)
