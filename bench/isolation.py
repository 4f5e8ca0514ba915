"""What a schema that explodes costs everybody else: inter-token times of running requests, with and without one
compiling.

    python -m bench.isolation [--rounds 12] [--streams 4]

A round measures the streams alone, twice beside exploding constraints (each one new, so that no cache helps) that are
sent all the time, and alone again (A B B A), so that a machine that becomes slower or faster does so for both. The card
shows the median and the 99th percentile of the time between two tokens of a stream over all rounds, and their ratios
with an interval (`bench.intervals`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

import numpy as np

from bench.intervals import SURE, ratio_of_quantiles
from engine.client import EngineClient
from engine.model.files import open_model
from engine.model.store import resolve
from schemas.config import EMBEDDED_MODEL, Engine, Grammar, ModelSettings, Settings
from schemas.constraint import ConstraintSpec, JsonSchemaSpec, RegexSpec
from schemas.engine import Failed, Finished, Sampling, Submit, Tokens

DEADLINE_S = 2.0


def exploding(n: int) -> ConstraintSpec:
    """Constraints that use up their fuel or their deadline; each ``n`` is another one."""
    kinds: list[ConstraintSpec] = [
        RegexSpec(f"(a{{0,1000}}b?){{0,{1000 + n}}}c"),
        RegexSpec(f"(?=(a|b)*c)(?!.*(ab){{10}})([abc]{{0,{50 + n}}}){{0,50}}", dialect="ecma"),
        JsonSchemaSpec(
            json.dumps(
                {
                    "allOf": [
                        {"anyOf": [{"properties": {f"p{n}_{i}_{j}": {"type": "string"}}} for j in range(6)]}
                        for i in range(8)
                    ]
                }
            )
        ),
    ]
    return kinds[n % len(kinds)]


async def measure(
    client: EngineClient, prompt: list[int], streams: int, tokens: int, attack: int | None
) -> list[float]:
    """Seconds between the tokens of ``streams`` free streams; with ``attack``, beside constraints numbered from it
    on."""
    gaps: list[float] = []
    running = streams

    async def stream(i: int) -> None:
        nonlocal running
        request = Submit(
            f"s{time.monotonic_ns()}-{i}", "m", prompt, tokens, sampling=Sampling(temperature=0), ignore_eos=True
        )
        events = client.submit(request)
        last = None
        while True:
            event = await events.get()
            if isinstance(event, Tokens):
                now = time.perf_counter()
                if last is not None:
                    gaps.append(now - last)
                last = now
            elif isinstance(event, Finished):
                break
            elif not hasattr(event, "contract"):
                raise RuntimeError(str(event))
        running -= 1
        client.forget(request.id)

    async def attacker(first: int) -> None:
        n = first
        while running:
            request = Submit(f"a{n}", "m", prompt, 4, constraint=exploding(n))
            events = client.submit(request)
            while not isinstance(await events.get(), (Failed, Finished)):
                pass
            client.forget(request.id)
            n += 1

    jobs = [stream(i) for i in range(streams)]
    if attack is not None:
        jobs.append(attacker(attack))
    await asyncio.gather(*jobs)
    return gaps


async def run(options: argparse.Namespace) -> None:
    path = resolve(EMBEDDED_MODEL)
    settings = Settings(
        models=(ModelSettings(name="m", path=str(path)),),
        engine=Engine(kv_memory_mb=512, threads=options.threads),
        grammar=Grammar(compile_deadline_s=DEADLINE_S),
    )
    client = EngineClient(settings)
    await client.start()
    prompt = open_model(path).tokenizer().encode("The history of the bridge begins with a ferry and a toll.")
    rounds: list[tuple[list[float], list[float]]] = []
    for turn in range(options.rounds + 1):
        gaps: tuple[list[float], list[float]] = [], []
        for part, attacked in enumerate((False, True, True, False)):
            first = 1000 * (2 * turn + part) if attacked else None
            gaps[attacked].extend(await measure(client, prompt, options.streams, options.tokens, first))
        if turn:  # the first round warms up
            rounds.append(gaps)
            alone, beside = (1e3 * quantile(side, 0.99) for side in gaps)
            print(f"round {turn}: p99 {alone:.2f} ms alone, {beside:.2f} ms beside", flush=True)
    await client.aclose()
    print(f"\n{options.streams} streams, {options.threads} threads, {options.rounds} rounds, deadline {DEADLINE_S} s")
    figures: dict[str, dict[str, float]] = {}
    for name, side in (("alone", 0), ("beside exploding schemas", 1)):
        times = [gap for gaps in rounds for gap in gaps[side]]
        figure = figures[name] = {"p50_ms": 1e3 * quantile(times, 0.5), "p99_ms": 1e3 * quantile(times, 0.99)}
        print(f"{name:28} p50 {figure['p50_ms']:7.2f} ms   p99 {figure['p99_ms']:7.2f} ms")
    for name, share in (("p50_ratio", 0.5), ("p99_ratio", 0.99)):
        ratio = ratio_of_quantiles([(beside, alone) for alone, beside in rounds], share)
        figures[name] = ratio._asdict()
        print(f"{name:28} {ratio.value:.3f}, {SURE:.0%} sure: {ratio.low:.3f} to {ratio.high:.3f}")
    print(json.dumps({"bench": "isolation", "rounds": options.rounds, **figures}))


def quantile(times: list[float], share: float) -> float:
    return float(np.quantile(times, share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="at least 2")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
