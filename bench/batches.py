"""What a batch costs those who wait: time to the first token and between tokens of a conversation, with and without a
batch beside it; and lines a second that the batch gets done meanwhile.

    python -m bench.batches [--rounds 4] [--turns 20] [--concurrency 8]

One server in this process, asked over HTTP by OpenAI's client. Rounds alternate: in the odd ones a batch runs whose
lines take every place that they can get.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from openai import OpenAI

from engine.model.store import resolve
from gateway import logs
from gateway.server import server
from providers.local import LocalProvider
from schemas.config import EMBEDDED_MODEL, Batches, ModelSettings, Server, Settings

MODEL = "m"
LINES = 2000
ANSWER_TOKENS = 48


@dataclass
class Times:
    """Seconds."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        return {
            "first_p50_ms": 1e3 * statistics.median(self.first),
            "first_p95_ms": 1e3 * statistics.quantiles(self.first, n=20)[18],
            "token_p50_ms": 1e3 * statistics.median(self.between),
        }


def body(number: int) -> dict[str, Any]:
    content = f"Number {number}: tell the history of a bridge that was once a ferry."
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
    }


@contextmanager
def served(concurrency: int) -> Iterator[OpenAI]:
    settings = Settings(
        server=Server(port=0),
        models=(ModelSettings(name=MODEL, path=str(resolve(EMBEDDED_MODEL))),),
        batches=Batches(concurrency=concurrency),
    )
    running = server(settings, LocalProvider(settings))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        if not thread.is_alive():
            raise SystemExit("the server did not start")
        time.sleep(0.05)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=600)
    running.should_exit = True
    thread.join()


def talk(client: OpenAI, turns: int, first: int, times: Times) -> None:
    for number in range(first, first + turns):
        asked = body(number)
        last = began = time.perf_counter()
        stream = client.chat.completions.create(
            model=MODEL, messages=asked["messages"], max_tokens=ANSWER_TOKENS, temperature=0, stream=True
        )
        for chunk in stream:
            if not chunk.choices or not chunk.choices[0].delta.content:
                continue
            now = time.perf_counter()
            if last == began:
                times.first.append(now - began)
            else:
                times.between.append(now - last)
            last = now


@contextmanager
def batch(client: OpenAI, first: int) -> Iterator[list[int]]:
    """A batch that runs, and how many of its lines were answered, once it is cancelled."""
    rows = (
        {"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions", "body": body(first + i)}
        for i in range(LINES)
    )
    file = client.files.create(file=("in.jsonl", "\n".join(map(json.dumps, rows)).encode()), purpose="batch")
    begun = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    while client.batches.retrieve(begun.id).status != "in_progress":
        time.sleep(0.1)
    time.sleep(1.0)
    answered: list[int] = []
    yield answered
    client.batches.cancel(begun.id)
    while (ended := client.batches.retrieve(begun.id)).status != "cancelled":
        time.sleep(0.1)
    assert ended.request_counts is not None
    answered.append(ended.request_counts.completed)


def run(options: argparse.Namespace) -> None:
    logs.configure("error")
    alone, beside = Times(), Times()
    lines, seconds, number = 0, 0.0, 0
    with served(options.concurrency) as client:
        talk(client, 2, -2, Times())
        for _ in range(options.rounds):
            talk(client, options.turns, number, alone)
            number += options.turns
            with batch(client, 10**6 + number) as answered:
                began = time.perf_counter()
                talk(client, options.turns, number, beside)
                seconds += time.perf_counter() - began
            number += options.turns
            lines += answered[0]
    figures = {"alone": alone.figures(), "beside a batch": beside.figures()}
    print(f"\n{options.rounds} rounds of {options.turns} turns; a batch of {options.concurrency} lines at once")
    for name, figure in figures.items():
        print(
            f"{name:16} first token p50 {figure['first_p50_ms']:7.1f} ms   p95 {figure['first_p95_ms']:7.1f} ms   "
            f"between tokens p50 {figure['token_p50_ms']:6.2f} ms"
        )
    print(f"{'the batch':16} {lines / seconds:.2f} lines a second meanwhile")
    print(json.dumps({"bench": "batches", "lines_per_s": lines / seconds, **figures}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=8)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
