"""Weights on their way from a file into the records of the CPU kernels (`kernels.cpu.blocks`).

    GGUF Q4_0, Q4_1, Q8_0             moved as they are
    GGUF Q5_0                         8-bit records, the same numbers
    GGUF Q4_K                         4-bit records; a block's product of two scales is rounded to half precision
    grids of up to 4 bits             4-bit records; scales, and scale times zero, are rounded to half precision
    grids of 5 to 8 bits, symmetric   8-bit records; scales are rounded to half precision
    everything else                   decoded to floats, then blocks of 32 at 8 bits

Half precision has 11 bits: what is rounded to it moves by a part in 2,048, a hundredth of what 4 bits cost. Groups of a
grid must be whole blocks of 32; inputs in act-order are not, and are decoded.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.model.gguf import GgufTensor, fifth_bits, k_factors, k_nibbles, nibbles
from engine.model.grid import Grid
from engine.model.weights import GgufWeights
from kernels.cpu.blocks import PackedMatrix, pack, pack_numbers, quantize
from kernels.cpu.dot import BLOCK

MOVED = ("Q4_0", "Q4_1", "Q8_0")
SMALLEST, LARGEST = 2.0**-14, 65504.0
"""Of half precision's normal numbers."""


class GridWeights(Protocol):
    """Weights by Hugging Face name, some of them on a grid; `SafetensorsWeights` is one."""

    def __getitem__(self, name: str, /) -> NDArray[np.float32]: ...

    def __contains__(self, name: object, /) -> bool: ...

    def grid(self, name: str) -> Grid | None:
        """None for a weight in floats."""
        ...


def packed_matrix(weights: GgufWeights | GridWeights, name: str) -> PackedMatrix:
    """Weight ``name``, [outputs, inputs]; inputs are a multiple of 32."""
    if isinstance(weights, GgufWeights):
        tensor = weights.packed(name)
        if tensor.type in MOVED:
            return pack(tensor.type, tensor.data, tensor.shape[1])
        packed = _from_blocks(tensor)
    else:
        grid = weights.grid(name)
        packed = None if grid is None else from_grid(grid)
    return quantize(weights[name]) if packed is None else packed


def _from_blocks(tensor: GgufTensor) -> PackedMatrix | None:
    """Blocks whose grid is one of the kernels'; None for others."""
    rows, columns = tensor.shape
    if tensor.type == "Q5_0":
        blocks = tensor.data.reshape(-1, 22)
        numbers = nibbles(blocks[:, 6:]) + fifth_bits(blocks[:, 2:6]) - 16
        scales = np.ascontiguousarray(blocks[:, :2]).view(np.float16)
        return pack_numbers(numbers.reshape(rows, columns).astype(np.int8), scales.reshape(rows, -1), None)
    if tensor.type == "Q4_K":
        blocks = tensor.data.reshape(-1, 144)
        scales, minima = k_factors(blocks)
        return _fitting(k_nibbles(blocks[:, 16:]).reshape(rows, columns), scales.reshape(rows, -1),
                        -minima.reshape(rows, -1))  # fmt: skip
    return None


def from_grid(grid: Grid) -> PackedMatrix | None:
    """A grid whose groups are whole blocks; None for others, and where half precision does not reach its scales."""
    of_block = grid.groups().reshape(-1, BLOCK)
    if (of_block != of_block[:, :1]).any():
        return None
    scales, zeros = grid.scales[:, of_block[:, 0]], grid.zeros[:, of_block[:, 0]]
    if grid.bits <= 4:
        offset = 1 << (grid.bits - 1)
        return _fitting((grid.numbers + offset).view(np.uint8), scales, -scales * (zeros + offset))
    return None if grid.zeros.any() else _fitting(grid.numbers, scales, None)


def _fitting(
    numbers: NDArray[np.uint8] | NDArray[np.int8], scales: NDArray[np.float32], minima: NDArray[np.float32] | None
) -> PackedMatrix | None:
    magnitudes = np.abs(scales[scales != 0])
    if magnitudes.size and (magnitudes.min() < SMALLEST or magnitudes.max() > LARGEST / 16):
        return None
    return pack_numbers(numbers, scales.astype(np.float16), None if minima is None else minima.astype(np.float16))
