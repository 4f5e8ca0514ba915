"""Responses that are kept: found by their own tenant only, for as long as the settings say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw
from sqlalchemy import Connection, delete, insert, select

from gateway.database.database import Database
from gateway.storing.tables import StoredResponse
from schemas.config import Responses

_DAY_US = 86_400 * 1_000_000


class ResponseStore:
    """``clock``: seconds since 1970."""

    def __init__(self, database: Database, settings: Responses, clock: Any = time.time) -> None:
        self._database = database
        self._retention_us = int(settings.retention_days * _DAY_US)
        self._clock = clock

    async def keep(self, id: str, tenant: str, context: Sequence[Raw], body: bytes) -> None:
        """Also lets go of what is past its time."""
        now = self._now()
        row = {
            "id": id,
            "tenant": tenant,
            "context": msgspec.json.encode(context).decode(),
            "body": body.decode(),
            "created_at": now,
            "expires_at": now + self._retention_us,
        }
        await self._database.write(partial(_keep, row=row, now=now))

    async def find(self, id: str, tenant: str) -> StoredResponse | None:
        """None for another tenant's, as for one that there is not."""
        mine = select(StoredResponse).where(
            StoredResponse.id == id, StoredResponse.tenant == tenant, StoredResponse.expires_at > self._now()
        )
        async with self._database.reading() as session:
            return await session.scalar(mine)

    async def forget(self, id: str, tenant: str) -> bool:
        """Whether there was one."""
        return await self._database.write(partial(_forget, id=id, tenant=tenant, now=self._now()))

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)


def _keep(connection: Connection, row: dict[str, Any], now: int) -> None:
    connection.execute(delete(StoredResponse).where(StoredResponse.expires_at <= now))
    connection.execute(insert(StoredResponse).values(row))


def _forget(connection: Connection, id: str, tenant: str, now: int) -> bool:
    mine = delete(StoredResponse).where(
        StoredResponse.id == id, StoredResponse.tenant == tenant, StoredResponse.expires_at > now
    )
    return connection.execute(mine).rowcount > 0
