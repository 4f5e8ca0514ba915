"""``GET`` and ``DELETE /v1/responses/{id}``, its ``input_items``, and ``POST`` to its ``cancel``: what was stored, for
its own tenant."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from msgspec import Raw

from gateway.access import tenant_of
from gateway.answer import event_stream
from gateway.errors import ApiError, invalid
from gateway.paging import read_page
from gateway.storing.background import Background
from gateway.storing.journal import follow
from gateway.storing.kept_items import identified, paged
from gateway.storing.response_store import ResponseStore
from gateway.storing.tables import StoredResponse
from schemas.openai.response_events import DeletedResponse

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


class _Kind(msgspec.Struct):
    """What is looked at of a stored body."""

    background: bool


class _Item(msgspec.Struct):
    status: str


class _Answered(msgspec.Struct):
    output: list[_Item]


def stored_routes(store: ResponseStore | None, background: Background | None) -> list[HTTPRouteHandler]:
    """Without a store every response is one that there is not."""

    async def found(request: Request[Any, Any, Any]) -> StoredResponse:
        id = str(request.path_params["id"])
        response = await store.find(id, tenant_of(request)) if store else None
        if response is None:
            raise not_found(id)
        return response

    @get("/responses/{id:str}", media_type=JSON)
    async def show(request: Request[Any, Any, Any]) -> ASGIResponse:
        asked = request.query_params
        stream, after = _flag(asked.get("stream")), _number(asked.get("starting_after"))
        if after is not None and not stream:
            raise invalid("'starting_after' is allowed only together with 'stream'.", "starting_after")
        _refuse_padding(asked.get("include_obfuscation"))
        response = await found(request)
        if not stream:
            return ASGIResponse(body=response.body.encode(), media_type=JSON)
        if not response.streamed:
            raise invalid("Only a response that was created with 'stream: true' can be streamed.", "stream")
        assert store is not None and background is not None
        journal = background.journals.get(response.id)
        first = -1 if after is None else after
        return event_stream(journal.follow(first) if journal else follow(store, response, first))

    @get("/responses/{id:str}/input_items", media_type=JSON)
    async def input_items(request: Request[Any, Any, Any]) -> bytes:
        page = read_page(request.query_params, default=20, most=100, others=("include", "include[]"))
        response = await found(request)
        context = msgspec.json.decode(response.context, type=list[Raw])
        said = sum(item.status == "completed" for item in msgspec.json.decode(response.body, type=_Answered).output)
        items = context[: len(context) - said]
        # Those that were stored by earlier versions have no ids.
        named = [identified(item, f"input[{i}]", f"msg_{response.id}_{i}") for i, item in enumerate(items)]
        return _encode(paged(named, page))

    @delete("/responses/{id:str}", status_code=200, media_type=JSON)
    async def forget(request: Request[Any, Any, Any]) -> bytes:
        id = str(request.path_params["id"])
        if store is None or not await store.forget(id, tenant_of(request)):
            raise not_found(id)
        return _encode(DeletedResponse(id))

    @post("/responses/{id:str}/cancel", status_code=200, media_type=JSON)
    async def cancel(request: Request[Any, Any, Any]) -> bytes:
        response = await found(request)
        if not msgspec.json.decode(response.body, type=_Kind).background:
            raise invalid("Only a response that was created with 'background: true' can be cancelled.", "response_id")
        assert background is not None
        await background.cancel(str(request.path_params["id"]), tenant_of(request))
        return (await found(request)).body.encode()

    return [show, input_items, forget, cancel]


def _flag(text: str | None) -> bool:
    if text not in (None, "true", "false"):
        raise invalid(f"Invalid value for 'stream': '{text[:40]}' is neither 'true' nor 'false'.", "stream")
    return text == "true"


def _number(text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid(f"Invalid value for 'starting_after': '{text[:40]}' is no number.", "starting_after")
    return None if text is None else int(text)


def _refuse_padding(asked: str | None) -> None:
    if asked not in (None, "false"):
        raise invalid("Unsupported parameter: 'include_obfuscation'.", "include_obfuscation", "unsupported_parameter")


def not_found(id: str) -> ApiError:
    return ApiError(404, f"Response with id '{id}' not found.", param="response_id", code="response_not_found")
