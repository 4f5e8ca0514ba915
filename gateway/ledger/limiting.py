"""Which meters an attempt is charged to, and how far each may go.

A limit and the window of now make a meter: ``key:ci:minute:29711520``, ``tenant:acme:month:2026-11``, ``all::total:``.
Meters are kept in an order that all processes share, so that transactions which charge several never wait for each
other in a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schemas.limits import Limit, Per, ScopedLimit
from schemas.money import nano_usd

MICROSECONDS = 1_000_000
UNLIMITED = 2**62
EVERYBODYS = "all:"
"""The scope of limits on all tenants together."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """What an attempt is charged, or what a meter shows, or how far it may go."""

    requests: int
    tokens: int
    nano: int

    def within(self, ceiling: Amounts) -> bool:
        return self.requests <= ceiling.requests and self.tokens <= ceiling.tokens and self.nano <= ceiling.nano


@dataclass(frozen=True, slots=True)
class MeterLimit:
    """How far the meter ``id`` may go. ``whose``: for messages. ``ends_at``: microseconds since 1970, or None."""

    id: str
    whose: str
    per: Per
    ceiling: Amounts
    ends_at: int | None

    @property
    def everybodys(self) -> bool:
        """Other tenants' requests are on it too: what it shows is for none of them to know."""
        return self.id.startswith(EVERYBODYS)

    def seconds_left(self, now: float) -> float | None:
        return None if self.ends_at is None else max(0.0, self.ends_at / MICROSECONDS - now)


def window(per: Per, now: float) -> tuple[str, int | None]:
    """The window in which ``now`` (seconds since 1970) lies: its name, and its end in microseconds since 1970."""
    moment = datetime.fromtimestamp(now, UTC)
    match per:
        case "minute":
            number = int(now // 60)
            return str(number), (number + 1) * 60 * MICROSECONDS
        case "day":
            begins = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            return f"{moment:%Y-%m-%d}", _microseconds(begins + timedelta(days=1))
        case "month":
            begins = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            return f"{moment:%Y-%m}", _microseconds((begins + timedelta(days=31)).replace(day=1))
        case "total":
            return "", None


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * MICROSECONDS


class LimitBook:
    """The limits of the settings, and of keys that bring their own (``of_key``: by a key's name)."""

    def __init__(self, limits: Iterable[ScopedLimit], of_key: Callable[[str], Iterable[Limit]] = lambda _: ()) -> None:
        self._of_key = of_key
        self.take(limits)

    def take(self, limits: Iterable[ScopedLimit]) -> None:
        """Go by these from now on, for what is reserved from now on. What meters show stays."""
        self._limits: dict[str, list[Limit]] = {}
        for limit in limits:
            scope = f"key:{limit.key}" if limit.key else f"tenant:{limit.tenant}" if limit.tenant else EVERYBODYS
            self._limits.setdefault(scope, []).append(limit)

    def meters(self, tenant: str, key: str, now: float) -> list[MeterLimit]:
        """What an attempt of this caller at ``now`` (seconds since 1970) is charged to, in the order of charging."""
        found: list[MeterLimit] = []
        scopes = (
            (f"key:{key}", f"The key '{key}'", [*self._limits.get(f"key:{key}", ()), *self._of_key(key)]),
            (f"tenant:{tenant}", f"The tenant '{tenant}'", self._limits.get(f"tenant:{tenant}", [])),
            (EVERYBODYS, "This server", self._limits.get(EVERYBODYS, [])),
        )
        for scope, whose, limits in scopes:
            pers: dict[Per, None] = dict.fromkeys(limit.per for limit in limits)
            for per in pers:
                name, ends_at = window(per, now)
                ceiling = _strictest(limit for limit in limits if limit.per == per)
                found.append(MeterLimit(f"{scope}:{per}:{name}", whose, per, ceiling, ends_at))
        return sorted(found, key=lambda meter: meter.id)


def _strictest(limits: Iterable[Limit]) -> Amounts:
    requests = tokens = nano = UNLIMITED
    for limit in limits:
        requests = min(requests, UNLIMITED if limit.requests is None else limit.requests)
        tokens = min(tokens, UNLIMITED if limit.tokens is None else limit.tokens)
        nano = min(nano, UNLIMITED if limit.usd is None else nano_usd(limit.usd))
    return Amounts(requests, tokens, nano)
