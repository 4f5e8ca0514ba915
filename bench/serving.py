"""Servers for benchmarks of the gateway, each in a process of its own, over a provider that answers at once."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from providers.base import Provider

ROOT = Path(__file__).resolve().parents[1]
ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}


async def instant(request: object) -> AsyncIterator[object]:
    """``BENCH_TOKENS`` deltas, each on its own turn of the loop, as an engine's steps would come."""
    from providers.base import Delta, Finished, Usage

    tokens = int(os.environ["BENCH_TOKENS"])
    for _ in range(tokens):
        yield Delta(0, " token")
        await asyncio.sleep(0)
    yield Finished(0, "stop")
    yield Usage(8, 0, tokens)


def provider() -> Provider:
    from tests.gateway.fakes import FakeProvider

    found = FakeProvider()
    found.script = instant  # type: ignore[assignment]
    return found


@dataclass(frozen=True)
class Running:
    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def start(server: str, application: str, **environment: str) -> Running:
    """``application``: a factory, as ``module:name``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    commands = {
        "uvicorn": ["uvicorn", "--no-access-log", "--log-level", "warning", "--port", str(port)],
        "granian": ["granian", "--interface", "asgi", "--log-level", "warning", "--port", str(port)],
    }
    command = [sys.executable, "-m", *commands[server], "--factory", application]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
    return Running(f"http://127.0.0.1:{port}", process)


async def ready(http: httpx.AsyncClient) -> None:
    for _ in range(800):
        try:
            await http.get("/ready")
            return
        except httpx.ConnectError:
            await asyncio.sleep(0.05)
    raise TimeoutError("the server did not start")
