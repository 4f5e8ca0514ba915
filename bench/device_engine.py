"""Decode and prefill of whole models on a GPU, on synthetic weights at real shapes, free and under masks.

    python -m bench.device_engine [--model NAME] [--json FILE] [--seconds 150]

`engine.triton_runner` and `engine.device_sampling` are driven as the step loop drives them, one step after the other,
host work included. The bound is the weights' bytes over the bandwidth of a copy, measured first. Masked steps draw
every row under another of 64 dense, sparse and forced masks, which lie on the device already; what automata and new
schemas cost besides, `bench.device_loop` tells. "int4" is GGUF's Q4_0. Figures are JSON lines, each written when it is
known (`bench.figures`). Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.figures import Figures, Target
from bench.kernel_cases import SHAPES, Shape, sampling_batch
from bench.kernels import ceiling
from engine.base import StepBatch
from engine.device_sampling import DeviceSampling
from engine.model.config import ModelConfig
from engine.model.gguf import GgufTensor
from engine.model.rotary import Rotary
from engine.model.weights import GgufWeights, Weights
from engine.triton_runner import TritonRunner
from fsm.rows import RowPool
from kernels.sampling import SamplingResult

LAYERS = {"Llama-3.1-8B": 32, "Qwen3-0.6B": 28, "SmolLM2-135M": 30}
BATCHES = (1, 8, 64, 256)
BLOCK = 16
CONTEXT = 1024
STEPS = 50


class Synthetic(Mapping[str, NDArray[np.float32]]):
    """Small random weights of a configuration; those of one shape are the same."""

    def __init__(self, config: ModelConfig) -> None:
        self._shapes = config.weight_shapes()
        self._values = np.random.default_rng(0).normal(0, 0.02, 1 << 20).astype(np.float32)
        self._made: dict[tuple[int, ...], NDArray[np.float32]] = {}

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        shape = self._shapes[name]
        if shape not in self._made:
            self._made[shape] = np.resize(self._values, shape)
        return self._made[shape]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


class SyntheticBlocks(GgufWeights):
    """The same, with matrices in blocks of Q4_0; what they say does not matter to time, so they are all zero."""

    def __init__(self, config: ModelConfig) -> None:
        self._floats = Synthetic(config)
        self._shapes = config.weight_shapes()

    def packed(self, name: str) -> GgufTensor:
        rows, columns = self._shapes[name]
        return GgufTensor(name, (rows, columns), "Q4_0", np.zeros((rows, columns // 32 * 18), np.uint8))

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._floats[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


FORMATS: dict[str, Callable[[ModelConfig], Weights]] = {"bf16": Synthetic, "int4": SyntheticBlocks}
TARGETS = {
    ("Llama-3.1-8B", "bf16", 1): Target("share_of_bound", least=0.80),
    ("Llama-3.1-8B", "int4", 1): Target("share_of_bound", least=0.65),
    ("Llama-3.1-8B", "bf16", 256): Target("masked_to_free", least=0.98),
}
"""By model, format and batch."""


def config_of(shape: Shape) -> ModelConfig:
    """A Llama decoder of these sizes; Qwen3's norms of queries and keys are left out."""
    return ModelConfig(
        vocab_size=shape.vocab, hidden=shape.hidden, ffn=shape.ffn, layers=LAYERS[shape.name], heads=shape.heads,
        kv_heads=shape.kv_heads, head_dim=shape.head_dim, context_length=4096, norm_eps=1e-5,
        rotaries=(Rotary(5e5, shape.head_dim),),
        tied_embeddings=shape.name != "Llama-3.1-8B",
    )  # fmt: skip


