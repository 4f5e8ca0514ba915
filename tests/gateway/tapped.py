"""A server in a process of its own, so that all it logs can be read: settings as JSON on standard input, its port on
standard output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from gateway import logs
from gateway.server import server
from providers.base import Candidate, Delta, Finished, GenerateRequest, GenerationEvent, ScoredToken, Usage
from schemas.config import Settings
from tests.gateway.fakes import FakeProvider


async def speak(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    text = '{"name": "Ann", "ages": []}' if request.constraint is not None else "Noted."
    await asyncio.sleep(0.001)
    scores = () if request.sampling.logprobs is None else (ScoredToken(Candidate(0, text.encode(), -0.1)),)
    for choice in range(request.n):
        yield Delta(choice, text, scores)
        yield Finished(choice, "stop")
    yield Usage(7, 0, 3 * request.n)


def main() -> None:
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=Settings)
    logs.configure("debug")
    provider = FakeProvider()
    provider.script = speak
    running = server(settings, provider)
    startup = running.startup

    async def announce(sockets: Any = None) -> None:
        await startup(sockets)
        print(running.servers[0].sockets[0].getsockname()[1], flush=True)

    running.startup = announce
    running.run()


if __name__ == "__main__":
    main()
