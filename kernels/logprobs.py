"""Log-probabilities of the model's own distribution in Triton, for the rows that ask for them (`kernels/sampling.py`).

`scan_own` reads the row once, by slices, and leaves each slice's largest logit, the sum of its weights, and its first
ids of the ranking; `report` joins the slices. The normaliser is formed in float64 from float32 sums of at most 4,096
weights: within 1e-6 of the reference.

Bound: one more read of the logits of those rows. Nothing is launched for a batch that reports nothing.
"""

from __future__ import annotations

import triton.language as tl

from kernels import noise
from kernels.jit import jit
from kernels.sampling_values import COLUMNS, N_LOGPROBS, number


@jit
def scan_own(
    logits, row_stride, stride, size, batch, n_top, out_largest, out_weight, out_keys,
    TILE: tl.constexpr, TOP: tl.constexpr,
):  # fmt: skip
    """Program (r, s): ``out_largest``, ``out_weight`` float32 [R, S]; ``out_keys`` int64 [R, S, TOP], ``n_top``
    written.
    """
    r, s = tl.program_id(0), tl.program_id(1)
    if number(batch + r * COLUMNS, N_LOGPROBS) >= 0:
        at = r * tl.num_programs(1) + s
        ids = s * TILE + tl.arange(0, TILE)
        inside = ids < size
        row = logits + r.to(tl.int64) * row_stride
        x = noise.clean(tl.load(row + ids.to(tl.int64) * stride, mask=inside, other=float("-inf")))
        largest = tl.max(x)
        tl.store(out_largest + at, largest)
        tl.store(out_weight + at, tl.sum(noise.weight(tl.where(x > float("-inf"), x - largest, float("-inf")))))
        keys = tl.where(inside, noise.pack_key(x, ids), noise.LOWEST_KEY)
        for k in range(n_top):
            first = tl.max(keys)
            tl.store(out_keys + at.to(tl.int64) * TOP + k, first)
            keys = tl.where(keys == first, noise.LOWEST_KEY, keys)


@jit
def report(
    logits, row_stride, stride, batch, n_slices, n_top, largests, weights, slice_keys, tokens,
    out_logprob, out_top_ids, out_top_logprobs,
    SLICES: tl.constexpr, TOP: tl.constexpr,
):  # fmt: skip
    """Program r: the row's log-probability of its token, and its most likely ids: [R] and [R, n_top]."""
    r = tl.program_id(0)
    n_asked = number(batch + r * COLUMNS, N_LOGPROBS)
    if n_asked >= 0:
        slices = tl.arange(0, SLICES)
        known = slices < n_slices
        largest = tl.load(largests + r * n_slices + slices, mask=known, other=float("-inf"))
        sums = tl.load(weights + r * n_slices + slices, mask=known & (largest > float("-inf")), other=0.0)
        top = tl.max(largest)
        scale = noise.weight(tl.where(largest > float("-inf"), largest - top, float("-inf")))
        total = tl.maximum(tl.sum(sums.to(tl.float64) * scale.to(tl.float64)), 1.0)
        normaliser = top.to(tl.float64) + noise.log(total)

        token = tl.load(tokens + r)
        drawn = tl.load(
            logits + r.to(tl.int64) * row_stride + token.to(tl.int64) * stride, mask=token >= 0, other=float("-inf")
        )
        x = noise.clean(drawn)
        tl.store(out_logprob + r, tl.where(x > float("-inf"), (x.to(tl.float64) - normaliser).to(tl.float32), x))
        places = tl.arange(0, SLICES * TOP)
        exists = (places // TOP < n_slices) & (places % TOP < n_top)
        keys = tl.load(slice_keys + r.to(tl.int64) * n_slices * TOP + places, mask=exists, other=noise.LOWEST_KEY)
        for k in range(n_asked):
            first = tl.max(keys)
            x = noise.key_value(first)
            tl.store(out_top_ids + r * n_top + k, noise.key_id(first))
            logprob = tl.where(x > float("-inf"), (x.to(tl.float64) - normaliser).to(tl.float32), x)
            tl.store(out_top_logprobs + r * n_top + k, logprob)
            keys = tl.where(keys == first, noise.LOWEST_KEY, keys)
