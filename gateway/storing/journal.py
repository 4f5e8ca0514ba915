"""The events of a response that is streamed while it is made in the background: written down as they come, so that they
can be followed from any of them on, here or at another server, with the same numbers.

    the maker ─add─▶ Journal ──▶ followers in this process, at once
                        └─ every quarter of a second ─▶ the database ──▶ followers elsewhere, and later ones

Events count from 0, so an event's number is its place in the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec
import structlog
from msgspec import Raw
from sqlalchemy.exc import SQLAlchemyError

from gateway.answer import sent
from gateway.storing.response_store import ResponseStore, split
from gateway.storing.tables import StoredResponse

WRITE_SECONDS = 0.25
READ_SECONDS = 0.25

log = structlog.get_logger()

_encode = msgspec.json.Encoder().encode


class Journal:
    """Of the response ``id``, which is made in this process."""

    def __init__(self, store: ResponseStore, id: str) -> None:
        self._store = store
        self._id = id
        self._events: list[bytes] = []
        self._written = 0
        self._over = False
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def last(self) -> int:
        """The number of the last event."""
        return len(self._events) - 1

    def add(self, events: bytes) -> None:
        self._events += split(events)
        self._tell()

    def unwritten(self) -> list[bytes]:
        """Events that are not in the database."""
        return self._events[self._written :]

    def end(self) -> None:
        """No more events come."""
        self._over = True
        self._tell()

    def stop_writing(self) -> None:
        self._stopping.set()

    async def write_on(self) -> None:
        """Write down what comes, until `stop_writing`. It is not cancelled: what is half written would be twice."""
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._stopping.wait()
            try:
                await self._write()
            except (SQLAlchemyError, OSError) as error:
                log.warning("events wait for the database", reason=type(error).__name__)

    async def _write(self) -> None:
        if events := self.unwritten():
            last = self.last
            await self._store.tell(self._id, events, last)
            self._written = last + 1

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        """Events with numbers above ``after``, those that are still to come too."""
        told = after + 1
        while True:
            news = self._news
            if told < len(self._events):
                events, told = self._events[told:], len(self._events)
                yield b"".join(events)
            elif self._over:
                return
            else:
                await news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


async def follow(store: ResponseStore, response: StoredResponse, after: int) -> AsyncGenerator[bytes, None]:
    """Events of a response that another process makes, or that is made, with numbers above ``after``."""
    found: StoredResponse | None = response
    while found is not None:
        found = await store.find(response.id, response.tenant)
        events = await store.events(response.id, after)
        if events:
            after += len(events)
            yield b"".join(events)
        if found is not None and not found.worker:
            if lost := await _lost(store, found, after):
                yield lost
            return
        await asyncio.sleep(READ_SECONDS)


class _Ended(msgspec.Struct):
    status: str


class _Numbered(msgspec.Struct):
    type: str
    sequence_number: int
    response: Raw


async def _lost(store: ResponseStore, response: StoredResponse, after: int) -> bytes:
    """The last event of what failed with its process, which could not tell it; nothing where there is none."""
    if msgspec.json.decode(response.body, type=_Ended).status != "failed":
        return b""
    told = await store.events(response.id, -1)
    if after >= len(told) or (told and told[-1].startswith(b"event: response.failed")):
        return b""
    return sent(_encode(_Numbered("response.failed", len(told), Raw(response.body.encode()))), "response.failed")
