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
from gateway.storing.tables import StoredResponse
from schemas.config import Responses
from schemas.policy import Policy, Rules

ANYTHING = Policy()
_DAY_US = 86_400 * 1_000_000
LOST = "The server that made this answer has ended."

_encode = msgspec.json.Encoder().encode


class ResponseStore:
    """``worker``: this process, as the ledger knows it. ``clock``: seconds since 1970."""

    def __init__(
        self, database: Database, settings: Responses, worker: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
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
        begun: bool = False,
    ) -> None:
        """``rules``: hold for whoever goes on from it. ``begun``: it is being made here, and `end` follows."""
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
        }
        await self._database.write(partial(_keep, row=row))

    async def end(self, id: str, context: Sequence[Raw], body: bytes) -> None:
        """What was begun is made, unless it was given up or deleted meanwhile."""
        values = {"context": _encode(context).decode(), "body": body.decode(), "worker": ""}
        await self._database.write(partial(_end, id=id, values=values))

    async def give_up(self, id: str, tenant: str, status: Literal["cancelled", "failed"], why: str = "") -> None:
        """What is being made, here or elsewhere, is not going to be. ``why``: it failed."""
        await self._database.write(partial(_give_up, id=id, tenant=tenant, status=status, why=why))

    async def find(self, id: str, tenant: str) -> StoredResponse | None:
        """None for another tenant's, as for one that there is not."""
        mine = select(StoredResponse).where(
            StoredResponse.id == id, StoredResponse.tenant == tenant, StoredResponse.expires_at > self._now()
        )
        async with self._database.reading() as session:
            found = await session.scalar(mine)
            lost = found is not None and found.worker != "" and await session.get(Worker, found.worker) is None
        if not lost:
            return found
        await self.give_up(id, tenant, "failed", LOST)
        async with self._database.reading() as session:
            return await session.scalar(mine)

    async def forget(self, id: str, tenant: str) -> bool:
        """Whether there was one."""
        return await self._database.write(partial(_forget, id=id, tenant=tenant, now=self._now()))

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)


def forget_expired(connection: Connection, *, now: int, limit: int) -> int:
    """A `gateway.database.sweeping.Sweep`; nobody has found these since they expired."""
    expired = select(StoredResponse.id).where(StoredResponse.expires_at <= now).limit(limit)
    return connection.execute(delete(StoredResponse).where(StoredResponse.id.in_(expired))).rowcount


def _keep(connection: Connection, row: dict[str, Any]) -> None:
    connection.execute(insert(StoredResponse).values(row))


def _end(connection: Connection, id: str, values: dict[str, str]) -> None:
    begun = StoredResponse.id == id, StoredResponse.worker != ""
    connection.execute(update(StoredResponse).where(*begun).values(values))


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
    mine = delete(StoredResponse).where(
        StoredResponse.id == id, StoredResponse.tenant == tenant, StoredResponse.expires_at > now
    )
    return connection.execute(mine).rowcount > 0
