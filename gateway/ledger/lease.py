"""Who lives: each process that writes legs counts its beats in the database, and watches the others' counts.

A process whose count has stood still for `SILENT_BEATS` of this one's beats is dead, and what it had reserved is in
doubt. No clocks are compared, so no machine's clock matters. A process that was only slow counts on: it comes back onto
the list with its next beat, and its legs can still be ended from `unknown`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError

from gateway.database.database import Database
from gateway.ledger.statements import beat, bury

SILENT_BEATS = 3

log = structlog.get_logger()


class Lease:
    """``worker``: this process. ``beat_seconds``: between two beats; all processes of a database have the same.
    ``orphaned`` is told how many legs of the dead were put in doubt."""

    def __init__(
        self, database: Database, worker: str, beat_seconds: float, orphaned: Callable[[int], None] = lambda _: None
    ) -> None:
        self._database = database
        self._worker = worker
        self._beat_seconds = beat_seconds
        self._orphaned = orphaned
        self._heard: dict[str, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Beat for the first time, and go on beating."""
        await self._beat()
        self._task = asyncio.create_task(self._beat_on())

    async def aclose(self) -> None:
        """Stop, and say so."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            beats, _ = self._heard[self._worker]
            await self._database.write(partial(bury, silent={self._worker: beats}))

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._beat_seconds)
            try:
                await self._beat()
            except (SQLAlchemyError, OSError) as error:
                # A database that is away for a moment ends no server; the next beat may reach it.
                log.warning("the ledger's heartbeat failed", reason=type(error).__name__)

    async def _beat(self) -> None:
        beats = await self._database.write(partial(beat, worker=self._worker, now=int(time.time() * 1e6)))
        self._heard = {id: self._listened(id, count) for id, count in beats.items()}
        silent = {id: count for id, (count, still) in self._heard.items() if still >= SILENT_BEATS}
        if doubtful := await self._database.write(partial(bury, silent=silent)):
            self._orphaned(doubtful)
            log.warning("legs of a dead process are in doubt", legs=doubtful)

    def _listened(self, id: str, count: int) -> tuple[int, int]:
        """(count, for how many beats of ours it has stood still)."""
        before, still = self._heard.get(id, (-1, 0))
        return count, still + 1 if before == count else 0
