"""What is past its time is deleted: a few rows a transaction, with pauses, so that nobody who writes waits for it.

A `Sweep` deletes up to so many rows and says how many there were; each room that keeps something for a time has one.
All servers of a database sweep. That they meet the same rows now and then does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Protocol

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from gateway.database.database import Database

ROWS = 200
"""Of one transaction: some milliseconds."""

PAUSE_SECONDS = 0.05
EVERY_SECONDS = 600.0

log = structlog.get_logger()


class Sweep(Protocol):
    def __call__(self, connection: Connection, *, now: int, limit: int) -> int:
        """Delete at most ``limit`` rows of what is past its time at ``now`` (microseconds since 1970); how many."""
        ...


async def swept(database: Database, sweep: Sweep, *, pause_seconds: float = PAUSE_SECONDS) -> int:
    """Delete all that is past its time; how many rows."""
    total, rows = 0, ROWS
    while rows == ROWS:
        rows = await database.write(partial(sweep, now=int(time.time() * 1e6), limit=ROWS))
        total += rows
        await asyncio.sleep(pause_seconds)
    return total


class Sweeping:
    """Sweeps from time to time between `open` and `aclose`, inside the database's own time. ``sweeps``: by what they
    delete, for the log."""

    def __init__(self, database: Database, sweeps: Mapping[str, Sweep], every_seconds: float = EVERY_SECONDS) -> None:
        self._database = database
        self._sweeps = sweeps
        self._every_seconds = every_seconds
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._task = asyncio.create_task(self._sweep_on())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_seconds)
            for what, sweep in self._sweeps.items():
                try:
                    if rows := await swept(self._database, sweep):
                        log.info("past its time", what=what, rows=rows)
                except (SQLAlchemyError, OSError) as error:
                    # A database that is away for a moment ends no server; the next sweep may reach it.
                    log.warning("a sweep failed", what=what, reason=type(error).__name__)
