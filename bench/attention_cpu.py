"""Decode attention of the CPU kernels over long contexts, beside torch's SDPA on the same heads.

    python -m bench.attention_cpu [--rounds 5]

One token's queries (SmolLM2's: 9 heads over 3 key heads of 64) against 256 to 8,192 keys. Ours reads half precision
from blocks in any order, SDPA float32 from one piece; both run on one thread of one process, in turns, and the card
shows the least CPU time of the rounds. The bound is one read of the cache: its bandwidth stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels.cpu.attention import CHUNK, attend

HEADS, KEY_HEADS, SIZE, BLOCK = 9, 3, 64, 16
GROUP = HEADS // KEY_HEADS
CONTEXTS = (256, 2048, 4096, 8192)


class Case:
    """One context, in both forms of cache; its values agree to half precision."""

    def __init__(self, context: int) -> None:
        draw = np.random.default_rng(context)
        self._context = context
        keys, values = (draw.standard_normal((KEY_HEADS, context, SIZE)).astype(np.float16) for _ in range(2))
        self._table = draw.permutation(context // BLOCK).astype(np.int32)
        shape = (KEY_HEADS, context // BLOCK, BLOCK, SIZE)
        self._keys = np.empty((context // BLOCK, KEY_HEADS, SIZE * BLOCK), np.uint16)
        self._values = np.empty_like(self._keys)
        self._keys[self._table] = _blocks(keys.reshape(shape).swapaxes(2, 3))
        self._values[self._table] = _blocks(values.reshape(shape))
        self._queries = draw.standard_normal((KEY_HEADS, GROUP, SIZE)).astype(np.float32)
        self._scaled = self._queries * np.float32(SIZE**-0.5)
        self._found = np.zeros((KEY_HEADS, GROUP, SIZE), np.float32)
        self._scored = np.zeros((GROUP, CHUNK), np.float32)
        self._running = np.zeros((GROUP, 2), np.float32)
        self._torch = tuple(torch.from_numpy(part.astype(np.float32))[None] for part in (self._queries, keys, values))

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def ours(self) -> np.ndarray:
        for head in range(KEY_HEADS):
            attend(
                self._scaled[head], self._scored, self._found[head], self._running, 1, GROUP, self._context - 1, head,
                self._keys, self._values, BLOCK, self._table, 0, np.float32(0),
            )  # fmt: skip
        return self._found

    def sdpa(self) -> np.ndarray:
        queries, keys, values = self._torch
        return scaled_dot_product_attention(queries, keys, values)[0].numpy()

    def sdpa_heads(self) -> np.ndarray:
        """With every query head by itself, sharing its keys (``enable_gqa``)."""
        queries, keys, values = self._torch
        return scaled_dot_product_attention(queries.view(1, HEADS, 1, SIZE), keys, values, enable_gqa=True)[0].numpy()


def _blocks(cache: np.ndarray) -> np.ndarray:
    """[key heads, blocks, ...] float16 → [blocks, key heads, the rest] as bits."""
    moved = np.ascontiguousarray(cache.swapaxes(0, 1))
    return moved.reshape(*moved.shape[:2], -1).view(np.uint16)


def seconds(work: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[dict[str, float]] = []
    print(f"{'context':>8}{'ours, us':>12}{'SDPA, us':>12}{'SDPA by head':>14}{'ratio':>8}{'ours, GB/s':>12}")
    for context in CONTEXTS:
        case = Case(context)
        wanted = case.sdpa()
        np.testing.assert_allclose(case.ours(), wanted, atol=2e-3)
        np.testing.assert_allclose(case.sdpa_heads().reshape(wanted.shape), wanted, atol=1e-4)
        sides = (case.ours, case.sdpa, case.sdpa_heads)
        rounds = [[seconds(side, 20 + 40_000 // context) for side in sides] for _ in range(options.rounds)]
        ours, sdpa, by_head = (min(column) for column in zip(*rounds, strict=True))
        line = {
            "context": context, "us": ours * 1e6, "sdpa_us": sdpa * 1e6, "sdpa_by_head_us": by_head * 1e6,
            "ratio": min(sdpa, by_head) / ours, "gb_per_s": case.nbytes / ours / 1e9,
        }  # fmt: skip
        lines.append(line)
        print(
            f"{context:8}{line['us']:12.0f}{line['sdpa_us']:12.0f}{line['sdpa_by_head_us']:14.0f}{line['ratio']:8.2f}"
            f"{line['gb_per_s']:12.1f}"
        )
    print(json.dumps({"bench": "attention_cpu", "contexts": lines}))


if __name__ == "__main__":
    main()
