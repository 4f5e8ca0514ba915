"""Items as they are kept: each with an id, a status and its text in parts, as OpenAI's lists show them; and found again
by their ids, for their own tenant only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import uuid4

import msgspec
from msgspec import Raw
from sqlalchemy import Connection, delete, insert, select

from gateway.database.database import Database
from gateway.errors import ApiError, from_decoding, invalid
from gateway.paging import Page
from gateway.policy.merging import merged
from gateway.storing.tables import StoredItem
from providers.base import ANYBODY
from schemas.openai.items import ItemList
from schemas.policy import Policy

PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "cto",
}
MAX_ID = 100
"""Characters of an item's id."""

_fields = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


class _Named(msgspec.Struct):
    id: str


class _Head(msgspec.Struct):
    """What is looked at of an item before anything else."""

    id: str | None = None
    type: str | None = None
    role: str | None = None


_head = msgspec.json.Decoder(_Head)
_named = msgspec.json.Decoder(_Named)
_policy = msgspec.json.Decoder(Policy)


@dataclass(frozen=True, slots=True)
class Said:
    """Items that a request goes on from or refers to, and the rules that hold for them."""

    items: list[Raw]
    rules: Policy


def rules_of(texts: Iterable[str]) -> Policy:
    """The rules of several kept things, given as JSON, as one."""
    return merged([_policy.decode(text) for text in sorted(set(texts))] or [ANYBODY])


def identified(raw: Raw, place: str, id: str | None = None) -> Raw:
    """A well-formed item, as it is kept. ``id``: what to call it if it has no name. Raises `ApiError` for too long a
    name."""
    head = _head.decode(raw)
    kind = head.type or "message"
    named = head.id or id or f"{PREFIXES[kind]}_{uuid4().hex}"
    if len(named) > MAX_ID:
        raise invalid(f"'{place}.id' has more than {MAX_ID} characters.", f"{place}.id")
    fields = {name: value for name, value in _fields.decode(raw).items() if bytes(value) != b"null"}
    content = fields.get("content")
    if content is not None and bytes(content).startswith(b'"'):
        part = b'{"type":"output_text","annotations":[],"text":' if head.role == "assistant" else _INPUT_TEXT
        fields["content"] = Raw(b"[" + part + bytes(content) + b"}]")
    kept = {"id": Raw(_encode(named)), "type": Raw(_encode(kind)), "status": Raw(b'"completed"')}
    return Raw(_encode(kept | fields))


_INPUT_TEXT = b'{"type":"input_text","text":'


def id_of(item: Raw) -> str:
    """Of an item that is kept."""
    return _named.decode(item).id


async def resolved(items: Sequence[Raw], database: Database | None, tenant: str, param: str) -> Said:
    """``items`` with what their references mean. Raises `ApiError` for one that means nothing."""
    found: list[Raw] = []
    rules: list[str] = []
    for i, raw in enumerate(items):
        place = f"{param}[{i}]"
        try:
            head = _head.decode(raw)
        except msgspec.DecodeError as error:
            raise from_decoding(error, place) from None
        if head.type == "item_reference":
            kept = await _meant(head.id, database, tenant, place)
            raw = Raw(kept.data.encode())
            rules.append(kept.rules)
        found.append(raw)
    return Said(found, rules_of(rules))


async def _meant(id: str | None, database: Database | None, tenant: str, place: str) -> StoredItem:
    if id is None:
        raise invalid(f"Missing required parameter: '{place}.id'.", f"{place}.id", "missing_required_parameter")
    found: StoredItem | None = None
    if database is not None:
        mine = select(StoredItem).where(StoredItem.tenant == tenant, StoredItem.id == id)
        async with database.reading() as session:
            found = await session.scalar(mine.order_by(StoredItem.owner).limit(1))
    if found is None:
        raise ApiError(404, f"Item with id '{id}' not found.", param=f"{place}.id", code="item_not_found")
    return found


def paged(items: Sequence[Raw], page: Page) -> ItemList:
    """A page of ``items``, which are in the order of their making. Raises `ApiError` for an ``after`` that is none."""
    ordered = list(items if page.ascending else reversed(items))
    if page.after is not None:
        ids = [id_of(item) for item in ordered]
        if page.after not in ids:
            raise invalid(f"Invalid value for 'after': there is no item '{page.after[:MAX_ID]}' here.", "after")
        ordered = ordered[ids.index(page.after) + 1 :]
    shown = ordered[: page.limit]
    first, last = (id_of(shown[0]), id_of(shown[-1])) if shown else (None, None)
    return ItemList(shown, len(ordered) > page.limit, first, last)


def put_items(
    connection: Connection, owner: str, tenant: str, items: Iterable[Raw], rules: str, begin: int = 0
) -> None:
    """Of several with one name the last one is kept, and it takes the place of one that the owner has. ``rules``: JSON.
    ``begin``: the position of the first."""
    rows = {
        id_of(item): {
            "owner": owner,
            "tenant": tenant,
            "position": begin + i,
            "rules": rules,
            "data": bytes(item).decode(),
        }
        for i, item in enumerate(items)
    }
    if rows:
        connection.execute(delete(StoredItem).where(StoredItem.owner == owner, StoredItem.id.in_(rows)))
        connection.execute(insert(StoredItem), [{"id": id, **row} for id, row in rows.items()])
