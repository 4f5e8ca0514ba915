"""One candidate asked: its calls, its generation, and how both end.

The local engine is one call, which is accounted for here. A remote provider makes its own calls (retries and repairs
too) and tells a meter of each. A leg is iterated where it is (`begin`, then `events`), or in a task of its own that
runs ahead (`start`), of which `answered` says when it has its first event: nothing has been delivered until then, so
another candidate can still take over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

from gateway.policy.selection import Candidate, weaker
from gateway.routing.bill import Bill, Call, CandidateMeter
from gateway.routing.directory import Directory
from providers.base import (
    Admission,
    CallBegun,
    CallDelta,
    Delta,
    Enforcement,
    GenerateRequest,
    Generation,
    GenerationEvent,
    ProviderError,
    Thought,
    Usage,
)

Restore = Callable[[AsyncIterator[GenerationEvent]], AsyncIterator[GenerationEvent]]
"""Turns what was hidden from a provider back into what it was, in the provider's events."""


class Leg:
    """``request`` is what is sent, ``decision`` what the ledger keeps of the reason, as JSON. ``least``: how its
    constraint must be held; a provider may only find out while it compiles that it cannot."""

    def __init__(
        self,
        directory: Directory,
        bill: Bill,
        candidate: Candidate,
        request: GenerateRequest,
        decision: str = "",
        restore: Restore | None = None,
        least: Enforcement | None = None,
    ) -> None:
        self.candidate = candidate
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._member = directory.members[candidate.endpoint.name]
        self._paces = directory.paces
        self._figures = directory.figures
        self._most = directory.most(candidate, request)
        self._meter = CandidateMeter(bill, candidate, self._most, decision)
        self._local = candidate.endpoint.hosting == "local"
        self._request = replace(request, model=candidate.model, meter=None if self._local else self._meter)
        self._restore = restore
        self._least: Enforcement | None = least
        self._call: Call | None = None
        self._generation: Generation | None = None
        self._ahead: asyncio.Queue[GenerationEvent | Exception | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._began = 0.0
        self._spoke: float | None = None
        self._bytes = 0

    @property
    def admission(self) -> Admission:
        assert self._generation is not None, "a leg is admitted once it has begun"
        return self._generation.admission

    async def begin(self) -> None:
        """Have the request admitted. Raises `ProviderError`, or what the ledger refuses with."""
        if self._local:
            self._call = await self._meter.leg()
        self._began = time.monotonic()
        try:
            self._generation = await self._member.provider.generate(self._request)
        except ProviderError as error:
            self._figures.failed(self.candidate, error.kind)
            if call := self._taken():
                await call.release()
            raise
        held = self._generation.admission.enforcement
        if self._call is not None:
            self._call.opened.admitted(held)
        if held is not None and weaker(held, self._least):
            message = f"{self.candidate.name} holds this constraint as `{held}`, the policy asks for `{self._least}`."
            raise ProviderError("policy", message, param="sluice.policy.require_enforcement", elsewhere=True)

    async def events(self) -> AsyncIterator[GenerationEvent]:
        """Those of `Generation`. Raises `ProviderError`."""
        if self._task is None:
            async for event in self._straight():
                yield event
            return
        while (event := await self._ahead.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    def start(self, max_ttft_s: float | None) -> None:
        """Run ahead, in a task. A leg that has not answered after ``max_ttft_s`` seconds fails."""
        self._task = asyncio.create_task(self._run())
        if max_ttft_s is not None:
            asyncio.get_running_loop().call_later(max_ttft_s, self._late, max_ttft_s)

    async def close(self) -> None:
        """Free what the provider holds, and account for what was cut short. Idempotent. What is begun here is finished
        although the caller is cancelled."""
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self.answered.done() and not self.answered.cancelled():
            self.answered.exception()
        try:
            if self._generation is not None:
                await self._generation.aclose()
        finally:
            await self._cut()

    async def _run(self) -> None:
        try:
            await self.begin()
            async for event in self._straight():
                self._ahead.put_nowait(event)
                self._answer()
            self._ahead.put_nowait(None)
            self._answer()
        except Exception as error:
            if self.answered.done():
                self._ahead.put_nowait(error)
            else:
                self.answered.set_exception(error)

    def _answer(self) -> None:
        if not self.answered.done():
            self.answered.set_result(None)

    def _late(self, seconds: float) -> None:
        if not self.answered.done():
            assert self._task is not None, "only what runs ahead can be late"
            self._task.cancel()
            self._figures.failed(self.candidate, "deadline")
            message = f"{self.candidate.name} did not begin to answer within {seconds} s (max_ttft_s)."
            self.answered.set_exception(ProviderError("deadline", message, elsewhere=True))

    def _straight(self) -> AsyncIterator[GenerationEvent]:
        events = self._accounted()
        return self._restore(events) if self._restore else events

    async def _accounted(self) -> AsyncIterator[GenerationEvent]:
        """The generation's events. Who has seen a usage finds it in the ledger."""
        assert self._generation is not None, "a leg speaks once it has begun"
        try:
            async for event in self._generation:
                match event:
                    case Delta(text=text) | Thought(text=text) | CallDelta(arguments=text) | CallBegun(name=text):
                        self._heard(text)
                    case Usage():
                        await self._settle(event)
                    case _:
                        pass
                yield event
        except ProviderError as error:
            self._figures.failed(self.candidate, error.kind)
            raise

    def _heard(self, text: str) -> None:
        self._bytes += len(text.encode("utf-8", "surrogatepass"))
        if self._spoke is None:
            self._spoke = time.monotonic()
            self._paces.began(self.candidate.endpoint.name, self.candidate.model, self._spoke - self._began)
            self._figures.began(self.candidate, self._spoke - self._began)
            if self._call is not None:
                self._call.opened.spoken()

    async def _settle(self, usage: Usage) -> None:
        now = time.monotonic()
        self._figures.ended(self.candidate, now - self._began)
        seconds = now - (self._spoke or self._began)
        self._paces.ended(self.candidate.endpoint.name, self.candidate.model, usage.completion, seconds)
        if call := self._taken():
            await call.settle(usage)

    async def _cut(self) -> None:
        """Ended early, without a usage: what the engine did is bounded by what it said."""
        if call := self._taken():
            prompt = self._generation.admission.prompt_tokens if self._generation else 0
            await call.estimate(Usage(prompt, 0, min(self._bytes, self._most.completion)))

    def _taken(self) -> Call | None:
        """The engine's call, to be ended now: nobody else finds it."""
        call, self._call = self._call, None
        return call
