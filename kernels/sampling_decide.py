"""The second kernel of masked sampling: one program a row draws the token from what `kernels/sampling_scan.py` left.

    forced          the row's only id
    sparse          its ids' logits, at most 1,000, are all there is to read
    greedy          the first slice with the largest value
    temperature     slices are read again, best bound first, until no bound reaches the best exact value: one, or two
    cuts            candidates at and above the highest level of all slices are all the row has there. As integer keys
                    (value, id) they have one order; top-k, top-p and min-p keep what is at or above one key, which is
                    found by bisection, and the draw is from that

What top-p keeps hangs on the sum of all weights. The slices' sums give it within `RELATIVE` and `ABSOLUTE`; where both
ends of that interval keep the same ids it decides, else the exact sum is computed from the row (one more read of it, by
one program). Where the candidates do not reach far enough, the row is left to `kernels/sampling_search.py`.

Bound: for temperature one slice a row, 8 KB in bf16; for cuts the candidates, 8 bytes each.
"""

from __future__ import annotations

import triton.language as tl

from kernels import noise
from kernels.jit import jit
from kernels.sampling_scan import EVERYTHING, has_cuts
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
    row_values,
    word,
)

RELATIVE = tl.constexpr(8e-6)
"""How far a weight relative to its slice's largest value, scaled, may be from the weight relative to the row's: float32
arguments of at most 25 are rounded twice on either way and once more by `exp`."""

ABSOLUTE = tl.constexpr(2.0**-34)
"""What rounding to multiples of it may add or take on the two ways, an id."""


@jit
def draw(keys, kept, top, temperature, row):
    """The id, among those kept, with the largest noisy value, the lowest on ties."""
    ids = noise.key_id(keys)
    lanes = noise.id_lanes(ids, word(row, POSITION), word(row, CHOICE), word(row, SEED_LOW), word(row, SEED_HIGH))
    value = tl.where(kept, noise.noisy(noise.key_value(keys), top, temperature, lanes), float("-inf"))
    return tl.min(tl.where(kept & (value == tl.max(value)), ids, noise.MAX_ID))


@jit
def row_weight(
    logits, stride, size, dense, bits, changed, n_words, values, marks, top, inverse, TILE: tl.constexpr
):  # fmt: skip
    """The exact sum of a row's weights, float64."""
    total = tl.zeros((TILE,), tl.float64)
    for first in range(0, size, TILE):
        x, _ = allowed_values(
            logits, stride, first + tl.arange(0, TILE), size, dense, bits, changed, n_words, values, marks
        )
        total += noise.weight((x - top) * inverse).to(tl.float64)
    return tl.sum(total)


