"""SQLite in a file, shared by the processes of one machine.

Python's driver begins transactions late, and lets a reader that turns writer fail at once; so here BEGIN is said by
SQLAlchemy, and says at once whether the transaction will write. Then those who write wait for each other, up to
`BUSY_SECONDS`, and those who read wait for nobody (WAL, https://sqlite.org/wal.html). A commit reaches the operating
system, not the platter (``synchronous=NORMAL``): a killed process loses nothing, a power cut may lose the last moments.

`write` goes through one thread with a connection of its own: one hop there and back for a transaction, where aiosqlite
has one for each statement. What has come in while the last transaction ran is committed together. BEGIN and SAVEPOINT
are said to the driver itself there, which is much cheaper.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from advanced_alchemy.config import EngineConfig
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.ext.asyncio import async_sessionmaker

from gateway.database.database import Database
from gateway.database.revisions import upgrade

BUSY_SECONDS = 10
"""How long a transaction waits for another process's."""

PRAGMAS = (
    f"busy_timeout={BUSY_SECONDS * 1000}",
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
)

MAX_TOGETHER = 64
"""Pieces of work that one transaction commits."""

READS = "sluice_reads"
"""The execution option of connections that only read."""

T = TypeVar("T")


class SqliteDatabase(Database):
    def __init__(self, url: URL) -> None:
        super().__init__(url.set(drivername="sqlite+aiosqlite"), EngineConfig())
        _configure(self._engine.sync_engine)
        _begin_at_once(self._engine.sync_engine)
        self._snapshots = async_sessionmaker(self._engine.execution_options(**{READS: True}), expire_on_commit=False)
        self._writer = Writer(url.set(drivername="sqlite+pysqlite"))

    async def write(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.shield(self._writer.submit(work))

    async def aclose(self) -> None:
        await asyncio.to_thread(self._writer.close)
        await self._engine.dispose()

    def _upgrade(self, connection: Connection) -> None:
        upgrade(connection)


class TemporaryDatabase(SqliteDatabase):
    """A database that lives as long as its server. In a file all the same: several connections must see one thing."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="sluice-")
        super().__init__(URL.create("sqlite", database=str(Path(self._folder.name) / "sluice.db")))

    async def aclose(self) -> None:
        await super().aclose()
        self._folder.cleanup()


@dataclass(frozen=True, slots=True)
class Job:
    work: Callable[[Connection], Any]
    future: asyncio.Future[Any]

    def finish(self, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Writer:
    """A thread that writes, started by the first piece of work."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, pool_size=1, max_overflow=0)
        _configure(self._engine)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sluice-database", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, work: Callable[[Connection], T]) -> asyncio.Future[T]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread.start()
        job = Job(work, self._loop.create_future())
        self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Wait until everything is written."""
        if self._loop is not None:
            self._jobs.put(None)
            self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        assert self._loop is not None
        connection: Connection | None = None
        open_ = True
        while open_:
            jobs = [self._jobs.get()]
            while len(jobs) < MAX_TOGETHER and not self._jobs.empty():
                jobs.append(self._jobs.get())
            open_ = None not in jobs
            together = [job for job in jobs if job is not None]
            if together:
                try:
                    connection = connection or self._engine.connect()
                    outcomes = _outcomes(connection, together)
                except Exception as error:
                    outcomes = [error] * len(together)
                self._loop.call_soon_threadsafe(_finish, together, outcomes)
        if connection is not None:
            connection.close()


def _outcomes(connection: Connection, jobs: list[Job]) -> list[Any]:
    """Of each job what it gave or raised, in one transaction. Raises where that failed as a whole."""
    driver: sqlite3.Connection = cast(Any, connection.connection.driver_connection)
    with connection.begin():
        driver.execute("BEGIN IMMEDIATE")
        return [_outcome(job, connection, driver) for job in jobs]


def _outcome(job: Job, connection: Connection, driver: sqlite3.Connection) -> Any:
    """A savepoint keeps the failure of one job from the others."""
    driver.execute("SAVEPOINT job")
    try:
        return job.work(connection)
    except Exception as error:
        driver.execute("ROLLBACK TO job")
        return error
    finally:
        driver.execute("RELEASE job")


def _finish(jobs: list[Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(jobs, outcomes, strict=True):
        job.finish(outcome)


def _configure(engine: Engine) -> None:
    """Leave BEGIN to us, and set what a connection needs."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _begin_at_once(engine: Engine) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get(READS, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
