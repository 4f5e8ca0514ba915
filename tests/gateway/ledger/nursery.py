"""Servers to be killed: everything is imported once, and each line on standard input, the URL of a database, forks one
more, which says its process id and port."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import gateway.app
from gateway import logs
from gateway.ledger.ledger import Ledger
from gateway.server import server
from providers.base import Delta, Finished, GenerateRequest, GenerationEvent, Usage
from schemas.config import Database, Server, Settings
from schemas.limits import ScopedLimit
from tests.gateway.fakes import FakeProvider

LIMITS = (ScopedLimit(per="total", tokens=10**9), ScopedLimit(per="month", requests=10**9))
BEAT_SECONDS = 0.1


async def speak(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    """Some milliseconds long, and of as many tokens as the request's id says."""
    tokens = int(request.id[-2:], 16) % 9 + 1
    for _ in range(tokens):
        yield Delta(0, "word ")
        await asyncio.sleep(0.001)
    yield Finished(0, "stop")
    yield Usage(7, 0, tokens)


def serve(url: str) -> None:
    provider = FakeProvider()
    provider.script = speak
    running = server(Settings(server=Server(port=0), limits=LIMITS, database=Database(url=url)), provider)
    startup = running.startup

    async def announce(sockets: Any = None) -> None:
        await startup(sockets)
        print(os.getpid(), running.servers[0].sockets[0].getsockname()[1], flush=True)

    running.startup = announce
    running.run()


def main() -> None:
    logs.configure("error")
    # Killed children are nobody's business.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gateway.app.Ledger = partial(Ledger, beat_seconds=BEAT_SECONDS)  # type: ignore[assignment]
    for line in sys.stdin:
        if os.fork() == 0:
            serve(line.strip())
            os._exit(0)


if __name__ == "__main__":
    main()
