"""A file of requests answered from the command line, without files and batches in a database: ``sluice batch``.

    FILE ─▶ all lines looked at ─▶ those that OUT has no answer for ─▶ asked, so many at once ─▶ OUT, ERRORS

OUT grows by one line an answer, so a run that ends early, however it ends, is continued by the next one; half a line at
its end is taken back. ERRORS is what failed in the last run, and is asked again in the next.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

import httpx
import msgspec
from msgspec import Raw

from gateway.auth import Caller
from gateway.batches.batch_store import Line
from gateway.batches.in_process import Answered
from gateway.batches.input_file import InputReader
from gateway.batches.output_files import line_id
from gateway.batches.problem import BatchProblem
from schemas.openai.batches import ENDPOINTS, LineResponse, OutputLine

READ_BYTES = 256 * 1024
PROGRESS_SECONDS = 5.0

_BEGIN = b'{"id":"'
"""Of every line of an output."""

_encode = msgspec.json.Encoder().encode


class Asking(Protocol):
    """Who answers: `gateway.batches.in_process.InProcess`, or a server."""

    async def ask(self, caller: Caller, path: str, body: bytes) -> Answered: ...


class AtServer:
    """A server, by its URL, with or without "/v1"."""

    def __init__(self, url: str, key: str | None, client: httpx.AsyncClient) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        self._client = client

    async def ask(self, caller: Caller, path: str, body: bytes) -> Answered:
        """``caller``: whom the key says. Raises `BatchProblem`."""
        try:
            answer = await self._client.post(f"{self._url}{path}", content=body, headers=self._headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BatchProblem(f"{self._url} does not answer: {error or type(error).__name__}") from None
        try:
            msgspec.json.decode(answer.content, type=Raw)
        except msgspec.DecodeError:
            message = f"{self._url}{path} answers {answer.status_code} without JSON: is it such an API?"
            raise BatchProblem(message) from None
        request_id = answer.headers.get("x-request-id", "")
        return Answered(request_id, answer.status_code, dict(answer.headers), answer.content)


@dataclass(slots=True)
class Tally:
    """Lines of one run. ``before``: answered by earlier ones."""

    total: int
    before: int
    answered: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"{self.before + self.answered} of {self.total} answered, {self.failed} failed"


class Bulk:
    """``find_model``, ``max_bytes``: as of `InputReader`. ``say``: for progress."""

    def __init__(
        self, file: Path, out: Path, find_model: Callable[[str], object], *, max_bytes: int, say: TextIO
    ) -> None:
        self._file = file
        self._out = out
        self._errors = out.with_name(f"{out.name}.errors")
        self._find_model = find_model
        self._max_bytes = max_bytes
        self._say = say

    async def run(self, asking: Asking, concurrency: int) -> Tally:
        """Raises `BatchProblem`; what was answered until then is in OUT."""
        endpoint, total = await self._looked_at()
        if self._out.exists() and self._out.samefile(self._file):
            raise BatchProblem(f"{self._out}: these are the requests; the answers need a file of their own")
        with _opened(self._out) as out, self._errors.open("wb") as errors:
            done = _continued(out, self._out)
            tally = Tally(total, len(done))
            telling = asyncio.create_task(self._tell(tally))
            places = asyncio.Semaphore(concurrency)
            try:
                async with asyncio.TaskGroup() as tasks:
                    async for line in self._lines(endpoint):
                        if line.custom_id in done:
                            continue
                        await places.acquire()
                        task = tasks.create_task(_answer(asking, endpoint, line, tally, out, errors))
                        task.add_done_callback(lambda _: places.release())
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            finally:
                telling.cancel()
        if not tally.failed:
            self._errors.unlink()
        return tally

    async def _looked_at(self) -> tuple[str, int]:
        """The endpoint of all lines, which the first one names, and how many there are. Raises `BatchProblem`."""
        endpoint = _first_url(self._file)
        if endpoint not in ("", *ENDPOINTS):
            raise BatchProblem(f"{self._file}:1: 'url' is '{endpoint[:100]}'; batches are for {', '.join(ENDPOINTS)}.")
        reader = self._reader(endpoint)
        async for _ in reader.read(self._chunks()):
            pass
        if reader.errors:
            said = [f"{self._file}:{wrong.line or 1}: {wrong.message}" for wrong in reader.errors]
            raise BatchProblem("\n".join(said))
        return endpoint, reader.count

    def _lines(self, endpoint: str) -> AsyncIterator[Line]:
        return self._reader(endpoint).read(self._chunks())

    def _reader(self, endpoint: str) -> InputReader:
        return InputReader("", endpoint, self._find_model, max_lines=2**62, max_bytes=self._max_bytes)

    async def _chunks(self) -> AsyncIterator[bytes]:
        with _readable(self._file) as file:
            while data := file.read(READ_BYTES):
                yield data

    async def _tell(self, tally: Tally) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            rate = (tally.answered + tally.failed) / (time.monotonic() - began)
            print(f"{tally}, {rate:.1f} a second", file=self._say, flush=True)


async def _answer(asking: Asking, endpoint: str, line: Line, tally: Tally, out: BinaryIO, errors: BinaryIO) -> None:
    answered = await asking.ask(Caller(), endpoint, line.body.encode())
    while (seconds := answered.rest_seconds) is not None:
        await asyncio.sleep(seconds)
        answered = await asking.ask(Caller(), endpoint, line.body.encode())
    response = LineResponse(answered.status, answered.request_id, Raw(answered.body))
    text = _encode(OutputLine(line_id(), line.custom_id, response)) + b"\n"
    if answered.status == 200:
        tally.answered += 1
        out.write(text)
        out.flush()
    else:
        tally.failed += 1
        errors.write(text)
        errors.flush()


class _Url(msgspec.Struct):
    url: str


class _Done(msgspec.Struct):
    """What tells a line of an output from one of an input."""

    custom_id: str
    response: Raw


def _first_url(file: Path) -> str:
    """What the first line is for, "" where it does not say."""
    with _readable(file) as lines:
        first = next((line for line in lines if line.strip()), b"")
    try:
        return msgspec.json.decode(first, type=_Url).url
    except msgspec.DecodeError:
        return ""


def _readable(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise BatchProblem(f"{file}: {error.strerror}") from None


def _opened(out: Path) -> BinaryIO:
    """OUT, for this process alone."""
    try:
        file = os.fdopen(os.open(out, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    except OSError as error:
        raise BatchProblem(f"{out}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise BatchProblem(f"{out}: another run writes to it") from None
    return file


def _continued(out: BinaryIO, path: Path) -> set[str]:
    """The ids that OUT has answers for. What was written half is taken back, and writing goes on behind the rest."""
    done: set[str] = set()
    end = 0
    for line in out:
        if not line.endswith(b"\n"):
            if not line.startswith(_BEGIN[: len(line)]):
                raise _stranger(path, end)
            break
        try:
            done.add(msgspec.json.decode(line, type=_Done).custom_id)
        except msgspec.DecodeError:
            raise _stranger(path, end) from None
        end += len(line)
    out.seek(end)
    out.truncate()
    return done


def _stranger(path: Path, place: int) -> BatchProblem:
    return BatchProblem(f"{path}: byte {place} begins no line of an earlier run's output")
