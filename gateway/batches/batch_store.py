"""Batches as rows, and every step that one can take, each in one transaction.

    validating ─▶ in_progress ─▶ finalizing ─▶ completed | expired
        │             └─▶ cancelling ─────────▶ cancelled
        └─▶ failed | cancelling

    a line:  pending ─claim─▶ running ─finish─▶ completed | failed
                └───release, or its process is dead───┘

Several processes work on one batch. A line belongs to the process that claimed it, and is finished by nobody else; so
although a line whose process died may be answered twice, one answer is kept. Reading the input and writing the output
are done by one process at a time, the batch's ``worker``, and begun anew where that dies. Who is dead the ledger's
heartbeats say (`gateway.ledger.lease`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from gateway.batches.tables import BatchLine, StoredBatch
from gateway.database.database import Database
from gateway.errors import ApiError
from gateway.files.file_store import publish
from gateway.ledger.tables import Worker
from gateway.paging import MICROSECONDS, Page

ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
"""Statuses of batches that are not over."""

LIVES = select(Worker.id)
REMOVED_TOGETHER = 500
"""Lines that one transaction deletes."""

Ending = Literal["completed", "expired", "cancelled"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line that this process has claimed. ``body``: JSON."""

    batch: str
    number: int
    custom_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens of one answer."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0


class Taken(Exception):
    """Other processes took this one for dead, and its batch over."""


