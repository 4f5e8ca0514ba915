"""The tables of batches: what is asked for, and one row a line of its input until its output is written."""

from __future__ import annotations

from advanced_alchemy.base import DefaultBase
from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column


class StoredBatch(DefaultBase):
    """``status``: OpenAI's, and ``ending`` the one it is going to have, once that is known. ``key``: who asked.
    ``labels``, ``errors``: JSON. ``output_seconds``: how long its output lives, None for files' default. ``worker``:
    the process that reads its input or writes its output just now, else "". Times: microseconds since 1970."""

    __tablename__ = "batches"
    __table_args__ = (Index("ix_batches_tenant", "tenant", "id"),)

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(200))
    key: Mapped[str] = mapped_column(String(200))
    endpoint: Mapped[str] = mapped_column(String(50))
    input_file: Mapped[str] = mapped_column(String(100))
    completion_window: Mapped[str] = mapped_column(String(10))
    output_seconds: Mapped[int | None]
    labels: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(String(500))
    status: Mapped[str] = mapped_column(String(20), index=True)
    ending: Mapped[str] = mapped_column(String(20))
    errors: Mapped[str] = mapped_column(Text)
    lines: Mapped[int]
    completed: Mapped[int]
    failed: Mapped[int]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    output_file: Mapped[str] = mapped_column(String(100))
    error_file: Mapped[str] = mapped_column(String(100))
    worker: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    in_progress_at: Mapped[int | None] = mapped_column(BigInteger)
    finalizing_at: Mapped[int | None] = mapped_column(BigInteger)
    completed_at: Mapped[int | None] = mapped_column(BigInteger)
    failed_at: Mapped[int | None] = mapped_column(BigInteger)
    expired_at: Mapped[int | None] = mapped_column(BigInteger)
    cancelling_at: Mapped[int | None] = mapped_column(BigInteger)
    cancelled_at: Mapped[int | None] = mapped_column(BigInteger)


class BatchLine(DefaultBase):
    """``state``: "pending", "running" (at ``worker``), "completed" or "failed". ``body``: JSON, the request, until it
    is answered. ``answer``: JSON, the line of the output or the error file, once it is."""

    __tablename__ = "batch_lines"
    __table_args__ = (Index("ix_batch_lines_state", "batch", "state", "number"),)

    batch: Mapped[str] = mapped_column(String(100), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    custom_id: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10))
    worker: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)
    answer: Mapped[str] = mapped_column(Text)
