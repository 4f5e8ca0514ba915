"""Masked sampling on the CPU (`kernels/sampling.py` says what it computes): one nogil call a batch, one thread.

Reading a row of V logits from memory costs about as much as adding them up, so all work is arranged around few passes
over blocks of 256 ids that stay in cache:

    copy      clean and mask into `values`; penalties and bias scatter into it; block maxima
    greedy    the block with the largest maximum
    draw      a bound of each id's noisy value without logarithms, vectorised; only ids whose bound exceeds the best
              exact value so far get an exact one, and blocks that cannot win get no noise at all
    cuts      top-k, top-p and min-p (kernels/cpu/cuts.py), then a draw from what they keep

A sparse row gathers its ids' logits and never reads the others.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from fsm.rows import ALL, DENSE, FORCED, RowPool
from kernels.cpu.cuts import BINS, BLOCK, INFINITY, clean, cut, find_maxima, largest, total_weight
from kernels.cpu.noise import NOISE_LIMIT, gumbel, gumbel_bound, log, philox, philox_block
from kernels.sampling import GREEDY_BELOW, MAX_VOCABULARY, SamplingBatch, SamplingResult

SLACK = np.float32(1e-3)
"""Covers the rounding of float32 bounds against float64 values, for values that can win (within 30 of the best)."""

_njit = numba.njit(nogil=True, cache=True)


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
        self._noise = np.empty(BLOCK, np.uint32)
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
                f"logits {logits.shape} and masks of {pool.vocab_size} ids are not {rows} rows of {self.vocab_size} ids"
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
            self._noise,
            self._block,
            self._bins,
        )


@_njit
def _copy(row, values):
    for i in range(len(row)):
        values[i] = clean(row[i])


@_njit
def _copy_masked(row, bits, values):
    n = len(row)
    whole = n // 32
    for w in range(whole):
        word = bits[w]
        for j in range(32):
            allowed = (word >> np.uint32(j)) & np.uint32(1)
            values[32 * w + j] = clean(row[32 * w + j]) if allowed != 0 else -INFINITY
    for i in range(32 * whole, n):
        allowed = (bits[whole] >> np.uint32(i - 32 * whole)) & np.uint32(1)
        values[i] = clean(row[i]) if allowed != 0 else -INFINITY


@_njit
def _adjust(values, presence, frequency, repetition, ids, counts, bias_ids, bias):
    """Penalties, then bias, where the history and the bias point. What is not allowed is -inf and stays so."""
    for j in range(len(ids)):
        x = values[ids[j]]
        x = x / repetition if x > 0 else x * repetition
        if counts[j] > 0:
            x = (x - frequency * np.float32(counts[j])) - presence
        values[ids[j]] = clean(np.float32(x))
    for j in range(len(bias_ids)):
        values[bias_ids[j]] = clean(np.float32(values[bias_ids[j]] + bias[j]))


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
def _noisy(x, top, temperature, lane):
    """The exact value that the draw maximises, float64."""
    return (np.float64(x) - np.float64(top)) / np.float64(temperature) + gumbel(lane)


@_njit
def _bound(chunk, top, inverse, noise, bounds):
    """bounds[i] is at least the noisy value of chunk[i]. Returns the largest."""
    for i in range(len(chunk)):
        bounds[i] = (chunk[i] - top) * inverse + gumbel_bound(noise[i])
    return largest(bounds[: len(chunk)])


@_njit
def _draw_all(values, n, maxima, where, temperature, position, choice, k0, k1, noise, bounds):
    """The id below n with the largest noisy value. Starts in the block of the maximum: most others then cannot win."""
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
        philox_block(noise, np.uint32(start >> 2), position, choice, k0, k1)
        if _bound(values[start:stop], top, inverse, noise, bounds) + SLACK < best:
            continue
        for i in range(start, stop):
            if bounds[i - start] + SLACK >= best and values[i] > -INFINITY:
                value = _noisy(values[i], top, temperature, noise[i - start])
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
            value = _noisy(values[j], top, temperature, lane)
            if value > best:
                best = value
                token = ids[j]
    return token


@_njit
def _report(row, values, maxima, n_top, top_ids, top_logprobs, block):
    """Log-probabilities of a row's own distribution: writes the ``n_top`` first. Returns log Σ exp of the logits."""
    n = len(row)
    _copy(row, values)
    top, _ = find_maxima(values, n, maxima)
    normaliser = -np.inf
    if top > -INFINITY:
        normaliser = np.float64(top) + log(total_weight(values, n, maxima, top, np.float32(1.0), block))
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
    " float32[::1], float32[::1], float32[::1], int32[::1], int32[::1], int32[::1],"
    " int32[::1], int32[::1], float32[::1], int32[::1],"
    " int32[::1], float32[::1], int32[:,::1], float32[:,::1],"
    " float32[::1], float32[::1], int32[::1], float32[::1], float32[::1], uint32[::1], float32[::1], float64[::1])",
    nogil=True,
    cache=True,
)
def _sample(
    logits, mask_rows, pool_kind, pool_start, pool_count, pool_ids, pool_bits,
    temperatures, top_ps, top_ks, min_ps, seeds, choices, positions,
    presences, frequencies, repetitions, history_start, history_ids, history_counts, bias_start, bias_ids, biases,
    n_logprobs, out_token, out_logprob, out_top_ids, out_top_logprobs,
    values, maxima, kept_ids, kept_values, weights, noise, block, bins,
):  # fmt: skip
    for r in range(len(mask_rows)):
        row = logits[r]
        mask = mask_rows[r]
        kind, start, count = pool_kind[mask], pool_start[mask], pool_count[mask]
        normaliser = -np.inf
        if n_logprobs[r] >= 0:
            normaliser = _report(row, values, maxima, n_logprobs[r], out_top_ids[r], out_top_logprobs[r], block)

        token = np.int32(-1)
        if kind == FORCED:
            token = pool_ids[start]
        else:
            listed = kind != ALL and kind != DENSE
            ids = pool_ids[start : start + count] if listed else pool_ids[:0]
            n = count if listed else len(row)
            if listed:
                for j in range(n):
                    values[ids[j]] = clean(row[ids[j]])
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
                top, where = find_maxima(values, n, maxima)
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
                m = cut(
                    values, listed, ids, n, maxima, top, temperature, top_ps[r], top_ks[r], min_ps[r],
                    kept_ids, kept_values, weights, block, bins,
                )  # fmt: skip
                if listed or 32 * m < n:  # where the noise of whole blocks is cheaper than that of single ids
                    token = _draw_listed(kept_values, kept_ids, m, top, temperature, position, choice, k0, k1)
                else:
                    for i in range(n):
                        values[i] = -INFINITY
                    for j in range(m):
                        values[kept_ids[j]] = kept_values[j]
                    top, where = find_maxima(values, n, maxima)
                    token = _draw_all(values, n, maxima, where, temperature, position, choice, k0, k1, noise, block)
            elif listed:
                token = _draw_listed(values, ids, n, top, temperature, position, choice, k0, k1)
            else:
                token = _draw_all(values, n, maxima, where, temperature, position, choice, k0, k1, noise, block)
        out_token[r] = token
        if n_logprobs[r] >= 0:
            out_logprob[r] = _logprob(clean(row[token]), normaliser) if token >= 0 else -INFINITY
