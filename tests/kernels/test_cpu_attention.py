"""Paged attention against a softmax in float64, at the borders of blocks, chunks and tiles."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.cpu.attention import CHUNK, attend


@pytest.mark.parametrize("group", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("block_size", "head_dim"), [(16, 32), (48, 64), (16, 128)])
@pytest.mark.parametrize(("window", "cap"), [(0, 0.0), (20, 0.0), (64, 2.0), (1, 0.0)])
def test_attention_is_softmax_over_the_sequence(
    group: int, block_size: int, head_dim: int, window: int, cap: float
) -> None:
    random = np.random.default_rng(group)
    for first, tokens in [
        (0, 1),
        (0, 8),
        (14, 1),
        (15, 1),
        (15, 2),
        (16, 1),
        (62, 1),
        (63, 3),
        (64, 8),
        (127, 2),
        (150, 5),
    ]:
        context = first + tokens
        blocks = -(-context // block_size)
        table = random.permutation(blocks + 3).astype(np.int32)
        k, v = (random.normal(size=(context, head_dim)).astype(np.float16) for _ in range(2))
        # What no query may look at is as loud as half precision allows.
        keys = np.full((blocks + 3, 2, head_dim, block_size), 60000, np.float16)
        values = np.full((blocks + 3, 2, block_size, head_dim), 60000, np.float16)
        for position in range(context):
            block, offset = table[position // block_size], position % block_size
            keys[block, 1, :, offset] = k[position]
            values[block, 1, offset] = v[position]
        rows = tokens * group
        queries = (random.normal(size=(rows, head_dim)) * 3 / np.sqrt(head_dim)).astype(np.float32)
        found = np.empty((rows, head_dim), np.float32)
        attend(
            queries,
            np.empty((rows, CHUNK), np.float32),
            found,
            np.empty((rows, 2), np.float32),
            tokens,
            group,
            first,
            1,
            keys.view(np.uint16).reshape(blocks + 3, 2, -1),
            values.view(np.uint16).reshape(blocks + 3, 2, -1),
            block_size,
            table,
            window,
            cap,
        )
        scores = queries.astype(np.float64) @ k.astype(np.float64).T
        scores = cap * np.tanh(scores / cap) if cap else scores
        behind = (first + np.arange(rows) // group)[:, None] - np.arange(context)[None]
        scores[(behind < 0) | (behind >= (window or context))] = -np.inf
        weights = np.exp(scores - scores.max(1, keepdims=True))
        wanted = weights @ v.astype(np.float64) / weights.sum(1, keepdims=True)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5, err_msg=f"first {first}, tokens {tokens}")
