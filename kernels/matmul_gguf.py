"""Linear layers straight from GGUF's blocks, y = x Wᵀ + b: a matrix is the bytes of the file, [N, bytes a row].

Block layouts are ggml-common.h's; all little-endian, d and m float16, q the packed numbers:

    Q4_0  32 numbers   d, 16 bytes                     w = d (q - 8)
    Q4_1  32           d, m, 16 bytes                  w = d q + m
    Q5_0  32           d, 4 bytes high bits, 16        w = d (q - 16)
    Q5_1  32           d, m, 4 bytes high bits, 16     w = d q + m
    Q8_0  32           d, 32 signed bytes              w = d q
    Q4_K  256          d, m, 12 bytes scales, 128      eight of 32: w = d s q - m t; s and t have 6 bits
    Q5_K  256          d, m, 12 scales, 32 high, 128   the same with a fifth bit
    Q6_K  256          128 low, 64 high, 16 scales, d  sixteen of 16: w = d s (q - 32)

A byte is read once, whichever two numbers it holds: its low nibbles meet one stretch of x in the matrix unit and its
high nibbles another. Integers below 256 are exact in bf16, and scales multiply float32 sums; where a format has a
minimum it multiplies the sum of x. Bound at decode: the file's bytes, 4.5 bits a weight for Q4_K, once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton.language as tl
from torch import Tensor

from kernels.jit import jit
from kernels.matmul import DECODE_ROWS, join, splits

BLOCKS = {
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}
"""Name → numbers and bytes of a block."""


@dataclass(frozen=True, slots=True)
class GgufWeight:
    """A matrix in blocks. ``raw``: uint8 [N, bytes a row]; ``bias``: [N] or None."""

    type: str
    raw: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        if self.type not in BLOCKS:
            raise ValueError(f"blocks of type {self.type} have no kernel; known are {', '.join(BLOCKS)}")
        if self.raw.dtype != torch.uint8 or self.raw.dim() != 2 or self.raw.shape[1] % BLOCKS[self.type][1]:
            raise ValueError(f"{self.raw.dtype} {tuple(self.raw.shape)} are no rows of {self.type} blocks")

    @property
    def columns(self) -> int:
        numbers, size = BLOCKS[self.type]
        return self.raw.shape[1] // size * numbers


@jit
def _half(at, mask):
    """The float16 at a byte address, as float32."""
    low = tl.load(at, mask=mask, other=0).to(tl.uint16)
    high = tl.load(at + 1, mask=mask, other=0).to(tl.uint16)
    return (low | (high << 8)).to(tl.float16, bitcast=True).to(tl.float32)


@jit
def _bytes(at, first, mask, SIZE: tl.constexpr):
    """SIZE bytes of each column's block from offset ``first``: int32 [SIZE, N]."""
    return tl.load(at[None, :] + (first + tl.arange(0, SIZE))[:, None], mask=mask[None, :], other=0).to(tl.int32)


@jit
def _stretch(x, rows, row_in, k, first, SIZE: tl.constexpr):
    """x[:, first : first + SIZE]."""
    at = rows[:, None].to(tl.int64) * k + (first + tl.arange(0, SIZE))[None, :]
    return tl.load(x + at, mask=row_in[:, None], other=0.0)


@jit
def _times(a, q):
    """The product of activations and small integers, float32."""
    return tl.dot(a, q.to(a.dtype), input_precision="ieee")


@jit
def _k_scales(at, j, mask):
    """Scale and minimum of sub-block j of a Q4_K or Q5_K block, whose 12 bytes of scales start at ``at``."""
    low = tl.load(at + j % 4, mask=mask, other=0).to(tl.int32)
    middle = tl.load(at + 4 + j % 4, mask=mask, other=0).to(tl.int32)
    if j < 4:
        scale, minimum = low & 63, middle & 63
    else:
        high = tl.load(at + 8 + j % 4, mask=mask, other=0).to(tl.int32)
        scale, minimum = (high & 15) | ((low >> 6) << 4), (high >> 4) | ((middle >> 6) << 4)
    return scale.to(tl.float32), minimum.to(tl.float32)


