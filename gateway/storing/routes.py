"""``GET`` and ``DELETE /v1/responses/{id}``: what was stored, for its own tenant."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, delete, get
from litestar.handlers import HTTPRouteHandler

from gateway.access import record_of
from gateway.errors import ApiError, invalid
from gateway.storing.response_store import ResponseStore
from schemas.openai.response_events import DeletedResponse

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


def stored_routes(store: ResponseStore | None) -> list[HTTPRouteHandler]:
    """Without a store every response is one that there is not."""

    @get("/responses/{id:str}", media_type=JSON)
    async def show(request: Request[Any, Any, Any]) -> bytes:
        if request.query_params.get("stream", "false") != "false":
            raise invalid("A stored response cannot be streamed.", "stream", "unsupported_parameter")
        id = str(request.path_params["id"])
        found = await store.find(id, _tenant(request)) if store else None
        if found is None:
            raise not_found(id)
        return found.body.encode()

    @delete("/responses/{id:str}", status_code=200, media_type=JSON)
    async def forget(request: Request[Any, Any, Any]) -> bytes:
        id = str(request.path_params["id"])
        if store is None or not await store.forget(id, _tenant(request)):
            raise not_found(id)
        return _encode(DeletedResponse(id))

    return [show, forget]


def not_found(id: str) -> ApiError:
    return ApiError(404, f"Response with id '{id}' not found.", param="response_id", code="response_not_found")


def _tenant(request: Request[Any, Any, Any]) -> str:
    caller = record_of(request.scope).caller
    return caller.tenant if caller else ""
