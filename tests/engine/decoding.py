"""What the decoder tests share: sequences in scattered KV blocks, fed to a runner in chunks, and real prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.base import Runner, StepBatch
from engine.model.files import ModelFiles, open_model
from engine.model.tokenizer import Tokenizer

MODEL = Path.home() / ".cache/sluice/models/SmolLM2-135M-Instruct.Q4_1.gguf"
needs_model = pytest.mark.skipif(not MODEL.exists(), reason=f"the default model is not at {MODEL} (`sluice pull`)")

PROMPTS = Path(__file__).parent / "data" / "prompts"
LONGEST = 1500


@dataclass
class Cursor:
    """A sequence in the cache: ``length`` tokens in ``blocks``, of each of which a runner has one a group of layers."""

    blocks: list[int] = field(default_factory=list)
    length: int = 0


class Feeder:
    """Hands out a runner's blocks in a seeded random order, as a pool does after some time, and builds its batches."""

    def __init__(self, runner: Runner, seed: int = 0) -> None:
        self.runner = runner
        self.random = random.Random(seed)
        self.groups = len(runner.windows)
        self.free = list(range(runner.num_blocks // self.groups))
        self.random.shuffle(self.free)

    def release(self, cursor: Cursor) -> None:
        self.free += cursor.blocks
        self.random.shuffle(self.free)

    def fork(self, cursor: Cursor) -> Cursor:
        """A second sequence over the same tokens: full blocks are shared, the last one is copied if it is not full."""
        blocks = list(cursor.blocks)
        if cursor.length % self.runner.block_size:
            blocks[-1] = self.free.pop()
            for group in range(self.groups):
                self.runner.copy_block(cursor.blocks[-1] * self.groups + group, blocks[-1] * self.groups + group)
        return Cursor(blocks, cursor.length)

    def step(self, chunks: Sequence[tuple[Cursor, Sequence[int]]]) -> list[NDArray[np.float32]]:
        """One forward pass; the logits [new tokens, vocab] of every sequence."""
        batch = self.batch(chunks)
        logits = self.runner.forward(batch)
        assert logits.dtype == np.float32 and logits.shape == (len(batch.tokens), self.runner.vocab_size)
        return np.split(logits.copy(), batch.query_start[1:-1])

    def batch(self, chunks: Sequence[tuple[Cursor, Sequence[int]]]) -> StepBatch:
        """The pass that appends each chunk to its sequence, with logits of all its tokens."""
        size = self.runner.block_size
        for cursor, tokens in chunks:
            while len(cursor.blocks) * size < cursor.length + len(tokens):
                cursor.blocks.append(self.free.pop())
        widest = max(len(cursor.blocks) for cursor, _ in chunks)
        # Entries past a sequence's length are undefined by contract, so they are made to hurt.
        tables = np.full((len(chunks), widest), 2**30, np.int32)
        positions: list[int] = []
        slots: list[int] = []
        for row, (cursor, tokens) in enumerate(chunks):
            tables[row, : len(cursor.blocks)] = cursor.blocks
            new = range(cursor.length, cursor.length + len(tokens))
            positions += new
            slots += (cursor.blocks[p // size] * size + p % size for p in new)
            cursor.length += len(tokens)
        starts = np.cumsum([0, *(len(tokens) for _, tokens in chunks)], dtype=np.int32)
        each = np.arange(self.groups, dtype=np.int32)
        blocks, offsets = np.divmod(np.array(slots, np.int32), np.int32(size))
        return StepBatch(
            tokens=np.array([token for _, tokens in chunks for token in tokens], np.int32),
            positions=np.array(positions, np.int32),
            slots=(blocks * self.groups + each[:, None]) * np.int32(size) + offsets,
            query_start=starts,
            context_lens=np.array([cursor.length for cursor, _ in chunks], np.int32),
            block_tables=tables * self.groups + each[:, None, None],
            logit_rows=np.arange(starts[-1], dtype=np.int32),
        )

    def run(self, prompts: Sequence[Sequence[int]], chunk: Sequence[int]) -> list[NDArray[np.float32]]:
        """All prompts side by side, teacher-forced, ``chunk[i]`` tokens of prompt i a step; logits of every token."""
        cursors = [Cursor() for _ in prompts]
        parts: list[list[NDArray[np.float32]]] = [[] for _ in prompts]
        while live := [i for i, cursor in enumerate(cursors) if cursor.length < len(prompts[i])]:
            work = [(cursors[i], prompts[i][cursors[i].length : cursors[i].length + chunk[i]]) for i in live]
            for i, logits in zip(live, self.step(work), strict=True):
                parts[i].append(logits)
        for cursor in cursors:
            self.release(cursor)
        return [np.concatenate(part) for part in parts]


def embedded_model() -> ModelFiles:
    return open_model(MODEL)


def real_prompts(tokenizer: Tokenizer) -> list[list[int]]:
    """20 prompts of 5 to 1,500 tokens, short ones first: openings, documents, and questions about several documents."""
    short = (PROMPTS / "short.txt").read_text().removesuffix("\n").split("\n---\n")
    documents = {path.stem: path.read_text() for path in PROMPTS.glob("*.txt") if path.stem != "short"}
    questions = [
        (["sourdough", "lighthouse"], "How hot does each of these places get?"),
        (["orders", "queue"], "Write a function that turns each order into a Job."),
        (["lighthouse", "queue", "orders"], "Which dates are mentioned above?"),
        (["orders", "sourdough", "lighthouse", "queue"], "Summarise."),
    ]
    asked = ["\n\n".join([*(documents[name] for name in names), question]) for names, question in questions]
    texts = [*short, *(documents[name] for name in sorted(documents)), *asked]
    return [tokenizer.encode(text)[:LONGEST] for text in texts]
