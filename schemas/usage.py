"""What ``GET /v1/usage`` answers: what a tenant's requests came to, summed by what was asked for."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

UsageGroup = Literal["day", "model", "provider", "key", "tenant"]


class UsageLine(Struct, frozen=True, kw_only=True):
    """The sum of a group; of ``day`` (UTC), ``model``, ``provider``, ``key`` and ``tenant`` those are there that it is
    grouped by. ``attempts``: more than ``requests`` where answers were tried elsewhere or again. ``usd``: dollars for
    what has ended. ``held_usd``: what may be added to that, for what is under way or in doubt. ``unpriced``: attempts
    at models whose price is not known, which count in no sum of dollars."""

    day: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    tenant: str | UnsetType = UNSET
    requests: int
    attempts: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usd: str
    held_usd: str
    unpriced: int


class UsageReport(Struct, frozen=True, kw_only=True):
    """``since`` and ``until``: days (UTC), both included."""

    object: Literal["usage"] = "usage"
    since: str
    until: str
    group_by: list[UsageGroup]
    data: list[UsageLine]
