"""The last kernel of masked sampling: rows whose cuts keep more than the candidates hold, exactly and without memory.

One program a row. Keys (value, id) are unique integers in the order of the ranking, so what top-k and top-p keep is
everything at or above one key, and that key is found by search: each pass over the row counts, or weighs, what lies at
or above 16 pivots, and narrows the interval 16 times. About 10 reads of the row from L2. This is for flat distributions
with wide cuts, where thousands of ids stay; other rows end at once.
"""

from __future__ import annotations

import triton.language as tl

from kernels import noise
from kernels.jit import jit
from kernels.sampling_decide import row_weight
from kernels.sampling_values import (
    CHANGED,
    CHOICE,
    COLUMNS,
    DENSE,
    MASK_ROW,
    MIN_P,
    POSITION,
    SEED_HIGH,
    SEED_LOW,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    allowed_values,
    number,
    real,
    word,
)

PIVOTS = tl.constexpr(16)


@jit
def last_key(
    logits, stride, size, dense, bits, changed, n_words, values, marks, top, inverse, target, lowest,
    WEIGHED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The largest key such that the ids at or above it number, or weigh, at least ``target``; ``lowest`` if all
    together do not. Only keys at or above ``lowest`` are looked at.
    """
    low, high = lowest, (noise.rank(top).to(tl.int64) + 1) << 32
    steps = tl.arange(0, PIVOTS) + 1
    while high - 1 > low:
        # No product of the whole interval: it may be 2^63 wide.
        width = tl.maximum((high >> 4) - (low >> 4), 1)
        pivots = tl.minimum(low + width * steps, high)
        reached = tl.zeros((PIVOTS,), tl.float64)
        for first in range(0, size, TILE):
            ids = first + tl.arange(0, TILE)
            x, _ = allowed_values(logits, stride, ids, size, dense, bits, changed, n_words, values, marks)
            keys = tl.where(x > float("-inf"), noise.pack_key(x, ids), noise.LOWEST_KEY)
            counted = x * 0.0 + 1.0
            if WEIGHED:
                counted = noise.weight((x - top) * inverse)
            above = (keys[:, None] >= pivots[None, :]) & (keys >= lowest)[:, None]
            reached += tl.sum(tl.where(above, counted[:, None], 0.0).to(tl.float64), 0)
        enough = reached >= target
        new_low = tl.max(tl.where(enough, pivots, low))
        high = tl.min(tl.where(enough, high, pivots))
        low = new_low
    return low


@jit
def search(
    logits, row_stride, stride, size, n_words, batch, row_kind, row_start, row_bits, values, marks, is_open, out_token,
    TILE: tl.constexpr,
):  # fmt: skip
    """Program r writes ``out_token[r]`` where ``is_open[r]``. The row is dense or unconstrained and has finite
    values.
    """
    r = tl.program_id(0)
    if tl.load(is_open + r) != 0:
        row = batch + r * COLUMNS
        mask_row = number(row, MASK_ROW)
        dense = tl.load(row_kind + mask_row) == DENSE
        bits = row_bits + tl.load(row_start + mask_row).to(tl.int64) * n_words
        changed = number(row, CHANGED)
        logits += r.to(tl.int64) * row_stride
        temperature = real(row, TEMPERATURE)
        inverse = noise.reciprocal(temperature)
        top_p, top_k, min_p = real(row, TOP_P), number(row, TOP_K), real(row, MIN_P)

        tops = tl.full((TILE,), float("-inf"), tl.float32)
        for first in range(0, size, TILE):
            x, _ = allowed_values(
                logits, stride, first + tl.arange(0, TILE), size, dense, bits, changed, n_words, values, marks
            )
            tops = tl.maximum(tops, x)
        top = tl.max(tops)

        last = noise.rank(tl.full((), float("-inf"), tl.float32)).to(tl.int64) << 32
        if top_k > 0:
            last = last_key(
                logits, stride, size, dense, bits, changed, n_words, values, marks, top, inverse,
                top_k.to(tl.float64), last, False, TILE,
            )  # fmt: skip
        if top_p < 1.0:
            total = tl.full((), 0.0, tl.float64)
            if top_k > 0:
                for first in range(0, size, TILE):
                    ids = first + tl.arange(0, TILE)
                    x, _ = allowed_values(logits, stride, ids, size, dense, bits, changed, n_words, values, marks)
                    inside = (x > float("-inf")) & (noise.pack_key(x, ids) >= last)
                    weight = tl.where(inside, noise.weight((x - top) * inverse), 0.0)
                    total += tl.sum(weight.to(tl.float64))
            else:
                total = row_weight(
                    logits, stride, size, dense, bits, changed, n_words, values, marks, top, inverse, TILE
                )
            # Weights are multiples of 2^-34: any positive target keeps one id at least.
            target = tl.maximum(top_p.to(tl.float64) * total, 2.0**-35)
            last = last_key(
                logits, stride, size, dense, bits, changed, n_words, values, marks, top, inverse, target, last, True,
                TILE,
            )  # fmt: skip

        position, choice, k0, k1 = word(row, POSITION), word(row, CHOICE), word(row, SEED_LOW), word(row, SEED_HIGH)
        best = tl.full((), float("-inf"), tl.float64)
        token = tl.full((), noise.MAX_ID, tl.int32)
        for first in range(0, size, TILE):
            ids = first + tl.arange(0, TILE)
            x, _ = allowed_values(logits, stride, ids, size, dense, bits, changed, n_words, values, marks)
            d = (x - top) * inverse
            kept = (x > float("-inf")) & (noise.pack_key(x, ids) >= last) & (noise.weight(d) >= min_p)
            lanes = noise.block_lanes(first, position, choice, k0, k1, TILE)
            if tl.max(tl.where(kept, d + noise.gumbel_bound(lanes), float("-inf"))) + noise.SLACK >= best:
                value = tl.where(kept, noise.noisy(x, top, temperature, lanes), float("-inf"))
                largest = tl.max(value)
                if largest > best:
                    best = largest
                    token = tl.min(tl.where(value == largest, ids, noise.MAX_ID))
        tl.store(out_token + r, token)