class BatchStore:
    """``worker``: this process, as the ledger knows it. ``clock``: seconds since 1970."""

    def __init__(self, database: Database, worker: str, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._worker = worker
        self._clock = clock

    async def add(self, row: dict[str, Any], most: int) -> None:
        """A batch to be validated. ``most``: how many of a tenant may be unfinished. Raises `ApiError` 429."""
        await self._database.write(partial(_add, row=row, most=most))

    async def find(self, id: str, tenant: str) -> StoredBatch | None:
        """None for another tenant's, as for one that there is not."""
        async with self._database.reading() as session:
            return await session.scalar(select(StoredBatch).where(StoredBatch.id == id, StoredBatch.tenant == tenant))

    async def list(self, tenant: str, page: Page) -> Sequence[StoredBatch]:
        """A page of them, and one more if there are more."""
        mine = select(StoredBatch).where(StoredBatch.tenant == tenant)
        async with self._database.reading() as session:
            return (await session.scalars(page.of(mine, StoredBatch.id))).all()

    async def active(self) -> Sequence[StoredBatch]:
        """All that are not over, the oldest first."""
        async with self._database.reading() as session:
            rows = select(StoredBatch).where(StoredBatch.status.in_(ACTIVE)).order_by(StoredBatch.id)
            return (await session.scalars(rows)).all()

    async def cancel(self, id: str, tenant: str) -> None:
        """What is over, or all but over, stays as it is."""
        mine = StoredBatch.id == id, StoredBatch.tenant == tenant
        stoppable = StoredBatch.status.in_(("validating", "in_progress"))
        values = {"status": "cancelling", "ending": "cancelled", "cancelling_at": self.now()}
        await self._write(update(StoredBatch).where(*mine, stoppable).values(values))

    async def recover(self) -> None:
        """Take from dead processes what they were at."""
        dead = StoredBatch.worker != "", StoredBatch.worker.not_in(LIVES)
        await self._write(update(StoredBatch).where(*dead).values(worker=""))
        # By batch, so that the index finds the few that run among all lines.
        going = select(StoredBatch.id).where(StoredBatch.status.in_(ACTIVE))
        lost = BatchLine.batch.in_(going), BatchLine.state == "running", BatchLine.worker.not_in(LIVES)
        await self._write(update(BatchLine).where(*lost).values(state="pending", worker=""))

    # Reading the input

    async def take(self, batch: StoredBatch) -> bool:
        """Whether this process, and no other, may read its input or write its output now."""
        free = StoredBatch.id == batch.id, StoredBatch.status == batch.status, StoredBatch.worker == ""
        return await self._write(update(StoredBatch).where(*free).values(worker=self._worker)) == 1

    async def leave(self, batch: str) -> None:
        """Undo `take`."""
        await self._write(update(StoredBatch).where(*self._mine(batch)).values(worker=""))

    async def put(self, batch: str, lines: Sequence[Line]) -> None:
        """Lines that were read. Raises `Taken`."""
        rows = [
            {
                "batch": batch,
                "number": line.number,
                "custom_id": line.custom_id,
                "state": "pending",
                "worker": "",
                "body": line.body,
                "answer": "",
            }
            for line in lines
        ]
        await self._database.write(partial(_put, mine=self._mine(batch), rows=rows))

    async def begin(self, batch: str, lines: int, model: str) -> None:
        """All are read: let them be answered. Of one that is being cancelled only their number is written down."""
        values: dict[str, Any] = {"worker": "", "lines": lines, "model": model}
        started = {**values, "status": "in_progress", "in_progress_at": self.now()}
        if not await self._write(self._while("validating", batch).values(started)):
            await self._write(update(StoredBatch).where(*self._mine(batch)).values(values))

    async def reject(self, batch: str, errors: str) -> None:
        """The input is not what it must be. ``errors``: JSON."""
        values = {"status": "failed", "errors": errors, "failed_at": self.now(), "worker": ""}
        if not await self._write(self._while("validating", batch).values(values)):
            await self.leave(batch)

    # Answering lines

    async def claim(self, batch: str) -> Line | None:
        """The next line that nobody is at; None where there is none."""
        return await self._database.write(partial(_claim, batch=batch, worker=self._worker))

    async def release(self, line: Line) -> None:
        """It is not answered after all."""
        await self._write(update(BatchLine).where(*self._running(line)).values(state="pending", worker=""))

    async def finish(self, line: Line, state: Literal["completed", "failed"], answer: str, used: Used) -> None:
        """It is answered, unless it was taken from this process."""
        values = {"state": state, "answer": answer, "body": "", "worker": ""}
        work = partial(_finish, line=line, running=self._running(line), values=values, used=used)
        await self._database.write(work)

    async def end(self, batch: StoredBatch, ending: Ending) -> bool:
        """Let its output be written: all is answered, or its time is up. Whether nobody else did."""
        values = {"status": "finalizing", "ending": ending, "finalizing_at": self.now()}
        going = StoredBatch.id == batch.id, StoredBatch.status == "in_progress"
        return await self._write(update(StoredBatch).where(*going).values(values)) == 1

    async def unfinished(self, batch: str) -> tuple[int, int]:
        """How many of its lines are pending, and how many are running, at any process."""
        states = select(BatchLine.state, func.count()).where(BatchLine.batch == batch).group_by(BatchLine.state)
        async with self._database.reading() as session:
            found: dict[str, int] = {state: count async for state, count in await session.stream(states)}
        return found.get("pending", 0), found.get("running", 0)

    # Writing the output

    async def lines(self, batch: str, after: int, most: int) -> Sequence[BatchLine]:
        """Up to ``most`` lines behind the one numbered ``after``, in order."""
        rows = select(BatchLine).where(BatchLine.batch == batch, BatchLine.number > after)
        async with self._database.reading() as session:
            return (await session.scalars(rows.order_by(BatchLine.number).limit(most))).all()

    async def conclude(self, batch: StoredBatch, files: dict[str, str], published: dict[str, dict[str, Any]]) -> bool:
        """It is over, and its files are there, at once. ``files``: column → id. ``published``: id → columns of a file.
        Whether it was still this process that was to do so."""
        ending = batch.ending
        values: dict[str, Any] = {**files, "status": ending, f"{ending}_at": self.now(), "worker": ""}
        work = partial(_conclude, mine=self._mine(batch.id), values=values, published=published)
        return await self._database.write(work)

    async def drop_lines(self, batch: str) -> None:
        """They are in its files now, or are to be read again."""
        while await self._database.write(partial(_drop_lines, batch=batch)):
            pass

    async def sweep(self, seconds: float) -> None:
        """Forget what was over ``seconds`` ago, and lines of what is over."""
        over = StoredBatch.status.not_in(ACTIVE)
        left = select(StoredBatch.id).where(over, StoredBatch.id.in_(select(BatchLine.batch)))
        async with self._database.reading() as session:
            ids = (await session.scalars(left)).all()
        for id in ids:
            await self.drop_lines(id)
        long_ago = self.now() - int(seconds * MICROSECONDS)
        await self._write(delete(StoredBatch).where(over, StoredBatch.expires_at < long_ago))

    def now(self) -> int:
        """Microseconds since 1970."""
        return int(self._clock() * MICROSECONDS)

    def _mine(self, batch: str) -> tuple[ColumnElement[bool], ...]:
        return StoredBatch.id == batch, StoredBatch.worker == self._worker

    def _while(self, status: str, batch: str) -> Any:
        return update(StoredBatch).where(*self._mine(batch), StoredBatch.status == status)

    def _running(self, line: Line) -> tuple[ColumnElement[bool], ...]:
        mine = BatchLine.state == "running", BatchLine.worker == self._worker
        return BatchLine.batch == line.batch, BatchLine.number == line.number, *mine

    async def _write(self, statement: Any) -> int:
        """How many rows it changed."""
        return await self._database.write(lambda connection: connection.execute(statement).rowcount)


def _add(connection: Connection, row: dict[str, Any], most: int) -> None:
    going = StoredBatch.tenant == row["tenant"], StoredBatch.status.in_(ACTIVE)
    count = connection.execute(select(func.count()).select_from(StoredBatch).where(*going)).scalar_one()
    if count >= most:
        message = f"A tenant may have {most} unfinished batches here: wait for one to end, or cancel one."
        raise ApiError(429, message, code="batches_exceeded", headers={"x-should-retry": "false"})
    connection.execute(insert(StoredBatch).values(row))


def _put(connection: Connection, mine: tuple[ColumnElement[bool], ...], rows: list[dict[str, Any]]) -> None:
    if connection.execute(select(StoredBatch.id).where(*mine).with_for_update(read=True)).first() is None:
        raise Taken
    connection.execute(insert(BatchLine), rows)


def _claim(connection: Connection, batch: str, worker: str) -> Line | None:
    # Whoever ends the batch waits for this transaction, and so finds the line running.
    going = select(StoredBatch.id).where(StoredBatch.id == batch, StoredBatch.status == "in_progress")
    if connection.execute(going.with_for_update(read=True)).first() is None:
        return None
    # On PostgreSQL two that claim at once take two lines; SQLite has one writer at a time.
    pending = select(BatchLine.number).where(BatchLine.batch == batch, BatchLine.state == "pending")
    number = connection.execute(pending.order_by(BatchLine.number).limit(1).with_for_update(skip_locked=True)).scalar()
    if number is None:
        return None
    taken = update(BatchLine).where(BatchLine.batch == batch, BatchLine.number == number)
    taken = taken.values(state="running", worker=worker).returning(BatchLine.custom_id, BatchLine.body)
    custom_id, body = connection.execute(taken).one()
    return Line(batch, number, custom_id, body)


def _finish(
    connection: Connection, line: Line, running: tuple[ColumnElement[bool], ...], values: dict[str, str], used: Used
) -> None:
    if connection.execute(update(BatchLine).where(*running).values(values)).rowcount != 1:
        return
    counted = StoredBatch.completed if values["state"] == "completed" else StoredBatch.failed
    sums: dict[Any, Any] = {
        counted: counted + 1,
        StoredBatch.input_tokens: StoredBatch.input_tokens + used.input,
        StoredBatch.cached_tokens: StoredBatch.cached_tokens + used.cached,
        StoredBatch.output_tokens: StoredBatch.output_tokens + used.output,
        StoredBatch.reasoning_tokens: StoredBatch.reasoning_tokens + used.reasoning,
    }
    connection.execute(update(StoredBatch).where(StoredBatch.id == line.batch).values(sums))


def _conclude(
    connection: Connection,
    mine: tuple[ColumnElement[bool], ...],
    values: dict[str, Any],
    published: dict[str, dict[str, Any]],
) -> bool:
    if connection.execute(update(StoredBatch).where(*mine).values(values)).rowcount != 1:
        return False
    for id, row in published.items():
        publish(connection, id, row)
    return True


def _drop_lines(connection: Connection, batch: str) -> bool:
    """Whether there may be more."""
    some = select(BatchLine.number).where(BatchLine.batch == batch).limit(REMOVED_TOGETHER)
    dropped = delete(BatchLine).where(BatchLine.batch == batch, BatchLine.number.in_(some))
    return connection.execute(dropped).rowcount == REMOVED_TOGETHER
