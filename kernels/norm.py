"""RMS norm (Zhang and Sennrich, arXiv:1910.07467) with what surrounds it: the residual sum before, int8 after.

    x += residual;  y = (x / rms(x)) rounded to x's type, times weight;  scale = max|y| / 127;  q = round(y / scale)

The order of roundings is transformers'. One program a row, which stays in registers: each number is read and written
once. Bound for T rows of H bf16 numbers: 2 TH bytes read and written, 4 TH more each way of a residual; at T = 1 and
H = 4,096 that is 16 KB, so a decode step pays the launch, which is why everything is one launch.
"""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from kernels.jit import jit
from kernels.noise import EXACT

ROUND = tl.constexpr(12582912.0)
"""1.5 * 2^23: adding and subtracting it rounds a float32 below 2^22 to the nearest integer, ties to even."""


@jit
def _rms_norm(
    x, residual, weight, out, scales, width, epsilon,
    RESIDUAL: tl.constexpr, QUANTIZE: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Program t: row t. With RESIDUAL the sum goes back to ``residual``; with QUANTIZE ``out`` is int8."""
    t = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, TILE)
    inside = lanes < width
    here = t * width + lanes
    value = tl.load(x + here, mask=inside, other=0.0)
    if RESIDUAL:
        value = (value.to(tl.float32) + tl.load(residual + here, mask=inside, other=0.0).to(tl.float32)).to(value.dtype)
        tl.store(residual + here, value, mask=inside)
    wide = value.to(tl.float32)
    mean = tl.sum(wide * wide) / width
    y = (wide * tl.rsqrt(mean + epsilon)).to(value.dtype)
    y = (y.to(tl.float32) * tl.load(weight + lanes, mask=inside, other=0.0).to(tl.float32)).to(value.dtype)
    if QUANTIZE:
        y = y.to(tl.float32)
        scale = tl.maximum(tl.max(tl.abs(y)), 1e-30) * (1.0 / 127)
        rounded = (tl.div_rn(y, tl.zeros_like(y) + scale) + ROUND) - ROUND
        tl.store(scales + t, scale)
        tl.store(out + here, rounded.to(tl.int8), mask=inside)
    else:
        tl.store(out + here, y, mask=inside)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None = None) -> Tensor:
    """The norm of ``x`` [T, H], contiguous; ``weight`` [H]. A ``residual`` [T, H] is added first and keeps the sum."""
    out = torch.empty_like(x)
    _launch(x, residual, weight, epsilon, out, None)
    return out


def rms_norm_int8(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As `rms_norm`, quantized: int8 [T, H] and float32 scales [T]; a row of zeros has a tiny one."""
    out = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    scales = torch.empty(len(x), dtype=torch.float32, device=x.device)
    _launch(x, residual, weight, epsilon, out, scales)
    return out, scales


def _launch(
    x: Tensor, residual: Tensor | None, weight: Tensor, epsilon: float, out: Tensor, scales: Tensor | None
) -> None:
    rows, width = x.shape
    if not x.is_contiguous() or (residual is not None and not residual.is_contiguous()):
        raise ValueError("x and residual must be contiguous")
    tile = 1 << (width - 1).bit_length()
    if rows:
        _rms_norm[(rows,)](
            x, x if residual is None else residual, weight, out, x if scales is None else scales, width, epsilon,
            RESIDUAL=residual is not None, QUANTIZE=scales is not None, TILE=tile,
            num_warps=4 if tile <= 4096 else 8, **EXACT,
        )  # fmt: skip


def rms_norm_reference(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None = None) -> Tensor:
    """`rms_norm` in torch, without changing ``residual``."""
    if residual is not None:
        x = x + residual
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)).to(x.dtype) * weight


def quantize_reference(y: Tensor) -> tuple[Tensor, Tensor]:
    """int8 rows and their scales, as `rms_norm_int8` makes them of a normed ``y`` [T, H]."""
    scales = y.float().abs().amax(-1).clamp(min=1e-30) * (1.0 / 127)
    return torch.round(y.float() / scales[:, None]).to(torch.int8), scales
