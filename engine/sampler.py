"""Sampler: from a step's sequences to the arrays of `kernels.sampling`, and back to tokens.

What a request asked for does not change while it runs, so it is written once, at the sequence's slot, and gathered by
slot when the batch is another than in the step before. What changes with every token is filled in each step: mask rows,
positions, and the histories of sequences with penalties.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.base import Logits, SamplingKernel
from engine.sequence import Sequence
from fsm.rows import RowPool
from kernels.cpu.sampling import CpuSampler
from kernels.sampling import SamplingBatch, SamplingResult
from schemas.engine import Sampling, TokenLogprobs

FLOATS = ("temperature", "top_p", "min_p", "presence", "frequency", "repetition")
INTS = ("top_k", "choice", "n_logprobs")


class Sampler:
    """Draws tokens for up to ``slots`` sequences a step, under the rows of ``pool``.

    ``kernel``: None where logits are on the CPU.
    """

    def __init__(self, pool: RowPool, slots: int, kernel: SamplingKernel | None = None) -> None:
        self.pool = pool
        self._kernel = CpuSampler(pool.vocab_size) if kernel is None else kernel
        self._on_host = kernel is None
        self._owners: list[Sequence | None] = [None] * slots
        self._floats: NDArray[np.float32] = np.zeros((len(FLOATS), slots), np.float32)
        self._ints: NDArray[np.int32] = np.zeros((len(INTS), slots), np.int32)
        self._seeds: NDArray[np.uint64] = np.zeros(slots, np.uint64)
        self._prompts: NDArray[np.int32] = np.zeros(slots, np.int32)
        self._biases: list[tuple[NDArray[np.int32], NDArray[np.float32]] | None] = [None] * slots
        self._histories: list[_History | None] = [None] * slots
        self._gathered: list[int] = []
        self._batch = self._gather([])
        self._result = SamplingResult.empty(slots, 0)

    def draw(self, logits: Logits, sequences: list[Sequence]) -> tuple[list[int], list[TokenLogprobs | None]]:
        """Tokens and, where asked for, log-probabilities. Row i of ``logits`` belongs to ``sequences[i]``."""
        if not sequences:
            return [], []
        slots = [sequence.slot for sequence in sequences]
        entered = [s for s, slot in zip(sequences, slots, strict=True) if self._owners[slot] is not s]
        for sequence in entered:
            self._enter(sequence)
        if entered or slots != self._gathered:
            self._batch = self._gather(slots)
            self._gathered = slots
        batch, result = self._batch, self._result
        batch.mask_rows[:] = [sequence.row for sequence in sequences]
        np.subtract([len(sequence.tokens) for sequence in sequences], self._prompts[slots], out=batch.position)
        self._fill_histories(batch, sequences)
        self._kernel.sample(logits, self.pool, batch, result)
        return result.token.tolist(), self._logprobs(batch, result)

    def score(self, logits: Logits, row: int, candidates: list[int]) -> list[float]:
        """Log-probabilities of some ids, from one row of ``logits``."""
        scores: NDArray[np.float64] = (logits[row] if self._on_host else logits[row].float().cpu().numpy()).astype(
            float
        )
        top = scores.max()
        return (scores[candidates] - top - np.log(np.exp(scores - top).sum())).tolist()

    def _enter(self, sequence: Sequence) -> None:
        """Write down what a sequence that is new at its slot asks for."""
        slot, group = sequence.slot, sequence.group
        asked = group.request.sampling
        self._owners[slot] = sequence
        self._floats[:, slot] = (
            asked.temperature,
            asked.top_p,
            asked.min_p,
            asked.presence_penalty,
            asked.frequency_penalty,
            asked.repetition_penalty,
        )
        logprobs = -1 if asked.logprobs is None else asked.logprobs
        self._ints[:, slot] = min(asked.top_k, self.pool.vocab_size), sequence.choice, logprobs
        self._seeds[slot] = group.seed
        self._prompts[slot] = len(group.request.prompt)
        self._biases[slot] = _bias(asked)
        penalised = (asked.presence_penalty, asked.frequency_penalty, asked.repetition_penalty) != (0.0, 0.0, 1.0)
        self._histories[slot] = _History(group.request.prompt) if penalised else None

    def _gather(self, slots: list[int]) -> SamplingBatch:
        """The arrays of a batch of these slots; they last until another batch is drawn from."""
        n = len(slots)
        temperature, top_p, min_p, presence, frequency, repetition = self._floats.take(slots, axis=1)
        top_k, choice, n_logprobs = self._ints.take(slots, axis=1)
        biases = [self._biases[slot] or NO_BIAS for slot in slots]
        bias_start = np.zeros(n + 1, np.int32)
        np.cumsum([len(ids) for ids, _ in biases], out=bias_start[1:])
        self._result = SamplingResult.empty(n, max(0, int(n_logprobs.max(initial=0))))
        return SamplingBatch(
            mask_rows=np.zeros(n, np.int32),
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            seed=self._seeds[slots],
            choice=choice,
            position=np.zeros(n, np.int32),
            presence=presence,
            frequency=frequency,
            repetition=repetition,
            history_start=np.zeros(n + 1, np.int32),
            history_ids=NO_BIAS[0],
            history_counts=NO_BIAS[0],
            bias_start=bias_start,
            bias_ids=np.concatenate([NO_BIAS[0], *(ids for ids, _ in biases)]),
            bias=np.concatenate([NO_BIAS[1], *(values for _, values in biases)]),
            n_logprobs=n_logprobs,
        )

    def _fill_histories(self, batch: SamplingBatch, sequences: list[Sequence]) -> None:
        histories = [self._histories[sequence.slot] for sequence in sequences]
        if not any(histories):
            return
        for history, sequence in zip(histories, sequences, strict=True):
            if history is not None:
                history.catch_up(sequence.tokens)
        np.cumsum([0 if history is None else history.n for history in histories], out=batch.history_start[1:])
        batch.history_ids = np.concatenate([history.ids[: history.n] for history in histories if history is not None])
        batch.history_counts = np.concatenate(
            [history.counts[: history.n] for history in histories if history is not None]
        )

    def _logprobs(self, batch: SamplingBatch, result: SamplingResult) -> list[TokenLogprobs | None]:
        logprobs: list[TokenLogprobs | None] = [None] * len(result.token)
        for i in np.flatnonzero(batch.n_logprobs >= 0).tolist():
            k = batch.n_logprobs[i]
            logprobs[i] = TokenLogprobs(
                float(result.logprob[i]), result.top_ids[i, :k].tolist(), result.top_logprobs[i, :k].tolist()
            )
        return logprobs


NO_BIAS: tuple[NDArray[np.int32], NDArray[np.float32]] = np.zeros(0, np.int32), np.zeros(0, np.float32)


def _bias(asked: Sampling) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
    if not asked.logit_bias:
        return None
    return np.array(list(asked.logit_bias), np.int32), np.array(list(asked.logit_bias.values()), np.float32)


class _History:
    """The distinct ids of a prompt and its answer, with their occurrences in the answer, for the penalties."""

    def __init__(self, prompt: list[int]) -> None:
        self._seen = len(prompt)
        self._places = {token: place for place, token in enumerate(dict.fromkeys(prompt))}
        self.n = len(self._places)
        self.ids: NDArray[np.int32] = np.zeros(2 * self.n, np.int32)
        self.counts: NDArray[np.int32] = np.zeros(2 * self.n, np.int32)
        self.ids[: self.n] = list(self._places)

    def catch_up(self, tokens: list[int]) -> None:
        """Count what ``tokens`` has more than at the last call."""
        for token in tokens[self._seen :]:
            place = self._places.setdefault(token, self.n)
            if place == self.n:
                if self.n == len(self.ids):
                    self.ids, self.counts = np.resize(self.ids, 2 * self.n), np.resize(self.counts, 2 * self.n)
                self.ids[place], self.counts[place] = token, 0
                self.n += 1
            self.counts[place] += 1
        self._seen = len(tokens)
