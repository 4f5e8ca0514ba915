"""A call to a provider until it is answered: retries, circuit breaker, and the meter that each attempt is reported to.

    breaker ─▶ a place ─▶ key ─▶ leg ─▶ HTTP ─▶ reader ─▶ events …, Usage
       └──────────── again, after a wait, while nothing has been given out ◀──┘ Failure

Full jitter (Brooker, "Exponential Backoff And Jitter", 2015): a wait is drawn from 0 to a bound that doubles. What the
provider asks for in Retry-After is the least.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

import msgspec
import structlog

from providers.base import CallDelta, Delta, GenerationEvent, Leg, ProviderError, Usage
from providers.remote.breaker import CircuitBreaker
from providers.remote.dialect import Ask, BrokenAnswer, Dialect, Reader
from providers.remote.events import events
from providers.remote.failures import Failure
from providers.remote.keys import Key
from providers.remote.transport import JSON, STREAM, Answering, Sending, Transport
from schemas.providers import ProviderSettings

log = structlog.get_logger()
DRAIN_S = 1.0
"""What a server has to end its stream after its last event, for the connection to be used again."""

BYTES_A_TOKEN = 4
"""Of a guess."""

_encode = msgspec.json.Encoder().encode


class Caller:
    """Calls one provider."""

    def __init__(self, settings: ProviderSettings, dialect: Dialect) -> None:
        self.breaker = CircuitBreaker(settings.breaker)
        self._settings = settings
        self._dialect = dialect
        self._transport = Transport(settings)
        self._key = Key(settings)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def call(self, ask: Ask, *, held: bool) -> AsyncGenerator[GenerationEvent, None]:
        """The events of one answer, Usage last. ``held``: none before all are there, so that an answer that breaks off
        can be asked for again. Raises `ProviderError`."""
        attempt = 1
        while True:
            given = False
            try:
                async with aclosing(self._once(ask)) as answer:
                    if held:
                        whole = [event async for event in answer]
                        given = True
                        for event in whole:
                            yield event
                    else:
                        async for event in answer:
                            given = True
                            yield event
                return
            except Failure as failure:
                wait = self._wait(failure, attempt)
                if given or wait is None:
                    raise
                log.warning("remote call again", provider=self._settings.name, attempt=attempt, reason=failure.message)
            attempt += 1
            await asyncio.sleep(wait)

    def _wait(self, failure: Failure, attempt: int) -> float | None:
        """Seconds until the next attempt, None where there is none."""
        retries = self._settings.retries
        least = failure.retry_after or 0.0
        if not failure.again or attempt >= retries.attempts or least > retries.max_s:
            return None
        return max(least, random.uniform(0, min(retries.max_s, retries.base_s * 2 ** (attempt - 1))))

    async def _once(self, ask: Ask) -> AsyncGenerator[GenerationEvent, None]:
        if not self.breaker.admit():
            message = f"Provider `{self._settings.name}` has failed again and again, and is left alone for a while."
            wait = max(1.0, self.breaker.wait)
            raise Failure("unavailable", message, executed=False, again=False, health="unknown", retry_after=wait)
        try:
            async with self._transport.place():
                key = self._key()
                meter = ask.request.meter
                leg = await meter.leg() if meter is not None else _Unmetered()
                async with aclosing(self._metered(ask, key, leg)) as answer:
                    async for event in answer:
                        yield event
        except Failure as failure:
            told = {"well": self.breaker.succeeded, "ill": self.breaker.failed, "unknown": self.breaker.withdrawn}
            told[failure.health]()
            raise
        except BaseException:
            self.breaker.withdrawn()
            raise
        self.breaker.succeeded()

    async def _metered(self, ask: Ask, key: str | None, leg: Leg) -> AsyncGenerator[GenerationEvent, None]:
        """Tells the leg how the call ended, however it does."""
        reader = self._dialect.reader(ask)
        sending = Sending()
        characters = 0
        body = _encode(self._dialect.body(ask))
        try:
            accept = STREAM if ask.stream else JSON
            headers = self._dialect.headers(key)
            async with self._transport.post(self._dialect.path(ask), body, headers, accept, sending) as answering:
                async with aclosing(self._read(answering, reader)) as read:
                    async for event in read:
                        if isinstance(event, Delta | CallDelta):
                            characters += len(event.text if isinstance(event, Delta) else event.arguments)
                        yield event
        except Failure as failure:
            await (leg.unknown() if failure.executed and sending.begun else leg.release())
            raise
        except ProviderError:
            # The API declined, and has said all that it will.
            await (leg.settle(reader.usage) if reader.usage is not None else leg.unknown())
            raise
        except BaseException:
            await (leg.unknown() if sending.begun else leg.release())
            raise
        if reader.usage is None:
            await leg.unknown()
            guess = max(1, len(body) // BYTES_A_TOKEN), max(1, characters // BYTES_A_TOKEN)
            yield Usage(guess[0], 0, guess[1], estimated=True)
        else:
            await leg.settle(reader.usage)
            yield reader.usage

    async def _read(self, answering: Answering, reader: Reader) -> AsyncGenerator[GenerationEvent, None]:
        try:
            if answering.media_type == STREAM:
                async with aclosing(events(answering.chunks, self._settings.limits.event_bytes)) as stream:
                    async for data in stream:
                        for event in reader.event(data):
                            yield event
                        if reader.done:
                            break
                await _drain(answering.chunks)
                reader.end()
            elif answering.media_type == JSON:
                body = b"".join([chunk async for chunk in answering.chunks])
                for event in reader.whole(body):
                    yield event
            else:
                raise BrokenAnswer("its content type is neither JSON nor an event stream")
        except BrokenAnswer as broken:
            raise self._transport.broken(str(broken)) from None


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    with suppress(TimeoutError, Failure):
        async with asyncio.timeout(DRAIN_S):
            async for _ in chunks:
                pass


class _Unmetered:
    """The leg of a call that nobody pays for."""

    async def settle(self, usage: Usage) -> None: ...

    async def release(self) -> None: ...

    async def unknown(self) -> None: ...
