"""Lists of items, and conversations (openai SDK 3 types)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw

from schemas.openai.labels import Labels

MAX_ITEMS = 20
"""Items that one request may add to a conversation."""


class Item(msgspec.Struct):
    """One of `schemas.openai.responses.InputItem`, with all that it was kept with."""

    id: str
    type: str
    status: str


class ItemList(msgspec.Struct):
    data: list[Raw]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"


class ConversationRequest(msgspec.Struct, forbid_unknown_fields=True):
    items: Annotated[list[Raw], Meta(max_length=MAX_ITEMS)] | None = None
    metadata: Labels | None = None


class ConversationUpdate(msgspec.Struct, forbid_unknown_fields=True):
    metadata: Labels | None


class ItemsRequest(msgspec.Struct, forbid_unknown_fields=True):
    items: Annotated[list[Raw], Meta(max_length=MAX_ITEMS)]


class Conversation(msgspec.Struct):
    """``created_at``: seconds since 1970."""

    id: str
    created_at: int
    metadata: dict[str, str]
    object: Literal["conversation"] = "conversation"


class DeletedConversation(msgspec.Struct):
    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True
