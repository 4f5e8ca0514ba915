"""The answer of whoever won, as the one `Generation` that the gateway sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from gateway.routing.bill import Bill
from gateway.routing.leg import Leg
from providers.base import GenerationEvent, ProviderError, Served, Usage

Change = Callable[[GenerationEvent], GenerationEvent]


class RoutedGeneration:
    """``leg`` has begun. ``bill``: of all legs. ``deadline``: seconds on the loop's clock. ``kept``: the events, where
    they were read before. ``change`` is done to each event."""

    def __init__(
        self,
        leg: Leg,
        bill: Bill,
        served: Served,
        deadline: float | None = None,
        kept: list[GenerationEvent] | None = None,
        change: Change | None = None,
    ) -> None:
        self.admission = replace(leg.admission, served=served, allowances=bill.allowances)
        self._leg = leg
        self._bill = bill
        self._served = served
        self._deadline = deadline
        self._kept = kept
        self._change = change
        self._finally: Callable[[], None] | None = None

    def finally_call(self, done: Callable[[], None]) -> None:
        """``done`` is called once, when this is closed."""
        self._finally = done

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        async for event in self._events():
            if isinstance(event, Usage):
                self._served.nano_usd = self._bill.nano_usd
            yield self._change(event) if self._change else event

    async def _events(self) -> AsyncIterator[GenerationEvent]:
        if self._kept is not None:
            for event in self._kept:
                yield event
            return
        events = self._leg.events()
        if self._deadline is None:
            async for event in events:
                yield event
            return
        while True:
            try:
                async with asyncio.timeout_at(self._deadline):
                    event = await anext(events, None)
            except TimeoutError:
                raise late() from None
            if event is None:
                return
            yield event

    async def aclose(self) -> None:
        try:
            await self._leg.close()
        finally:
            done, self._finally = self._finally, None
            if done is not None:
                done()


def late() -> ProviderError:
    return ProviderError("deadline", "The answer took longer than the request's policy allows (max_total_s).")
