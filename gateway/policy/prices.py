"""What an answer costs, in nano-dollars: the settings' prices first, then the list prices that genai-prices ships.

Where the price depends on what is asked (tiers by length, cached prompts), genai-prices computes it. A machine's price
by the hour becomes one by the token through the tokens it generates in that hour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache

import genai_prices

from gateway.policy.facts import Endpoint
from schemas.money import nano_usd
from schemas.routing import Price

MTOK = 1_000_000
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of one answer; ``cached`` (read from a prefix cache) and ``written`` (to one) are parts of ``prompt``."""

    prompt: int
    cached: int
    completion: int
    written: int = 0


class PriceBook:
    """``prices``: the settings' own; of several that fit, one that names the model wins, and a later one."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._own = {(price.provider, price.model): price for price in prices}

    def cost(self, endpoint: Endpoint, model: str, tokens: Tokens, tokens_per_s: float | None = None) -> int | None:
        """Nano-dollars, rounded up; None where no price is known. ``tokens_per_s``: measured, for prices by the
        hour."""
        own = self._own.get((endpoint.name, model)) or self._own.get((endpoint.name, None))
        if own is not None:
            return _own_cost(own, tokens, tokens_per_s)
        if endpoint.hosting == "managed":
            return _list_cost(endpoint.base_url, model, tokens, date.today())
        return 0

    def hourly(self, endpoint: Endpoint, model: str) -> Price | None:
        """The settings' price of a machine by the hour, where they have one."""
        own = self._own.get((endpoint.name, model)) or self._own.get((endpoint.name, None))
        return own if own is not None and own.usd_per_hour is not None else None


def _own_cost(price: Price, tokens: Tokens, tokens_per_s: float | None) -> int | None:
    if price.usd_per_hour is not None:
        rate = price.tokens_per_s or tokens_per_s
        if rate is None:
            return None
        return nano_usd(Decimal(price.usd_per_hour) * tokens.completion / SECONDS_AN_HOUR / Decimal(rate))
    assert price.prompt_usd_per_mtok is not None and price.completion_usd_per_mtok is not None
    prompt = Decimal(price.prompt_usd_per_mtok)
    cached = prompt if price.cached_usd_per_mtok is None else Decimal(price.cached_usd_per_mtok)
    completion = Decimal(price.completion_usd_per_mtok)
    fresh = tokens.prompt - tokens.cached
    return nano_usd((prompt * fresh + cached * tokens.cached + completion * tokens.completion) / MTOK)


def listed_cost(provider: str, model: str, tokens: Tokens) -> int | None:
    """Nano-dollars by the list price of a ``provider`` that genai-prices knows by this name; None where it does not."""
    try:
        return nano_usd(genai_prices.calc_price(_usage(tokens), model, provider_id=provider).total_price)
    except LookupError:
        return None


@lru_cache(maxsize=4096)
def _list_cost(base_url: str, model: str, tokens: Tokens, day: date) -> int | None:
    """By the prices of ``day``: some are known to change. A look-up takes a tenth of a millisecond, and prices of a
    million tokens are looked up for every request."""
    try:
        found = genai_prices.calc_price(_usage(tokens), model, provider_api_url=base_url)
    except LookupError:
        return None
    return nano_usd(found.total_price)


def _usage(tokens: Tokens) -> genai_prices.Usage:
    return genai_prices.Usage(
        input_tokens=tokens.prompt,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.written,
        output_tokens=tokens.completion,
    )
