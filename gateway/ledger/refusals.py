"""What a caller is told whose limits an attempt does not fit into.

Refused     what `Ledger.reserve` raises, as any endpoint answers it: 429
  ├─ RateLimited   of requests or tokens in a minute or a day: waiting helps, and `retry-after` says how long
  └─ OverBudget    of dollars, or of anything in a month or in all: SDKs are told not to try again
"""

from __future__ import annotations

import math
from typing import Literal

from gateway.errors import ApiError
from gateway.ledger.limiting import UNLIMITED, Amounts, MeterLimit
from providers.base import Allowance
from schemas.money import usd_text

LONGEST_RETRY = 60
"""Seconds. SDKs do not wait longer: told of more, they try again at once, in vain."""


class Refused(ApiError):
    """An attempt that may not be made. ``elsewhere``: another candidate's, which costs less, may be."""

    elsewhere: bool = False


class RateLimited(Refused):
    """Too much for a minute or a day."""


class OverBudget(Refused):
    """More than there is to spend."""


class Exceeded(Exception):
    """An attempt that needs ``asked`` does not fit on a meter that shows ``level``."""

    def __init__(self, meter: MeterLimit, level: Amounts, asked: Amounts) -> None:
        super().__init__(meter.id)
        self.meter = meter
        self.level = level
        self.asked = asked

    @property
    def what(self) -> Literal["usd", "requests", "tokens"]:
        """There is too little of: of several, the first of these."""
        ceiling = self.meter.ceiling
        if self.asked.nano and self.level.nano + self.asked.nano > ceiling.nano:
            return "usd"
        return "requests" if self.level.requests + self.asked.requests > ceiling.requests else "tokens"


def refusal(exceeded: Exceeded, now: float) -> Refused:
    """``now``: seconds since 1970."""
    meter, level, asked = exceeded.meter, exceeded.level, exceeded.asked
    ceiling = meter.ceiling
    per = "in all" if meter.per == "total" else f"a {meter.per}"
    if exceeded.what == "usd":
        used = "less is left" if meter.everybodys else f"${usd_text(level.nano)} is spent or reserved"
        return _over_budget(
            f"{meter.whose} may spend ${usd_text(ceiling.nano)} {per}: {used}, and this request may cost "
            f"${usd_text(asked.nano)}.",
            elsewhere=True,
        )
    if exceeded.what == "requests":
        what = f"{meter.whose} may make {ceiling.requests} requests {per}."
    else:
        used = "fewer are left" if meter.everybodys else f"{level.tokens} are used or reserved"
        what = f"{meter.whose} may use {ceiling.tokens} tokens {per}: {used}, and this request may need {asked.tokens}."
    seconds = meter.seconds_left(now)
    if seconds is None or meter.per == "month":
        return _over_budget(what)
    if not asked.within(ceiling):
        return RateLimited(429, what, code="rate_limit_exceeded", headers={"x-should-retry": "false"})
    wait = max(1, math.ceil(seconds))
    headers = {"retry-after": str(wait), "x-should-retry": "true" if wait <= LONGEST_RETRY else "false"}
    headers |= allowance_headers(allowances([meter], [level], now))
    return RateLimited(429, f"{what} Try again in {wait} s.", code="rate_limit_exceeded", headers=headers)


def unpriced(meter: MeterLimit, model: str) -> OverBudget:
    """For a model that costs nobody knows what, under a budget in dollars."""
    message = f"{meter.whose} has a budget in dollars, and what {model} costs is not known."
    return _over_budget(message, elsewhere=True)


def _over_budget(message: str, *, elsewhere: bool = False) -> OverBudget:
    over = OverBudget(429, message, code="insufficient_quota", headers={"x-should-retry": "false"})
    over.elsewhere = elsewhere
    return over


def allowances(meters: list[MeterLimit], levels: list[Amounts], now: float) -> tuple[Allowance, ...]:
    """What is left of requests and of tokens in a minute or a day: of each the caller's own meter with the least
    left."""
    found: dict[str, Allowance] = {}
    for meter, level in zip(meters, levels, strict=True):
        if meter.everybodys or meter.per not in ("minute", "day"):
            continue
        ceiling, reset = meter.ceiling, meter.seconds_left(now) or 0.0
        for left in (
            Allowance("requests", ceiling.requests, max(0, ceiling.requests - level.requests), reset),
            Allowance("tokens", ceiling.tokens, max(0, ceiling.tokens - level.tokens), reset),
        ):
            if left.limit != UNLIMITED and (left.what not in found or left.remaining < found[left.what].remaining):
                found[left.what] = left
    return tuple(found.values())


def allowance_headers(allowances: tuple[Allowance, ...]) -> dict[str, str]:
    """As OpenAI spells them."""
    headers: dict[str, str] = {}
    for allowance in allowances:
        headers[f"x-ratelimit-limit-{allowance.what}"] = str(allowance.limit)
        headers[f"x-ratelimit-remaining-{allowance.what}"] = str(allowance.remaining)
        headers[f"x-ratelimit-reset-{allowance.what}"] = f"{math.ceil(allowance.reset_s)}s"
    return headers
