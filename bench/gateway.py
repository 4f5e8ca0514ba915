"""What the gateway itself costs: requests a second and latency over a provider that answers at once.

    python -m bench.gateway [--requests 2000] [--clients 16] [--tokens 64] [--server uvicorn|granian]

Three shapes of load, each against a server in a process of its own: plain answers one after another, plain answers from
many clients, and streams, whose chunks are counted. Prints a card, and one JSON line for machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}


async def instant(request: object) -> AsyncIterator[object]:
    """``TOKENS`` deltas, each on its own turn of the loop, as an engine's steps would come."""
    from providers.base import Delta, Finished, Usage

    tokens = int(os.environ["BENCH_TOKENS"])
    for _ in range(tokens):
        yield Delta(0, " token")
        await asyncio.sleep(0)
    yield Finished(0, "stop")
    yield Usage(8, 0, tokens)


def application() -> object:
    """What granian is told to load, and uvicorn too."""
    from gateway import logs
    from gateway.app import create_app
    from schemas.config import Settings
    from tests.gateway.fakes import FakeProvider

    logs.configure("warning")
    provider = FakeProvider()
    provider.script = instant  # type: ignore[assignment]
    return create_app(provider, Settings())


def start(server: str, port: int, tokens: int) -> subprocess.Popen[bytes]:
    commands = {
        "uvicorn": ["uvicorn", "--no-access-log", "--log-level", "warning", "--port", str(port)],
        "granian": ["granian", "--interface", "asgi", "--log-level", "warning", "--port", str(port)],
    }
    command = [sys.executable, "-m", *commands[server], "--factory", "bench.gateway:application"]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "BENCH_TOKENS": str(tokens)})


async def plain(http: httpx.AsyncClient, count: int, clients: int) -> tuple[float, list[float]]:
    """(seconds in all, seconds of each)."""
    times: list[float] = []

    async def one_client() -> None:
        for _ in range(count // clients):
            began = time.perf_counter()
            (await http.post("/v1/chat/completions", json=ASK)).raise_for_status()
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one_client() for _ in range(clients)))
    return time.perf_counter() - began, times


async def streamed(http: httpx.AsyncClient, count: int, clients: int) -> tuple[float, int]:
    """(seconds in all, events received)."""
    events = 0

    async def one_client() -> None:
        nonlocal events
        for _ in range(count // clients):
            async with http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as answer:
                async for part in answer.aiter_raw():
                    events += part.count(b"\n\n")

    began = time.perf_counter()
    await asyncio.gather(*(one_client() for _ in range(clients)))
    return time.perf_counter() - began, events


async def measure(server: str, requests: int, clients: int, tokens: int) -> dict[str, float | str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start(server, port, tokens)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            for _ in range(400):
                try:
                    await http.get("/ready")
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
            await plain(http, 50, 1)
            _, alone = await plain(http, requests // 4, 1)
            seconds, together = await plain(http, requests, clients)
            stream_seconds, events = await streamed(http, requests // 4, clients)
    finally:
        process.terminate()
        process.wait()
    alone.sort()
    together.sort()
    return {
        "server": server,
        "alone_p50_ms": round(statistics.median(alone) * 1e3, 2),
        "alone_p99_ms": round(alone[int(len(alone) * 0.99)] * 1e3, 2),
        "requests_per_s": round(len(together) / seconds, 1),
        "together_p99_ms": round(together[int(len(together) * 0.99)] * 1e3, 2),
        "events_per_s": round(events / stream_seconds, 1),
        "us_per_event": round(stream_seconds / events * 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--server", choices=["uvicorn", "granian"], default="uvicorn")
    args = parser.parse_args()
    card = asyncio.run(measure(args.server, args.requests, args.clients, args.tokens))
    for name, value in card.items():
        print(f"{name:>18}  {value}")
    print(json.dumps({"bench": "gateway", **card}))


if __name__ == "__main__":
    main()
