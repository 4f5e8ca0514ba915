"""From a plan to the arrays of one forward pass.

The batch is ragged: decoding sequences first, one token each, then chunks of prompts.

    sequence        A  B  C  P  P  P  P  Q  Q          query_start  0 1 2 3 7 9
    position        7 41  9  0  1  2  3 16 17          P's prompt goes on after this chunk,
    wants logits    ×  ×  ×              ×             Q's ends with it
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.base import StepBatch
from engine.kv_memory import KvMemory
from engine.sequence import Sequence


@dataclass(slots=True)
class Step:
    """One step's work."""

    batch: StepBatch
    sequences: list[Sequence]
    """Rows of the batch."""
    lengths: list[int]
    """New tokens of each."""
    sampled: list[Sequence]
    """Those whose logits are wanted, in the order of the logits' rows."""
    admitted: list[Sequence] = field(default_factory=list)
    """Those that left the queue for this step."""
    copies: list[tuple[int, int]] = field(default_factory=list)
    """Blocks (source, target) to copy before the forward pass, in order."""
    stores: list[tuple[int, int]] = field(default_factory=list)
    """What is to be copied out to the host's memory before anything else: (block, place)."""
    loads: list[tuple[int, int]] = field(default_factory=list)
    """What is to be copied back after that: (place, block)."""


class StepBuffers:
    """The arrays of a step, made once. One set is enough while a forward pass ends before the next step is planned."""

    def __init__(self, memory: KvMemory, context_length: int, max_sequences: int, max_batch_tokens: int) -> None:
        self.block_size = memory.pool.block_size
        self._all_tables = memory.tables
        self._batch_tables: NDArray[np.int32] = np.zeros(memory.tables.size, np.int32)
        self._tokens: NDArray[np.int32] = np.zeros(max_batch_tokens, np.int32)
        self._positions: NDArray[np.int32] = np.zeros(max_batch_tokens, np.int32)
        self._slots: NDArray[np.int32] = np.zeros(memory.groups * max_batch_tokens, np.int32)
        self._query_start: NDArray[np.int32] = np.zeros(max_sequences + 1, np.int32)
        self._context_lens: NDArray[np.int32] = np.zeros(max_sequences, np.int32)
        self._order: NDArray[np.int32] = np.arange(max(context_length, max_sequences) + 1, dtype=np.int32)

    def fill(self, decoding: list[Sequence], chunks: list[tuple[Sequence, int]]) -> Step:
        """The step that computes one token of each sequence in ``decoding`` and ``length`` of each in ``chunks``."""
        sequences = decoding + [sequence for sequence, _ in chunks]
        lengths = [1] * len(decoding) + [length for _, length in chunks]
        n, total = len(sequences), sum(lengths)
        groups = len(self._all_tables)
        tokens, positions = self._tokens[:total], self._positions[:total]
        slots = self._slots[: groups * total].reshape(groups, total)
        query_start, context_lens = self._query_start[: n + 1], self._context_lens[:n]

        tokens[: len(decoding)] = [s.tokens[-1] for s in decoding]
        positions[: len(decoding)] = [s.computed for s in decoding]
        at = len(decoding)
        for sequence, length in chunks:
            start = sequence.computed
            tokens[at : at + length] = sequence.tokens[start : start + length]
            positions[at : at + length] = self._order[start : start + length]
            at += length
        query_start[: len(decoding) + 1] = self._order[: len(decoding) + 1]
        if chunks:
            np.cumsum(lengths, out=query_start[1:])
        logit_rows = query_start[1:] - 1
        np.add(positions[logit_rows], 1, out=context_lens)

        width = max(len(s.blocks) for s in sequences)
        tables = self._batch_tables[: groups * n * width].reshape(groups, n, width)
        np.take(self._all_tables[:, :, :width], [s.slot for s in sequences], axis=1, out=tables, mode="clip")
        owner = np.repeat(self._order[:n], lengths) if chunks else self._order[:n]
        blocks, offsets = np.divmod(positions, np.int32(self.block_size))
        np.add(tables[:, owner, blocks] * np.int32(self.block_size), offsets, out=slots)

        ends = [s.computed + length == len(s.tokens) for s, length in chunks]
        if not all(ends):
            logit_rows = logit_rows[[True] * len(decoding) + ends]
        sampled = decoding + [s for (s, _), end in zip(chunks, ends, strict=True) if end]
        batch = StepBatch(tokens, positions, slots, query_start, context_lens, tables, logit_rows)
        return Step(batch, sequences, lengths, sampled)
