"""The tables of uploaded files and of batch outputs. A file's text lies in the database, in chunks: so all servers of a
database have it, and what is done about a file is done in the transaction that says so."""

from __future__ import annotations

from advanced_alchemy.base import DefaultBase
from sqlalchemy import BigInteger, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column


class StoredFile(DefaultBase):
    """``status``: "uploading" (nobody finds it, and its end is near) or "processed". ``expires_at``: None for never.
    Times: microseconds since 1970."""

    __tablename__ = "files"
    __table_args__ = (Index("ix_files_tenant", "tenant", "id"),)

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(200))
    filename: Mapped[str] = mapped_column(String(500))
    purpose: Mapped[str] = mapped_column(String(20))
    bytes: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int | None] = mapped_column(BigInteger, index=True)


class FileChunk(DefaultBase):
    """``number`` counts from 0; all chunks but the last are of `file_store.CHUNK` bytes."""

    __tablename__ = "file_chunks"

    file: Mapped[str] = mapped_column(String(100), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
