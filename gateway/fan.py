"""Several prompts of one completion request as one generation: choices are numbered on from prompt to prompt.

prompt 0, n = 2  ─▶ choices 0 1  ┐
prompt 1, n = 2  ─▶ choices 2 3  ┴─▶ one stream of events, in the order they come
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Protocol

from providers.base import GenerateRequest, Generation, GenerationEvent, Served, Usage


class Answering(Protocol):
    """The part of a `Provider` that answers, and whoever stands before one."""

    async def generate(self, request: GenerateRequest) -> Generation: ...


async def generate(provider: Answering, requests: list[GenerateRequest]) -> Generation:
    """Admit all requests or none. Raises `ProviderError`."""
    if len(requests) == 1:
        return await provider.generate(requests[0])
    admitted: list[Generation] = []
    try:
        for request in requests:
            admitted.append(await provider.generate(request))
    except BaseException:
        await asyncio.gather(*(generation.aclose() for generation in admitted))
        raise
    return Fan(admitted, requests[0].n)


class Fan:
    """A `Generation` over generations of ``n`` choices each."""

    def __init__(self, parts: list[Generation], n: int) -> None:
        self._parts = parts
        self._n = n
        self._tasks: list[asyncio.Task[None]] = []
        self.admission = replace(
            parts[0].admission,
            prompt_tokens=sum(part.admission.prompt_tokens for part in parts),
            allowances=parts[-1].admission.allowances,
            served=_together([part.admission.served for part in parts]),
        )

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        events: asyncio.Queue[GenerationEvent | BaseException | None] = asyncio.Queue()

        async def forward(first: int, part: Generation) -> None:
            try:
                async for event in part:
                    numbered = event if isinstance(event, Usage) else replace(event, choice=event.choice + first)
                    events.put_nowait(numbered)
                events.put_nowait(None)
            except Exception as error:
                events.put_nowait(error)

        self._tasks = [asyncio.create_task(forward(i * self._n, part)) for i, part in enumerate(self._parts)]
        total = Usage(0, 0, 0)
        running = len(self._tasks)
        while running:
            match await events.get():
                case None:
                    running -= 1
                case Usage() as used:
                    total += used
                case BaseException() as error:
                    raise error
                case event:
                    yield event
        if self.admission.served is not None:
            self.admission.served.nano_usd = _sum([part.admission.served for part in self._parts])
        yield total

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(part.aclose() for part in self._parts))


def _together(parts: list[Served | None]) -> Served | None:
    """Who answered several prompts: the first one's, with how many were asked for all of them."""
    served = [part for part in parts if part is not None]
    if not served:
        return None
    return replace(served[0], attempts=sum(part.attempts for part in served))


def _sum(parts: list[Served | None]) -> int | None:
    costs = [part.nano_usd for part in parts if part is not None]
    return None if None in costs else sum(cost or 0 for cost in costs)
