"""A generation on its way out, whole or as server-sent events, in whichever shape an endpoint has.

    generate ─▶ headers ─▶ Shape.opening, (Shape.spoken | Shape.finish)*, Shape.closing     streamed
                      └──▶ collect ─▶ Shape.whole                                           plain

A client that goes away ends either: the generation is closed at once, which frees its KV blocks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import structlog
from litestar import Request
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Send

from gateway.access import Record, record_of
from gateway.constraint import Constraint
from gateway.errors import CLIENT_CLOSED, ApiError, from_provider, unexpected
from gateway.fan import Answering, generate
from gateway.ledger.refusals import allowance_headers
from gateway.metrics import Metrics
from gateway.offer import Place
from gateway.serving import cost_header, served_fields, served_headers
from providers.base import (
    Admission,
    CallBegun,
    CallDelta,
    Delta,
    Finished,
    GenerateRequest,
    Generation,
    ProviderError,
    ScoredToken,
    Spoken,
    Thought,
    Usage,
)

DONE = b"data: [DONE]\n\n"
EVENTS = "text/event-stream"
EVENT_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Proxies must not gather events: that is what the second one says to nginx."""

MAX_HEADER = 1000
"""Characters of the reasons a contract header may carry."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(slots=True)
class Said:
    """Text of a plain answer, with its tokens where log-probabilities were asked for."""

    text: str = ""
    tokens: list[ScoredToken] = field(default_factory=list)


@dataclass(slots=True)
class Called:
    """A call of a plain answer; ``arguments``: JSON text, or the input of a custom tool."""

    name: str
    arguments: str = ""
    custom: bool = False


@dataclass(slots=True)
class Choice:
    """A finished choice of a plain answer, ``parts`` in their order. ``thoughts`` came before them."""

    parts: list[Said | Called] = field(default_factory=list)
    thoughts: str = ""
    reason: Literal["stop", "length"] = "length"
    stop: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Said))

    @property
    def tokens(self) -> list[ScoredToken]:
        return [token for part in self.parts if isinstance(part, Said) for token in part.tokens]

    @property
    def calls(self) -> list[Called]:
        return [part for part in self.parts if isinstance(part, Called)]

    def told(self) -> Iterator[tuple[Said | Called, bool]]:
        """The parts, each with whether it is whole: of a choice that was cut, the last one is not."""
        for i, part in enumerate(self.parts):
            yield part, self.reason == "stop" or i + 1 < len(self.parts)

    def hear(self, event: Spoken) -> None:
        match event:
            case Thought():
                self.thoughts += event.text
            case CallBegun():
                self.parts.append(Called(event.name, custom=event.custom))
            case CallDelta():
                called = self.parts[-1]
                assert isinstance(called, Called)
                called.arguments += event.arguments
            case Delta():
                if not self.parts or isinstance(self.parts[-1], Called):
                    self.parts.append(Said())
                said = self.parts[-1]
                assert isinstance(said, Said)
                said.text += event.text
                said.tokens.extend(event.tokens)


class Shape(Protocol):
    """What one endpoint sends. All but `whole` give server-sent events as bytes: several, one, or none (b"")."""

    def opening(self, choices: int, admission: Admission) -> bytes:
        """Before anything is generated."""
        ...

    def spoken(self, event: Spoken) -> bytes: ...
    def finish(self, event: Finished) -> bytes: ...

    def closing(self, usage: Usage) -> bytes:
        """The end of a stream that is whole."""
        ...

    def failure(self, error: ApiError) -> bytes:
        """The end of a stream that is not."""
        ...

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        """The JSON body of a plain answer."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request for text, understood. ``requests``: one for each prompt, which came in ``prompt_field``.
    ``tools``: where the schemas of the offered tools came in. ``extend``: what is laid over the shape once it is known
    how the request was admitted. ``keep``: is done with a whole answer before it is told. ``apart``: takes the rest
    over, which is generated while nobody waits, and gives the body that is answered at once. ``through``: what a
    stream's events pass on their way out; if the request is ``detached`` they are generated whoever listens."""

    requests: list[GenerateRequest]
    prompt_field: str
    constraint: Constraint | None
    shape: Shape
    stream: bool
    tools: tuple[Place, ...] = ()
    extend: Callable[[Shape, Admission], Shape] = lambda shape, _: shape
    keep: Callable[[], Awaitable[None]] | None = None
    apart: Callable[[Coroutine[Any, Any, bytes]], Awaitable[bytes]] | None = None
    through: Callable[[AsyncGenerator[bytes, None]], Awaitable[AsyncGenerator[bytes, None]]] | None = None
    detached: bool = False

    @property
    def choices(self) -> int:
        return sum(request.n for request in self.requests)


