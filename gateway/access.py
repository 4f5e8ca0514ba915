"""What is known of each HTTP request, and the one wrapper around the application that uses it.

`Access` gives every request an id and every answer (also Litestar's own 404s and 500s) its headers, and when the
request is over it counts it, logs one line, and ends its trace. Prompts, answers and keys are never in a record.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import structlog
from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from gateway.auth import Caller
from gateway.errors import ANTHROPIC_PATH
from gateway.metrics import Metrics
from gateway.tracing import Span

log = structlog.get_logger()

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Method names that may label a figure; clients can invent others without end."""

PROBES = frozenset({"/health", "/ready", "/metrics"})


@dataclass(slots=True)
class Record:
    """``started``: seconds, monotonic. ``caller``: known beforehand of what the server asks of itself. ``priority``: as
    of `providers.base.GenerateRequest`. ``fields``: what handlers add to the log line. ``headers``: lower-case."""

    method: str
    request_id: str = field(default_factory=lambda: f"req_{uuid4().hex}")
    started: float = field(default_factory=time.perf_counter)
    status: int = 0
    caller: Caller | None = None
    priority: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    span: Span | None = None

    def elapsed(self) -> float:
        """Seconds since the request came in."""
        return time.perf_counter() - self.started


def record_of(scope: Scope) -> Record:
    return scope["sluice.record"]  # type: ignore[typeddict-item]


def tenant_of(request: Request[Any, Any, Any]) -> str:
    """Whose request it is: "" on an open server."""
    caller = record_of(request.scope).caller
    return caller.tenant if caller else ""


class Access:
    """ASGI middleware outside everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = Record(scope["method"])
        scope["sluice.record"] = record  # type: ignore[typeddict-unknown-key]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                record.headers["x-request-id"] = record.request_id
                if scope["path"].startswith(ANTHROPIC_PATH):
                    record.headers["request-id"] = record.request_id
                record.headers["openai-processing-ms"] = str(round(record.elapsed() * 1000))
                added = [(name.encode("ascii"), value.encode("ascii")) for name, value in record.headers.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=record.request_id)
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._metrics.in_flight.dec()
            self._finish(record, scope.get("path_template") or "unmatched")
            structlog.contextvars.unbind_contextvars("request_id")

    def _finish(self, record: Record, route: str) -> None:
        seconds = record.elapsed()
        method = record.method if record.method in METHODS else "other"
        self._metrics.requests.labels(route, method, str(record.status)).inc()
        self._metrics.duration.labels(route).observe(seconds)
        if record.span is not None:
            record.span.end(record.status, record.fields)
        # Probes come every few seconds: they are worth a line only to those who look for them.
        say = log.debug if route in PROBES else log.info
        say(
            "request",
            method=record.method,
            route=route,
            status=record.status,
            ms=round(seconds * 1000, 1),
            caller=record.caller.name or None if record.caller else None,
            **record.fields,
        )
