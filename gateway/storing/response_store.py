"""Responses that are kept: found by their own tenant only, for as long as the settings say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Raw
from sqlalchemy import Connection, delete, insert, select, update

from gateway.database.database import Database
from gateway.ledger.tables import Worker
from gateway.storing.kept_items import put_items
from gateway.storing.tables import ResponseEvents, StoredItem, StoredResponse
from schemas.config import Responses
from schemas.policy import Policy, Rules

ANYTHING = Policy()
_DAY_US = 86_400 * 1_000_000
_END = b"\n\n"
LOST = "The server that made this answer has ended."

_encode = msgspec.json.Encoder().encode


class ResponseStore:
    """``worker``: this process, as the ledger knows it. ``clock``: seconds since 1970."""

    def __init__(
        self, database: Database, settings: Responses, worker: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self.database = database
        self._retention_us = int(settings.retention_days * _DAY_US)
        self._worker = worker
        self._clock = clock

    async def keep(
        self,
        id: str,
        tenant: str,
        context: Sequence[Raw],
        body: bytes,
        *,
        rules: Rules = ANYTHING,
        own: Sequence[Raw] = (),
        begun: bool = False,
        events: Sequence[bytes] | None = None,
    ) -> None:
        """``rules``: hold for whoever goes on from it. ``own``: items of ``context`` that came with this response.
        ``begun``: it is being made here, and `end` follows. ``events``: of a stream, as far as they are known."""
        now = self._now()
        row = {
            "id": id,
            "tenant": tenant,
            "context": _encode(context).decode(),
            "body": body.decode(),
            "rules": _encode(rules).decode(),
            "created_at": now,
            "expires_at": now + self._retention_us,
            "worker": self._worker if begun else "",
            "streamed": events is not None,
        }
        told = _events(id, events or (), len(events or ()) - 1)
        await self.database.write(partial(_keep, row=row, own=own, events=told))

    async def end(
        self,
        id: str,
        context: Sequence[Raw],
        body: bytes,
        *,
        own: Sequence[Raw] = (),
        events: Sequence[bytes] = (),
        last: int = -1,
    ) -> None:
        """What was begun is made, unless it was given up or deleted meanwhile. ``events``: the rest of them, up to the
        one with the number ``last``."""
        values = {"context": _encode(context).decode(), "body": body.decode(), "worker": ""}
        told = _events(id, events, last)
        await self.database.write(partial(_end, id=id, values=values, own=own, events=told))

    async def tell(self, id: str, events: Sequence[bytes], last: int) -> None:
        """Of what is being made, some more events, up to the one with the number ``last``."""
        await self.database.write(partial(_tell, events=_events(id, events, last)))

    async def events(self, id: str, after: int) -> list[bytes]:
        """Those with numbers above ``after``."""
        kept = select(ResponseEvents).where(ResponseEvents.response == id, ResponseEvents.last > after)
        async with self.database.reading() as session:
            rows = (await session.scalars(kept.order_by(ResponseEvents.last))).all()
        found: list[bytes] = []
        for row in rows:
            several = split(row.data.encode())
            found += several[max(0, len(several) - (row.last - after)) :]
        return found

    async def give_up(self, id: str, tenant: str, status: Literal["cancelled", "failed"], why: str = "") -> None:
        """What is being made, here or elsewhere, is not going to be. ``why``: it failed."""
        await self.database.write(partial(_give_up, id=id, tenant=tenant, status=status, why=why))

    async def find(self, id: str, tenant: str) -> StoredResponse | None:
        """None for another tenant's, as for one that there is not."""
        mine = select(StoredResponse).where(
            StoredResponse.id == id, StoredResponse.tenant == tenant, StoredResponse.expires_at > self._now()
        )
        async with self.database.reading() as session:
            found = await session.scalar(mine)
            lost = found is not None and found.worker != "" and await session.get(Worker, found.worker) is None
        if not lost:
            return found
        await self.give_up(id, tenant, "failed", LOST)
        async with self.database.reading() as session:
            return await session.scalar(mine)

    async def forget(self, id: str, tenant: str) -> bool:
        """Whether there was one."""
        return await self.database.write(partial(_forget, id=id, tenant=tenant, now=self._now()))

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)


def forget_expired(connection: Connection, *, now: int, limit: int) -> int:
    """A `gateway.database.sweeping.Sweep`; nobody has found these since they expired."""
    expired = select(StoredResponse.id).where(StoredResponse.expires_at <= now).limit(limit)
    ids = connection.execute(expired).scalars().all()
    _remove(connection, ids)
    return len(ids)


def _remove(connection: Connection, ids: Sequence[str]) -> None:
    connection.execute(delete(StoredItem).where(StoredItem.owner.in_(ids)))
    connection.execute(delete(ResponseEvents).where(ResponseEvents.response.in_(ids)))
    connection.execute(delete(StoredResponse).where(StoredResponse.id.in_(ids)))


def split(events: bytes) -> list[bytes]:
    """Server-sent events, one by one."""
    return [event + _END for event in events.split(_END)[:-1]]


def _events(id: str, events: Sequence[bytes], last: int) -> dict[str, Any] | None:
    """Their row; None of no events."""
    return {"response": id, "last": last, "data": b"".join(events).decode()} if events else None


def _keep(connection: Connection, row: dict[str, Any], own: Sequence[Raw], events: dict[str, Any] | None) -> None:
    connection.execute(insert(StoredResponse).values(row))
    put_items(connection, row["id"], row["tenant"], own, row["rules"])
    _tell(connection, events)


def _end(
    connection: Connection, id: str, values: dict[str, str], own: Sequence[Raw], events: dict[str, Any] | None
) -> None:
    begun = update(StoredResponse).where(StoredResponse.id == id, StoredResponse.worker != "").values(values)
    ended = connection.execute(begun.returning(StoredResponse.tenant, StoredResponse.rules)).first()
    if ended is not None:
        tenant, rules = ended
        put_items(connection, id, tenant, own, rules)
        _tell(connection, events)


def _tell(connection: Connection, events: dict[str, Any] | None) -> None:
    """Unless the response was forgotten meanwhile."""
    if events is None:
        return
    there = select(StoredResponse.id).where(StoredResponse.id == events["response"])
    if connection.execute(there).first() is not None:
        connection.execute(insert(ResponseEvents).values(events))


def _give_up(connection: Connection, id: str, tenant: str, status: str, why: str) -> None:
    begun = StoredResponse.id == id, StoredResponse.tenant == tenant, StoredResponse.worker != ""
    body = connection.execute(select(StoredResponse.body).where(*begun)).scalar()
    if body is None:
        return
    told = msgspec.json.decode(body, type=dict[str, Raw])
    told["status"] = Raw(_encode(status))
    if why:
        told["error"] = Raw(_encode({"message": why, "code": "server_error"}))
    connection.execute(update(StoredResponse).where(*begun).values(body=_encode(told).decode(), worker=""))


def _forget(connection: Connection, id: str, tenant: str, now: int) -> bool:
    mine = select(StoredResponse.id).where(
        StoredResponse.id == id, StoredResponse.tenant == tenant, StoredResponse.expires_at > now
    )
    ids = connection.execute(mine).scalars().all()
    _remove(connection, ids)
    return bool(ids)
