"""Masked sampling on the CPU (`kernels/sampling.py` says what it computes): one nogil call a batch, one thread.

Reading a row of V logits from memory costs about as much as adding them up, so all work is arranged around few passes
over blocks of 256 ids that stay in cache:

    copy      clean and mask into `values`; penalties and bias scatter into it; block maxima
    greedy    the block with the largest maximum
    draw      a bound of each id's noisy value without logarithms, vectorised; only ids whose bound exceeds the best
              exact value so far get an exact one, and blocks that cannot win get no noise at all
    cuts      top-k, top-p and min-p keep a prefix of the ranking. A threshold gathers candidates that are likely to hold
              it; whether they do is known exactly (their number or weight suffices), and if not, all ids are gathered. No
              sort: a radix select over the bit patterns finds the last id kept

A sparse row gathers its ids' logits and never reads the others.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from fsm.rows import ALL, DENSE, FORCED, RowPool
from kernels.cpu.noise import LN2, NOISE_LIMIT, bits_float, float_bits, gumbel, gumbel_bound, log, philox, weight
from kernels.sampling import GREEDY_BELOW, MAX_VOCABULARY, SamplingBatch, SamplingResult

BLOCK = 256
BINS = 2048
SLACK = np.float32(1e-3)
"""Covers the rounding of float32 bounds against float64 values, for values that can win (within 30 of the best)."""

LARGEST = np.float32(np.finfo(np.float32).max)
INFINITY = np.float32(np.inf)
INFINITY_BITS = np.int32(0x7F800000)
MAGNITUDE = np.int32(0x7FFFFFFF)

_njit = numba.njit(nogil=True, cache=True)
_reorder = numba.njit(nogil=True, cache=True, fastmath={"reassoc"})  # only for sums that are exact in any order


class CpuSampler:
    """Draws tokens for batches over one vocabulary. Owns scratch memory: one call at a time."""

    def __init__(self, vocab_size: int) -> None:
        if not 0 < vocab_size <= MAX_VOCABULARY:
            raise ValueError(f"vocabulary size {vocab_size} is not in 1..{MAX_VOCABULARY}")
        self.vocab_size = vocab_size
        self._values = np.empty(vocab_size, np.float32)
        self._maxima = np.empty(-(-vocab_size // BLOCK), np.float32)
        self._ids = np.empty(vocab_size, np.int32)
        self._kept = np.empty(vocab_size, np.float32)
        self._weights = np.empty(vocab_size, np.float32)
        self._block = np.empty(BLOCK, np.float32)
        self._bins = np.empty(BINS, np.float64)

    def sample(self, logits: NDArray[np.float32], pool: RowPool, batch: SamplingBatch, out: SamplingResult) -> None:
        """Draw one token for each of the R rows of ``logits`` [R, V] (C-contiguous, unchanged) into ``out``.

        A row whose mask allows nothing gets token -1. ValueError where shapes disagree; ids of histories and
        biases are trusted to be below V.
        """
        rows = len(batch.mask_rows)
        if logits.shape != (rows, self.vocab_size) or pool.vocab_size != self.vocab_size:
            raise ValueError(
                f"logits {logits.shape} and masks of {pool.vocab_size} ids do not fit {rows} rows of {self.vocab_size} ids"
            )
        if len(out.token) < rows or int(batch.n_logprobs.max(initial=-1)) > out.top_ids.shape[1]:
            raise ValueError(f"the result has room for {out.top_ids.shape}, less than the batch asks for")
        _sample(
            logits,
            batch.mask_rows,
            pool.kind,
            pool.start,
            pool.count,
            pool.ids,
            pool.bits,
            batch.temperature,
            batch.top_p,
            batch.top_k,
            batch.min_p,
            batch.seed,
            batch.choice,
            batch.position,
            batch.presence,
            batch.frequency,
            batch.repetition,
            batch.history_start,
            batch.history_ids,
            batch.history_counts,
            batch.bias_start,
            batch.bias_ids,
            batch.bias,
            batch.n_logprobs,
            out.token,
            out.logprob,
            out.top_ids,
            out.top_logprobs,
            self._values,
            self._maxima,
            self._ids,
            self._kept,
            self._weights,
            self._block,
            self._bins,
        )


@_njit
def _clean(x):
    """NaN as -inf, +inf as the largest float, -0 as 0."""
    x = x + np.float32(0.0)
    finite = x if x < LARGEST else LARGEST
    return -INFINITY if (float_bits(x) & MAGNITUDE) > INFINITY_BITS else finite


@_njit
def _rank(x):
    """An int32 in the order of the float32 x. Integer maxima vectorise where those of floats, because of NaN, do not."""
    bits = float_bits(x)
    return bits ^ ((bits >> np.int32(31)) & MAGNITUDE)


@_njit
def _largest(values, start, stop):
    """The maximum of values[start:stop]; -inf if there are none."""
    best = _rank(-INFINITY)
    for i in range(start, stop):
        best = max(best, _rank(values[i]))
    return bits_float(best ^ ((best >> np.int32(31)) & MAGNITUDE))


@_njit
def _find_maxima(values, n, maxima):
    """The maximum of each block of values[:n]. Returns the largest and the first block that has it."""
    where = 0
    for b in range(0, -(-n // BLOCK)):
        maxima[b] = _largest(values, b * BLOCK, min(n, (b + 1) * BLOCK))
        if maxima[b] > maxima[where]:
            where = b
    return maxima[where], where


@_njit
def _copy(row, values):
    for i in range(len(row)):
        values[i] = _clean(row[i])


@_njit
def _copy_masked(row, bits, values):
    n = len(row)
    whole = n // 32
    for w in range(whole):
        word = bits[w]
        for j in range(32):
            allowed = (word >> np.uint32(j)) & np.uint32(1)
            values[32 * w + j] = _clean(row[32 * w + j]) if allowed != 0 else -INFINITY
    for i in range(32 * whole, n):
        allowed = (bits[whole] >> np.uint32(i - 32 * whole)) & np.uint32(1)
        values[i] = _clean(row[i]) if allowed != 0 else -INFINITY


@_njit
def _adjust(values, presence, frequency, repetition, ids, counts, bias_ids, bias):
    """Penalties, then bias, where the history and the bias point. What is not allowed is -inf and stays so."""
    for j in range(len(ids)):
        x = values[ids[j]]
        x = x / repetition if x > 0 else x * repetition
        if counts[j] > 0:
            x = (x - frequency * np.float32(counts[j])) - presence
        values[ids[j]] = _clean(np.float32(x))
    for j in range(len(bias_ids)):
        values[bias_ids[j]] = _clean(np.float32(values[bias_ids[j]] + bias[j]))


@_njit
def _lowest(kind, start, count, ids, bits):
    """The lowest allowed id of a row, or -1."""
    if kind == ALL:
        return np.int32(0)
    if kind == DENSE:
        for w in range(bits.shape[1]):
            if bits[start, w] != 0:
                for j in range(32):
                    if (bits[start, w] >> np.uint32(j)) & np.uint32(1) != 0:
                        return np.int32(32 * w + j)
        return np.int32(-1)
    return ids[start] if count > 0 else np.int32(-1)


@_njit
def _lane(token, position, choice, k0, k1):
    r0, r1, r2, r3 = philox(np.uint32(token >> 2), position, choice, k0, k1)
    which = token & 3
    return r0 if which == 0 else r1 if which == 1 else r2 if which == 2 else r3


@_njit
def _noisy(x, top, temperature, token, position, choice, k0, k1):
    """The exact value that the draw maximises, float64."""
    scaled = (np.float64(x) - np.float64(top)) / np.float64(temperature)
    return scaled + gumbel(_lane(token, position, choice, k0, k1))


@_njit
def _bound_block(values, start, stop, top, inverse, position, choice, k0, k1, bounds):
    """bounds[i] >= the noisy value of id start + i, for a block that starts at a multiple of 4."""
    for q in range((stop - start) // 4):
        i = start + 4 * q
        r0, r1, r2, r3 = philox(np.uint32(i >> 2), position, choice, k0, k1)
        bounds[4 * q] = (values[i] - top) * inverse + gumbel_bound(r0)
        bounds[4 * q + 1] = (values[i + 1] - top) * inverse + gumbel_bound(r1)
        bounds[4 * q + 2] = (values[i + 2] - top) * inverse + gumbel_bound(r2)
        bounds[4 * q + 3] = (values[i + 3] - top) * inverse + gumbel_bound(r3)
    for i in range(start + (stop - start) // 4 * 4, stop):
        bounds[i - start] = (values[i] - top) * inverse + gumbel_bound(_lane(i, position, choice, k0, k1))


@_njit
def _draw_all(values, n, maxima, where, temperature, position, choice, k0, k1, bounds):
    """The id below n with the largest noisy value. Starts in the block of the maximum, so that most others cannot win."""
    top = maxima[where]
    inverse = np.float32(1.0) / temperature
    best = -np.inf
    token = np.int32(-1)
    blocks = -(-n // BLOCK)
    for step in range(blocks + 1):
        b = where if step == 0 else step - 1
        if (step > 0 and b == where) or (maxima[b] - top) * inverse + NOISE_LIMIT + SLACK < best:
            continue
        start, stop = b * BLOCK, min(n, (b + 1) * BLOCK)
        _bound_block(values, start, stop, top, inverse, position, choice, k0, k1, bounds)
        if _largest(bounds, 0, stop - start) + SLACK < best:
            continue
        for i in range(start, stop):
            if bounds[i - start] + SLACK >= best and values[i] > -INFINITY:
                value = _noisy(values[i], top, temperature, i, position, choice, k0, k1)
                if value > best or (value == best and i < token):
                    best = value
                    token = np.int32(i)
    return token


@_njit
def _draw_listed(values, ids, n, top, temperature, position, choice, k0, k1):
    """ids[j], j < n, with the largest noisy value; ids ascend."""
    inverse = np.float32(1.0) / temperature
    best = -np.inf
    token = np.int32(-1)
    for j in range(n):
        scaled = (values[j] - top) * inverse
        if scaled + NOISE_LIMIT + SLACK < best or values[j] == -INFINITY:
            continue
        lane = _lane(ids[j], position, choice, k0, k1)
        if scaled + gumbel_bound(lane) + SLACK >= best:
            value = (np.float64(values[j]) - np.float64(top)) / np.float64(temperature) + gumbel(lane)
            if value > best:
                best = value
                token = ids[j]
    return token


@_reorder
def _mass(values, start, stop, top, inverse):
    """Sum of the weights of values[start:stop], float64."""
    total = 0.0
    for i in range(start, stop):
        total += np.float64(weight((values[i] - top) * inverse))
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
    """Keep, in place and in order, the shortest prefix of the ranking (value descending, id ascending) that reaches ``target``,
    which counts ids or adds weights. At least one is kept, all if the target is out of reach. Returns their number.

    A radix select: the bit pattern of the last value kept is found 11, 11 and 10 bits at a time.
    """
    prefix = np.uint32(0)
    above = 0.0  # what ranks before everything with this prefix
    for step in range(3):
        shift = np.uint32(21) if step == 0 else np.uint32(10) if step == 1 else np.uint32(0)
        width = np.uint32(11) if step < 2 else np.uint32(10)
        seen = np.uint32(32) if step == 0 else shift + width
        bins[:] = 0.0
        for j in range(m):
            key = np.uint32(_rank(values[j])) ^ np.uint32(0x80000000)
            if step == 0 or (key >> seen) == (prefix >> seen):
                bins[(key >> shift) & ((np.uint32(1) << width) - np.uint32(1))] += np.float64(weights[j]) if by_weight else 1.0
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
        key = np.uint32(_rank(values[j])) ^ np.uint32(0x80000000)
        last = key == prefix and (above < target or kept == 0)
        if last:
            above += np.float64(weights[j]) if by_weight else 1.0
        if key > prefix or last:
            ids[kept], values[kept], weights[kept] = ids[j], values[j], weights[j]
            kept += 1
    return kept


@_njit
def _cut(values, listed, ids, n, maxima, top, temperature, top_p, top_k, min_p, out_ids, out_values, weights, bins):
    """The ids that top-k, top-p and min-p leave, with their values. Returns their number."""
    inverse = np.float32(1.0) / temperature
    blocks = -(-n // BLOCK)
    by_count = 0 < top_k < n
    by_weight = top_p < 1.0
    total = 0.0
    threshold = -LARGEST
    if by_count:
        if top_k <= blocks:  # at least top_k values reach the top_k-th largest block maximum
            out_values[:blocks] = maxima[:blocks]
            blocks_kept = _keep_prefix(out_ids, out_values, weights, blocks, np.float64(top_k), False, bins)
            threshold = max(-LARGEST, -_largest(-out_values[:blocks_kept], 0, blocks_kept))
    elif by_weight:
        for b in range(blocks):
            if (maxima[b] - top) * inverse > np.float32(-25.0):  # below, weights are 0
                total += _mass(values, b * BLOCK, min(n, (b + 1) * BLOCK), top, inverse)
        threshold = max(-LARGEST, np.float32(top + temperature * min(-1.0, log(total * max(1e-9, 1.0 - top_p) / 1024.0))))
    else:
        threshold = max(-LARGEST, np.float32(top + temperature * (log(np.float64(max(min_p, np.float32(1e-30)))) - 1e-2)))

    m = 0
    while True:
        m = _gather(values, listed, ids, n, maxima, threshold, out_ids, out_values)
        gathered = 0.0
        for j in range(m):
            weights[j] = weight((out_values[j] - top) * inverse)
            gathered += np.float64(weights[j])
        if by_count:
            m = _keep_prefix(out_ids, out_values, weights, m, np.float64(top_k), False, bins)
            break
        if not by_weight or threshold == -LARGEST or gathered >= np.float64(top_p) * total:
            break
        threshold = -LARGEST
    if by_weight:
        if by_count:
            for j in range(m):
                total += np.float64(weights[j])
        m = _keep_prefix(out_ids, out_values, weights, m, np.float64(top_p) * total, True, bins)
    kept = 0
    for j in range(m):
        if weights[j] >= min_p:
            out_ids[kept], out_values[kept] = out_ids[j], out_values[j]
            kept += 1
    return kept


@_njit
def _report(row, values, maxima, n_top, top_ids, top_logprobs):
    """Log-probabilities of a row's own distribution: writes the ``n_top`` first, returns log Σ exp, -inf without finite logits."""
    n = len(row)
    _copy(row, values)
    top, _ = _find_maxima(values, n, maxima)
    normaliser = -np.inf
    if top > -INFINITY:
        total = 0.0
        for b in range(len(maxima)):
            if maxima[b] - top > np.float32(-25.0):
                total += _mass(values, b * BLOCK, min(n, (b + 1) * BLOCK), top, np.float32(1.0))
        normaliser = np.float64(top) + log(total)
    filled = 0
    for b in range(len(maxima) if n_top > 0 else 0):
        if filled == n_top and maxima[b] <= top_logprobs[n_top - 1]:
            continue
        for i in range(b * BLOCK, min(n, (b + 1) * BLOCK)):
            if filled < n_top or values[i] > top_logprobs[n_top - 1]:
                j = filled if filled < n_top else n_top - 1
                while j > 0 and top_logprobs[j - 1] < values[i]:
                    top_logprobs[j] = top_logprobs[j - 1]
                    top_ids[j] = top_ids[j - 1]
                    j -= 1
                top_logprobs[j] = values[i]
                top_ids[j] = i
                filled = min(n_top, filled + 1)
    for j in range(n_top):
        top_logprobs[j] = _logprob(top_logprobs[j], normaliser)
    return normaliser


