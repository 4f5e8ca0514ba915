"""What the gateway itself costs: requests a second and latency over a provider that answers at once.

    python -m bench.gateway [--requests 2000] [--clients 16] [--tokens 64] [--server uvicorn|granian]
    python -m bench.gateway --route     what policy, routing and ledger add (bench.route)
    python -m bench.gateway --face      what the HTTP side adds, beside LiteLLM's proxy (bench.face)

Three shapes of load, each against a server in a process of its own: plain answers one after another, plain answers from
many clients, and streams, whose chunks are counted. Prints a card, and one JSON line for machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time

import httpx

from bench import face, route
from bench.serving import ASK, provider, ready, start


def application() -> object:
    """What granian is told to load, and uvicorn too."""
    from gateway import logs
    from gateway.app import create_app
    from schemas.config import Settings

    logs.configure("warning")
    return create_app(provider(), Settings())


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
    running = start(server, "bench.gateway:application", BENCH_TOKENS=str(tokens))
    try:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as http:
            await ready(http)
            await plain(http, 50, 1)
            _, alone = await plain(http, requests // 4, 1)
            seconds, together = await plain(http, requests, clients)
            stream_seconds, events = await streamed(http, requests // 4, clients)
    finally:
        running.stop()
    alone.sort()
    together.sort()
    return {
        "bench": "gateway",
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
    compared = parser.add_mutually_exclusive_group()
    compared.add_argument("--route", action="store_true", help="compare with and without policy, routing and ledger")
    compared.add_argument(
        "--face", action="store_true", help="compare with a bare Litestar server, and LiteLLM's proxy"
    )
    parser.add_argument("--litellm", help="its command, with --face")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--each", type=int, default=25)
    args = parser.parse_args()
    if args.litellm and not args.face:
        parser.error("--litellm goes with --face")
    if args.route:
        card = asyncio.run(route.compare(args.rounds, args.each, args.server))
    elif args.face:
        card = asyncio.run(face.compare(args.rounds, args.each, args.litellm, args.server))
    else:
        card = asyncio.run(measure(args.server, args.requests, args.clients, args.tokens))
    for name, value in card.items():
        print(f"{name:>18}  {value}")
    print(json.dumps(card))


if __name__ == "__main__":
    main()
