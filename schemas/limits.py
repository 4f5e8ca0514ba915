"""Budgets and rate limits: how much of something there is in a window of time, and for whom.

Windows are the calendar's, in UTC: a minute begins at second 0, a month on the first. ``total`` never ends.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.money import Usd

Per = Literal["minute", "day", "month", "total"]
Amount = Annotated[int, Meta(ge=0, lt=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Limit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be used ``per`` window: ``requests``, ``tokens`` (prompt and answer together), ``usd`` (dollars)."""

    per: Per
    requests: Amount | None = None
    tokens: Amount | None = None
    usd: Usd | None = None

    def __post_init__(self) -> None:
        if self.requests is None and self.tokens is None and self.usd is None:
            raise ValueError("a limit is of `requests`, `tokens` or `usd`")


class ScopedLimit(Limit, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A limit of one ``key`` (by its name), of a ``tenant``'s keys together, or without either of all keys together."""

    key: Name | None = None
    tenant: Name | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key is not None and self.tenant is not None:
            raise ValueError("a limit is of a `key` or of a `tenant`")
