"""Weights as the CPU kernels read them: GGUF's blocks of 32, repacked into records of 8 rows (`kernels.cpu.dot`).

    GGUF, a row after the other          packed, eight rows at once
    Q4_1  d, m, 16 bytes of nibbles      Q4 record, the same numbers
    Q4_0  d, 16 bytes; w = d(q - 8)      Q4 record with m = -8d
    Q8_0  d, 32 signed bytes             Q8 record, the same numbers
    numbers, scales and minima a block   either record, the same numbers (`pack_numbers`)
    F32, F16, BF16                       Q8_0 blocks first: d = max|w| / 127, q = round(w / d)

Nothing is rounded a second time: a packed matrix stands for exactly the numbers of the file's. Rows are padded with
zeros to a multiple of 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.cpu.dot import BLOCK, Q4, Q4_RECORD, Q8, Q8_RECORD, ROWS


@dataclass(slots=True)
class PackedMatrix:
    """A weight matrix in records."""

    kind: int
    """`dot.Q4` or `dot.Q8`."""
    rows: int
    columns: int
    records: NDArray[np.uint8]
    """[ceil(rows / 8), columns / 32, record bytes], C-contiguous."""


def pack(name: str, raw: NDArray[np.uint8], columns: int) -> PackedMatrix:
    """Repack GGUF blocks. ``name``: Q4_0, Q4_1 or Q8_0. ``raw``: [rows, bytes a row].

    ValueError: another type, or rows that are not whole blocks of ``columns`` numbers.
    """
    sizes = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}
    if name not in sizes:
        raise ValueError(f"blocks of type {name} cannot be packed; known are {', '.join(sizes)}")
    rows = raw.shape[0]
    blocks = check_columns(columns)
    if raw.shape[1] != blocks * sizes[name]:
        raise ValueError(f"a {name} row of {columns} numbers is {blocks * sizes[name]} bytes, not {raw.shape[1]}")
    groups = -(-rows // ROWS)
    quantized = np.zeros((groups * ROWS, blocks, sizes[name]), np.uint8)
    quantized[:rows] = raw.reshape(rows, blocks, -1)
    scales = quantized[..., :2].copy().view(np.float16)[..., 0]
    if name == "Q8_0":
        return PackedMatrix(Q8, rows, columns, _interleave(quantized[..., 2:], [scales], Q8_RECORD))
    if name == "Q4_1":
        minima = quantized[..., 2:4].copy().view(np.float16)[..., 0]
    else:
        minima = scales * np.float16(-8)
    return PackedMatrix(Q4, rows, columns, _interleave(quantized[..., -16:], [scales, minima], Q4_RECORD))


def pack_numbers(
    numbers: NDArray[np.uint8] | NDArray[np.int8], scales: NDArray[np.float16], minima: NDArray[np.float16] | None
) -> PackedMatrix:
    """w = d·q + m with d and m of every block of 32, [rows, columns / 32].

    ``numbers``: [rows, columns], 0 to 15 with ``minima`` (a Q4 matrix), -128 to 127 without (a Q8 one).
    """
    rows, columns = numbers.shape
    blocks = check_columns(columns)
    padding = -rows % ROWS
    cut = np.pad(numbers.reshape(rows, blocks, BLOCK), ((0, padding), (0, 0), (0, 0)))
    factors = [np.pad(part, ((0, padding), (0, 0))) for part in ((scales,) if minima is None else (scales, minima))]
    if minima is None:
        return PackedMatrix(Q8, rows, columns, _interleave(cut.view(np.uint8), factors, Q8_RECORD))
    halves = (cut[..., :16] | cut[..., 16:] << 4).astype(np.uint8)
    return PackedMatrix(Q4, rows, columns, _interleave(halves, factors, Q4_RECORD))


def quantize(weights: NDArray[np.float32]) -> PackedMatrix:
    """A float matrix [rows, columns] as Q8_0 blocks, packed. ValueError if ``columns`` is not a multiple of 32."""
    rows, columns = weights.shape
    blocks = check_columns(columns)
    groups = -(-rows // ROWS)
    values = np.zeros((groups * ROWS, blocks, BLOCK), np.float32)
    values[:rows] = weights.reshape(rows, blocks, BLOCK)
    scales = np.abs(values).max(axis=-1) / np.float32(127)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales > 0)
    quantized = np.rint(values * inverse[..., None]).astype(np.int8)
    return PackedMatrix(
        Q8, rows, columns, _interleave(quantized.view(np.uint8), [scales.astype(np.float16)], Q8_RECORD)
    )


def check_columns(columns: int) -> int:
    """Blocks a row. ValueError if ``columns`` is not a multiple of 32."""
    if columns % BLOCK:
        raise ValueError(f"rows of {columns} numbers cannot be cut into blocks of {BLOCK}")
    return columns // BLOCK


def unpack(matrix: PackedMatrix) -> NDArray[np.float32]:
    """The numbers a packed matrix stands for, [rows, columns]: the reference the kernels are tested against."""
    groups, blocks, _ = matrix.records.shape
    scale_at = Q4_RECORD - 4 * ROWS if matrix.kind == Q4 else Q8_RECORD - 2 * ROWS
    words = matrix.records[..., :scale_at].reshape(groups, blocks, -1, ROWS, 4)
    parts = [words & 15, words >> 4] if matrix.kind == Q4 else [words.view(np.int8)]
    quantized = np.concatenate([part.transpose(0, 3, 1, 2, 4).reshape(groups, ROWS, blocks, -1) for part in parts], -1)
    factors = matrix.records[..., scale_at:].copy().view(np.float16).astype(np.float32)
    factors = factors.reshape(groups, blocks, -1, ROWS).transpose(2, 0, 3, 1)[..., None]
    values = quantized.astype(np.float32) * factors[0]
    if matrix.kind == Q4:
        values += factors[1]
    return values.reshape(groups * ROWS, matrix.columns)[: matrix.rows]


def _interleave(quantized: NDArray[np.uint8], factors: list[NDArray[np.float16]], record: int) -> NDArray[np.uint8]:
    """[rows, blocks, bytes] and factors [rows, blocks] → records [rows / 8, blocks, record]."""
    rows, blocks, size = quantized.shape
    groups = rows // ROWS
    records = np.empty((groups, blocks, record), np.uint8)
    words = quantized.reshape(groups, ROWS, blocks, size // 4, 4)
    records[..., : size * ROWS] = words.transpose(0, 2, 3, 1, 4).reshape(groups, blocks, -1)
    at = size * ROWS
    for factor in factors:
        halves = np.ascontiguousarray(factor.reshape(groups, ROWS, blocks).transpose(0, 2, 1))
        records[..., at : at + 2 * ROWS] = halves.view(np.uint8)
        at += 2 * ROWS
    return records
