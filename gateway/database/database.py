"""The database of a server: SQLite in a file, or PostgreSQL, behind one face.

    async with database.session() as session:   # one transaction, written down when the block ends
        session.add(Row(...))
    async with database.reading() as session:   # a snapshot, which holds nobody up
        row = await session.get(Row, id)
    await database.write(work)                  # `work(connection)` as one transaction, where every microsecond counts

Sessions are SQLAlchemy's, made by advanced-alchemy: its repositories and services work on them. Objects stay readable
after their session. A session holds a lock from its first statement on (SQLite has one for the whole file), so nothing
else is awaited inside it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from advanced_alchemy.config import AsyncSessionConfig, EngineConfig, SQLAlchemyAsyncConfig
from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from gateway.database.errors import DatabaseError
from gateway.database.revisions import Revisions, downgrade, revisions

T = TypeVar("T")


class Database(ABC):
    """Open from `open` to `aclose`; all methods are called on one event loop."""

    def __init__(self, url: URL, engine: EngineConfig) -> None:
        self.url = url
        config = SQLAlchemyAsyncConfig(
            connection_string=url.render_as_string(hide_password=False),
            # They are prompts and answers, and errors are logged.
            engine_config=replace(engine, hide_parameters=True),
            session_config=AsyncSessionConfig(expire_on_commit=False),
        )
        self._engine: AsyncEngine = config.get_engine()
        self._sessions = config.create_session_maker()
        self._snapshots: Callable[[], AsyncSession] = self._sessions

    @property
    def name(self) -> str:
        """The URL, without driver and password."""
        return self.url.set(drivername=self.url.get_backend_name()).render_as_string()

    async def open(self, *, migrate: bool = True) -> None:
        """Bring the tables to this version's, one process at a time.

        Raises:
            DatabaseError: nothing answers there, or the tables are of a newer version.
        """
        try:
            if migrate:
                await self.write(self._upgrade)
            else:
                await self.write(revisions)
        except (DBAPIError, OSError) as error:
            raise DatabaseError(f"{self.name} cannot be used: {_cause(error)}") from error

    async def downgrade(self, revision: str) -> None:
        """Take the tables back to those of ``revision``. Raises `DatabaseError` for one that is not before theirs."""
        await self.write(partial(downgrade, wanted=revision))

    async def revisions(self) -> Revisions:
        """Which tables there are, and which ones this version has."""
        return await self.write(revisions)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A transaction that writes: committed at the end of the block, rolled back where it raises."""
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction that only reads."""
        async with self._snapshots() as session:
            yield session

    @abstractmethod
    def write(self, work: Callable[[Connection], T]) -> asyncio.Future[T]:
        """The result of ``work`` as one transaction, rolled back where it raises. It may run at once, in another thread
        or under greenlet, so it is short and touches its connection and its own arguments only; and it runs to its end
        even when the caller is cancelled."""

    @abstractmethod
    async def aclose(self) -> None:
        """Finish what is being written, and close."""

    @abstractmethod
    def _upgrade(self, connection: Connection) -> None:
        """`upgrade` while no other process does."""


def _cause(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(cause) or type(cause).__name__