@_njit
def _logprob(x, normaliser):
    return np.float32(np.float64(x) - normaliser) if x > -INFINITY else -INFINITY


@numba.njit(
    "void(float32[:,::1], int32[::1], uint8[::1], int32[::1], int32[::1], int32[::1], uint32[:,::1],"
    " float32[::1], float32[::1], int32[::1], float32[::1], uint64[::1], int32[::1], int32[::1],"
    " float32[::1], float32[::1], float32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int32[::1], float32[::1],"
    " int32[::1], int32[::1], float32[::1], int32[:,::1], float32[:,::1],"
    " float32[::1], float32[::1], int32[::1], float32[::1], float32[::1], float32[::1], float64[::1])",
    nogil=True,
    cache=True,
)
def _sample(
    logits, mask_rows, pool_kind, pool_start, pool_count, pool_ids, pool_bits,
    temperatures, top_ps, top_ks, min_ps, seeds, choices, positions,
    presences, frequencies, repetitions, history_start, history_ids, history_counts, bias_start, bias_ids, biases,
    n_logprobs, out_token, out_logprob, out_top_ids, out_top_logprobs,
    values, maxima, kept_ids, kept_values, weights, block, bins,
):  # fmt: skip
    for r in range(len(mask_rows)):
        row = logits[r]
        mask = mask_rows[r]
        kind, start, count = pool_kind[mask], pool_start[mask], pool_count[mask]
        normaliser = -np.inf
        if n_logprobs[r] >= 0:
            normaliser = _report(row, values, maxima, n_logprobs[r], out_top_ids[r], out_top_logprobs[r])

        token = np.int32(-1)
        if kind == FORCED:
            token = pool_ids[start]
        else:
            listed = kind != ALL and kind != DENSE
            ids = pool_ids[start : start + count] if listed else pool_ids[:0]
            n = count if listed else len(row)
            if listed:
                for j in range(n):
                    values[ids[j]] = _clean(row[ids[j]])
            elif kind == ALL:
                _copy(row, values)
            else:
                _copy_masked(row, pool_bits[start], values)
            h0, h1, b0, b1 = history_start[r], history_start[r + 1], bias_start[r], bias_start[r + 1]
            _adjust(
                values, presences[r], frequencies[r], repetitions[r], history_ids[h0:h1], history_counts[h0:h1],
                bias_ids[b0:b1], biases[b0:b1],
            )  # fmt: skip
            if listed:  # ids ascend, so values[j] is read before it is overwritten
                for j in range(n):
                    values[j] = values[ids[j]]

            top, where = -INFINITY, 0
            if n > 0:
                top, where = _find_maxima(values, n, maxima)
            k0, k1 = np.uint32(seeds[r]), np.uint32(seeds[r] >> np.uint64(32))
            position, choice = np.uint32(positions[r]), np.uint32(choices[r])
            temperature = temperatures[r]
            if top == -INFINITY:
                token = _lowest(kind, start, count, pool_ids, pool_bits)
            elif temperature < GREEDY_BELOW:
                i = where * BLOCK
                while values[i] != top:
                    i += 1
                token = ids[i] if listed else np.int32(i)
            elif top_ps[r] < 1.0 or 0 < top_ks[r] < n or min_ps[r] > 0.0:
                m = _cut(
                    values, listed, ids, n, maxima, top, temperature, top_ps[r], top_ks[r], min_ps[r],
                    kept_ids, kept_values, weights, bins,
                )  # fmt: skip
                token = _draw_listed(kept_values, kept_ids, m, top, temperature, position, choice, k0, k1)
            elif listed:
                token = _draw_listed(values, ids, n, top, temperature, position, choice, k0, k1)
            else:
                token = _draw_all(values, n, maxima, where, temperature, position, choice, k0, k1, block)
        out_token[r] = token
        if n_logprobs[r] >= 0:
            out_logprob[r] = _logprob(_clean(row[token]), normaliser) if token >= 0 else -INFINITY
