"""Files of tenants, in the database, in chunks: no more than one of them is in memory at a time.

    begin ─▶ uploading ─write*─▶ finish ─▶ processed ─▶ forget, or past its time ─▶ swept
                  └─ discard, or an hour later ─────────────────────────────────────▶ swept

To forget a file is to let it expire now: then nobody finds it any more, and its chunks go a few at a time, so that no
transaction is long.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from gateway.database.database import Database
from gateway.errors import ApiError
from gateway.files.tables import FileChunk, StoredFile
from gateway.paging import MICROSECONDS, Page, timed_id
from schemas.config import Files
from schemas.openai.files import Purpose

CHUNK = 256 * 1024
"""Bytes."""

UPLOAD_SECONDS = 3600
"""How long an upload may take."""

SWEPT_TOGETHER = 16
"""Chunks that one transaction deletes."""

_MIB = 1024 * 1024
_DAY_SECONDS = 86_400


class FileStore:
    """``clock``: seconds since 1970."""

    def __init__(self, database: Database, settings: Files, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.max_bytes = settings.max_mb * _MIB
        self._tenant_bytes = settings.tenant_mb * _MIB
        self._batch_seconds = settings.retention_days * _DAY_SECONDS
        self._clock = clock

    async def begin(self, tenant: str, filename: str, *, bounded: bool = True) -> FileWriter:
        """A file to be written. ``bounded``: by what one file, and a tenant's files together, may have."""
        now = self._clock()
        row = {
            "id": timed_id("file-", now),
            "tenant": tenant,
            "filename": filename,
            "purpose": "",
            "bytes": 0,
            "status": "uploading",
            "created_at": int(now * MICROSECONDS),
            "expires_at": int((now + UPLOAD_SECONDS) * MICROSECONDS),
        }
        await self.database.write(partial(_insert, row=row))
        return FileWriter(self, row["id"], tenant, now, self._tenant_bytes if bounded else None)

    async def find(self, id: str, tenant: str) -> StoredFile | None:
        """None for another tenant's, as for one that there is not."""
        async with self.database.reading() as session:
            return await session.scalar(select(StoredFile).where(StoredFile.id == id, *self._there(tenant)))

    async def list(self, tenant: str, page: Page, purpose: str | None = None) -> Sequence[StoredFile]:
        """A page of them, and one more if there are more."""
        mine = select(StoredFile).where(*self._there(tenant))
        if purpose is not None:
            mine = mine.where(StoredFile.purpose == purpose)
        async with self.database.reading() as session:
            return (await session.scalars(page.of(mine, StoredFile.id))).all()

    async def content(self, file: StoredFile) -> AsyncIterator[bytes]:
        """Its chunks, in order. Raises `FileGone` where it is forgotten meanwhile."""
        for number in range(-(-file.bytes // CHUNK)):
            async with self.database.reading() as session:
                chunk = select(FileChunk.data).where(FileChunk.file == file.id, FileChunk.number == number)
                data = await session.scalar(chunk)
            if data is None:
                raise FileGone(file.id)
            yield data

    async def forget(self, id: str, tenant: str) -> bool:
        """Whether there was one."""
        if not await self.database.write(partial(_expire, id=id, there=self._there(tenant), now=self._now())):
            return False
        await self.remove(id)
        return True

    async def sweep(self) -> None:
        """Let go of what is past its time."""
        over = select(StoredFile.id).where(StoredFile.expires_at <= self._now())
        async with self.database.reading() as session:
            ids = (await session.scalars(over)).all()
        for id in ids:
            await self.remove(id)

    def lifetime(self, purpose: Purpose, seconds: int | None) -> float | None:
        """Seconds that a file lives, ``seconds`` if it is said; None for ever."""
        return seconds if seconds is not None or purpose == "user_data" else self._batch_seconds

    async def remove(self, id: str) -> None:
        """The file and all its chunks, a few of them at a time."""
        while await self.database.write(partial(_remove_chunks, id=id)):
            pass
        await self.database.write(partial(_remove, id=id))

    def _there(self, tenant: str) -> tuple[ColumnElement[bool], ...]:
        lives = or_(StoredFile.expires_at.is_(None), StoredFile.expires_at > self._now())
        return StoredFile.tenant == tenant, StoredFile.status == "processed", lives

    def _now(self) -> int:
        return int(self._clock() * MICROSECONDS)


class FileGone(Exception):
    """A file that was forgotten while it was read."""


class FileWriter:
    """A file on its way in: `write`, then `finish` or `discard`. ``created``: seconds since 1970. ``most``: bytes that
    its tenant may have in all."""

    def __init__(self, store: FileStore, id: str, tenant: str, created: float, most: int | None) -> None:
        self.id = id
        self.bytes = 0
        self._store = store
        self._tenant = tenant
        self._created = created
        self._most = most
        self._chunks = 0
        self._rest = bytearray()

    async def write(self, data: bytes | bytearray) -> None:
        """Raises `ApiError` 413 for more than one file may have, 400 for more than there may be in all."""
        self.bytes += len(data)
        if self._most is not None and self.bytes > self._store.max_bytes:
            raise too_large(self._store.max_bytes)
        self._rest += data
        while len(self._rest) >= CHUNK:
            await self._write(bytes(self._rest[:CHUNK]))
            del self._rest[:CHUNK]

    async def flush(self) -> None:
        """Everything is in the database, though nobody finds it yet."""
        if self._rest:
            await self._write(bytes(self._rest))
            self._rest.clear()

    async def finish(self, purpose: Purpose, seconds: int | None = None) -> StoredFile:
        """``seconds``: as of `FileStore.lifetime`."""
        await self.flush()
        await self._store.database.write(partial(publish, id=self.id, row=self.published(purpose, seconds)))
        found = await self._store.find(self.id, self._tenant)
        assert found is not None, "a file cannot expire before it is published"
        return found

    def published(self, purpose: Purpose, seconds: int | None) -> dict[str, Any]:
        """The columns of the file once it is whole: for `publish`."""
        lives = self._store.lifetime(purpose, seconds)
        expires_at = None if lives is None else int((self._created + lives) * MICROSECONDS)
        return {"purpose": purpose, "status": "processed", "expires_at": expires_at}

    async def discard(self) -> None:
        await self._store.remove(self.id)

    async def _write(self, data: bytes) -> None:
        row = {"file": self.id, "number": self._chunks, "data": data}
        await self._store.database.write(partial(_append, row=row, tenant=self._tenant, most=self._most))
        self._chunks += 1


def too_large(most: int) -> ApiError:
    return ApiError(413, f"A file may have {most} bytes here.", param="file", code="request_too_large")


def publish(connection: Connection, id: str, row: dict[str, Any]) -> None:
    connection.execute(update(StoredFile).where(StoredFile.id == id).values(row))


def _insert(connection: Connection, row: dict[str, Any]) -> None:
    connection.execute(insert(StoredFile).values(row))


def _append(connection: Connection, row: dict[str, Any], tenant: str, most: int | None) -> None:
    if most is not None:
        # One writer of a tenant after the other, or each would miss what the others have not committed yet.
        mine = select(StoredFile.id).where(StoredFile.tenant == tenant).order_by(StoredFile.id)
        connection.execute(mine.with_for_update()).all()
    connection.execute(insert(FileChunk).values(row))
    grown = StoredFile.bytes + len(row["data"])
    connection.execute(update(StoredFile).where(StoredFile.id == row["file"]).values(bytes=grown))
    if most is None:
        return
    kept = connection.execute(select(func.sum(StoredFile.bytes)).where(StoredFile.tenant == tenant)).scalar_one()
    if kept > most:
        message = f"The files of a tenant may have {most} bytes together: delete some, or let them expire sooner."
        raise ApiError(400, message, param="file", code="storage_full")


def _expire(connection: Connection, id: str, there: tuple[ColumnElement[bool], ...], now: int) -> bool:
    expired = update(StoredFile).where(StoredFile.id == id, *there).values(expires_at=now)
    return connection.execute(expired).rowcount > 0


def _remove_chunks(connection: Connection, id: str) -> bool:
    """Whether there may be more."""
    some = select(FileChunk.number).where(FileChunk.file == id).limit(SWEPT_TOGETHER)
    removed = connection.execute(delete(FileChunk).where(FileChunk.file == id, FileChunk.number.in_(some)))
    return removed.rowcount == SWEPT_TOGETHER


def _remove(connection: Connection, id: str) -> None:
    connection.execute(delete(StoredFile).where(StoredFile.id == id))
