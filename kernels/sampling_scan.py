"""The first of the kernels of masked sampling: one read of the logits, by slices of a row, in parallel.

Program (r, s) holds slice s of row r in registers and leaves what `kernels/sampling_decide.py` needs to find the token
without the logits, in all but rare cases:

    every row       the slice's largest value and the lowest id that has it
    temperature     a bound of the slice's noisy values: noise needs no logarithm for that, so there are no float64
                    operations here, where they would cost ten reads of the logits
    top-k, top-p,   the sum of the slice's weights; its largest values as candidates, up to CAPACITY of them, and the
    min-p           *level* at and above which these are all it has

    values of a slice   ──┬────────┬─────────────────┬───────────
                        lowest   level              largest
                                   └── candidates ──┘

Forced and sparse rows read nothing here. Bound: R * V logits once, and V / 8 bytes a dense row: 67.7 MB in bf16 for 256
rows of 128,256 ids, 14 us at 4.8 TB/s.
"""

from __future__ import annotations

import triton.language as tl

from kernels import noise
from kernels.jit import jit
from kernels.sampling_values import (
    CHANGED,
    CHOICE,
    COLUMNS,
    DENSE,
    FORCED,
    GREEDY_BELOW,
    MASK_ROW,
    MIN_P,
    POSITION,
    SEED_HIGH,
    SEED_LOW,
    SPARSE,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    allowed_values,
    number,
    real,
    word,
)

EVERYTHING = tl.constexpr(-(1 << 31))
"""The level of a slice whose candidates are all its finite values."""


@jit
def has_cuts(row):
    """Whether top-k, top-p or min-p may remove ids of a batch row."""
    return (real(row, TOP_P) < 1.0) | (number(row, TOP_K) > 0) | (real(row, MIN_P) > 0.0)


@jit
def candidate_threshold(x, largest, temperature, CAPACITY: tl.constexpr):
    """A value that between 1 and CAPACITY of the x reach, the lower the better; and the level it vouches for.

    Weights of what is further than 25 temperatures from the largest are 0. Ties at the top may be more than CAPACITY:
    the threshold is then +inf, and the level just above them.
    """
    lowest = tl.min(tl.where(x > float("-inf"), x, float("inf")))
    low = tl.maximum(lowest, largest + temperature * noise.NO_WEIGHT)
    high = largest
    level = tl.where(low == lowest, EVERYTHING, noise.rank(low))
    threshold = low
    if tl.sum((x >= low).to(tl.int32)) > CAPACITY:
        for _ in range(10):
            middle = low * 0.5 + high * 0.5
            fits = tl.sum((x >= middle).to(tl.int32)) <= CAPACITY
            high = tl.where(fits, middle, high)
            low = tl.where(fits, low, middle)
        fits = tl.sum((x >= high).to(tl.int32)) <= CAPACITY
        threshold = tl.where(fits, high, float("inf"))
        level = tl.where(fits, noise.rank(high), noise.rank(largest) + 1)
    return threshold, level


@jit
def scan(
    logits, row_stride, stride, size, n_words, batch, row_kind, row_start, row_bits, values, marks,
    out_largest, out_first, out_bound, out_weight, out_level, out_count, out_keys,
    TILE: tl.constexpr, CAPACITY: tl.constexpr,
):  # fmt: skip
    """Program (r, s). Outputs are [R, S], float32 or int32; ``out_keys`` int64 [R, S, CAPACITY]."""
    r = tl.program_id(0)
    row = batch + r * COLUMNS
    mask_row = number(row, MASK_ROW)
    kind = tl.load(row_kind + mask_row)
    if (kind != FORCED) & (kind != SPARSE):
        s = tl.program_id(1)
        at = r * tl.num_programs(1) + s
        ids = s * TILE + tl.arange(0, TILE)
        bits = row_bits + tl.load(row_start + mask_row).to(tl.int64) * n_words
        x, allowed = allowed_values(
            logits + r.to(tl.int64) * row_stride, stride, ids, size, kind == DENSE, bits, number(row, CHANGED), n_words,
            values, marks,
        )  # fmt: skip
        largest = tl.max(x)
        tl.store(out_largest + at, largest)
        tl.store(out_first + at, tl.min(tl.where(allowed & (x == largest), ids, noise.MAX_ID)))
        temperature = real(row, TEMPERATURE)
        if temperature >= GREEDY_BELOW:
            inverse = noise.reciprocal(temperature)
            # A slice without a finite value must not give NaN.
            d = tl.where(x > float("-inf"), (x - largest) * inverse, float("-inf"))
            if has_cuts(row):
                tl.store(out_weight + at, tl.sum(noise.weight(d)))
                threshold, level = candidate_threshold(x, largest, temperature, CAPACITY)
                chosen = (x >= threshold) & (x > float("-inf"))
                places = tl.cumsum(chosen.to(tl.int32)) - 1
                keys = out_keys + at.to(tl.int64) * CAPACITY
                tl.store(keys + places, noise.pack_key(x, ids), mask=chosen)
                tl.store(out_level + at, level)
                tl.store(out_count + at, tl.sum(chosen.to(tl.int32)))
            else:
                lanes = noise.block_lanes(
                    s * TILE, word(row, POSITION), word(row, CHOICE), word(row, SEED_LOW), word(row, SEED_HIGH), TILE
                )
                tl.store(out_bound + at, tl.max(d + noise.gumbel_bound(lanes)))
