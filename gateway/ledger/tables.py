"""The ledger's tables. Money is in integer nano-dollars, times in microseconds since 1970, durations in microseconds.
No prompt and no answer is in any of them.

    legs      one row an attempt to answer: what it may cost, then what it did cost
    meters    one row a limit and window: what its legs are charged, together
    workers   one row a process that writes legs; its `beats` grow while it lives
"""

from __future__ import annotations

from advanced_alchemy.base import DefaultBase
from sqlalchemy import BigInteger, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

_OPEN = text("state = 'reserved'")


class Leg(DefaultBase):
    """``number``: 0 for a request's first attempt. ``charged``: what counts against limits now: the reserved maximum
    until the leg is settled; nano-dollars are None where the price is not known. ``meters``: JSON, the ids of the
    meters that it is charged to. ``day``: UTC, when it was reserved. ``decision``: JSON, why this provider was chosen,
    and ``enforcement``: "" for none."""

    __tablename__ = "legs"
    __table_args__ = (
        Index("ix_legs_tenant_day", "tenant", "day"),
        Index("ix_legs_open", "worker", sqlite_where=_OPEN, postgresql_where=_OPEN),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    request: Mapped[str] = mapped_column(String(100))
    number: Mapped[int]
    worker: Mapped[str] = mapped_column(String(40))
    tenant: Mapped[str] = mapped_column(String(200))
    key: Mapped[str] = mapped_column(String(200))
    provider: Mapped[str] = mapped_column(String(200))
    model: Mapped[str] = mapped_column(String(500))
    state: Mapped[str] = mapped_column(String(10))
    reserved_nano: Mapped[int | None] = mapped_column(BigInteger)
    reserved_tokens: Mapped[int] = mapped_column(BigInteger)
    charged_nano: Mapped[int | None] = mapped_column(BigInteger)
    charged_tokens: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    enforcement: Mapped[str] = mapped_column(String(20))
    decision: Mapped[str] = mapped_column(Text)
    meters: Mapped[str] = mapped_column(Text)
    day: Mapped[str] = mapped_column(String(10))
    reserved_at: Mapped[int] = mapped_column(BigInteger)
    first_token_us: Mapped[int | None] = mapped_column(BigInteger)
    total_us: Mapped[int | None] = mapped_column(BigInteger)


class Meter(DefaultBase):
    """``id``: whose, and of which window. ``ends_at``: when nothing is charged to it any more, None for never."""

    __tablename__ = "meters"

    id: Mapped[str] = mapped_column(String(500), primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)
    nano: Mapped[int] = mapped_column(BigInteger)
    ends_at: Mapped[int | None] = mapped_column(BigInteger, index=True)


class Worker(DefaultBase):
    """A process that writes legs."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    beats: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[int] = mapped_column(BigInteger)
