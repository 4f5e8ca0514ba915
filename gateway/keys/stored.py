"""The database's keys as a running server knows them: in memory, asked for what changed once a second."""

from __future__ import annotations

import asyncio
import hmac

import structlog
from sqlalchemy.exc import SQLAlchemyError

from gateway.auth import Caller
from gateway.database.database import Database
from gateway.keys.minting import digest, lookup_of
from gateway.keys.registry import changed_keys, limits_of
from gateway.keys.tables import StoredKey
from schemas.limits import Limit

REFRESH_SECONDS = 1.0

log = structlog.get_logger()


class StoredKeys:
    """Open from `open` to `aclose`, inside the database's own time."""

    def __init__(self, database: Database, refresh_seconds: float = REFRESH_SECONDS) -> None:
        self._database = database
        self._refresh_seconds = refresh_seconds
        self._seen = 0
        self._callers: dict[str, tuple[bytes, Caller]] = {}
        self._limits: dict[str, tuple[Limit, ...]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def exist(self) -> bool:
        """A key was ever made, though it may be revoked: revoking the last key opens no door."""
        return self._seen > 0

    async def open(self) -> None:
        await self.refresh()
        self._task = asyncio.create_task(self._refresh_on())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def caller(self, key: str) -> Caller | None:
        """Whose ``key`` this is. Its public part finds the one digest that it is compared with, in constant time."""
        known, caller = self._callers.get(lookup_of(key), (b"", None))
        return caller if hmac.compare_digest(known, digest(key)) else None

    def holds(self, caller: Caller) -> bool:
        """Whether ``caller``, who asked before, has a key still: names are never given twice."""
        return caller.name in self._limits

    def limits(self, name: str) -> tuple[Limit, ...]:
        """What the key called ``name`` brings along."""
        return self._limits.get(name, ())

    async def _refresh_on(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_seconds)
            try:
                await self.refresh()
            except (SQLAlchemyError, OSError) as error:
                # The keys known so far serve on while the database is away.
                log.warning("keys could not be refreshed", reason=type(error).__name__)

    async def refresh(self) -> None:
        """Learn what has changed."""
        for key in await changed_keys(self._database, self._seen):
            self._seen = key.revision
            self._take(key)

    def _take(self, key: StoredKey) -> None:
        if key.revoked_at is not None:
            self._callers.pop(key.lookup, None)
            self._limits.pop(key.name, None)
        else:
            self._callers[key.lookup] = bytes.fromhex(key.sha256), Caller(key.name, key.tenant)
            self._limits[key.name] = limits_of(key)
