"""What the engine's ways of sharing are worth, as ratios on the embedded model.

    python -m bench.ratios [--rounds 5] [--requests 48]

continuous      requests of 10 to 200 tokens on eight slots: a slot is filled as soon as it is free, against batches of
                eight that end when their longest answer does
prefix cache    a conversation of ten turns: every turn finds the ones before it, against each computed anew
paged           the same load on the KV memory of four contexts of 2,048 tokens: as many sequences as have blocks,
                against one for each context that could be reserved

Both sides of a ratio are the same step loop over the same runner in one process, and take turns in every round; the
card shows the medians of the rounds' ratios of tokens a second, with the lowest and the highest. The other columns
count work and do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.cpu_runner import CpuRunner
from engine.loop import StepLoop
from engine.model.files import open_model
from engine.model.store import resolve
from engine.scheduler import Limits
from fsm.runtime import Runtime
from fsm.tokens import TokenTable
from schemas.config import EMBEDDED_MODEL
from schemas.engine import Event, Failed, Sampling, Submit, Tokens

CONTEXT, CONTEXTS, BLOCK = 2048, 4, 16
SLOTS = 8
TURNS, SAID, ANSWERED = 10, 60, 40
"""Turns of the conversation, tokens that the user says in each, tokens that are answered."""


@dataclass
class Work:
    """What one side did: ``tokens`` answered, ``seconds``, ``steps`` of the loop, ``computed`` tokens."""

    tokens: int = 0
    seconds: float = 0.0
    steps: int = 0
    computed: int = 0

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        files = open_model(resolve(options.model))
        tokenizer = files.tokenizer()
        self._runner = CpuRunner.load(
            files, num_blocks=CONTEXTS * CONTEXT // BLOCK, block_size=BLOCK, threads=options.threads
        )
        vocabulary = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        vocabulary += [None] * (self._runner.vocab_size - len(vocabulary))
        self._runtime = Runtime(TokenTable(vocabulary, tokenizer.eos_ids))
        self._eos = tokenizer.eos_ids
        draw = random.Random(0)
        self._load = [
            self._ask(
                f"r{i}", [draw.randrange(1000, 9000) for _ in range(draw.randint(16, 128))], draw.randint(10, 200)
            )
            for i in range(options.requests)
        ]

    def continuous(self) -> Work:
        return self._run(self._loop(SLOTS), [self._load])

    def static(self) -> Work:
        """The next eight begin when the last of these has ended."""
        batches = [self._load[start : start + SLOTS] for start in range(0, len(self._load), SLOTS)]
        return self._run(self._loop(SLOTS), batches)

    def cached(self) -> Work:
        return self._converse(lambda turn: "one")

    def uncached(self) -> Work:
        return self._converse(lambda turn: f"another {turn}")

    def paged(self) -> Work:
        return self._run(self._loop(64), [self._load])

    def contiguous(self) -> Work:
        return self._run(self._loop(CONTEXTS), [self._load])

    def _converse(self, tenant: Callable[[int], str]) -> Work:
        """``tenant``: who asks in a turn; nobody finds the prefixes of another."""
        draw, loop, work, text = random.Random(1), self._loop(SLOTS), Work(), list[int]()
        for turn in range(TURNS):
            text += [draw.randrange(1000, 9000) for _ in range(SAID)]
            said = self._run(loop, [[self._ask(f"t{turn}", text.copy(), ANSWERED, tenant(turn))]], work, text)
            assert said is work
        return work

    def _loop(self, slots: int) -> StepLoop:
        limits = Limits(slots, 512, max_waiting=10_000)
        return StepLoop(self._runner, self._runtime, model="m", eos_ids=self._eos, limits=limits)

    def _ask(self, id: str, prompt: list[int], tokens: int, tenant: str = "") -> Submit:
        return Submit(
            id, "m", prompt, tokens, sampling=Sampling(temperature=0.0), ignore_eos=True, tenant=tenant
        )  # fmt: skip

    def _run(
        self, loop: StepLoop, batches: list[list[Submit]], work: Work | None = None, text: list[int] | None = None
    ) -> Work:
        """Batch after batch; ``text`` is given what is answered."""
        work = work or Work()
        before = _computed(loop)
        began = time.perf_counter()
        for batch in batches:
            for request in batch:
                loop.submit(request)
            while not loop.idle:
                work.tokens += sum(_said(event, text) for event in loop.step())
                work.steps += 1
        work.seconds += time.perf_counter() - began
        work.computed += _computed(loop) - before
        return work


def _said(event: Event, text: list[int] | None) -> int:
    if isinstance(event, Failed):
        raise RuntimeError(event.message)
    if not isinstance(event, Tokens):
        return 0
    if text is not None:
        text += event.ids
    return len(event.ids)


def _computed(loop: StepLoop) -> int:
    """Prompt tokens that were not found, and answer tokens."""
    counters = loop.report().counters
    return int(counters["prompt_tokens"] - counters["cached_tokens"] + counters["generated_tokens"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=48, help="of the mixed load")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    bench = Bench(options)
    pairs: dict[str, tuple[Callable[[], Work], Callable[[], Work]]] = {
        "continuous / static batching": (bench.continuous, bench.static),
        "prefix cache / none": (bench.cached, bench.uncached),
        "paged / contiguous KV": (bench.paged, bench.contiguous),
    }
    bench.uncached()  # warms up
    found: dict[str, list[tuple[Work, Work]]] = {name: [] for name in pairs}
    for turn in range(options.rounds):
        for name, sides in pairs.items():
            order = sides if turn % 2 == 0 else sides[::-1]
            first, second = (side() for side in order)
            found[name].append((first, second) if turn % 2 == 0 else (second, first))
    lines: dict[str, dict[str, float]] = {}
    print(f"\n{options.threads} threads, {options.requests} requests, medians of {options.rounds} rounds")
    print(f"{'':30}{'ratio':>8}{'rounds':>16}{'tok/s':>16}{'steps':>16}{'computed tokens':>20}")
    for name, rounds in found.items():
        left, right = rounds[0]
        ratios = sorted(a.rate / b.rate for a, b in rounds)
        ratio = statistics.median(ratios)
        rates = [statistics.median(work.rate for work in side) for side in zip(*rounds, strict=True)]
        lines[name] = {
            "ratio": ratio, "lowest": ratios[0], "highest": ratios[-1],
            "tokens_per_s": rates[0], "tokens_per_s_without": rates[1],
            "steps": left.steps, "steps_without": right.steps,
            "computed": left.computed, "computed_without": right.computed,
        }  # fmt: skip
        cells = [f"{rates[0]:.0f} / {rates[1]:.0f}", f"{left.steps} / {right.steps}"]
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(
            f"{name:30}{ratio:8.2f}{spread:>16}{cells[0]:>16}{cells[1]:>16}{f'{left.computed} / {right.computed}':>20}"
        )
    print(json.dumps({"bench": "ratios", "threads": options.threads, "requests": options.requests, **lines}))


if __name__ == "__main__":
    main()
