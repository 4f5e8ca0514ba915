"""Gated activations of a feed-forward layer (Shazeer, arXiv:2002.05202): SwiGLU, and GeGLU with the tanh form of GELU
that Gemma uses.

The projection gives gate and up side by side, [T, 2F]; out = act(gate) * up, [T, F], the product in float32. Bound:
6 TF bytes in bf16. Where the following projection takes int8, the row is quantized here as `kernels.norm` does it.
"""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor
from torch.nn.functional import gelu, silu

from kernels.jit import jit
from kernels.noise import EXACT
from kernels.norm import ROUND

ACTIVATIONS = ("silu", "gelu_tanh")


@jit
def _activate(x, GELU: tl.constexpr):
    """act(x), float32; both forms are x times a sigmoid: tanh z = 2 sigmoid(2z) - 1."""
    z = x
    if GELU:
        z = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    return x / (1.0 + tl.exp(-z))


@jit
def _gate(x, out, width, GELU: tl.constexpr, TILE: tl.constexpr):
    """Program (t, c): columns c * TILE of row t."""
    t = tl.program_id(0).to(tl.int64)
    lanes = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = lanes < width
    gate = tl.load(x + 2 * t * width + lanes, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + (2 * t + 1) * width + lanes, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + t * width + lanes, (_activate(gate, GELU) * up).to(out.dtype.element_ty), mask=inside)


@jit
def _gate_int8(x, out, scales, width, GELU: tl.constexpr, TILE: tl.constexpr):
    """Program t: row t, twice over its tiles; the second time it comes from L2."""
    t = tl.program_id(0).to(tl.int64)
    largest = tl.zeros((TILE,), tl.float32)
    for first in range(0, width, TILE):
        lanes = first + tl.arange(0, TILE)
        inside = lanes < width
        gate = tl.load(x + 2 * t * width + lanes, mask=inside, other=0.0).to(tl.float32)
        up = tl.load(x + (2 * t + 1) * width + lanes, mask=inside, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.abs((_activate(gate, GELU) * up).to(x.dtype.element_ty).to(tl.float32)))
    scale = tl.maximum(tl.max(largest), 1e-30) * (1.0 / 127)
    tl.store(scales + t, scale)
    for first in range(0, width, TILE):
        lanes = first + tl.arange(0, TILE)
        inside = lanes < width
        gate = tl.load(x + 2 * t * width + lanes, mask=inside, other=0.0).to(tl.float32)
        up = tl.load(x + (2 * t + 1) * width + lanes, mask=inside, other=0.0).to(tl.float32)
        y = (_activate(gate, GELU) * up).to(x.dtype.element_ty).to(tl.float32)
        rounded = (tl.div_rn(y, tl.zeros_like(y) + scale) + ROUND) - ROUND
        tl.store(out + t * width + lanes, rounded.to(tl.int8), mask=inside)


def gated(x: Tensor, activation: str = "silu") -> Tensor:
    """act(gate) * up of ``x`` [T, 2F], contiguous, in its type. ValueError: an activation that is not known."""
    rows, width = _check(x, activation)
    out = torch.empty(rows, width, dtype=x.dtype, device=x.device)
    if rows:
        _gate[(rows, -(-width // 1024))](x, out, width, GELU=activation == "gelu_tanh", TILE=1024)
    return out


def gated_int8(x: Tensor, activation: str = "silu") -> tuple[Tensor, Tensor]:
    """As `gated`, quantized: int8 [T, F] and float32 scales [T]."""
    rows, width = _check(x, activation)
    out = torch.empty(rows, width, dtype=torch.int8, device=x.device)
    scales = torch.empty(rows, dtype=torch.float32, device=x.device)
    if rows:
        _gate_int8[(rows,)](x, out, scales, width, GELU=activation == "gelu_tanh", TILE=4096, num_warps=8, **EXACT)
    return out, scales


def _check(x: Tensor, activation: str) -> tuple[int, int]:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is not known; known are {', '.join(ACTIVATIONS)}")
    if not x.is_contiguous() or x.shape[1] % 2:
        raise ValueError(f"gate and up must be one contiguous matrix of even width, not {tuple(x.shape)}")
    return len(x), x.shape[1] // 2


def gated_reference(x: Tensor, activation: str = "silu") -> Tensor:
    """`gated` in torch, in float64: 1 + tanh z has no digits left in float32 where z is far below 0."""
    gate, up = x.double().chunk(2, dim=-1)
    return ((silu(gate) if activation == "silu" else gelu(gate, approximate="tanh")) * up).to(x.dtype)
