"""What policy, routing and ledger add to a request: the same server with and without them, asked in turn.

    python -m bench.gateway --route [--rounds 7] [--each 25]

Both servers stand over a provider that answers at once. One generates straight from it; the other routes, and reserves
and settles each answer in a SQLite file, under limits of requests, tokens and dollars for the key and its tenant. The
figure is the median over the rounds of the difference of the round's medians.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench.serving import ASK, ready, start

KEY = "sk-of-the-benchmark-alone"


def application() -> object:
    """What the server is told to load; ``BENCH_ROUTE`` says whether with a router and a ledger."""
    import gateway.app
    from bench.serving import provider
    from gateway import logs
    from gateway.routing.router import Router
    from schemas.config import ApiKey, Auth, Database, Settings
    from schemas.limits import ScopedLimit

    logs.configure("warning")
    if os.environ["BENCH_ROUTE"] == "without":
        Router.generate = straight  # type: ignore[method-assign]
    sha256 = hashlib.sha256(KEY.encode()).hexdigest()
    settings = Settings(
        auth=Auth(keys=(ApiKey(name="bench", tenant="house", sha256=sha256),)),
        limits=(
            ScopedLimit(key="bench", per="minute", requests=10**9, tokens=10**12),
            ScopedLimit(tenant="house", per="month", usd="1000000"),
        ),
        database=Database(url=os.environ["BENCH_DATABASE"]),
    )
    return gateway.app.create_app(provider(), settings)


async def straight(router: Any, request: Any) -> Any:
    """Instead of a router's way: its engine, asked at once."""
    return await router.directory.members["local"].provider.generate(request)


async def one(http: httpx.AsyncClient) -> float:
    """Seconds that a request took."""
    began = time.perf_counter()
    (await http.post("/v1/chat/completions", json=ASK)).raise_for_status()
    return time.perf_counter() - began


async def compare(rounds: int, each: int, server: str = "uvicorn") -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        servers = [
            start(
                server,
                "bench.route:application",
                BENCH_TOKENS="8",
                BENCH_ROUTE=route,
                BENCH_DATABASE=f"sqlite:///{Path(folder) / f'{route}.db'}",
            )
            for route in ("without", "with")
        ]
        headers = {"authorization": f"Bearer {KEY}"}
        try:
            async with (
                httpx.AsyncClient(base_url=servers[0].url, headers=headers, timeout=60) as without,
                httpx.AsyncClient(base_url=servers[1].url, headers=headers, timeout=60) as with_,
            ):
                await asyncio.gather(ready(without), ready(with_))
                for http in (without, with_) * each:
                    await one(http)
                times = [[(await one(without), await one(with_)) for _ in range(each)] for _ in range(rounds)]
        finally:
            for running in servers:
                running.stop()
    bare = [statistics.median(a for a, _ in pairs) * 1e3 for pairs in times]
    full = [statistics.median(b for _, b in pairs) * 1e3 for pairs in times]
    return {
        "bench": "gateway_route",
        "without_p50_ms": round(statistics.median(bare), 2),
        "with_p50_ms": round(statistics.median(full), 2),
        "added_p50_ms": round(statistics.median(b - a for a, b in zip(bare, full, strict=True)), 2),
        "worst_round_ms": round(max(b - a for a, b in zip(bare, full, strict=True)), 2),
    }
