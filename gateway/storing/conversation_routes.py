"""``/v1/conversations``: begin, show, label and forget one, and its items, each tenant its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Raw

from gateway.access import record_of, tenant_of
from gateway.body import read_struct
from gateway.errors import ApiError
from gateway.items import read_item
from gateway.paging import MICROSECONDS, Page, read_page
from gateway.policy.asking import standing
from gateway.policy.merging import merged
from gateway.storing.conversation_store import ConversationStore, no_conversation
from gateway.storing.kept_items import Said, id_of, identified, paged, resolved
from gateway.storing.tables import StoredConversation
from providers.base import GenerateRequest
from schemas.openai.items import (
    MAX_ITEMS,
    Conversation,
    ConversationRequest,
    ConversationUpdate,
    DeletedConversation,
    ItemsRequest,
)
from schemas.openai.responses import INPUT_ITEMS
from schemas.policy import Policy

JSON = "application/json"
INCLUDES = ("include", "include[]")
"""They ask for nothing that items here have more of."""

_making = msgspec.json.Decoder(ConversationRequest)
_labelling = msgspec.json.Decoder(ConversationUpdate)
_adding = msgspec.json.Decoder(ItemsRequest)
_encode = msgspec.json.Encoder().encode


def conversation_routes(
    store: ConversationStore | None, effective: Callable[[GenerateRequest], Policy]
) -> list[HTTPRouteHandler]:
    """Without a store all of it is refused by name. ``effective``: all policies that hold for a request, as one."""

    def kept() -> ConversationStore:
        if store is None:
            raise ApiError(404, "Conversations are not kept here (`responses.store`).", code="unsupported_endpoint")
        return store

    async def found(request: Request[Any, Any, Any]) -> StoredConversation:
        id = str(request.path_params["id"])
        conversation = await kept().find(id, tenant_of(request))
        if conversation is None:
            raise no_conversation(id, "conversation_id")
        return conversation

    async def read(items: list[Raw], request: Request[Any, Any, Any]) -> Said:
        """Items that a request adds, held to what holds for who brings them."""
        given = await resolved(items, kept().database, tenant_of(request), "items")
        rules = merged([given.rules, standing(effective, record_of(request.scope).caller, request.headers)])
        for i, item in enumerate(given.items):
            read_item(item, f"items[{i}]", INPUT_ITEMS)
        return Said([identified(item, f"items[{i}]") for i, item in enumerate(given.items)], rules)

    @post("/conversations", status_code=200, media_type=JSON)
    async def make(request: Request[Any, Any, Any]) -> bytes:
        kept()
        asked = await read_struct(request, _making)
        said = await read(asked.items or [], request)
        labels = _encode(asked.metadata or {}).decode()
        return _encode(_shown(await kept().make(tenant_of(request), labels, said)))

    @get("/conversations/{id:str}", media_type=JSON)
    async def show(request: Request[Any, Any, Any]) -> bytes:
        return _encode(_shown(await found(request)))

    @post("/conversations/{id:str}", status_code=200, media_type=JSON)
    async def label(request: Request[Any, Any, Any]) -> bytes:
        conversation = await found(request)
        asked = await read_struct(request, _labelling)
        await kept().label(conversation.id, conversation.tenant, _encode(asked.metadata or {}).decode())
        return _encode(_shown(await found(request)))

    @delete("/conversations/{id:str}", status_code=200, media_type=JSON)
    async def forget(request: Request[Any, Any, Any]) -> bytes:
        id = str(request.path_params["id"])
        if not await kept().forget(id, tenant_of(request)):
            raise no_conversation(id, "conversation_id")
        return _encode(DeletedConversation(id))

    @post("/conversations/{id:str}/items", status_code=200, media_type=JSON)
    async def add(request: Request[Any, Any, Any]) -> bytes:
        conversation = await found(request)
        asked = await read_struct(request, _adding)
        said = await read(asked.items, request)
        if not await kept().add(conversation.id, conversation.tenant, said):
            raise no_conversation(conversation.id, "conversation_id")
        return _encode(paged(said.items, Page(None, MAX_ITEMS, ascending=True)))

    @get("/conversations/{id:str}/items", media_type=JSON)
    async def listed(request: Request[Any, Any, Any]) -> bytes:
        page = read_page(request.query_params, default=20, most=100, others=INCLUDES)
        conversation = await found(request)
        return _encode(paged((await kept().said(conversation.id)).items, page))

    @get("/conversations/{id:str}/items/{item:str}", media_type=JSON)
    async def item(request: Request[Any, Any, Any]) -> bytes:
        conversation = await found(request)
        name = str(request.path_params["item"])
        for one in (await kept().said(conversation.id)).items:
            if id_of(one) == name:
                return bytes(one)
        raise _no_item(name)

    @delete("/conversations/{id:str}/items/{item:str}", status_code=200, media_type=JSON)
    async def remove(request: Request[Any, Any, Any]) -> bytes:
        conversation = await found(request)
        name = str(request.path_params["item"])
        if not await kept().remove(conversation.id, name):
            raise _no_item(name)
        return _encode(_shown(conversation))

    return [make, show, label, forget, add, listed, item, remove]


def _no_item(name: str) -> ApiError:
    return ApiError(404, f"Item with id '{name}' not found.", param="item_id", code="item_not_found")


def _shown(conversation: StoredConversation) -> Conversation:
    labels = msgspec.json.decode(conversation.labels, type=dict[str, str])
    return Conversation(conversation.id, conversation.created_at // MICROSECONDS, labels)
