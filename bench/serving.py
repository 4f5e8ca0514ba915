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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(server: str, application: str, workers: int = 1, **environment: str) -> Running:
    """``application``: a factory, as ``module:name``."""
    port = free_port()
    commands = {
        "uvicorn": ["uvicorn", "--no-access-log", "--log-level", "warning", "--port", str(port)],
        "granian": ["granian", "--interface", "asgi", "--log-level", "warning", "--port", str(port)],
    }
    command = [sys.executable, "-m", *commands[server], "--workers", str(workers), "--factory", application]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
    return Running(f"http://127.0.0.1:{port}", process)


async def ready(http: httpx.AsyncClient, path: str = "/ready") -> None:
    for _ in range(1200):
        try:
            await http.get(path)
            return
        except httpx.TransportError:
            await asyncio.sleep(0.05)
    raise TimeoutError("the server did not start")