def decode_step(n: int, context: int) -> StepBatch:
    """One token of each of ``n`` sequences of ``context`` tokens."""
    per = -(-context // BLOCK)
    tables = np.arange(n * per, dtype=np.int32).reshape(n, per)
    last = context - 1
    return StepBatch(
        tokens=np.arange(n, dtype=np.int32),
        positions=np.full(n, last, np.int32),
        slots=(tables[:, last // BLOCK] * BLOCK + last % BLOCK)[None],
        query_start=np.arange(n + 1, dtype=np.int32),
        context_lens=np.full(n, context, np.int32),
        block_tables=tables[None],
        logit_rows=np.arange(n, dtype=np.int32),
    )


def prefill_step(length: int) -> StepBatch:
    """A whole prompt, with the logits of its last token."""
    places = np.arange(length, dtype=np.int32)
    return StepBatch(
        tokens=places,
        positions=places,
        slots=places[None],
        query_start=np.array([0, length], np.int32),
        context_lens=np.array([length], np.int32),
        block_tables=np.arange(-(-length // BLOCK), dtype=np.int32)[None, None],
        logit_rows=np.array([length - 1], np.int32),
    )


def masks(pool: RowPool) -> NDArray[np.int32]:
    """64 rows of the pool: as in real schemas nearly half of them forced, most others short."""
    generator = np.random.default_rng(1)
    rows: list[int] = []
    for i in range(64):
        bits = np.zeros(pool.words * 32, np.uint8)
        count = 1 if i % 2 else pool.vocab_size // 2 if i % 8 == 0 else 200
        bits[generator.permutation(pool.vocab_size)[:count]] = 1
        rows.append(pool.intern(np.packbits(bits, bitorder="little").view(np.uint32)))
    return np.array(rows, np.int32)


def step_seconds(runner: TritonRunner, kernel: DeviceSampling, pool: RowPool, step: StepBatch, rows: Any) -> float:
    """Median of a step: forward, sampling, tokens on the host."""
    n = len(step.logit_rows)
    batch, out = sampling_batch(n, mask_rows=rows), SamplingResult.empty(n, 0)
    times: list[float] = []
    for _ in range(STEPS):
        began = time.perf_counter()
        kernel.sample(runner.forward(step), pool, batch, out)
        times.append(time.perf_counter() - began)
    return statistics.median(times[STEPS // 5 :])


def measure(shape: Shape, format: str, bandwidth: float, figures: Figures) -> None:
    """Decode at every batch size, free and masked, and prefill. The runner's memory is free again afterwards."""
    config = config_of(shape)
    runner = TritonRunner(
        config,
        FORMATS[format](config),
        num_blocks=BATCHES[-1] * CONTEXT // BLOCK,
        block_size=BLOCK,
        graph_sizes=BATCHES,
    )
    pool = RowPool(shape.vocab)
    drawn = masks(pool)
    kernel = DeviceSampling(pool, "cuda")
    held = runner.nbytes()
    cache_per_token = held["kv"] // (runner.num_blocks * BLOCK)
    about = {"model": shape.name, "format": format}

    def decode(n: int) -> None:
        step = decode_step(n, CONTEXT)
        free = step_seconds(runner, kernel, pool, step, 0)
        masked = step_seconds(runner, kernel, pool, step, np.resize(drawn, n))
        read = held["weights"] + n * CONTEXT * cache_per_token
        line = {
            **about, "work": f"decode {n} x {CONTEXT}", "tokens_per_s": n / free,
            "share_of_bound": read / bandwidth / free, "masked_to_free": free / masked,
        }  # fmt: skip
        figures.write(line, TARGETS.get((shape.name, format, n)))

    def prefill(length: int) -> None:
        took = step_seconds(runner, kernel, pool, prefill_step(length), 0)
        figures.write({**about, "work": f"prefill {length}", "tokens_per_s": length / took})

    figures.each({**about, "work": "decode"}, lambda: iter(BATCHES), decode)
    figures.each({**about, "work": "prefill"}, lambda: iter((2048,)), prefill)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[shape.name for shape in SHAPES], help="one of them only")
    parser.add_argument("--json", help="file to write all figures to, a line each")
    parser.add_argument("--seconds", type=float, default=150.0, help="no batch is begun after that")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device")
    figures = Figures(asked.json, asked.seconds)
    bandwidth, _ = ceiling(torch.device("cuda"))
    figures.write({"device": torch.cuda.get_device_name(), "bytes_per_s": bandwidth})

    def run(work: tuple[Shape, str]) -> None:
        try:
            measure(*work, bandwidth, figures)
        finally:
            gc.collect()
            torch.cuda.empty_cache()

    models = [shape for shape in SHAPES if asked.model in (None, shape.name)]
    figures.each(
        {"models": len(models)}, lambda: iter([(shape, format) for shape in models for format in FORMATS]), run
    )
    sys.exit(figures.failed > 0)


if __name__ == "__main__":
    main()
