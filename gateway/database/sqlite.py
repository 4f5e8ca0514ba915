"""SQLite in a file, shared by the processes of one machine.

Python's driver begins transactions late, and lets a reader that turns writer fail at once; so here BEGIN is said by
SQLAlchemy, and says at once whether the transaction will write. Then those who write wait for each other, up to
`BUSY_SECONDS`, and those who read wait for nobody (WAL, https://sqlite.org/wal.html). A commit reaches the operating
system, not the platter (``synchronous=NORMAL``): a killed process loses nothing, a power cut may lose the last moments.

`write` runs at once, on the event loop's own thread: it takes 0.1 to 0.2 ms, none of which waits for the disk, and
handing it to another thread took longer, thirty times so on a busy loop. What could take long is left to a thread:
waiting for another process's transaction, and bringing the log into the file.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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

MAX_TOGETHER = 32
"""Pieces of work that one transaction commits, of those that had to wait."""

CHECKPOINT_EVERY = 500
"""Transactions after which the log is brought into the file."""

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

    def write(self, work: Callable[[Connection], T]) -> asyncio.Future[T]:
        return self._writer.submit(work)

    async def aclose(self) -> None:
        await self._writer.aclose()
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
        if self.future.cancelled():
            return
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Writer:
    """All methods are called on one event loop. ``_waiting``: what came while the thread was waiting for its turn."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, pool_size=2, max_overflow=0, hide_parameters=True)
        _configure(self._engine)
        self._here: Connection | None = None
        self._there: Connection | None = None
        self._thread = ThreadPoolExecutor(1, "sluice-database")
        self._running: set[asyncio.Task[None]] = set()
        self._behind = False
        self._waiting: list[Job] = []
        self._commits = 0

    def submit(self, work: Callable[[Connection], T]) -> asyncio.Future[T]:
        job = Job(work, asyncio.get_running_loop().create_future())
        if self._behind or not self._write_here(job):
            self._waiting.append(job)
            if not self._behind:
                self._behind = True
                self._start(self._catch_up())
        return job.future

    async def aclose(self) -> None:
        """Wait until everything is written."""
        while self._running:
            await asyncio.wait(self._running)
        self._thread.shutdown()
        for connection in (self._here, self._there):
            if connection is not None:
                connection.close()
        self._engine.dispose()

    def _write_here(self, job: Job) -> bool:
        """Whether nobody else was writing."""
        try:
            self._here = self._here or self._connect("busy_timeout=0", "wal_autocheckpoint=0")
            with _transaction(self._here):
                outcome = job.work(self._here)
        except Exception as error:
            if _is_busy(error):
                return False
            outcome = error
        job.finish(outcome)
        self._commits += 1
        if self._commits % CHECKPOINT_EVERY == 0:
            self._start(self._checkpoint())
        return True

    async def _catch_up(self) -> None:
        while self._waiting:
            jobs, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
            outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._write_there, jobs)
            for job, outcome in zip(jobs, outcomes, strict=True):
                job.finish(outcome)
        self._behind = False

    def _write_there(self, jobs: list[Job]) -> list[Any]:
        """Of each job what it gave or raised, in one transaction."""
        try:
            self._there = self._there or self._connect()
            with _transaction(self._there):
                return [_outcome(job, self._there) for job in jobs]
        except Exception as error:
            return [error] * len(jobs)

    async def _checkpoint(self) -> None:
        def work() -> None:
            self._there = self._there or self._connect()
            _driver(self._there).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _connect(self, *pragmas: str) -> Connection:
        connection = self._engine.connect()
        for pragma in pragmas:
            _driver(connection).execute(f"PRAGMA {pragma}").fetchall()
        return connection


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(Any, connection.connection.driver_connection)


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    with connection.begin():
        _driver(connection).execute("BEGIN IMMEDIATE")
        yield


def _outcome(job: Job, connection: Connection) -> Any:
    """A savepoint keeps the failure of one job from the others."""
    driver = _driver(connection)
    driver.execute("SAVEPOINT job")
    try:
        return job.work(connection)
    except Exception as error:
        driver.execute("ROLLBACK TO job")
        return error
    finally:
        driver.execute("RELEASE job")


def _is_busy(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY


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
