"""Ranking a row of logits in numba: which ids top-k, top-p and min-p keep, without a sort.

Values are scanned in blocks of 256 that stay in cache. A threshold gathers candidates that are likely to hold all that
is kept; whether they do is known exactly (their number or weight suffices), and if not, a second threshold is certain
to. A radix select over the bit patterns then finds the last id kept.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels.cpu.noise import bits_float, float_bits, log, weight

BLOCK = 256
BINS = 2048

NO_WEIGHT = np.float32(-25.0)
"""Weights of exp of this and less are 0."""

LARGEST = np.float32(np.finfo(np.float32).max)
INFINITY = np.float32(np.inf)
INFINITY_BITS = np.int32(0x7F800000)
MAGNITUDE = np.int32(0x7FFFFFFF)

_njit = numba.njit(nogil=True, cache=True)
_reorder = numba.njit(nogil=True, cache=True, fastmath={"reassoc"})  # only for sums that are exact in any order


@_njit
def clean(x):
    """NaN as -inf, +inf as the largest float, -0 as 0."""
    x = x + np.float32(0.0)
    finite = x if x < LARGEST else LARGEST
    return -INFINITY if (float_bits(x) & MAGNITUDE) > INFINITY_BITS else finite


@_njit
def rank(x):
    """An int32 in the order of the float32 x. Maxima of integers vectorise; those of floats, because of NaN, do not."""
    bits = float_bits(x)
    return np.int32(bits ^ ((bits >> np.int32(31)) & MAGNITUDE))


@_njit
def largest(values):
    """The maximum of float32 values; -inf if there are none."""
    best = rank(-INFINITY)
    for i in range(len(values)):
        this = rank(values[i])
        best = this if this > best else best
    return bits_float(np.int32(best ^ ((best >> np.int32(31)) & MAGNITUDE)))


@_njit
def find_maxima(values, n, maxima):
    """The maximum of each block of values[:n]. Returns the largest and the first block that has it."""
    where = 0
    for b in range(-(-n // BLOCK)):
        maxima[b] = largest(values[b * BLOCK : min(n, (b + 1) * BLOCK)])
        if maxima[b] > maxima[where]:
            where = b
    return maxima[where], where


@_njit
def weigh(chunk, top, inverse, weights):
    for i in range(len(chunk)):
        weights[i] = weight((chunk[i] - top) * inverse)


@_reorder
def _sum(weights):
    total = 0.0
    for i in range(len(weights)):
        total += np.float64(weights[i])
    return total


@_njit
def total_weight(values, n, maxima, top, inverse, block):
    """The sum of the weights of values[:n], float64."""
    total = 0.0
    for b in range(-(-n // BLOCK)):
        if (maxima[b] - top) * inverse > NO_WEIGHT:
            chunk = values[b * BLOCK : min(n, (b + 1) * BLOCK)]
            weigh(chunk, top, inverse, block)
            total += _sum(block[: len(chunk)])
    return total


@_njit
def _gather(values, listed, ids, n, maxima, threshold, out_ids, out_values):
    """The finite values[:n] at or above ``threshold``, and their ids, in order. Returns their number."""
    m = 0
    for b in range(-(-n // BLOCK)):
        if maxima[b] < threshold:
            continue
        for i in range(b * BLOCK, min(n, (b + 1) * BLOCK)):
            if values[i] >= threshold:
                out_ids[m] = ids[i] if listed else np.int32(i)
                out_values[m] = values[i]
                m += 1
    return m


@_njit
def _keep_prefix(ids, values, weights, m, target, by_weight, bins):
    """Keep, in place and in order, the shortest prefix of the ranking that reaches ``target`` ids or weight.

    Ranking: value descending, id ascending. At least one is kept, all if the target is out of reach. Returns how many.

    A radix select: the bit pattern of the last value kept is found 11, 11 and 10 bits at a time.
    """
    prefix = np.uint32(0)
    above = 0.0  # what ranks before everything with this prefix
    for step in range(3):
        shift = np.uint32(21) if step == 0 else np.uint32(10) if step == 1 else np.uint32(0)
        width = np.uint32(11) if step < 2 else np.uint32(10)
        seen = np.uint32(32) if step == 0 else shift + width
        for k in range(BINS):
            bins[k] = 0.0
        for j in range(m):
            key = np.uint32(rank(values[j])) ^ np.uint32(0x80000000)
            if step == 0 or (key >> seen) == (prefix >> seen):
                digit = (key >> shift) & ((np.uint32(1) << width) - np.uint32(1))
                bins[digit] += np.float64(weights[j]) if by_weight else 1.0
        found = -1
        for k in range(BINS - 1, -1, -1):
            if bins[k] > 0.0:
                if above + bins[k] >= target:
                    found = k
                    break
                above += bins[k]
        if found < 0:
            return m
        prefix = np.uint32(prefix | (np.uint32(found) << shift))
    kept = 0
    for j in range(m):
        key = np.uint32(rank(values[j])) ^ np.uint32(0x80000000)
        last = key == prefix and (above < target or kept == 0)
        if last:
            above += np.float64(weights[j]) if by_weight else 1.0
        ids[kept], values[kept], weights[kept] = ids[j], values[j], weights[j]
        kept += np.int64(key > prefix or last)
    return kept


@_njit
def cut(
    values, listed, ids, n, maxima, top, temperature, top_p, top_k, min_p, out_ids, out_values, weights, block, bins
):
    """The ids that top-k, top-p and min-p leave, with their values. Returns their number."""
    inverse = np.float32(1.0) / temperature
    blocks = -(-n // BLOCK)
    by_count = 0 < top_k < n
    by_weight = top_p < 1.0
    total = left_out = 0.0
    threshold = -LARGEST
    if by_count:
        if top_k <= blocks:  # at least top_k values reach the top_k-th largest block maximum
            for b in range(blocks):
                out_values[b] = maxima[b]
            blocks_kept = _keep_prefix(out_ids, out_values, weights, blocks, np.float64(top_k), False, bins)
            threshold = out_values[0]
            for b in range(blocks_kept):
                threshold = min(threshold, out_values[b])
    elif by_weight:
        total = total_weight(values, n, maxima, top, inverse, block)
        left_out = total * (1.0 - np.float64(top_p))
        threshold = np.float32(top + temperature * min(-1.0, log(left_out / 1024.0)))
    else:
        threshold = np.float32(top + temperature * (log(max(np.float64(min_p), 1e-30)) - 1e-2))
    threshold = max(-LARGEST, threshold)

    m = 0
    for attempt in range(2):
        m = _gather(values, listed, ids, n, maxima, threshold, out_ids, out_values)
        weigh(out_values[:m], top, inverse, weights)
        gathered = _sum(weights[:m])
        if by_count:
            m = _keep_prefix(out_ids, out_values, weights, m, np.float64(top_k), False, bins)
            break
        if not by_weight or attempt == 1 or gathered >= np.float64(top_p) * total:
            break
        # All n ids below left_out / n together weigh less than what top-p leaves out.
        threshold = max(-LARGEST, np.float32(top + temperature * (min(-1.0, log(left_out / n)) - 1e-2)))
    if by_weight:
        if by_count:
            total = _sum(weights[:m])
        m = _keep_prefix(out_ids, out_values, weights, m, np.float64(top_p) * total, True, bins)
    kept = 0
    for j in range(m):
        if weights[j] >= min_p:
            out_ids[kept], out_values[kept] = out_ids[j], out_values[j]
            kept += 1
    return kept
