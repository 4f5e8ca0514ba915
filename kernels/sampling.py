"""Masked sampling: what every sampling kernel takes and returns, and the one definition of its result.

`kernels/sampling_reference.py` states it in torch, `kernels/cpu/sampling.py` computes it with numba; both give the same
token for the same logits, bit for bit. For each row of logits x[V]:

    1. own distribution    log-probabilities reported to the caller: log softmax of x, before everything below
    2. penalties           of every id in the row's history (prompt and answer): x / repetition if x > 0, else
                           x * repetition; then, if it occurs count > 0 times in the answer, x -= frequency * count and
                           x -= presence
    3. bias                x += bias
    4. mask                x = -inf outside the row's allowed ids
    5. greedy              temperature < 1e-5: the largest x, the lowest id on ties; done
    6. temperature         w = exp((x - max x) / temperature), a multiple of 2^-34
    7. top-k               the k first ids in the order (x descending, id ascending)
    8. top-p               of those, the shortest prefix in the same order whose weight is at least top_p of theirs
    9. min-p               of those, the ids with w >= min_p
    10. draw               the largest (x - max x) / temperature + Gumbel noise of (seed, choice, position, id)

NaN counts as -inf and +inf as the largest float. Where no allowed id has a finite x, the lowest allowed id is taken: a
broken model may answer nonsense, never a forbidden token. Steps 2 and 3 add finite numbers and so cannot undo step 4.

Steps 2 and 3 are OpenAI's and vLLM's, except that vLLM scales the bias by the repetition penalty too. Steps 6 to 9 have
the order of transformers; vLLM applies min-p before top-k, which makes top-p renormalise over what min-p left and so
lets one cut tighten the other. Here each cut says what it says of the distribution that the caller set by temperature.
vLLM's top-k keeps all ties at the k-th place; here it keeps k ids.

Weights are multiples of 2^-34 of the largest, so that sums over up to 2^19 ids are exact in float64 in any order of
summation: where top-p cuts depends neither on the device nor on the width of its vectors. What the rounding can hide
from top-p is a tail of ids that are each less than 2^-35 as likely as the first; no draw is rounded.

The noise is -log(-log(1 - u)) of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
u = (word + 1/2) / 2^32, word id % 4 of counter (id // 4, position, choice, 0) under the key seed. It depends on no
other row, so neither does the token. The largest noisy logit is a sample of the normalised w (Gumbel-max).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy (vLLM's bound): dividing by them would overflow."""

MAX_VOCABULARY = 1 << 19
"""Up to here sums of weights are exact."""


@dataclass(slots=True)
class SamplingBatch:
    """How to draw one token for each of R rows. All arrays are C-contiguous and are only read.

    Neutral values: temperature 1, top_p 1, top_k 0, min_p 0, presence 0, frequency 0, repetition 1. Ranges are the
    caller's duty; top_p >= 1 and top_k <= 0 are off, and top_p <= 0 keeps one id.
    """

    mask_rows: NDArray[np.int32]
    """[R] rows of the `RowPool`."""
    temperature: NDArray[np.float32]
    top_p: NDArray[np.float32]
    top_k: NDArray[np.int32]
    min_p: NDArray[np.float32]
    seed: NDArray[np.uint64]
    choice: NDArray[np.int32]
    """[R] which of a request's n answers the row belongs to."""
    position: NDArray[np.int32]
    """[R] index of the drawn token in its answer."""
    presence: NDArray[np.float32]
    frequency: NDArray[np.float32]
    repetition: NDArray[np.float32]
    history_start: NDArray[np.int32]
    """[R + 1] offsets into history_ids; rows without penalties may leave their history empty."""
    history_ids: NDArray[np.int32]
    """Ids in the row's prompt or answer, each once, in any order."""
    history_counts: NDArray[np.int32]
    """How often each occurs in the answer; 0 = in the prompt only."""
    bias_start: NDArray[np.int32]
    """[R + 1] offsets into bias_ids."""
    bias_ids: NDArray[np.int32]
    bias: NDArray[np.float32]
    """Finite."""
    n_logprobs: NDArray[np.int32]
    """[R] -1: none; k: the drawn token's log-probability and the k most likely ids, k <= the result's K."""


@dataclass(slots=True)
class SamplingResult:
    """Where a kernel writes. Log-probabilities are the model's own (natural logarithm), and -inf where a logit is."""

    token: NDArray[np.int32]
    """[R]"""
    logprob: NDArray[np.float32]
    """[R] of the drawn token; unchanged where n_logprobs is -1."""
    top_ids: NDArray[np.int32]
    """[R, K] most likely first, the lowest id first on ties; the first n_logprobs of each row are written."""
    top_logprobs: NDArray[np.float32]
    """[R, K]"""

    @classmethod
    def empty(cls, rows: int, top: int) -> SamplingResult:
        """Room for ``rows`` tokens and ``top`` most likely ids each."""
        return cls(
            np.zeros(rows, np.int32),
            np.zeros(rows, np.float32),
            np.zeros((rows, top), np.int32),
            np.zeros((rows, top), np.float32),
        )
