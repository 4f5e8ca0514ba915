"""Rotary positions (Su et al., arXiv:2104.09864) of queries and keys, and the write of keys and values to the paged
cache, in one launch over the output of the qkv projection.

    qkv [T, (heads + 2 kv heads) * D]   queries → rotated, [T, heads, D]
                                        keys    → rotated, to the token's slot of the cache
                                        values  → as they are, to the same slot

The cache is [kv heads, slots, D] in the activations' type, or int8 or fp8 (e4m3) with one float32 scale a head and
slot, [kv heads, slots]: max|x| / 127 or / 448. A scale a token and head costs 3 % of the bytes at D = 128 and needs no
calibration. Slot -1 writes nothing: a captured batch may be wider than the step.

Bound: each number once in and once out, 4 T (heads + 2 kv heads) D bytes in bf16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton.language as tl
from torch import Tensor

from kernels.jit import jit
from kernels.noise import EXACT
from kernels.norm import ROUND

LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""What the largest number of a quantized head becomes."""


@dataclass(frozen=True, slots=True)
class Cache:
    """One layer's keys and values, [kv heads, slots, D], and their float32 scales [kv heads, slots], which int8 and fp8
    use.
    """

    keys: Tensor
    values: Tensor
    key_scales: Tensor
    value_scales: Tensor

    @classmethod
    def empty(cls, kv_heads: int, slots: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> Cache:
        """Zeros: what is masked still enters a product, and NaN times zero is NaN."""
        shape = (kv_heads, slots, head_dim)
        scales = (kv_heads, slots if dtype in LARGEST else 0)
        return cls(
            torch.zeros(shape, dtype=dtype, device=device),
            torch.zeros(shape, dtype=dtype, device=device),
            torch.zeros(scales, dtype=torch.float32, device=device),
            torch.zeros(scales, dtype=torch.float32, device=device),
        )

    @property
    def quantized(self) -> bool:
        return self.keys.dtype in LARGEST

    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self.keys, self.values, self.key_scales, self.value_scales))


@jit
def _write(left, right, cache, scales, head, slot, slots, lanes, inside, HALF, LARGEST: tl.constexpr):
    """Both halves of a head to its slot, quantized where LARGEST is not 0."""
    at = head.to(tl.int64) * slots + slot
    first = at * 2 * HALF + lanes
    if LARGEST > 0:
        largest = tl.maximum(tl.max(tl.abs(left)), tl.max(tl.abs(right)))
        scale = tl.div_rn(tl.maximum(largest, 1e-30), largest * 0.0 + LARGEST)
        tl.store(scales + at, scale)
        left = tl.div_rn(left, tl.zeros_like(left) + scale)
        right = tl.div_rn(right, tl.zeros_like(right) + scale)
        if LARGEST == 127.0:
            left = (left + ROUND) - ROUND
            right = (right + ROUND) - ROUND
    tl.store(cache + first, left.to(cache.dtype.element_ty), mask=inside)
    tl.store(cache + first + HALF, right.to(cache.dtype.element_ty), mask=inside)


@jit
def _rotate_and_write(
    qkv, cos, sin, positions, slot_of, queries, keys, values, key_scales, value_scales, heads, kv_heads, slots,
    HALF: tl.constexpr, TILE: tl.constexpr, LARGEST: tl.constexpr,
):  # fmt: skip
    """Program (t, h): head h of token t; queries first, then keys, then values."""
    t, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    lanes = tl.arange(0, TILE)
    inside = lanes < HALF
    source = qkv + (t * (heads + 2 * kv_heads) + h) * 2 * HALF + lanes
    left = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    right = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)
    slot = tl.load(slot_of + t)
    if h < heads + kv_heads:
        angle = tl.load(positions + t).to(tl.int64) * HALF + lanes
        c = tl.load(cos + angle, mask=inside, other=0.0)
        s = tl.load(sin + angle, mask=inside, other=0.0)
        rotated = left * c - right * s
        right = right * c + left * s
        left = rotated
        if h < heads:
            to = queries + (t * heads + h) * 2 * HALF + lanes
            tl.store(to, left.to(queries.dtype.element_ty), mask=inside)
            tl.store(to + HALF, right.to(queries.dtype.element_ty), mask=inside)
        elif slot >= 0:
            _write(left, right, keys, key_scales, h - heads, slot, slots, lanes, inside, HALF, LARGEST)
    elif slot >= 0:
        _write(left, right, values, value_scales, h - heads - kv_heads, slot, slots, lanes, inside, HALF, LARGEST)


def rotate_and_write(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, slots: Tensor, cache: Cache, heads: int
) -> Tensor:
    """Rotated queries [T, heads, D] of ``qkv`` [T, (heads + 2 kv heads) * D]; keys and values go to ``cache``.

    ``cos``, ``sin``: float32 [positions, D / 2]; ``positions``, ``slots``: int32 [T]. Rotation is in float32.
    """
    kv_heads, n_slots, head_dim = cache.keys.shape
    if qkv.shape[1] != (heads + 2 * kv_heads) * head_dim or not qkv.is_contiguous():
        raise ValueError(f"qkv {tuple(qkv.shape)} is not {heads} + 2 * {kv_heads} contiguous heads of {head_dim}")
    queries = torch.empty(len(qkv), heads, head_dim, dtype=qkv.dtype, device=qkv.device)
    half = head_dim // 2
    if len(qkv):
        _rotate_and_write[(len(qkv), heads + 2 * kv_heads)](
            qkv, cos, sin, positions, slots, queries, cache.keys, cache.values, cache.key_scales, cache.value_scales,
            heads, kv_heads, n_slots,
            HALF=half, TILE=1 << (half - 1).bit_length(), LARGEST=LARGEST.get(cache.keys.dtype, 0.0),
            num_warps=1, **EXACT,
        )  # fmt: skip
    return queries


def rotate_and_write_reference(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, slots: Tensor, cache: Cache, heads: int
) -> Tensor:
    """`rotate_and_write` in torch."""
    kv_heads, _, head_dim = cache.keys.shape
    split = qkv.float().view(len(qkv), -1, head_dim).split((heads, kv_heads, kv_heads), dim=1)
    c, s = cos[positions.long(), None], sin[positions.long(), None]

    def rotated(x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=-1)
        return torch.cat((left * c - right * s, right * c + left * s), dim=-1)

    written = slots >= 0
    for x, to, scales in (
        (rotated(split[1]), cache.keys, cache.key_scales),
        (split[2], cache.values, cache.value_scales),
    ):
        x = x[written].transpose(0, 1)
        at = slots[written].long()
        if cache.quantized:
            scale = x.abs().amax(-1).clamp(min=1e-30) / LARGEST[to.dtype]
            scales[:, at] = scale
            x = x / scale[..., None]
            x = x.round() if to.dtype == torch.int8 else x
        to[:, at] = x.to(to.dtype)
    return rotated(split[0]).to(qkv.dtype)


def dequantized(cache: Tensor, scales: Tensor) -> Tensor:
    """The float32 numbers of keys or values."""
    return cache.float() * scales[..., None] if cache.dtype in LARGEST else cache.float()
