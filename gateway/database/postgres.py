"""PostgreSQL, shared by servers on any number of machines. No password stands in the URL: the driver finds it in
``PGPASSWORD`` or in the file that ``PGPASSFILE`` names (~/.pgpass).

Its texts hold any character but U+0000. No text that is kept has one, so whoever asks for a name with one asks for
something that is not there: `_without_nul` lets the statement say so, where the server would refuse it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from advanced_alchemy.config import EngineConfig
from sqlalchemy import URL, Connection, event, text

from gateway.database.database import Database
from gateway.database.revisions import upgrade

POOL_SIZE = 8
"""Connections that one process keeps; it may open as many again for a moment."""

MIGRATION_LOCK = 0x736C75696365
"""The key of the advisory lock: "sluice"."""

T = TypeVar("T")


class PostgresDatabase(Database):
    def __init__(self, url: URL) -> None:
        engine = EngineConfig(pool_size=POOL_SIZE, max_overflow=POOL_SIZE, pool_pre_ping=True)
        super().__init__(url.set(drivername="postgresql+asyncpg"), engine)
        event.listen(self._engine.sync_engine, "before_cursor_execute", _without_nul, retval=True)
        self._writing: set[asyncio.Task[Any]] = set()

    def write(self, work: Callable[[Connection], T]) -> asyncio.Future[T]:
        task = asyncio.create_task(self._transact(work))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return asyncio.shield(task)

    async def _transact(self, work: Callable[[Connection], T]) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def aclose(self) -> None:
        await asyncio.gather(*self._writing, return_exceptions=True)
        await self._engine.dispose()

    def _upgrade(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        upgrade(connection)


def _without_nul(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    rows = [tuple(map(_spellable, row)) for row in (parameters if executemany else (parameters,))]
    return statement, rows if executemany else rows[0]


def _spellable(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value
