"""Servers to be killed: everything is imported once, and each line on standard input forks one more, which says its
process id and port. A line is the URL of a database, and the port of a fault server or nothing: where there is one, all
four APIs of it are the server's remote providers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec

import gateway.app
from gateway import logs
from gateway.ledger.ledger import Ledger
from gateway.server import server
from providers.base import Delta, Finished, GenerateRequest, GenerationEvent, Usage
from schemas.config import Database, Server, Settings
from schemas.limits import ScopedLimit
from schemas.providers import Timeouts
from schemas.routing import Price, Route, Target
from tests.gateway.fakes import FakeProvider
from tests.providers.fault_server import FaultServer
from tests.providers.remote_cases import APIS, MODEL, settings_for

LIMITS = (ScopedLimit(per="total", tokens=10**9, usd="1000000"), ScopedLimit(per="month", requests=10**9))
PRICES = tuple(
    Price(provider=api, prompt_usd_per_mtok="1", cached_usd_per_mtok="0.5", completion_usd_per_mtok="2") for api in APIS
)
BEAT_SECONDS = 0.1


async def speak(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    """Some milliseconds long, and of as many tokens as the request's id says."""
    tokens = int(request.id[-2:], 16) % 9 + 1
    for _ in range(tokens):
        yield Delta(0, "word ")
        await asyncio.sleep(0.001)
    yield Finished(0, "stop")
    yield Usage(7, 0, tokens)


def settings(url: str, remote: FaultServer | None) -> Settings:
    """``all`` is the route over every API of ``remote``."""
    given = Settings(server=Server(port=0), limits=LIMITS, database=Database(url=url))
    if remote is None:
        return given
    return msgspec.structs.replace(
        given,
        # A busy machine is no fault: nobody is given up for being slow.
        providers=tuple(settings_for(remote, api, timeouts=Timeouts()) for api in APIS),
        routes=(Route(name="all", targets=tuple(Target(provider=api, model=MODEL) for api in APIS)),),
        prices=PRICES,
    )


def serve(url: str, remote: FaultServer | None) -> None:
    provider = FakeProvider()
    provider.script = speak
    running = server(settings(url, remote), provider)
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
        url, *port = line.split()
        if os.fork() == 0:
            serve(url, FaultServer(port=int(port[0])) if port else None)
            os._exit(0)


if __name__ == "__main__":
    main()