async def answer(request: Request[Any, Any, Any], provider: Answering, metrics: Metrics, asked: Asked) -> ASGIResponse:
    """Raises `ApiError` for whatever is found out before the first byte goes out."""
    record = record_of(request.scope)
    delivery = Delivery(provider, metrics, asked, record, str(request.scope.get("path_template", "")), asked.shape)
    if asked.stream:
        generation = await unless_gone(request.receive, delivery.admit(), metrics)
        events = delivery.events(generation)
        if asked.through is not None:
            try:
                events = await asked.through(events)
            except BaseException:
                await generation.aclose()
                raise
        return EventStream(events, None if asked.detached else generation, record, metrics)
    if asked.apart is not None:
        generation = await unless_gone(request.receive, delivery.admit(), metrics)
        rest = delivery.rest(generation)
        try:
            begun = await asked.apart(rest)
        except BaseException:
            rest.close()
            await generation.aclose()
            raise
        return ASGIResponse(body=begun, media_type="application/json")
    body = await unless_gone(request.receive, delivery.whole(), metrics)
    return ASGIResponse(body=body, media_type="application/json")


@dataclass(slots=True)
class Delivery:
    """What the two ways out share."""

    provider: Answering
    metrics: Metrics
    asked: Asked
    record: Record
    route: str
    shape: Shape

    async def admit(self) -> Generation:
        try:
            generation = await generate(self.provider, self.asked.requests)
        except ProviderError as error:
            raise self._understood(error) from error
        self.record.headers.update(_enforcement(generation, self.asked.constraint))
        self.record.headers.update(allowance_headers(generation.admission.allowances))
        self.record.fields.update(contract=generation.admission.contract or None, stream=self.asked.stream)
        if (served := generation.admission.served) is not None:
            self.record.headers.update(served_headers(served))
            self.record.fields.update(served_fields(served))
        self.shape = self.asked.extend(self.asked.shape, generation.admission)
        return generation

    async def whole(self) -> bytes:
        return await self.rest(await self.admit())

    async def rest(self, generation: Generation) -> bytes:
        """The body of a plain answer that is admitted."""
        choices = [Choice() for _ in range(self.asked.choices)]
        used = Usage(0, 0, 0)
        try:
            async for event in generation:
                match event:
                    case Delta() | Thought() | CallBegun() | CallDelta():
                        self._first_token()
                        choices[event.choice].hear(event)
                    case Finished(number, reason, stop):
                        choices[number].reason, choices[number].stop = reason, stop
                    case Usage():
                        used = event
        except ProviderError as error:
            raise self._understood(error) from error
        finally:
            await generation.aclose()
        if (served := generation.admission.served) is not None:
            self.record.headers.update(cost_header(served))
            self.record.fields.update(served_fields(served))
        self._account(used, [choice.reason for choice in choices])
        body = self.shape.whole(choices, used)
        if self.asked.keep is not None:
            await self.asked.keep()
        return body

    async def events(self, generation: Generation) -> AsyncGenerator[bytes, None]:
        shape = self.shape
        reasons: list[str] = []
        if opening := shape.opening(self.asked.choices, generation.admission):
            yield opening
        try:
            async for event in generation:
                match event:
                    case Delta(text="", tokens=()):
                        pass
                    case Delta() | Thought() | CallBegun() | CallDelta():
                        self._first_token()
                        if spoken := shape.spoken(event):
                            yield spoken
                    case Finished():
                        reasons.append(event.reason)
                        if finish := shape.finish(event):
                            yield finish
                    case Usage():
                        if (served := generation.admission.served) is not None:
                            self.record.fields.update(served_fields(served))
                        self._account(event, reasons)
                        yield shape.closing(event)
        except ProviderError as error:
            yield self._failure(self._understood(error))
        except ApiError as error:  # the ledger lets no further call be made
            yield self._failure(error)
        except Exception as error:
            # The status line is out: a stream can only say so itself, and must, lest a cut answer look whole.
            log.exception("stream failed", exc_info=error)
            yield self._failure(unexpected())
        finally:
            await generation.aclose()

    def _understood(self, error: ProviderError) -> ApiError:
        return from_provider(error, self.asked.constraint, self.asked.prompt_field, self.asked.tools)

    def _failure(self, error: ApiError) -> bytes:
        self.record.fields["error"] = error.code
        return self.asked.shape.failure(error)

    def _first_token(self) -> None:
        if "ttft_ms" not in self.record.fields:
            seconds = self.record.elapsed()
            self.record.fields["ttft_ms"] = round(seconds * 1000, 1)
            self.metrics.first_token.labels(self.route).observe(seconds)

    def _account(self, used: Usage, reasons: list[str]) -> None:
        self.record.fields.update(
            prompt_tokens=used.prompt,
            cached_tokens=used.cached,
            completion_tokens=used.completion,
            finish_reasons=reasons,
        )


