"""What was asked for, from the ledger: tokens by the hour, and how fast this server's engine was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import func, select

from gateway.database.database import Database
from gateway.ledger.ids import first_id
from gateway.ledger.tables import Leg
from schemas.policy import LOCAL

HOUR = 3600 * 1_000_000
"""Microseconds."""

MAX_LEGS = 200_000
"""That a pace is measured from: the latest ones."""

ANSWERED = ("settled", "estimated")


@dataclass(frozen=True, slots=True)
class Load:
    """Over ``hours``. ``cached`` is a part of ``prompt``. ``peak_completion``: completion tokens of the busiest hour.
    ``requests``: attempts that were answered."""

    hours: float
    requests: int
    prompt: int
    cached: int
    completion: int
    peak_completion: int

    def with_peak(self, times: float) -> Load:
        """The same with a busiest hour of so many times the mean."""
        return replace(self, peak_completion=round(self.completion / self.hours * times))


@dataclass(frozen=True, slots=True)
class Pace:
    """Of the engine while it was asked: ``seconds`` in which at least one answer was under way, ``completion`` tokens
    in them."""

    seconds: float
    completion: int

    @property
    def tokens_per_s(self) -> float:
        return self.completion / self.seconds


async def ledger_load(database: Database, since: int, until: int, tenant: str | None = None) -> Load:
    """Of all providers, from ``since`` to ``until`` (microseconds since 1970): the load that could be served by one."""
    hour = (Leg.reserved_at // HOUR).label("hour")
    sums = (func.count(), func.sum(Leg.prompt_tokens), func.sum(Leg.cached_tokens), func.sum(Leg.completion_tokens))
    asked = (
        select(hour, *sums)
        .where(Leg.id >= first_id(since), Leg.id < first_id(until), Leg.state.in_(ANSWERED))
        .group_by(hour)
    )
    if tenant is not None:
        asked = asked.where(Leg.tenant == tenant)
    async with database.reading() as session:
        rows = [tuple(map(int, row)) for row in (await session.execute(asked)).all()]
    totals = [sum(column) for column in zip(*rows, strict=True)] or [0] * 5
    _, requests, prompt, cached, completion = totals
    peak = max((row[4] for row in rows), default=0)
    return Load((until - since) / HOUR, requests, prompt, cached, completion, peak)


async def measured_pace(database: Database, since: int, until: int) -> Pace | None:
    """Of the local engine; None where it has answered nothing."""
    answers = (
        select(Leg.reserved_at, Leg.total_us, Leg.completion_tokens)
        .where(Leg.id >= first_id(since), Leg.id < first_id(until), Leg.state.in_(ANSWERED))
        .where(Leg.provider == LOCAL, Leg.total_us.is_not(None), Leg.completion_tokens > 0)
        .order_by(Leg.id.desc())
        .limit(MAX_LEGS)
    )
    async with database.reading() as session:
        rows = (await session.execute(answers)).all()
    seconds = covered((began, began + (lasted or 0)) for began, lasted, _ in rows) / 1e6
    return Pace(seconds, sum(tokens for _, _, tokens in rows)) if seconds else None


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """The length of the union of ``spans``."""
    total, end = 0, -1
    for begin, stop in sorted(spans):
        if stop > end:
            total += stop - max(begin, end)
            end = stop
    return total
