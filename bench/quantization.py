"""What each way to quantize costs on one model and one text: perplexity, size, and decode speed on this CPU.

    python -m bench.quantization [--model smollm2-135m-instruct] [--text FILE] [--threads 1] [--only NAME ...]

Perplexity is that of the rounded weights in float32, so that columns differ in nothing else; 8-bit activations of the
CPU kernels come on top (bench/decode_cpu.py measures them). Calibration and evaluation windows alternate over the
language reference that comes with Python. Speed is one sequence through the CPU kernels.

The default model's own weights lie on a 16-level grid (Q4_1), so 4-bit rounding is measured on groups of 128 and
symmetric, where that grid does not fit, and the methods are told apart at 3 bits. Groups of 128 do not divide its 576
inputs; the last group of a row is shorter.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from engine.cpu_runner import CpuRunner
from engine.decoder import TorchRunner
from engine.model.files import ModelFiles, open_model
from engine.model.grid import Grid
from engine.model.store import resolve
from engine.model.weights import Weights
from engine.quantization.command import Work, cut, reference_text
from engine.quantization.perplexity import decode_rate, perplexity
from engine.quantization.pipeline import Changed, Recipe, quantize_layers
from engine.quantization.rounding import Scheme

GROUP = 128
RECIPES = {
    "int8 RTN, a scale a row": Recipe("rtn", Scheme(8)),
    "int8 SmoothQuant": Recipe("smoothquant", Scheme(8)),
    "int4 RTN": Recipe("rtn", Scheme(4, GROUP)),
    "int4 AWQ": Recipe("awq", Scheme(4, GROUP)),
    "int4 GPTQ": Recipe("gptq", Scheme(4, GROUP)),
    "int4 GPTQ, no act-order": Recipe("gptq", Scheme(4, GROUP), act_order="none"),
    "int3 RTN": Recipe("rtn", Scheme(3, GROUP)),
    "int3 AWQ": Recipe("awq", Scheme(3, GROUP)),
    "int3 GPTQ": Recipe("gptq", Scheme(3, GROUP)),
}
BLOCKS = ("Q4_0", "Q5_0", "Q5_1", "Q8_0")
"""GGUF's formats that gguf-py can write; the default model itself is in Q4_1."""


class Overlaid(Mapping[str, NDArray[np.float32]]):
    """A model's weights, some of them changed: as floats, or on a grid."""

    def __init__(self, weights: Weights, changed: Changed) -> None:
        self._weights, self._changed = weights, changed

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        value = self._changed.get(name)
        if value is None:
            return self._weights[name]
        return value.dense() if isinstance(value, Grid) else value

    def grid(self, name: str) -> Grid | None:
        value = self._changed.get(name)
        return value if isinstance(value, Grid) else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.files: ModelFiles = open_model(resolve(options.model))
        self.threads: int = options.threads
        work = Work(model=Path(options.model), out=Path(), windows=options.windows, evaluation_windows=options.judged)
        text = reference_text() if options.text is None else Path(options.text).read_text(encoding="utf-8")
        self.calibration, self.evaluation = cut(self.files.tokenizer().encode(text, special=False), work)
        self.blocks = work.window // 16
        self.plain = self.files.weights()

    def rows(self) -> dict[str, Callable[[], dict[str, float]]]:
        found: dict[str, Callable[[], dict[str, float]]] = {"float32": self.full}
        found |= {name: lambda recipe=recipe: self.recipe(recipe) for name, recipe in RECIPES.items()}
        return found | {f"GGUF {kind}": lambda kind=kind: self.blocks_of(kind) for kind in BLOCKS}

    def full(self) -> dict[str, float]:
        runner = TorchRunner.load(self.files, num_blocks=self.blocks)
        elements = sum(int(np.prod(shape)) for shape in self.files.config.weight_shapes().values())
        return {
            "perplexity": perplexity(runner, self.evaluation),
            "megabytes": elements * 4 / 1e6,
            "tokens_per_second": decode_rate(runner, self.evaluation[0][:128]),
        }

    def recipe(self, recipe: Recipe) -> dict[str, float]:
        runner = TorchRunner.load(self.files, num_blocks=self.blocks)
        began = time.perf_counter()
        changed = quantize_layers(runner, self.calibration, recipe, _progress)
        seconds = time.perf_counter() - began
        found = perplexity(runner, self.evaluation)
        del runner
        weights = Overlaid(self.plain, changed)
        return {
            "perplexity": found,
            "megabytes": sum(_nbytes(name, changed, self.files) for name in weights) / 1e6,
            "tokens_per_second": self._rate(weights),
            "seconds": seconds,
        }

    def blocks_of(self, name: str) -> dict[str, float]:
        kind = gguf.GGMLQuantizationType[name]
        changed: Changed = {
            weight: dequantize(quantize(self.plain[weight], kind), kind)
            for weight in self.plain
            if weight.endswith("_proj.weight")
        }
        runner = TorchRunner(self.files.config, Overlaid(self.plain, changed), num_blocks=self.blocks)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        held = sum(value.size * size / block for value in changed.values() if not isinstance(value, Grid))
        rest = [shape for weight, shape in self.files.config.weight_shapes().items() if weight not in changed]
        return {
            "perplexity": perplexity(runner, self.evaluation),
            "megabytes": (held + sum(int(np.prod(shape)) * 2 for shape in rest)) / 1e6,
        }

    def _rate(self, weights: Overlaid) -> float:
        runner = CpuRunner(self.files.config, weights, num_blocks=self.blocks, threads=self.threads)
        return decode_rate(runner, self.evaluation[0][:128])


def _nbytes(name: str, changed: Changed, files: ModelFiles) -> float:
    """Of a weight in a checkpoint: numbers at their width, scales in half precision, floats in half precision."""
    value = changed.get(name)
    if isinstance(value, Grid):
        return value.numbers.size * value.bits / 8 + value.scales.size * 2
    return float(np.prod(files.config.weight_shapes()[name])) * 2


def _progress(done: int, total: int) -> None:
    print(f"\r  layer {done} of {total}", end="\r" if done < total else "\n", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--text", help="UTF-8 file (default: the language reference that comes with Python)")
    parser.add_argument("--windows", type=int, default=16, help="windows of 512 tokens to calibrate on")
    parser.add_argument("--judged", type=int, default=8, help="windows of 512 tokens to measure perplexity on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="rows whose name begins so")
    parser.add_argument("--json", help="file for one JSON line")
    options = parser.parse_args()
    bench = Bench(options)
    print(f"| {'weights':26} | perplexity |     MB | decode, tok/s | made in, s |\n|---|---|---|---|---|")
    table: dict[str, dict[str, float]] = {}
    for name, measure in bench.rows().items():
        if options.only and not any(name.startswith(prefix) for prefix in options.only):
            continue
        row = table[name] = measure()
        gc.collect()
        cells = [f"{row['perplexity']:10.3f}", f"{row['megabytes']:6.1f}"]
        cells += [f"{row[key]:{width}.1f}" if key in row else " " * (width - 1) + "-"
                  for key, width in (("tokens_per_second", 13), ("seconds", 10))]  # fmt: skip
        print(f"| {name:26} | {' | '.join(cells)} |", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(table) + "\n")


if __name__ == "__main__":
    main()
