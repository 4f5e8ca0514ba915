"""One line of a batch, asked of the application itself as its own client would: so it meets the same readers, policies,
limits, ledger and enforcement as any request, and its answer has the same bytes. No socket is between, and who asks is
known already; no secret of theirs is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from litestar import Litestar
from litestar.types import ASGIApp, Message, Scope

from gateway.access import Record
from gateway.auth import Caller
from gateway.batches.batch_store import Used

BEHIND_OTHERS = 1
"""The priority of batches; the smallest numbers come first, and all other requests have 0."""

MAX_REST = 3600.0
"""Seconds that a line waits, at most, before it is asked again."""


@dataclass(slots=True)
class Answered:
    """``headers``: lower-case. ``body``: JSON."""

    request_id: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def rest_seconds(self) -> float | None:
        """Seconds after which this may be answered otherwise; None: it is the answer."""
        wait = self.headers.get("retry-after", "")
        return min(float(wait), MAX_REST) if self.status in (429, 503) and wait.isdigit() else None

    @property
    def used(self) -> Used:
        if self.status != 200:
            return Used()
        usage = msgspec.json.decode(self.body, type=_Told).usage
        cached = usage.input_tokens_details or usage.prompt_tokens_details or _CachedTokens()
        reasoning = usage.output_tokens_details or usage.completion_tokens_details or _ReasoningTokens()
        return Used(
            usage.input_tokens or usage.prompt_tokens,
            cached.cached_tokens,
            usage.output_tokens or usage.completion_tokens,
            reasoning.reasoning_tokens,
        )


class InProcess:
    """Asks ``app``, which is inside of `gateway.access.Access`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def ask(self, caller: Caller, path: str, body: bytes) -> Answered:
        """The answer, whatever it is. A caller cancelled in here leaves nothing running."""
        record = Record("POST", caller=caller, priority=BEHIND_OTHERS)
        answered = Answered(record.request_id)
        request: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if request:
                return request.pop()
            # The client does not go away.
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.status = message["status"]
                pairs = message["headers"]
                answered.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}
            elif message["type"] == "http.response.body":
                answered.body += message["body"]

        try:
            await self._app(_scope(path, body, record), cast(Any, receive), cast(Any, send))
        finally:
            if record.span is not None:
                record.span.end(answered.status, record.fields)
        return answered


@asynccontextmanager
async def running(app: Litestar) -> AsyncIterator[InProcess]:
    """An application without a server around it. What goes wrong is raised as it is: Litestar's task group would wrap
    it."""
    try:
        async with app.lifespan():
            yield InProcess(app)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _scope(path: str, body: bytes, record: Record) -> Scope:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": None,
        "extensions": {},
        "state": {},
        "sluice.record": record,
    }
    return cast(Scope, scope)


class _CachedTokens(msgspec.Struct):
    cached_tokens: int = 0


class _ReasoningTokens(msgspec.Struct):
    reasoning_tokens: int = 0


class _Usage(msgspec.Struct):
    """In the words of Responses and Decisions, or of chat and completions."""

    input_tokens: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    completion_tokens: int = 0
    input_tokens_details: _CachedTokens | None = None
    prompt_tokens_details: _CachedTokens | None = None
    output_tokens_details: _ReasoningTokens | None = None
    completion_tokens_details: _ReasoningTokens | None = None


class _Told(msgspec.Struct):
    usage: _Usage
