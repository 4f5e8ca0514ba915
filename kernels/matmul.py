"""Linear layers over quantized weights, y = x Wᵀ + b: the weights stay packed until they are in registers.

    int8    W int8 [N, K], one scale a row                             W8A16
    fp8     W e4m3 [N, K], one scale a row                             W8A16, where activations stay bf16
    gptq    int32 [K / 8, N], eight nibbles along K, zeros minus one   W4A16 (Frantar et al., arXiv:2210.17323)
    awq     int32 [K, N / 8], nibbles 0 2 4 6 1 3 5 7 along N          W4A16 (Lin et al., arXiv:2306.00978)
    w8a8    W and x both int8 or both e4m3, a scale a row of each      int8 and fp8 matrix units

Scales multiply sums, not weights: a tile of K lies in one group, its integers go to the matrix unit exactly (they fit
bf16), and the float32 result of a tile is scaled. Activations in GPTQ's act-order are handled by sorting K by group
once (`sort_groups`) and reading x through that permutation.

A decode step has too few rows to fill a GPU with tiles of N alone, so K is cut into splits whose float32 sums `_join`
adds up in order: results do not depend on timing. Bound at M <= 16: the packed weights once, N K / 2 bytes for 4 bits
and 2 N K / group for scales (30.3 MB for 14,336 x 4,096 at group 128: 6.3 us at 4.8 TB/s); at prefill sizes 2 M N K
FLOPs at the rate of the matrix unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton.language as tl
from torch import Tensor

from kernels.jit import jit

DECODE_ROWS = 16
"""Up to here a batch is one tile, and K is split."""
PROGRAMS = 264
"""Two for each multiprocessor of an H100 or H200."""
FORMATS = ("int8", "fp8", "gptq", "awq", "w8a8")


@dataclass(frozen=True, slots=True)
class Weight:
    """A packed matrix of ``rows`` outputs and ``columns`` inputs."""

    format: str
    rows: int
    columns: int
    packed: Tensor
    scales: Tensor
    """[N] float32; gptq and awq: [K / group, N] float16 or bfloat16."""
    zeros: Tensor | None = None
    """gptq and awq: int32 [K / group, N / 8], packed as the weights are along N."""
    order: Tensor | None = None
    """gptq with act-order: int32 [K], the input that each packed row multiplies."""
    bias: Tensor | None = None
    """[N]"""

    @property
    def group(self) -> int:
        """Inputs that share a scale."""
        return self.columns // len(self.scales) if self.scales.dim() == 2 else self.columns

    def nbytes(self) -> int:
        held = (self.packed, self.scales, self.zeros, self.order, self.bias)
        return sum(t.nbytes for t in held if t is not None)


def check(weight: Weight) -> None:
    """ValueError, naming what is wrong: a format that is not known, or shapes that are not those of `Weight`."""
    if weight.format not in FORMATS:
        raise ValueError(f"format {weight.format!r} is not known; known are {', '.join(FORMATS)}")
    n, k = weight.rows, weight.columns
    expected = {"gptq": (k // 8, n), "awq": (k, n // 8)}.get(weight.format, (n, k))
    if tuple(weight.packed.shape) != expected:
        raise ValueError(
            f"packed weights are {tuple(weight.packed.shape)}, not {expected} for {n} x {k} {weight.format}"
        )
    if weight.format in ("gptq", "awq"):
        if n % 8 or weight.group * len(weight.scales) != k or weight.group % 32:
            raise ValueError(f"groups of {weight.group} over {n} x {k}: both must be whole, groups multiples of 32")
        if weight.zeros is None or tuple(weight.zeros.shape) != (k // weight.group, n // 8):
            raise ValueError(f"zeros must be int32 of shape {(k // weight.group, n // 8)}")
    elif tuple(weight.scales.shape) != (n,):
        raise ValueError(f"scales are {tuple(weight.scales.shape)}, not one for each of {n} rows")
    if weight.order is not None and weight.format != "gptq":
        raise ValueError(f"an order of inputs is part of gptq, not of {weight.format}")


@jit
def _nibble_place(column, AWQ: tl.constexpr):
    """Bit offset of a column in its word of eight."""
    j = column % 8
    if AWQ:
        j = (j >> 1) | ((j & 1) << 2)
    return j * 4


@jit
def _linear(
    x, x_scales, packed, scales, zeros, order, bias, out, m, n, k, group, n_splits,
    FORMAT: tl.constexpr, ORDERED: tl.constexpr, BIASED: tl.constexpr, SPLIT: tl.constexpr,
    M_TILE: tl.constexpr, N_TILE: tl.constexpr, K_TILE: tl.constexpr,
):  # fmt: skip
    """Program (tile of N, tile of M, split). With SPLIT, ``out`` is float32 [splits, M, N] without the bias."""
    rows = tl.program_id(1) * M_TILE + tl.arange(0, M_TILE)
    columns = tl.program_id(0) * N_TILE + tl.arange(0, N_TILE)
    row_in, column_in = rows < m, columns < n
    span = tl.cdiv(tl.cdiv(k, n_splits), K_TILE) * K_TILE
    begin = tl.program_id(2) * span
    end = tl.minimum(k, begin + span)
    result = tl.zeros((M_TILE, N_TILE), tl.float32)
    if (FORMAT == "w8a8") & (x.dtype.element_ty == tl.int8):
        result = tl.zeros((M_TILE, N_TILE), tl.int32)
    for at in range(begin, end, K_TILE):
        inner = at + tl.arange(0, K_TILE)
        inside = inner < k
        source = inner
        if ORDERED:
            source = tl.load(order + inner, mask=inside, other=0)
        a = tl.load(
            x + rows[:, None].to(tl.int64) * k + source[None, :], mask=row_in[:, None] & inside[None, :], other=0.0
        )
        if (FORMAT == "gptq") | (FORMAT == "awq"):
            g = at // group
            if FORMAT == "gptq":
                words = at // 8 + tl.arange(0, K_TILE // 8)
                word = tl.load(
                    packed + words[:, None].to(tl.int64) * n + columns[None, :],
                    mask=(words < k // 8)[:, None] & column_in[None, :], other=0,
                )  # fmt: skip
                bits = (word[:, None, :] >> (tl.arange(0, 8) * 4)[None, :, None]) & 15
            else:
                words = tl.program_id(0) * (N_TILE // 8) + tl.arange(0, N_TILE // 8)
                word = tl.load(
                    packed + inner[:, None].to(tl.int64) * (n // 8) + words[None, :],
                    mask=inside[:, None] & (words < n // 8)[None, :], other=0,
                )  # fmt: skip
                bits = (word[:, :, None] >> _nibble_place(tl.arange(0, 8), True)[None, None, :]) & 15
            zero = tl.load(zeros + g * (n // 8) + columns // 8, mask=column_in, other=0)
            zero = (zero >> _nibble_place(columns, FORMAT == "awq")) & 15
            if FORMAT == "gptq":
                zero += 1
            scale = tl.load(scales + g.to(tl.int64) * n + columns, mask=column_in, other=0.0).to(tl.float32)
            b = tl.reshape(bits, (K_TILE, N_TILE)) - zero[None, :]
            result += tl.dot(a, b.to(a.dtype), input_precision="ieee") * scale[None, :]
        else:
            b = tl.load(
                packed + columns[None, :].to(tl.int64) * k + inner[:, None],
                mask=inside[:, None] & column_in[None, :], other=0.0,
            )  # fmt: skip
            if FORMAT == "w8a8":
                result = tl.dot(a, b, result, out_dtype=result.dtype)
            else:
                result = tl.dot(a, b.to(a.dtype), result, input_precision="ieee")
    if (FORMAT != "gptq") & (FORMAT != "awq"):
        result = result.to(tl.float32) * tl.load(scales + columns, mask=column_in, other=0.0)[None, :]
    if FORMAT == "w8a8":
        result *= tl.load(x_scales + rows, mask=row_in, other=0.0)[:, None]
    both = row_in[:, None] & column_in[None, :]
    if SPLIT:
        out += tl.program_id(2).to(tl.int64) * m * n
    elif BIASED:
        result += tl.load(bias + columns, mask=column_in, other=0.0).to(tl.float32)[None, :]
    tl.store(out + rows[:, None].to(tl.int64) * n + columns[None, :], result.to(out.dtype.element_ty), mask=both)


@jit
def _join(parts, bias, out, m, n, n_splits, BIASED: tl.constexpr, TILE: tl.constexpr):
    """Program (row, tile of N): the splits' sums, in order, and the bias."""
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < n
    at = tl.program_id(0).to(tl.int64) * n + columns
    total = tl.zeros((TILE,), tl.float32)
    for split in range(n_splits):
        total += tl.load(parts + tl.cast(split, tl.int64) * m * n + at, mask=inside, other=0.0)
    if BIASED:
        total += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


