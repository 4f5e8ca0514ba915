"""What Sluice adds to the APIs it serves, in one namespace: the field ``sluice`` of requests and of answers."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from schemas.policy import Policy


class RequestExtension(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``policy``: who may answer this request."""

    policy: Policy | None = None


class AnswerExtension(Struct, frozen=True, kw_only=True):
    """Who answered. ``attempts``: how many candidates were asked. ``cost_usd``: dollars for all of them, null where it
    is not known. ``route_reason``: why this one."""

    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    cost_usd: str | UnsetType | None = UNSET
    route_reason: str | UnsetType = UNSET
