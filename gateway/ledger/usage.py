"""Sums over the ledger: ``GET /v1/usage`` for a tenant, ``sluice usage`` for the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast, get_args

import msgspec
from litestar import Request
from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import InstrumentedAttribute

from gateway.database.database import Database
from gateway.errors import ApiError, invalid
from gateway.ledger.tables import Leg
from schemas.money import usd_text
from schemas.usage import UsageGroup, UsageLine, UsageReport

GROUPS: tuple[UsageGroup, ...] = get_args(UsageGroup)
OWN_GROUPS: tuple[UsageGroup, ...] = tuple(group for group in GROUPS if group != "tenant")
"""What a tenant can ask for."""

DEFAULT_DAYS = 30
MAX_DAYS = 366
MAX_LINES = 10_000


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """``since``, ``until``: both included. ``tenant``: None for everybody's."""

    since: date
    until: date
    group_by: tuple[UsageGroup, ...]
    tenant: str | None


def read_query(
    since: str | None, until: str | None, group_by: str | None, tenant: str | None, groups: Sequence[UsageGroup]
) -> UsageQuery:
    """From texts: days as YYYY-MM-DD, groups with commas between. Raises `ApiError`, which names the parameter."""
    today = datetime.now(UTC).date()
    last = _day(until, "until") if until else today
    first = _day(since, "since") if since else last - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MAX_DAYS:
        raise invalid(f"From 'since' to 'until' are 1 to {MAX_DAYS} days, not {(last - first).days + 1}.", "since")
    names = [name.strip() for name in (group_by or "day,model,key").split(",")]
    for name in names:
        if name not in groups:
            raise invalid(f"Usage is grouped by {', '.join(groups)}, not by '{name}'.", "group_by")
    return UsageQuery(first, last, cast(tuple[UsageGroup, ...], tuple(dict.fromkeys(names))), tenant)


def _day(text: str, param: str) -> date:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        day = date.min
    if day.year < 1970:
        raise invalid(f"Invalid value for '{param}': '{text[:40]}' is no day, as YYYY-MM-DD, since 1970.", param)
    return day


async def show_usage(request: Request[Any, Any, Any], database: Database, tenant: str) -> bytes:
    """The body of ``GET /v1/usage``: of ``tenant`` alone. Raises `ApiError`."""
    asked = request.query_params
    for name in asked:
        if name not in ("since", "until", "group_by"):
            raise invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    query = read_query(asked.get("since"), asked.get("until"), asked.get("group_by"), tenant, OWN_GROUPS)
    return msgspec.json.encode(await usage(database, query))


async def usage(database: Database, query: UsageQuery) -> UsageReport:
    """Raises `ApiError` for more lines than an answer holds."""
    groups = [cast("ColumnElement[str]", getattr(Leg, name)) for name in query.group_by]
    statement = (
        select(*groups, *_SUMS)
        .where(Leg.day >= query.since.isoformat(), Leg.day <= query.until.isoformat())
        .group_by(*groups)
        .order_by(*groups)
        .limit(MAX_LINES + 1)
    )
    if query.tenant is not None:
        statement = statement.where(Leg.tenant == query.tenant)
    async with database.reading() as session:
        rows = (await session.execute(statement)).all()
    if len(rows) > MAX_LINES:
        raise ApiError(400, f"That is more than {MAX_LINES} lines: ask for fewer days or groups.", param="group_by")
    lines = [_line(query.group_by, row) for row in rows]
    return UsageReport(
        since=query.since.isoformat(), until=query.until.isoformat(), group_by=list(query.group_by), data=lines
    )


def _total(amount: ColumnElement[Any] | InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(amount), 0)


_HELD = Leg.state.in_(("reserved", "unknown"))
_SUMS = (
    func.count(case((Leg.number == 0, 1))),
    func.count(),
    _total(Leg.prompt_tokens),
    _total(Leg.cached_tokens),
    _total(Leg.completion_tokens),
    _total(case((_HELD, 0), else_=Leg.charged_nano)),
    _total(case((_HELD, Leg.charged_nano), else_=0)),
    func.count(case((Leg.charged_nano.is_(None), 1))),
)


def _line(groups: tuple[UsageGroup, ...], row: Sequence[object]) -> UsageLine:
    # PostgreSQL's sums of integers are decimals.
    sums = [int(cast(int, value)) for value in row[len(groups) :]]
    requests, attempts, prompt, cached, completion, nano, held, unpriced = sums
    named = {name: str(value) for name, value in zip(groups, row, strict=False)}
    return UsageLine(
        **named,
        requests=requests,
        attempts=attempts,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        usd=usd_text(nano),
        held_usd=usd_text(held),
        unpriced=unpriced,
    )
