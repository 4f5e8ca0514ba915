"""What constraints cost a full batch on a GPU, with all that a server does for them: automata, masks, new schemas.

    python -m bench.device_loop [--model Llama-3.1-8B] [--sequences 256] [--tokens 128] [--rounds 3] [--json FILE]

The step loop over `engine.triton_runner`, with the grammar workers behind `engine.programs`, on synthetic weights and a
vocabulary of random words. In a round each kind of load is run once: free; every sequence under `bench.engine.SCHEMA`,
which it never completes; and the same with a tenth of the schemas never seen before. Figures are JSON lines
(`bench.figures`). Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable

import torch

from bench.device_engine import BLOCK, Synthetic, config_of
from bench.engine import SCHEMA
from bench.figures import Figures, Target
from bench.kernel_cases import SHAPES
from engine.base import Runner, SamplingKernel
from engine.device_sampling import DeviceSampling
from engine.loop import StepLoop
from engine.programs import Broken, Grown, Programs, Ready, Refusal
from engine.scheduler import Limits
from engine.triton_runner import TritonRunner
from fsm.rows import RowPool
from fsm.runtime import Runtime
from fsm.tokens import TokenTable
from schemas.constraint import JsonSchemaSpec
from schemas.engine import Failed, Sampling, Submit, Tokens

PROMPT = 64
KINDS = ("free", "warm", "a tenth new")
TARGETS = {"warm": Target("constrained_to_free", least=0.98), "a tenth new": Target("constrained_to_free", least=0.95)}


def vocabulary(size: int) -> TokenTable:
    """All bytes, what JSON is punctuated with, and words; the last id ends sequences."""
    draw = random.Random(0)
    tokens = [bytes([i]) for i in range(256)]
    tokens += [text.encode() for text in ('":', '": ', '", "', '":"', "},{", '"}', '["', '"]', "[{", "}]")]
    known = set(tokens)
    while len(tokens) < size - 1:
        letters = draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=draw.randint(2, 9))
        word = draw.choice(("", " ")) + "".join(letters)
        if word.encode() not in known:
            known.add(word.encode())
            tokens.append(word.encode())
    return TokenTable.from_bytes([*tokens, None], [size - 1])


class Desk:
    """A step loop with the programs of its constraints, as `engine.service` has them."""

    def __init__(self, runner: Runner, sampling: Callable[[RowPool], SamplingKernel] | None, sequences: int) -> None:
        self._news = threading.Event()
        self._sequences = sequences
        self._asked = 0
        self._runtime = Runtime(vocabulary(runner.vocab_size))
        self._loop = StepLoop(
            runner,
            self._runtime,
            model="m",
            eos_ids=[runner.vocab_size - 1],
            limits=Limits(sequences, max(2048, sequences), max_waiting=2 * sequences),
            sampling=sampling(self._runtime.pool) if sampling else None,
        )
        self._programs = Programs(self._runtime, wake=self._news.set, deadline_s=30.0, cache_bytes=1 << 30)

    def close(self) -> None:
        self._programs.close()

    def run(self, kind: str, tokens: int) -> float:
        """Tokens a second of twice as many requests as run at once, from the first submission to the last token."""
        began = time.perf_counter()
        waiting = self._submit(kind, tokens)
        made = 0
        while waiting or not self._loop.idle:
            self._take_news(waiting)
            if not self._loop.can_step:
                self._news.wait(0.001)
                self._news.clear()
                continue
            for event in self._loop.step():
                if isinstance(event, Failed):
                    raise RuntimeError(event.message)
                made += len(event.ids) if isinstance(event, Tokens) else 0
            if missing := self._runtime.missing():
                self._programs.ask(missing)
        return made / (time.perf_counter() - began)

    def _submit(self, kind: str, tokens: int) -> dict[bytes, list[Submit]]:
        """Send free requests to the loop; of others, those that wait for their programs."""
        waiting: dict[bytes, list[Submit]] = {}
        for i in range(2 * self._sequences):
            self._asked += 1
            prompt = [(self._asked * 7 + j) % 1000 for j in range(PROMPT)]
            request = Submit(
                f"r{self._asked}", "m", prompt, tokens, sampling=Sampling(seed=i), ignore_eos=kind == "free"
            )
            if kind == "free":
                self._loop.submit(request)
                continue
            schema = {**SCHEMA, "minItems": 40 + self._asked} if kind == KINDS[2] and i % 10 == 0 else SCHEMA
            key = self._programs.request(JsonSchemaSpec(json.dumps(schema)))
            waiting.setdefault(key, []).append(request)
        return waiting

    def _take_news(self, waiting: dict[bytes, list[Submit]]) -> None:
        for news in self._programs.poll():
            match news:
                case Ready():
                    for request in waiting.pop(news.key, ()):
                        self._programs.acquire(news.program)
                        self._loop.submit(request, news.program, news.contract, news.reasons)
                case Grown():
                    self._loop.grammar_ready(news.program)
                case Refusal() | Broken():
                    raise RuntimeError(news.message)


def measure(desk: Desk, model: str, options: argparse.Namespace, figures: Figures) -> None:
    """Round after round, the order of kinds turned about in every other one; then the ratios of their medians."""
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}

    def take(turn: int) -> None:
        for kind in KINDS if turn % 2 else KINDS[::-1]:
            rate = desk.run(kind, options.tokens)
            if turn:  # the first round compiles kernels and masks
                rates[kind].append(rate)
                figures.write({"model": model, "round": turn, "kind": kind, "tokens_per_s": rate})

    figures.each({"model": model, "work": "rounds"}, lambda: iter(range(options.rounds + 1)), take)
    for kind, target in TARGETS.items():
        if rates[kind] and rates["free"]:
            ratio = statistics.median(rates[kind]) / statistics.median(rates["free"])
            figures.write({"model": model, "kind": kind, "constrained_to_free": ratio}, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[shape.name for shape in SHAPES], default=SHAPES[0].name)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="file to write all figures to, a line each")
    parser.add_argument("--seconds", type=float, default=100.0, help="no round is begun after that")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device")
    figures = Figures(options.json, options.seconds)
    config = config_of(next(shape for shape in SHAPES if shape.name == options.model))
    blocks = options.sequences * -(-(PROMPT + options.tokens) // BLOCK)
    sizes = tuple(sorted({min(1 << i, options.sequences) for i in range(options.sequences.bit_length() + 1)}))
    runner = TritonRunner(config, Synthetic(config), num_blocks=blocks, block_size=BLOCK, graph_sizes=sizes)
    desk = Desk(runner, lambda pool: DeviceSampling(pool, "cuda"), options.sequences)
    try:
        measure(desk, options.model, options, figures)
    finally:
        desk.close()
    sys.exit(figures.failed > 0)


if __name__ == "__main__":
    main()
