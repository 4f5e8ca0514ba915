"""Servers killed under load, again and again: no answer that a client has is missing in the ledger, and every meter
shows what its legs are charged."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.database.database import Database
from gateway.database.place import database_at
from gateway.ledger.limiting import Amounts
from tests.gateway.fakes import MODEL
from tests.gateway.ledger.accounts import Books, books

ROOT = Path(__file__).parents[3]
CLIENTS = 8
PATIENCE_S = 120

Body = Callable[[int], dict[str, Any]]
"""What a client, by its number, asks next."""


class Nursery:
    """Starts servers: (process id, base URL). ``remote``: the port of a fault server that they have as providers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, database: str, remote: int | None = None) -> tuple[int, str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{database} {remote or ''}\n")
        self._process.stdin.flush()
        pid, port = self._process.stdout.readline().split()
        return int(pid), f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def servers() -> Iterator[Nursery]:
    yield from nursery()


def nursery() -> Iterator[Nursery]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.gateway.ledger.nursery"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield Nursery(process)
    process.kill()
    process.communicate()


def local(client: int) -> dict[str, Any]:
    """The body of a request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}


async def ask(http: httpx.AsyncClient, asked: dict[str, Any], stream: bool) -> tuple[str, int]:
    """The id of an answer and its tokens. Raises `httpx.TransportError` for one that did not end."""
    if not stream:
        answer = (await http.post("/v1/chat/completions", json=asked)).raise_for_status().json()
    else:
        asked = asked | {"stream": True, "stream_options": {"include_usage": True}}
        async with http.stream("POST", "/v1/chat/completions", json=asked) as streamed:
            events = [line async for line in streamed.aiter_lines() if line.startswith("data: {")]
        answer = msgspec.json.decode(events[-1].removeprefix("data: ")) if events else {}
        if not answer.get("usage"):
            raise httpx.RemoteProtocolError("The stream was cut.")
    return answer["id"], answer["usage"]["total_tokens"]


async def load(url: str, body: Body, log: dict[str, int], enough: int, killing: asyncio.Event) -> None:
    """Ask until ``enough`` answers are in the log, which is when the server may be killed."""

    async def one_client(http: httpx.AsyncClient, number: int) -> None:
        while not killing.is_set():
            try:
                id, tokens = await ask(http, body(number), stream=number % 2 == 0)
                log[id] = tokens
                if len(log) >= enough:
                    killing.set()
            except httpx.TransportError:
                assert killing.is_set(), "the server failed before it was killed"

    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        await asyncio.gather(*(one_client(http, i) for i in range(CLIENTS)))


async def kill_under_load(
    servers: Nursery, database: str, times: int, seed: int, body: Body = local, remote: int | None = None
) -> dict[str, int]:
    """What clients have received, as id → tokens."""
    moments, log = random.Random(seed), dict[str, int]()
    for _ in range(times):
        pid, url = await asyncio.to_thread(servers.start, database, remote)
        killing = asyncio.Event()
        asking = asyncio.create_task(load(url, body, log, len(log) + moments.randrange(5, 40), killing))
        await asyncio.wait_for(killing.wait(), PATIENCE_S)
        await asyncio.sleep(moments.uniform(0, 0.01))
        os.kill(pid, signal.SIGKILL)
        await asking
    return log


async def recovered(database: Database) -> Books:
    """The books once the server that runs has found what the killed ones had reserved."""
    for _ in range(10 * PATIENCE_S):
        found = await books(database)
        if not found.states["reserved"]:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("reservations of the dead were not found")


async def kill_and_count(servers: Nursery, url: str, times: int, seed: int = 1) -> None:
    log = await kill_under_load(servers, url, times, seed)
    pid, _ = await asyncio.to_thread(servers.start, url)
    database = database_at(url)
    found = await recovered(database)
    os.kill(pid, signal.SIGKILL)
    await database.aclose()
    legs = {leg.request: leg for leg in found.legs}
    assert len(legs) == len(found.legs), "a request was charged twice"
    assert len(log) >= 5 * times
    assert {id: legs[id].charged_tokens for id in log} == log
    assert {legs[id].state for id in log} == {"settled"}
    for leg in found.legs:
        if leg.state == "unknown":
            assert leg.charged_tokens == leg.reserved_tokens >= leg.prompt_tokens + leg.completion_tokens
    total = Amounts(len(legs), sum(leg.charged_tokens for leg in found.legs), 0)
    assert set(found.meters.values()) == {total}
    assert len(found.meters) == 2
    assert found.states["unknown"] <= times * CLIENTS


async def test_a_server_killed_under_load(servers: Nursery, database_url: str) -> None:
    await kill_and_count(servers, database_url, times=3)


@pytest.mark.slow
async def test_a_server_killed_fifty_times(servers: Nursery, database_url: str) -> None:
    await kill_and_count(servers, database_url, times=50, seed=random.randrange(2**32))
