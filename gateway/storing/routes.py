"""``GET`` and ``DELETE /v1/responses/{id}``, and ``POST`` to its ``cancel``: what was stored, for its own tenant."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler

from gateway.access import tenant_of
from gateway.errors import ApiError, invalid
from gateway.storing.background import Background
from gateway.storing.response_store import ResponseStore
from schemas.openai.response_events import DeletedResponse

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


class _Kind(msgspec.Struct):
    """What is looked at of a stored body."""

    background: bool


def stored_routes(store: ResponseStore | None, background: Background | None) -> list[HTTPRouteHandler]:
    """Without a store every response is one that there is not."""

    async def body_of(request: Request[Any, Any, Any]) -> bytes:
        id = str(request.path_params["id"])
        found = await store.find(id, tenant_of(request)) if store else None
        if found is None:
            raise not_found(id)
        return found.body.encode()

    @get("/responses/{id:str}", media_type=JSON)
    async def show(request: Request[Any, Any, Any]) -> bytes:
        if request.query_params.get("stream", "false") != "false":
            raise invalid("A stored response cannot be streamed.", "stream", "unsupported_parameter")
        return await body_of(request)

    @delete("/responses/{id:str}", status_code=200, media_type=JSON)
    async def forget(request: Request[Any, Any, Any]) -> bytes:
        id = str(request.path_params["id"])
        if store is None or not await store.forget(id, tenant_of(request)):
            raise not_found(id)
        return _encode(DeletedResponse(id))

    @post("/responses/{id:str}/cancel", status_code=200, media_type=JSON)
    async def cancel(request: Request[Any, Any, Any]) -> bytes:
        body = await body_of(request)
        if not msgspec.json.decode(body, type=_Kind).background:
            raise invalid("Only a response that was created with 'background: true' can be cancelled.", "response_id")
        assert background is not None
        await background.cancel(str(request.path_params["id"]), tenant_of(request))
        return await body_of(request)

    return [show, forget, cancel]


def not_found(id: str) -> ApiError:
    return ApiError(404, f"Response with id '{id}' not found.", param="response_id", code="response_not_found")