class EventStream(ASGIStreamingResponse):
    """A streamed answer that closes its generation however it ends, before the request is accounted for; without one,
    it is generated elsewhere."""

    __slots__ = ("_events", "_generation", "_metrics", "_record")

    def __init__(
        self, events: AsyncGenerator[bytes, None], generation: Generation | None, record: Record, metrics: Metrics
    ) -> None:
        super().__init__(iterator=events, media_type=EVENTS, headers=EVENT_HEADERS)
        self._events = events
        self._generation = generation
        self._record = record
        self._metrics = metrics

    async def send_body(self, send: Send, receive: Receive) -> None:
        try:
            await super().send_body(send, receive)
        finally:
            if self._generation is not None:
                await self._generation.aclose()
            await self._events.aclose()
            if "completion_tokens" not in self._record.fields and "error" not in self._record.fields:
                self._record.fields["error"] = "client_closed"
                self._metrics.disconnects.inc()


def event_stream(events: AsyncGenerator[bytes, None]) -> ASGIResponse:
    """Events of something that goes on whoever listens."""
    return ASGIStreamingResponse(iterator=events, media_type=EVENTS, headers=EVENT_HEADERS)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T], metrics: Metrics) -> T:
    """The result of ``work``, which is cancelled when the client goes away first. Raises `ApiError` then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            metrics.disconnects.inc()
            raise ApiError(CLIENT_CLOSED, "The client closed the connection.", code="client_closed")
        return task.result()
    finally:
        for unfinished in (task, gone):
            unfinished.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def sent(data: bytes, event: str = "") -> bytes:
    """A server-sent event; ``event`` is its type, if it has one."""
    named = b"event: " + event.encode() + b"\n" if event else b""
    return named + b"data: " + data + b"\n\n"


def _enforcement(generation: Generation, constraint: Constraint | None) -> dict[str, str]:
    """Headers that say what was enforced, and how exactly."""
    admission = generation.admission
    headers = {"x-sluice-enforced": admission.enforcement or "none"}
    if admission.contract:
        headers["x-sluice-contract"] = admission.contract
    if admission.reasons:
        headers["x-sluice-contract-reasons"] = json.dumps(admission.reasons)[:MAX_HEADER]
    if constraint is not None and constraint.deprecated:
        headers["x-sluice-deprecated"] = constraint.param
    return headers
