"""``POST /v1/route/explain``: who would be asked for an answer, in which order, for how much, and why the others would
not. The request is one of ``POST /v1/chat/completions``; nothing is sent to anybody."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from schemas.policy import Enforcement, Policy


class ExplainedObjection(Struct, frozen=True):
    """``rule``: the field of the policy, or "request" where the candidate cannot do what is asked."""

    rule: str
    reason: str


class ExplainedCandidate(Struct, frozen=True):
    """``place``: 1 for who is asked first, null for who is excluded, by ``objections``. ``max_usd``: the most that a
    call can cost, by the bytes of the prompt and the tokens that the answer may have; prices are dollars a million
    tokens; null where they are not known. ``ttft_s`` and ``tokens_per_s``: as measured here. ``sources``: who says what
    is known of it, and when it was read."""

    provider: str
    model: str
    hosting: Literal["local", "self_hosted", "managed"]
    place: int | None
    objections: list[ExplainedObjection]
    enforcement: Enforcement | None
    tier: int | None
    max_usd: str | None
    prompt_usd_per_mtok: str | None
    completion_usd_per_mtok: str | None
    trains: bool | None
    retention_days: int | None
    regions: list[str] | None
    sources: dict[str, str]
    ttft_s: float | None
    tokens_per_s: float | None


class Explanation(Struct, frozen=True):
    """``policy``: all that hold for the request, as one. ``personal_data``: what it does to the request, if
    anything."""

    model: str
    policy: Policy
    candidates: list[ExplainedCandidate]
    personal_data: str | UnsetType = UNSET
    object: Literal["route.explanation"] = "route.explanation"
