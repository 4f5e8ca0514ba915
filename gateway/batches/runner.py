"""What works on batches, in every server: it looks what is to be done, does some of it, and looks again.

    a turn:  validating ─▶ read the input            (one process a batch)
             in_progress ─▶ claim lines, ask them     (every process, so many at once)
             over, or its time up ─▶ write the output (one process a batch)

Tenants take turns, and a tenant's batches follow each other. The state is in the database alone (`batch_store`), so a
server that is killed loses no more than the answers that it was just making, and those are made again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from msgspec import Raw
from sqlalchemy.exc import SQLAlchemyError

from gateway.auth import Caller
from gateway.batches.batch_store import BatchStore, Line, Taken, Used
from gateway.batches.in_process import Answered, InProcess
from gateway.batches.input_file import InputReader
from gateway.batches.output_files import OutputFiles, line_id
from gateway.batches.tables import StoredBatch
from gateway.files.file_store import FileGone, FileStore
from gateway.metrics import Metrics
from schemas.config import Batches
from schemas.openai.batches import BatchError, LineError, LineResponse, OutputLine

POLL_SECONDS = 1.0
"""Between two looks, if nothing happens here."""

SWEEP_SECONDS = 600.0
PUT_TOGETHER = 100
"""Lines that one transaction writes."""

log = structlog.get_logger()

_encode = msgspec.json.Encoder().encode


class BatchRunner:
    """Runs from `start` to `aclose`. ``find_model``, ``max_line_bytes``: as of `InputReader`. ``known``: whether a
    caller may still ask. ``keep_seconds``: how long a batch is remembered."""

    def __init__(
        self,
        batches: BatchStore,
        files: FileStore,
        settings: Batches,
        metrics: Metrics,
        find_model: Callable[[str], object],
        known: Callable[[Caller], bool],
        *,
        max_line_bytes: int,
        keep_seconds: float,
    ) -> None:
        self._batches = batches
        self._files = files
        self._settings = settings
        self._lines_answered = metrics.batch_lines
        self._find_model = find_model
        self._known = known
        self._max_line_bytes = max_line_bytes
        self._keep_seconds = keep_seconds
        self._woken = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], StoredBatch] = {}
        self._lines: dict[asyncio.Task[None], StoredBatch] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._turns: dict[str, int] = {}
        self._rest_until: dict[str, float] = {}
        self._main: list[asyncio.Task[None]] = []

    def start(self, app: InProcess) -> None:
        self._main = [asyncio.create_task(self._run(app)), asyncio.create_task(self._sweep())]
        for task in self._main:
            task.add_done_callback(_say_why)

    def wake(self) -> None:
        """Something is to be done."""
        self._woken.set()

    async def aclose(self) -> None:
        """What is not finished is left to others, or to the next start."""
        await _stopped(self._main)
        await _stopped([*self._tasks, *self._lines])

    async def _run(self, app: InProcess) -> None:
        recovered = 0.0
        while True:
            self._woken.clear()
            try:
                if (now := asyncio.get_running_loop().time()) >= recovered + POLL_SECONDS:
                    recovered = now
                    await self._batches.recover()
                await self._turn(app, await self._batches.active())
            except (SQLAlchemyError, OSError) as error:
                # A database that is away for a moment ends no batch.
                log.warning("batches wait for the database", reason=type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()

    async def _turn(self, app: InProcess, active: Sequence[StoredBatch]) -> None:
        going: list[StoredBatch] = []
        for batch in active:
            if batch.status == "validating":
                await self._begin(batch, self._validate)
            elif batch.status != "in_progress":
                await self._begin(batch, self._conclude)
            elif batch.expires_at <= self._batches.now():
                await self._batches.end(batch, "expired")
                self.wake()
            else:
                going.append(batch)
        ids = {batch.id for batch in going}
        over = {task for task, batch in self._lines.items() if batch.id not in ids} - self._stopping
        for task in over:
            task.cancel()
        self._stopping |= over
        await self._fill(app, going)

    # Reading and writing

    async def _begin(self, batch: StoredBatch, work: Callable[[StoredBatch], Coroutine[Any, Any, None]]) -> None:
        """Do ``work`` on a batch, if nobody else does."""
        if batch.worker or not await self._batches.take(batch):
            return
        task = asyncio.create_task(self._guarded(batch, work))
        self._tasks[task] = batch
        task.add_done_callback(self._done)

    async def _guarded(self, batch: StoredBatch, work: Callable[[StoredBatch], Coroutine[Any, Any, None]]) -> None:
        try:
            await work(batch)
        except Taken:
            return
        except BaseException:
            await self._surely(self._batches.leave, batch.id)
            raise

    async def _validate(self, batch: StoredBatch) -> None:
        await self._batches.drop_lines(batch.id)
        reader = InputReader(
            batch.id,
            batch.endpoint,
            self._find_model,
            max_lines=self._settings.max_lines,
            max_bytes=self._max_line_bytes,
        )
        file = await self._files.find(batch.input_file, batch.tenant)
        try:
            if file is None:
                raise FileGone
            lines: list[Line] = []
            async for line in reader.read(self._files.content(file)):
                lines.append(line)
                if len(lines) == PUT_TOGETHER:
                    await self._batches.put(batch.id, lines)
                    lines = []
            if lines:
                await self._batches.put(batch.id, lines)
        except FileGone:
            reader.errors = [BatchError("file_not_found", "The input file was deleted.", param="input_file_id")]
        if reader.errors:
            await self._batches.drop_lines(batch.id)
            await self._batches.reject(batch.id, _encode(reader.errors).decode())
        else:
            await self._batches.begin(batch.id, reader.count, reader.model)

    async def _conclude(self, batch: StoredBatch) -> None:
        _, running = await self._batches.unfinished(batch.id)
        if running:
            # At other processes, which see in their next turn that they are to stop.
            await self._batches.leave(batch.id)
            await asyncio.sleep(POLL_SECONDS / 10)
            return
        ending: Any = batch.ending
        files = OutputFiles(self._files, batch, ending)
        await files.write(self._batches)
        if await self._batches.conclude(batch, files.ids, files.published):
            log.info("batch", id=batch.id, status=ending, lines=batch.lines)
            await self._batches.drop_lines(batch.id)

    # Answering lines

    async def _fill(self, app: InProcess, going: list[StoredBatch]) -> None:
        """Claim lines while there are places for them."""
        now = asyncio.get_running_loop().time()
        self._rest_until = {tenant: until for tenant, until in self._rest_until.items() if until > now}
        waiting = [batch for batch in going if batch.tenant not in self._rest_until]
        while waiting and len(self._lines) < self._settings.concurrency:
            batch = self._next(waiting)
            line = await self._batches.claim(batch.id)
            if line is None:
                waiting.remove(batch)
                await self._end_if_answered(batch)
                continue
            task = asyncio.create_task(self._answer(app, batch, line))
            self._lines[task] = batch
            task.add_done_callback(self._done)

    def _next(self, waiting: list[StoredBatch]) -> StoredBatch:
        """The oldest batch of the tenant with the fewest lines under way; of several, of the one longest not served."""
        running = Counter(batch.tenant for batch in self._lines.values())
        batch = min(waiting, key=lambda one: (running[one.tenant], self._turns.get(one.tenant, 0), one.id))
        tenants = {one.tenant for one in waiting}
        self._turns = {tenant: turn for tenant, turn in self._turns.items() if tenant in tenants}
        self._turns[batch.tenant] = max(self._turns.values(), default=0) + 1
        return batch

    async def _end_if_answered(self, batch: StoredBatch) -> None:
        if await self._batches.unfinished(batch.id) == (0, 0) and await self._batches.end(batch, "completed"):
            self.wake()

    async def _answer(self, app: InProcess, batch: StoredBatch, line: Line) -> None:
        caller = Caller(batch.key, batch.tenant)
        if not self._known(caller):
            await self._surely(self._batches.finish, line, "failed", _unasked(line), Used())
            return
        try:
            answered = await app.ask(caller, batch.endpoint, line.body.encode())
        except asyncio.CancelledError:
            await self._surely(self._batches.release, line)
            raise
        if (seconds := answered.rest_seconds) is not None:
            # A limit of the tenant's, or a server that is busy: others may have more luck.
            self._rest_until[batch.tenant] = asyncio.get_running_loop().time() + seconds
            await self._surely(self._batches.release, line)
            return
        state = "completed" if answered.status == 200 else "failed"
        await self._surely(self._batches.finish, line, state, _output(line, answered), answered.used)
        self._lines_answered.labels(state).inc()

    async def _surely(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        """Although the database may be away for a while: this process lives, so nobody else would do it."""
        while True:
            try:
                return await work(*arguments)
            except (SQLAlchemyError, OSError) as error:
                log.warning("a batch's line waits for the database", reason=type(error).__name__)
                await asyncio.sleep(POLL_SECONDS)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._lines.pop(task, None)
        self._stopping.discard(task)
        _say_why(task)
        self.wake()

    async def _sweep(self) -> None:
        while True:
            try:
                await self._files.sweep()
                await self._batches.sweep(self._keep_seconds)
            except (SQLAlchemyError, OSError) as error:
                log.warning("old files wait for the database", reason=type(error).__name__)
            await asyncio.sleep(SWEEP_SECONDS)


async def _stopped(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _say_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("work on batches has failed", exc_info=error)


def _unasked(line: Line) -> str:
    error = LineError("invalid_api_key", "The API key that began this batch is not valid any more.")
    return _encode(OutputLine(line_id(), line.custom_id, error=error)).decode()


def _output(line: Line, answered: Answered) -> str:
    response = LineResponse(answered.status, answered.request_id, Raw(answered.body))
    return _encode(OutputLine(line_id(), line.custom_id, response)).decode()
