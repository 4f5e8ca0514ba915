"""What the HTTP side adds to a provider that answers at once, beside a bare Litestar server and LiteLLM's proxy.

    python -m bench.gateway --face [--litellm .venv-clients/peers/bin/litellm] [--rounds 7] [--each 25]

Added latency: Sluice and a Litestar handler that echoes an answer of the same size are asked in turn, plain and
streamed; the figure is the median over the rounds of the difference of the round's medians, for streams by chunk.
Under load: 300 requests a second that wait for nobody, and as many as 16 connections get from two workers. LiteLLM's
proxy, with two workers too, stands in front of the same null engine. The client is a socket with requests written
beforehand, so that it takes little of the cores that it shares with the servers.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from litestar import Litestar, Request, Response, post
from litestar.response import Stream

from bench.serving import ASK, Running, free_port, ready, start

ANSWERED, STREAMED = 8, 64
"""Tokens of plain answers and of streams."""

RATE = 300
"""Requests a second."""

CONNECTIONS = 16
ECHOED = json.dumps({"choices": [{"message": {"role": "assistant", "content": " token" * ANSWERED}}]}).encode()
CHUNK = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" token"}}]}\n\n'


def echo() -> object:
    """The bare server: it reads the body and answers with what a model might have said."""

    @post("/v1/chat/completions", status_code=200)
    async def chat(request: Request[Any, Any, Any]) -> Response[bytes] | Stream:
        asked = await request.json()
        if not asked.get("stream"):
            return Response(ECHOED, media_type="application/json")

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(STREAMED):
                yield CHUNK
                await asyncio.sleep(0)

        return Stream(chunks(), media_type="text/event-stream")

    return Litestar([chat], openapi_config=None)


class Connection:
    """One kept alive, with its requests written beforehand."""

    def __init__(self, url: str, **fields: object) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        body = json.dumps({**ASK, **fields}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
        self._request = f"{head}authorization: Bearer sk-bench\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    async def open(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def ask(self) -> float:
        """Seconds until the last byte of the answer."""
        began = time.perf_counter()
        self._writer.write(self._request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(head.decode())
        if b"content-length:" in head:
            await self._reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        else:
            while size := int(await self._reader.readline(), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readline()
        return time.perf_counter() - began

    def close(self) -> None:
        self._writer.close()


async def added(ours: str, bare: str, rounds: int, each: int, **fields: object) -> float:
    """Seconds that a request takes longer at ``ours``."""
    one, other = await Connection(ours, **fields).open(), await Connection(bare, **fields).open()
    for connection in (one, other) * each:
        await connection.ask()
    times = [[(await one.ask(), await other.ask()) for _ in range(each)] for _ in range(rounds)]
    one.close()
    other.close()
    return statistics.median(
        statistics.median(a for a, _ in pairs) - statistics.median(b for _, b in pairs) for pairs in times
    )


async def at_rate(url: str, seconds: float) -> list[float]:
    """Seconds from when each request was due to its answer, sorted."""
    free = asyncio.Queue[Connection]()  # in turn: a server closes those that idle
    for _ in range(CONNECTIONS):
        free.put_nowait(await Connection(url).open())
    began = time.perf_counter()

    async def one(due: float) -> float:
        connection = await free.get()
        await connection.ask()
        free.put_nowait(connection)
        return time.perf_counter() - due

    asked: list[asyncio.Task[float]] = []
    for i in range(int(RATE * seconds)):
        due = began + i / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(one(due)))
    times = sorted(await asyncio.gather(*asked))
    while not free.empty():
        free.get_nowait().close()
    return times


async def throughput(url: str, requests: int) -> float:
    """Requests a second that `CONNECTIONS` get."""
    connections = [await Connection(url).open() for _ in range(CONNECTIONS)]

    async def several(connection: Connection) -> None:
        for _ in range(requests // CONNECTIONS):
            await connection.ask()

    began = time.perf_counter()
    await asyncio.gather(*map(several, connections))
    taken = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return requests / taken


def behind_litellm(litellm: str, folder: Path, upstream: str) -> Running:
    """LiteLLM's proxy in front of a server, which it calls by the same model."""
    behind = {"model": f"openai/{ASK['model']}", "api_base": f"{upstream}/v1", "api_key": "none"}
    config = folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": [{"model_name": ASK["model"], "litellm_params": behind}]}))
    port = free_port()
    command = [litellm, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "2"]
    environment = {**os.environ, "LITELLM_MASTER_KEY": "sk-bench", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    silent = subprocess.DEVNULL
    return Running(
        f"http://127.0.0.1:{port}",
        subprocess.Popen(command, cwd=folder, env=environment, stdout=silent, stderr=silent),
    )


async def wait_for(url: str, path: str = "/ready") -> None:
    async with httpx.AsyncClient(base_url=url, timeout=5) as http:
        await ready(http, path)


async def compare(rounds: int, each: int, litellm: str | None, server: str = "uvicorn") -> dict[str, Any]:
    """The card."""
    found: dict[str, Any] = {"bench": "gateway_face"}
    ours = partial(start, server, "bench.gateway:application")
    running = [
        ours(BENCH_TOKENS=str(ANSWERED)),
        ours(BENCH_TOKENS=str(STREAMED)),
        ours(BENCH_TOKENS=str(ANSWERED), workers=2),
        start(server, "bench.face:echo"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        try:
            plain, streaming, two, bare = (each_server.url for each_server in running)
            await asyncio.gather(*map(wait_for, (plain, streaming, two, bare)))
            found["added_p50_ms"] = round(1e3 * await added(plain, bare, rounds, each), 2)
            longer = await added(streaming, bare, rounds, each, stream=True)
            found["added_by_chunk_ms"] = round(1e3 * longer / STREAMED, 3)
            times = await at_rate(two, 10)
            found["p50_at_300_per_s_ms"] = round(1e3 * statistics.median(times), 2)
            found["p99_at_300_per_s_ms"] = round(1e3 * times[int(0.99 * len(times))], 2)
            await throughput(two, 800)
            found["requests_per_s"] = round(await throughput(two, 8000), 1)
            if litellm:
                running.append(behind_litellm(litellm, Path(folder), plain))
                await wait_for(running[-1].url, "/health/liveliness")
                await throughput(running[-1].url, 160)
                found["litellm_requests_per_s"] = round(await throughput(running[-1].url, 960), 1)
                found["ratio"] = round(found["requests_per_s"] / found["litellm_requests_per_s"], 2)
        finally:
            for each_server in running:
                each_server.stop()
    return found
