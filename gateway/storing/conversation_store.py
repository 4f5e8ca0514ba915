"""Conversations that clients keep here: items in their order, which requests go on from and add to."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from gateway.database.database import Database
from gateway.errors import ApiError, invalid
from gateway.paging import MICROSECONDS, timed_id
from gateway.storing.kept_items import Said, put_items, rules_of
from gateway.storing.tables import StoredConversation, StoredItem
from schemas.config import Responses

MAX_ITEMS = 2000
"""Items of one conversation. All of them are read for each answer."""

_DAY_US = 86_400 * MICROSECONDS
_encode = msgspec.json.Encoder().encode


class ConversationStore:
    """``clock``: seconds since 1970."""

    def __init__(self, database: Database, settings: Responses, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self._retention_us = int(settings.retention_days * _DAY_US)
        self._clock = clock

    async def make(self, tenant: str, labels: str, said: Said) -> StoredConversation:
        """``labels``: JSON."""
        now = self._now()
        row = {
            "id": timed_id("conv_", now / MICROSECONDS),
            "tenant": tenant,
            "labels": labels,
            "created_at": now,
            "expires_at": now + self._retention_us,
        }
        await self.database.write(partial(_make, row=row, said=said))
        return StoredConversation(**row)

    async def find(self, id: str, tenant: str) -> StoredConversation | None:
        """None for another tenant's, as for one that there is not."""
        async with self.database.reading() as session:
            return await session.scalar(select(StoredConversation).where(*self._there(id, tenant)))

    async def said(self, id: str) -> Said:
        """All of it, in its order."""
        async with self.database.reading() as session:
            rows = select(StoredItem).where(StoredItem.owner == id).order_by(StoredItem.position)
            items = (await session.scalars(rows)).all()
        return Said([Raw(item.data.encode()) for item in items], rules_of(item.rules for item in items))

    async def add(self, id: str, tenant: str, said: Said, most: int | None = MAX_ITEMS) -> bool:
        """Whether it is still there. Raises `ApiError` for more than ``most`` items in it; None: they are answers,
        which were let in beforehand."""
        changed = {"expires_at": self._now() + self._retention_us}
        there = self._there(id, tenant)
        work = partial(_add, id=id, tenant=tenant, there=there, changed=changed, said=said, most=most)
        return await self.database.write(work)

    async def label(self, id: str, tenant: str, labels: str) -> bool:
        """Whether there is one. ``labels``: JSON."""
        changed = update(StoredConversation).where(*self._there(id, tenant)).values(labels=labels)
        return await self.database.write(lambda connection: connection.execute(changed).rowcount > 0)

    async def forget(self, id: str, tenant: str) -> bool:
        """Whether there was one."""
        return await self.database.write(partial(_forget, id=id, there=self._there(id, tenant)))

    async def remove(self, id: str, item: str) -> bool:
        """Whether the conversation had such an item."""
        removed = delete(StoredItem).where(StoredItem.owner == id, StoredItem.id == item)
        return await self.database.write(lambda connection: connection.execute(removed).rowcount > 0)

    def _there(self, id: str, tenant: str) -> tuple[ColumnElement[bool], ...]:
        return (
            StoredConversation.id == id,
            StoredConversation.tenant == tenant,
            StoredConversation.expires_at > self._now(),
        )

    def _now(self) -> int:
        return int(self._clock() * MICROSECONDS)


def no_conversation(id: str, param: str) -> ApiError:
    return ApiError(404, f"Conversation with id '{id}' not found.", param=param, code="conversation_not_found")


def full() -> ApiError:
    return invalid(f"A conversation holds {MAX_ITEMS} items here.", "conversation", "conversation_full")


def forget_conversations(connection: Connection, *, now: int, limit: int) -> int:
    """A `gateway.database.sweeping.Sweep`; nobody has found these since they expired."""
    expired = select(StoredConversation.id).where(StoredConversation.expires_at <= now).limit(limit)
    ids = connection.execute(expired).scalars().all()
    connection.execute(delete(StoredItem).where(StoredItem.owner.in_(ids)))
    connection.execute(delete(StoredConversation).where(StoredConversation.id.in_(ids)))
    return len(ids)


def _make(connection: Connection, row: dict[str, Any], said: Said) -> None:
    connection.execute(insert(StoredConversation).values(row))
    put_items(connection, row["id"], row["tenant"], said.items, _encode(said.rules).decode())


def _add(
    connection: Connection,
    id: str,
    tenant: str,
    there: tuple[ColumnElement[bool], ...],
    changed: dict[str, int],
    said: Said,
    most: int | None,
) -> bool:
    # This also lets nobody else add to it until the transaction ends.
    if connection.execute(update(StoredConversation).where(*there).values(changed)).rowcount == 0:
        return False
    counted = select(func.count(), func.max(StoredItem.position)).where(StoredItem.owner == id)
    count, last = connection.execute(counted).one()
    if most is not None and count + len(said.items) > most:
        raise full()
    begin = 0 if last is None else last + 1
    put_items(connection, id, tenant, said.items, _encode(said.rules).decode(), begin)
    return True


def _forget(connection: Connection, id: str, there: tuple[ColumnElement[bool], ...]) -> bool:
    if connection.execute(delete(StoredConversation).where(*there)).rowcount == 0:
        return False
    connection.execute(delete(StoredItem).where(StoredItem.owner == id))
    return True