@jit
def _small_block(x, rows, row_in, k, first, at, mask, TYPE: tl.constexpr):
    """Product of x with one block of 32 of each column at ``at``: float32 [M, N]."""
    d = _half(at, mask)
    left, right = _stretch(x, rows, row_in, k, first, 16), _stretch(x, rows, row_in, k, first + 16, 16)
    if TYPE == "Q8_0":
        low = (_bytes(at, 2, mask, 16) ^ 128) - 128
        high = (_bytes(at, 18, mask, 16) ^ 128) - 128
        return (_times(left, low) + _times(right, high)) * d[None, :]
    has_minimum: tl.constexpr = TYPE == "Q4_1" or TYPE == "Q5_1"
    has_fifth: tl.constexpr = TYPE == "Q5_0" or TYPE == "Q5_1"
    header: tl.constexpr = 2 + 2 * has_minimum
    q = _bytes(at, header + 4 * has_fifth, mask, 16)
    low, high = q & 15, q >> 4
    if has_fifth:
        i = tl.arange(0, 16)
        bits = tl.load(at[None, :] + (header + i // 8)[:, None], mask=mask[None, :], other=0).to(tl.int32)
        low |= ((bits >> (i % 8)[:, None]) & 1) << 4
        bits = tl.load(at[None, :] + (header + 2 + i // 8)[:, None], mask=mask[None, :], other=0).to(tl.int32)
        high |= ((bits >> (i % 8)[:, None]) & 1) << 4
    if has_minimum:
        total = tl.sum(left.to(tl.float32), 1) + tl.sum(right.to(tl.float32), 1)
        return (_times(left, low) + _times(right, high)) * d[None, :] + total[:, None] * _half(at + 2, mask)[None, :]
    middle: tl.constexpr = 8 + 8 * has_fifth
    return (_times(left, low - middle) + _times(right, high - middle)) * d[None, :]


@jit
def _k_block(x, rows, row_in, k, first, at, mask, j, TYPE: tl.constexpr):
    """Product with numbers 64 j .. 64 j + 63 of a block of 256, j < 4: float32 [M, N]."""
    if TYPE == "Q6_K":
        return _q6_k_block(x, rows, row_in, k, first, at, mask, j)
    d, m = _half(at, mask), _half(at + 2, mask)
    fifth: tl.constexpr = TYPE == "Q5_K"
    q = _bytes(at, (48 if fifth else 16) + 32 * j, mask, 32)
    low, high = q & 15, q >> 4
    if fifth:
        bits = _bytes(at, 16, mask, 32) >> (2 * j)
        low |= (bits & 1) << 4
        high |= ((bits >> 1) & 1) << 4
    left = _stretch(x, rows, row_in, k, first + 64 * j, 32)
    right = _stretch(x, rows, row_in, k, first + 64 * j + 32, 32)
    scale, minimum = _k_scales(at + 4, 2 * j, mask)
    result = _times(left, low) * (d * scale)[None, :]
    result -= tl.sum(left.to(tl.float32), 1)[:, None] * (m * minimum)[None, :]
    scale, minimum = _k_scales(at + 4, 2 * j + 1, mask)
    result += _times(right, high) * (d * scale)[None, :]
    return result - tl.sum(right.to(tl.float32), 1)[:, None] * (m * minimum)[None, :]


@jit
def _q6_k_block(x, rows, row_in, k, first, at, mask, j):
    """The quarter j of a Q6_K block: numbers 16 (j % 2) + 32 i .. + 15, i < 4, of its half j // 2."""
    half, side = j // 2, j % 2
    d = _half(at + 208, mask)
    near = _bytes(at, 64 * half + 16 * side, mask, 16)
    far = _bytes(at, 64 * half + 32 + 16 * side, mask, 16)
    bits = _bytes(at, 128 + 32 * half + 16 * side, mask, 16)
    scales = at + 192 + 8 * half + side
    first += 128 * half + 16 * side
    result = tl.zeros((rows.shape[0], at.shape[0]), tl.float32)
    for i in tl.static_range(4):  # pyright: ignore[reportGeneralTypeIssues]
        q = near if i % 2 == 0 else far
        q = ((q >> (i // 2 * 4)) & 15) | (((bits >> (2 * i)) & 3) << 4)
        scale = tl.load(scales + 2 * i, mask=mask, other=0).to(tl.int8, bitcast=True).to(tl.float32)
        a = _stretch(x, rows, row_in, k, first + 32 * i, 16)
        result += _times(a, q - 32) * (d * scale)[None, :]
    return result


@jit
def _linear(
    x, raw, bias, out, m, n, k, row_bytes, n_splits,
    TYPE: tl.constexpr, NUMBERS: tl.constexpr, SIZE: tl.constexpr, BIASED: tl.constexpr, SPLIT: tl.constexpr,
    M_TILE: tl.constexpr, N_TILE: tl.constexpr,
):  # fmt: skip
    """Program (tile of N, tile of M, split). With SPLIT, ``out`` is float32 [splits, M, N] without the bias."""
    rows = tl.program_id(1) * M_TILE + tl.arange(0, M_TILE)
    columns = tl.program_id(0) * N_TILE + tl.arange(0, N_TILE)
    row_in, column_in = rows < m, columns < n
    blocks = k // NUMBERS
    span = tl.cdiv(blocks, n_splits)
    begin = tl.program_id(2) * span
    result = tl.zeros((M_TILE, N_TILE), tl.float32)
    base = raw + columns.to(tl.int64) * row_bytes
    if NUMBERS == 32:
        for block in range(begin, tl.minimum(blocks, begin + span)):
            result += _small_block(x, rows, row_in, k, block * 32, base + block * SIZE, column_in, TYPE)
    else:
        for quarter in range(4 * begin, 4 * tl.minimum(blocks, begin + span)):
            at = base + quarter // 4 * SIZE
            result += _k_block(x, rows, row_in, k, quarter // 4 * 256, at, column_in, quarter % 4, TYPE)
    if SPLIT:
        out += tl.program_id(2).to(tl.int64) * m * n
    elif BIASED:
        result += tl.load(bias + columns, mask=column_in, other=0.0).to(tl.float32)[None, :]
    at = rows[:, None].to(tl.int64) * n + columns[None, :]
    tl.store(out + at, result.to(out.dtype.element_ty), mask=row_in[:, None] & column_in[None, :])


def linear_gguf(x: Tensor, weight: GgufWeight, dtype: torch.dtype | None = None) -> Tensor:
    """x Wᵀ + b [M, N], in ``dtype`` or the type of ``x`` [M, K], contiguous."""
    m, k = x.shape
    if k != weight.columns or not x.is_contiguous():
        raise ValueError(f"x {tuple(x.shape)} is not contiguous rows of {weight.columns} inputs")
    n = len(weight.raw)
    out = torch.empty(m, n, dtype=dtype or x.dtype, device=x.device)
    if not m:
        return out
    numbers, size = BLOCKS[weight.type]
    decode = m <= DECODE_ROWS
    m_tile, n_tile = (DECODE_ROWS, 64) if decode else (64, 64)
    parts = splits(n, k, n_tile, 256) if decode else 1
    to = torch.empty(parts, m, n, dtype=torch.float32, device=x.device) if parts > 1 else out
    _linear[(-(-n // n_tile), -(-m // m_tile), parts)](
        x, weight.raw, x if weight.bias is None else weight.bias, to, m, n, k, weight.raw.shape[1], parts,
        TYPE=weight.type, NUMBERS=numbers, SIZE=size, BIASED=weight.bias is not None, SPLIT=parts > 1,
        M_TILE=m_tile, N_TILE=n_tile, num_warps=4, num_stages=3,
    )  # fmt: skip
    if parts > 1:
        join(to, weight.bias, out)
    return out


def dequantize_reference(weight: GgufWeight) -> Tensor:
    """The float32 numbers [N, K] of a matrix in blocks."""
    numbers, size = BLOCKS[weight.type]
    blocks = weight.raw.reshape(len(weight.raw), -1, size)

    def half(at: int) -> Tensor:
        return blocks[..., at : at + 2].contiguous().view(torch.float16).float()

    def integers(first: int, last: int) -> Tensor:
        return blocks[..., first:last].int()

    if numbers == 32:
        if weight.type == "Q8_0":
            return ((integers(2, 34) ^ 128) - 128).mul(half(0)).flatten(1)
        q = integers(size - 16, size)
        q = torch.cat((q & 15, q >> 4), -1)
        minimum = half(2) if weight.type.endswith("1") else None
        if weight.type.startswith("Q5"):
            place = torch.arange(32, device=q.device)
            q |= ((integers(size - 20, size - 16)[..., place // 8] >> (place % 8)) & 1) << 4
        if minimum is None:
            return ((q - (16 if weight.type == "Q5_0" else 8)) * half(0)).flatten(1)
        return (q * half(0) + minimum).flatten(1)
    if weight.type == "Q6_K":
        low = integers(0, 128).unflatten(-1, (2, 64))
        low = torch.cat((low & 15, low >> 4), -1)
        high = integers(128, 192).unflatten(-1, (2, 32))
        high = torch.cat([(high >> shift) & 3 for shift in (0, 2, 4, 6)], -1)
        scales = ((integers(192, 208) ^ 128) - 128).repeat_interleave(16, -1)
        return (((low | (high << 4)).flatten(-2) - 32) * (half(208) * scales)).flatten(1)
    packed = integers(4, 16)
    low, middle, high = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = torch.cat((low & 63, (high & 15) | ((low >> 6) << 4)), -1).repeat_interleave(32, -1)
    minima = torch.cat((middle & 63, (high >> 4) | ((middle >> 6) << 4)), -1).repeat_interleave(32, -1)
    q = integers(size - 128, size).unflatten(-1, (4, 32))
    q = torch.stack((q & 15, q >> 4), -2).flatten(-3)
    if weight.type == "Q5_K":
        fifth = torch.stack([(integers(16, 48) >> bit) & 1 for bit in range(8)], -2).flatten(-2)
        q |= fifth << 4
    return (half(0) * scales * q - half(2) * minima).flatten(1)


def linear_gguf_reference(x: Tensor, weight: GgufWeight) -> Tensor:
    """`linear_gguf` in float32."""
    y = x.float() @ dequantize_reference(weight).T
    return y if weight.bias is None else y + weight.bias.float()
