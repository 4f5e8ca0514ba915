"""Batches that sampling kernels are held to on every device, and a caller's side of making them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsm.rows import RowPool
from kernels.sampling import SamplingBatch

SIZES = [1, 2, 31, 32, 33, 255, 256, 257, 1100, 5003]


def batch_of(n: int, **given: Any) -> SamplingBatch:
    """Neutral parameters for ``n`` rows, position = row; ``given`` are scalars or arrays that replace some."""
    batch = SamplingBatch(
        mask_rows=np.zeros(n, np.int32),
        temperature=np.ones(n, np.float32),
        top_p=np.ones(n, np.float32),
        top_k=np.zeros(n, np.int32),
        min_p=np.zeros(n, np.float32),
        seed=np.full(n, 0x0123456789ABCDEF, np.uint64),
        choice=np.zeros(n, np.int32),
        position=np.arange(n, dtype=np.int32),
        presence=np.zeros(n, np.float32),
        frequency=np.zeros(n, np.float32),
        repetition=np.ones(n, np.float32),
        history_start=np.zeros(n + 1, np.int32),
        history_ids=np.zeros(0, np.int32),
        history_counts=np.zeros(0, np.int32),
        bias_start=np.zeros(n + 1, np.int32),
        bias_ids=np.zeros(0, np.int32),
        bias=np.zeros(0, np.float32),
        n_logprobs=np.full(n, -1, np.int32),
    )
    for name, value in given.items():
        column: NDArray[np.generic] = getattr(batch, name)
        column[:] = value
    return batch


def mask_row(pool: RowPool, ids: NDArray[np.integer] | list[int]) -> int:
    bits = np.zeros(pool.words * 32, np.uint8)
    bits[np.asarray(ids, np.int64)] = 1
    return pool.intern(np.packbits(bits, bitorder="little").view(np.uint32))


def adversarial_logits(generator: np.random.Generator, n: int, vocab_size: int) -> NDArray[np.float32]:
    logits = generator.normal(0, generator.choice([0.01, 1, 3, 10, 1e4]), (n, vocab_size)).astype(np.float32)
    if generator.random() < 0.3:
        logits = np.round(logits)  # ties
    for value in (np.nan, np.inf, -np.inf, -0.0, 3e38, -3e38):
        if generator.random() < 0.15:
            logits[generator.random(logits.shape) < generator.choice([0.05, 0.9, 1.0])] = value
    return logits


def csr(generator: np.random.Generator, n: int, vocab_size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    ids = [generator.permutation(vocab_size)[: generator.integers(0, min(vocab_size, 40) + 1)] for _ in range(n)]
    start = np.concatenate(([0], np.cumsum([len(x) for x in ids])))
    return start.astype(np.int32), np.concatenate(ids).astype(np.int32)


def random_case(seed: int, vocab_size: int, n: int = 4) -> tuple[NDArray[np.float32], RowPool, SamplingBatch]:
    """Rows of all kinds with parameters, histories and biases that have gone wrong before; up to 7 ids reported."""
    generator = np.random.default_rng(seed)
    logits = adversarial_logits(generator, n, vocab_size)
    pool = RowPool(vocab_size)
    masks = [0]
    for count in (0, 1, 2, vocab_size // 2, vocab_size - 1, vocab_size):
        masks.append(mask_row(pool, generator.permutation(vocab_size)[:count]))
    batch = batch_of(
        n,
        mask_rows=generator.choice(masks, n),
        temperature=generator.choice([0, 1e-6, 1e-4, 0.3, 1, 1.5, 5, 1e4], n),
        top_p=generator.choice([1, 1, 0.999, 0.9, 0.5, 1e-6, 0], n),
        top_k=generator.choice([0, 0, 1, 5, 50, 2000, 10**6], n),
        min_p=generator.choice([0, 0, 0.01, 0.5, 1], n),
        seed=generator.integers(0, 2**64, n, dtype=np.uint64),
        choice=generator.integers(0, 9, n),
        position=generator.integers(0, 10**6, n),
        presence=generator.choice([0, -2, 1.5], n),
        frequency=generator.choice([0, -1, 0.7], n),
        repetition=generator.choice([1, 1.2, 0.5], n),
        n_logprobs=generator.choice([-1, 0, min(vocab_size, 7)], n),
    )
    batch.history_start, batch.history_ids = csr(generator, n, vocab_size)
    batch.history_counts = generator.integers(0, 4, len(batch.history_ids)).astype(np.int32)
    batch.bias_start, batch.bias_ids = csr(generator, n, vocab_size)
    batch.bias = generator.choice([-100, -1, 0, 5, 100, 3e38], len(batch.bias_ids)).astype(np.float32)
    return logits, pool, batch