@jit
def draw_bounded(
    logits, stride, size, dense, bits, changed, n_words, values, marks, bounds, top, temperature, row,
    TILE: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """The id with the largest noisy value of a whole row; ``bounds`` holds an upper bound a slice."""
    slices = tl.arange(0, bounds.shape[0])
    position, choice, k0, k1 = word(row, POSITION), word(row, CHOICE), word(row, SEED_LOW), word(row, SEED_HIGH)
    inverse = noise.reciprocal(temperature)
    best = tl.full((), float("-inf"), tl.float64)
    token = tl.full((), noise.MAX_ID, tl.int32)
    while (tl.max(bounds) >= best) & (tl.max(bounds) > float("-inf")):
        s = tl.argmax(bounds, 0)
        for part in range(0, TILE, PART):
            ids = s * TILE + part + tl.arange(0, PART)
            x, _ = allowed_values(logits, stride, ids, size, dense, bits, changed, n_words, values, marks)
            lanes = noise.block_lanes(s * TILE + part, position, choice, k0, k1, PART)
            if tl.max((x - top) * inverse + noise.gumbel_bound(lanes)) + noise.SLACK >= best:
                value = tl.where(x > float("-inf"), noise.noisy(x, top, temperature, lanes), float("-inf"))
                largest = tl.max(value)
                first = tl.min(tl.where(value == largest, ids, noise.MAX_ID))
                token = tl.where(largest > best, first, tl.where(largest == best, tl.minimum(first, token), token))
                best = tl.maximum(best, largest)
        bounds = tl.where(slices == s, float("-inf"), bounds)
    return token


@jit
def highest_level(ranks, real_key, level, top, LIMIT: tl.constexpr):
    """The lowest level at or above ``level`` that at most LIMIT of the ranks reach."""
    low, high = level, noise.rank(top) + 1
    if tl.sum((real_key & (ranks >= low)).to(tl.int32)) > LIMIT:
        while high - 1 > low:
            middle = (low >> 1) + (high >> 1) + (low & high & 1)
            fits = tl.sum((real_key & (ranks >= middle)).to(tl.int32)) <= LIMIT
            high = tl.where(fits, middle, high)
            low = tl.where(fits, low, middle)
        low = high
    return low


@jit
def last_key(keys, real_key, weights, target):
    """The largest key such that the real keys at or above it weigh at least ``target``, or all the weight there is.

    One key at least: weights are multiples of 2^-34, and the target is taken as positive.
    """
    target = tl.maximum(tl.minimum(target, tl.sum(weights)), 2.0**-35)
    low = tl.min(tl.where(real_key, keys, -(noise.LOWEST_KEY + 1)))
    high = tl.max(keys) + 1
    while high - 1 > low:
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        enough = tl.sum(tl.where(keys >= middle, weights, 0.0)) >= target
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
    return low


@jit
def decide(
    logits, row_stride, stride, size, n_words, batch, row_kind, row_start, row_count, row_ids, row_bits, values, marks,
    n_slices, largests, firsts, slice_bounds, weights, levels, counts, slice_keys, merged, out_token, out_open,
    SLICES: tl.constexpr, TILE: tl.constexpr, CAPACITY: tl.constexpr, LIMIT: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Program r writes ``out_token[r]``, or 1 to ``out_open[r]`` where the candidates do not suffice.

    ``merged`` int64 [R, LIMIT] is scratch. SLICES is a power of two not below ``n_slices``.
    """
    r = tl.program_id(0)
    row = batch + r * COLUMNS
    mask_row = number(row, MASK_ROW)
    kind, start = tl.load(row_kind + mask_row), tl.load(row_start + mask_row)
    changed = number(row, CHANGED)
    temperature = real(row, TEMPERATURE)
    top_p, top_k, min_p = real(row, TOP_P), number(row, TOP_K), real(row, MIN_P)
    greedy = temperature < GREEDY_BELOW
    cuts = has_cuts(row)
    dense = kind == DENSE
    listed = kind == SPARSE
    bits = row_bits + start.to(tl.int64) * n_words
    logits += r.to(tl.int64) * row_stride
    merged += r.to(tl.int64) * LIMIT
    lanes = tl.arange(0, LIMIT)

    token = tl.full((), noise.MAX_ID, tl.int32)
    top = tl.full((), float("-inf"), tl.float32)
    keys = tl.full((LIMIT,), noise.LOWEST_KEY, tl.int64)
    slices = tl.arange(0, SLICES)
    known = slices < n_slices
    at = r * n_slices + slices
    is_open = False
    ranked = False  # the token comes from `keys`
    level = tl.full((), EVERYTHING, tl.int32)

    if kind == FORCED:
        token = tl.load(row_ids + start)
    elif listed:
        known_ids = lanes < tl.load(row_count + mask_row)
        ids = tl.load(row_ids + start + lanes, mask=known_ids, other=0)
        x = row_values(logits, stride, ids, known_ids, changed, n_words, size, values, marks)
        top = tl.max(x)
        token = tl.min(tl.where(known_ids & (x == top), ids, noise.MAX_ID))
        keys = tl.where(x > float("-inf"), noise.pack_key(x, ids), noise.LOWEST_KEY)
        ranked = (top > float("-inf")) & (greedy == 0)
    else:
        largest = tl.load(largests + at, mask=known, other=float("-inf"))
        top = tl.max(largest)
        firsts_here = tl.load(firsts + at, mask=known & (largest == top), other=noise.MAX_ID)
        token = tl.min(firsts_here)
        if (top > float("-inf")) & (greedy == 0):
            inverse = noise.reciprocal(temperature)
            if cuts:
                ranked = True
                level = tl.max(tl.load(levels + at, mask=known, other=EVERYTHING))
                places = tl.arange(0, SLICES * CAPACITY)
                owner = places // CAPACITY
                n_here = tl.load(counts + r * n_slices + owner, mask=owner < n_slices, other=0)
                exists = places % CAPACITY < n_here
                found = tl.load(
                    slice_keys + r.to(tl.int64) * n_slices * CAPACITY + places, mask=exists, other=noise.LOWEST_KEY
                )
                ranks = (found >> 32).to(tl.int32)
                level = highest_level(ranks, exists, level, top, LIMIT)
                chosen = exists & (ranks >= level)
                tl.store(merged + tl.cumsum(chosen.to(tl.int32)) - 1, found, mask=chosen)
                tl.debug_barrier()
                keys = tl.load(merged + lanes, mask=lanes < tl.sum(chosen.to(tl.int32)), other=noise.LOWEST_KEY)
            else:
                bounds = tl.load(slice_bounds + at, mask=known, other=float("-inf"))
                bounds = tl.where(known, bounds + (largest - top) * inverse + noise.SLACK, float("-inf"))
                token = draw_bounded(
                    logits, stride, size, dense, bits, changed, n_words, values, marks, bounds, top, temperature, row,
                    TILE, PART,
                )  # fmt: skip

    if ranked:
        inverse = noise.reciprocal(temperature)
        complete = level == EVERYTHING
        kept = keys > noise.LOWEST_KEY
        n_keys = tl.sum(kept.to(tl.int32))
        weight = tl.where(kept, noise.weight((noise.key_value(keys) - top) * inverse), 0.0)
        if top_k > 0:
            is_open = (not complete) & (n_keys < top_k)
            one = kept.to(tl.float64)
            kept = kept & (keys >= last_key(keys, kept, one, tl.minimum(top_k, n_keys).to(tl.float64)))
        if top_p < 1.0:
            share = top_p.to(tl.float64)
            exact = tl.where(kept, weight, 0.0).to(tl.float64)
            low = tl.sum(exact)
            high = low
            if (not complete) & (top_k <= 0):
                largest = tl.load(largests + at, mask=known, other=float("-inf"))
                sums = tl.load(weights + at, mask=known & (largest > float("-inf")), other=0.0)
                scale = tl.exp(tl.maximum((largest - top) * inverse, -87.0))
                total = tl.sum(sums.to(tl.float64) * scale.to(tl.float64))
                low = total * (1.0 - RELATIVE) - size * ABSOLUTE
                high = total * (1.0 + RELATIVE) + size * ABSOLUTE
            # One id stays in any case; where too many are equal there is no candidate at all.
            is_open |= tl.sum(exact) < tl.maximum(share * high, 2.0**-35)
            last = last_key(keys, kept, exact, share * high)
            before = tl.sum(tl.where(keys > last, exact, 0.0))
            if (not is_open) & (low < high) & (before >= share * low) & (before > 0.0):
                high = row_weight(
                    logits, stride, size, dense, bits, changed, n_words, values, marks, top, inverse, PART
                )
                last = last_key(keys, kept, exact, share * high)
            kept = kept & (keys >= last)
        if (not complete) & (top_k <= 0) & (top_p >= 1.0):
            # All ids that may have the weight min_p must be candidates; 1 % covers the rounding of weights.
            is_open = noise.weight(tl.minimum((noise.unrank(level) - top) * inverse, 0.0)) >= min_p * 0.99
        kept = kept & (weight >= min_p)
        token = draw(keys, kept, top, temperature, row)

    if is_open:
        tl.store(out_open + r, 1)
    else:
        tl.store(out_open + r, 0)
        tl.store(out_token + r, tl.where(token == noise.MAX_ID, -1, token))
