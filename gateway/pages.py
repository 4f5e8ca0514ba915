"""What a server shows of itself to everybody: that it lives, whether it is ready, its figures and its description. No
key is needed; probes and Prometheus have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from litestar import HttpMethod, MediaType, Request, Response, get, route
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway import openapi
from gateway.metrics import Metrics
from providers.base import Provider, ProviderError

JSON = "application/json"
PROBING = [HttpMethod.GET, HttpMethod.HEAD]

log = structlog.get_logger()


def page_routes(
    provider: Provider, metrics: Metrics, health: Callable[[Request[Any, Any, Any]], bytes]
) -> list[HTTPRouteHandler]:
    """``health``: the body of ``GET /health``."""

    @route("/health", http_method=PROBING, media_type=JSON)
    async def alive(request: Request[Any, Any, Any]) -> bytes:
        return health(request)

    @route("/ready", http_method=PROBING, media_type=JSON)
    async def ready() -> Response[bytes]:
        if provider.ready:
            return Response(b'{"status":"ready"}', media_type=JSON)
        return Response(b'{"status":"not ready"}', status_code=503, media_type=JSON)

    @get("/schema", media_type=JSON)
    async def schema() -> bytes:
        return openapi.encoded()

    @get("/docs", media_type=MediaType.HTML)
    async def docs() -> str:
        return openapi.page()

    @get("/metrics")
    async def figures() -> Response[bytes]:
        try:
            report = await provider.report()
        except ProviderError as error:
            log.warning("no report from the engine", reason=error.message)
            report = None
        metrics.engine.fold(report)
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return [alive, ready, schema, docs, figures]