def splits(rows: int, columns: int, n_tile: int, least: int) -> int:
    """How many programs share the inputs of a decode tile; each gets at least ``least`` of them."""
    return max(1, min(PROGRAMS // -(-rows // n_tile), columns // least))


def linear(x: Tensor, weight: Weight, *, x_scales: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """x Wᵀ + b [M, N], in ``dtype`` or the type of ``x`` [M, K], contiguous.

    w8a8: ``x`` is int8 or e4m3 like the weights, with float32 ``x_scales`` [M], and ``dtype`` must be given.
    """
    m, k = x.shape
    if k != weight.columns or not x.is_contiguous():
        raise ValueError(f"x {tuple(x.shape)} is not contiguous rows of {weight.columns} inputs")
    if (weight.format == "w8a8") != (x_scales is not None) or (x_scales is not None and dtype is None):
        raise ValueError("w8a8, and it alone, takes quantized activations with x_scales and a dtype")
    n = weight.rows
    out = torch.empty(m, n, dtype=dtype or x.dtype, device=x.device)
    if not m:
        return out
    decode = m <= DECODE_ROWS
    m_tile, n_tile = (DECODE_ROWS, 64) if decode else (64 if m <= 64 else 128, 128)
    k_tile = 32 if weight.scales.dim() == 2 and weight.group % 64 else 64  # a tile lies in one group
    parts = splits(n, k, n_tile, 4 * k_tile) if decode else 1
    to = torch.empty(parts, m, n, dtype=torch.float32, device=x.device) if parts > 1 else out
    unused = weight.scales
    _linear[(-(-n // n_tile), -(-m // m_tile), parts)](
        x, unused if x_scales is None else x_scales, weight.packed, weight.scales,
        unused if weight.zeros is None else weight.zeros, unused if weight.order is None else weight.order,
        unused if weight.bias is None else weight.bias, to, m, n, k, weight.group, parts,
        FORMAT=weight.format, ORDERED=weight.order is not None, BIASED=weight.bias is not None, SPLIT=parts > 1,
        M_TILE=m_tile, N_TILE=n_tile, K_TILE=k_tile, num_warps=4 if m_tile <= 64 else 8, num_stages=4,
    )  # fmt: skip
    if parts > 1:
        join(to, weight.bias, out)
    return out


def join(parts: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """``out`` [M, N] = the sum of ``parts`` [splits, M, N], float32, plus a bias [N]."""
    m, n = out.shape
    _join[(m, -(-n // 1024))](
        parts, parts if bias is None else bias, out, m, n, len(parts), BIASED=bias is not None, TILE=1024
    )


def sort_groups(packed: Tensor, group_of: Tensor) -> tuple[Tensor, Tensor | None]:
    """GPTQ weights int32 [K / 8, N] with their rows sorted by ``group_of`` int32 [K], and the order for `Weight`; None
    where they are sorted already.
    """
    order = torch.argsort(group_of, stable=True)
    if torch.equal(order, torch.arange(len(order), device=order.device)):
        return packed, None
    nibbles = (packed[:, None] >> (torch.arange(8, device=packed.device) * 4)[None, :, None]) & 15
    nibbles = nibbles.reshape(-1, packed.shape[1])[order].view(-1, 8, packed.shape[1])
    words = torch.zeros_like(packed)
    for j in range(8):
        words |= nibbles[:, j] << (4 * j)
    return words, order.to(torch.int32)


def dequantize_reference(weight: Weight) -> Tensor:
    """The float32 numbers [N, K] that a packed matrix stands for, inputs in their own order."""
    if weight.format not in ("gptq", "awq"):
        return weight.packed.float() * weight.scales[:, None]
    assert weight.zeros is not None
    places = torch.arange(8, device=weight.packed.device)
    if weight.format == "gptq":
        numbers = (weight.packed[:, None] >> (places * 4)[None, :, None]) & 15
    else:
        places = (places >> 1) | ((places & 1) << 2)
        numbers = (weight.packed[:, :, None] >> (places * 4)) & 15
    zeros = ((weight.zeros[:, :, None] >> (places * 4)) & 15).reshape(len(weight.zeros), -1)
    zeros = zeros + 1 if weight.format == "gptq" else zeros
    groups = torch.arange(weight.columns, device=weight.packed.device) // weight.group
    numbers = numbers.reshape(weight.columns, weight.rows)
    dense = (numbers - zeros[groups]).float() * weight.scales.float()[groups]
    if weight.order is not None:
        dense = dense[torch.argsort(weight.order)]
    return dense.T


def linear_reference(x: Tensor, weight: Weight, x_scales: Tensor | None = None) -> Tensor:
    """`linear` in float32."""
    wide = x.float() if x_scales is None else x.float() * x_scales[:, None]
    y = wide @ dequantize_reference(weight).T
    return y if weight.bias is None else y + weight.bias.float()
