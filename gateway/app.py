"""The HTTP application: routes and who may call them. One Litestar app, one wrapper around it, no other middleware.

Reading order: `body` → `constraint` → `asking` → `answer`, with `chat`, `completions`, `responses` and `messages`
as its shapes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from litestar import Litestar, Request, Router, get, post
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from gateway.access import Access, record_of, tenant_of
from gateway.answer import Asked, answer
from gateway.auth import KeyRing
from gateway.batches.batch_store import BatchStore
from gateway.batches.in_process import InProcess
from gateway.batches.opening import open_runner
from gateway.batches.routes import batch_routes
from gateway.chat import read_chat
from gateway.completions import read_completion
from gateway.database.place import database_at
from gateway.database.sweeping import Sweeping
from gateway.database.sweeps import sweeps
from gateway.decisions import decide
from gateway.entrance import Connection, Entrance
from gateway.errors import ApiError, error_response
from gateway.files.file_store import FileStore
from gateway.files.routes import file_routes
from gateway.health import health_of
from gateway.inspecting import inspect
from gateway.keys.stored import StoredKeys
from gateway.ledger.figures import LedgerFigures
from gateway.ledger.forgetting import Forgetting
from gateway.ledger.ledger import Ledger
from gateway.ledger.limiting import LimitBook
from gateway.ledger.usage import show_usage
from gateway.messages import count_tokens, read_message
from gateway.metrics import Metrics
from gateway.models import list_models, show_model
from gateway.pages import page_routes
from gateway.policy.asking import sent_by
from gateway.reloading import Reloading
from gateway.responses import ResponseReader
from gateway.routing.explaining import explain
from gateway.routing.figures import BreakerFigures, RoutingFigures
from gateway.routing.opening import breakers, open_router, succeeding
from gateway.storing.background import Background
from gateway.storing.conversation_routes import conversation_routes
from gateway.storing.conversation_store import ConversationStore
from gateway.storing.response_store import ResponseStore
from gateway.storing.routes import stored_routes
from gateway.systemone import answer as answer_systemone
from gateway.tokenizing import detokenize, tokenize
from gateway.tracing import Tracing, open_tracing
from gateway.unserved import unserved
from providers.base import Provider, Weigher
from providers.remote.recognition import Recogniser
from schemas.config import Settings

JSON = "application/json"


class Reader(Protocol):
    """Understands the requests of one endpoint. Raises `ApiError`."""

    async def __call__(
        self, request: Request[Any, Any, Any], provider: Provider, *, tenant: str, id: str, created: int
    ) -> Asked: ...


@dataclass(frozen=True, slots=True)
class Application:
    """``app``: everything but `gateway.access.Access`, which a server has around it. ``provider``: whoever answers."""

    app: Litestar
    provider: Provider
    metrics: Metrics


def create_app(
    engine: Provider, settings: Settings, tracing: Tracing | None = None, reloading: Reloading | None = None
) -> ASGIApp:
    """`assemble`, as a server runs it."""
    assembled = assemble(engine, settings, tracing, reloading)
    return Access(assembled.app, assembled.metrics)


def assemble(
    engine: Provider, settings: Settings, tracing: Tracing | None = None, reloading: Reloading | None = None
) -> Application:
    """The application over ``engine``, this server's own provider, and over those of the settings; it starts and stops
    them. ``tracing``: instead of what the settings say. ``reloading``: whoever tells of new settings."""
    traces = tracing or open_tracing(settings.telemetry)
    metrics = Metrics()
    ring = KeyRing(settings.auth.keys, settings.auth.required)
    database = database_at(settings.database.url)
    stored = StoredKeys(database)
    entrance = Entrance(ring, stored)
    book = LimitBook(settings.limits, stored.limits)
    ledger = Ledger(database, book, figures=LedgerFigures(metrics.registry, by_key=settings.telemetry.by_key))
    store = ResponseStore(database, settings.responses, ledger.worker) if settings.responses.store else None
    conversations = ConversationStore(database, settings.responses) if store else None
    background = Background(store) if store else None
    recogniser = Recogniser()
    provider = open_router(engine, settings, ledger, recogniser, RoutingFigures(metrics.registry))
    metrics.registry.register(BreakerFigures(partial(breakers, provider)))
    files = FileStore(database, settings.files) if settings.files.store else None
    batches = BatchStore(database, ledger.worker) if files else None
    runner = open_runner(batches, files, settings, metrics, provider, entrance.goes_on) if batches and files else None
    forgetting = Forgetting(settings.retention)
    sweeping = Sweeping(database, sweeps(forgetting))
    started = int(time.time())

    async def authenticate(connection: Connection, _: BaseRouteHandler) -> None:
        entrance.admit(connection)

    def weigher() -> Weigher:
        if not isinstance(engine, Weigher):
            raise ApiError(404, "No model that is served here can decide.", code="unsupported_endpoint")
        return provider

    def generating(path: str, prefix: str, operation: str, read: Reader) -> HTTPRouteHandler:
        @post(path, status_code=200)
        async def handler(request: Request[Any, Any, Any]) -> ASGIResponse:
            record = record_of(request.scope)
            id = f"{prefix}{uuid4().hex}"
            asked = await read(request, provider, tenant=tenant_of(request), id=id, created=int(time.time()))
            mine = [sent_by(one, record.caller, request.headers) for one in asked.requests]
            asked = replace(asked, requests=[replace(one, priority=record.priority) for one in mine])
            record.fields["model"] = asked.requests[0].model
            record.span = traces.start(operation, asked.requests[0], request.headers)
            return await answer(request, provider, metrics, asked)

        return handler

    responses = ResponseReader(store, conversations, background, provider.effective)
    generation = [
        generating("/chat/completions", "chatcmpl-", "chat", read_chat),
        generating("/completions", "cmpl-", "text_completion", read_completion),
        generating("/responses", "resp_", "chat", responses),
        generating("/messages", "msg_", "chat", read_message),
    ]

    @post("/messages/count_tokens", status_code=200, media_type=JSON)
    async def message_tokens(request: Request[Any, Any, Any]) -> bytes:
        return await count_tokens(request, provider)

    @post("/decisions", status_code=200, media_type=JSON)
    async def decisions(request: Request[Any, Any, Any]) -> bytes:
        return await decide(request, provider, weigher(), metrics, id=f"dec_{uuid4().hex}")

    @post("/systemone", status_code=200, media_type=JSON)
    async def systemone(request: Request[Any, Any, Any]) -> bytes:
        return await answer_systemone(request, provider, weigher(), metrics, id=f"dec_{uuid4().hex}")

    @post("/tokenize", status_code=200, media_type=JSON, guards=[authenticate])
    async def tokens(request: Request[Any, Any, Any]) -> bytes:
        return await tokenize(request, provider)

    @post("/detokenize", status_code=200, media_type=JSON, guards=[authenticate])
    async def text(request: Request[Any, Any, Any]) -> bytes:
        return await detokenize(request, provider)

    @post("/compile", status_code=200, media_type=JSON)
    async def compile(request: Request[Any, Any, Any]) -> bytes:
        return await inspect(request, provider)

    @get("/usage", media_type=JSON)
    async def own_usage(request: Request[Any, Any, Any]) -> bytes:
        return await show_usage(request, database, tenant_of(request))

    @post("/route/explain", status_code=200, media_type=JSON)
    async def explained(request: Request[Any, Any, Any]) -> bytes:
        asked = await read_chat(request, provider, tenant=tenant_of(request), id="explain", created=int(time.time()))
        return await explain(provider, sent_by(asked.requests[0], record_of(request.scope).caller, request.headers))

    @get("/models", media_type=JSON)
    async def models() -> bytes:
        return list_models(provider, started)

    @get("/models/{model:path}", media_type=JSON)
    async def model(request: Request[Any, Any, Any]) -> bytes:
        # A path, not a segment: hub ids have a slash.
        return show_model(provider, str(request.path_params["model"]).removeprefix("/"), started)

    def own_health(request: Request[Any, Any, Any]) -> bytes:
        return health_of(reloading, knows=entrance.knows(request))

    others = [
        compile,
        decisions,
        systemone,
        message_tokens,
        own_usage,
        explained,
        models,
        model,
        *stored_routes(store, background),
        *conversation_routes(conversations, provider.effective),
        *file_routes(files),
        *batch_routes(batches, files, runner, settings.batches),
        *unserved(),
    ]

    async def apply(told: Settings) -> None:
        await provider.take(*await asyncio.to_thread(succeeding, provider.directory, told, recogniser))
        ring.take(told.auth.keys, told.auth.required)
        book.take(told.limits)
        forgetting.take(told.retention)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:
            closing.callback(traces.shutdown)
            closing.push_async_callback(database.aclose)
            await database.open()
            closing.push_async_callback(stored.aclose)
            await stored.open()
            closing.push_async_callback(ledger.aclose)
            await ledger.open()
            closing.callback(recogniser.close)
            closing.push_async_callback(provider.aclose)
            await provider.start()
            closing.push_async_callback(sweeping.aclose)
            sweeping.open()
            if reloading is not None:
                closing.push_async_callback(reloading.aclose)
                reloading.open(apply, metrics.registry)
            if background is not None:
                closing.push_async_callback(background.aclose)
            if runner is not None:
                closing.push_async_callback(runner.aclose)
                runner.start(InProcess(app))
            yield

    app = Litestar(
        [
            Router("/v1", route_handlers=[*generation, *others], guards=[authenticate]),
            tokens,
            text,
            *page_routes(provider, metrics, own_health),
        ],
        exception_handlers={Exception: error_response},
        lifespan=[lifespan],
        logging_config=None,
        openapi_config=None,
        request_max_body_size=settings.server.max_body_bytes,
    )
    return Application(app, provider, metrics)
