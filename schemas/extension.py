"""What Sluice adds to the APIs it serves, in one namespace: the field ``sluice`` of requests and of answers."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from schemas.policy import Policy


class PolicyExtension(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``policy``: who may answer this request."""

    policy: Policy | None = None


class RequestExtension(PolicyExtension, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``fields``: tell each field of the JSON that is asked for, with its
    log-probability, in a stream as it is complete. ``pass_on``: stream what a remote provider says under a constraint
    as it comes, and end with an error if it turns out invalid, instead of holding it back until it is validated.
    ``close``: bring the constrained answer to its end within ``max_tokens`` instead of cutting it; where that is too
    little for any answer, the request is refused."""

    fields: bool = False
    pass_on: bool = False
    close: bool = False


class AnsweredField(Struct, frozen=True):
    """``pointer``: RFC 6901, into the answer of choice ``choice``. ``value``: absent of objects and arrays, whose parts
    are told before them. ``logprob``: the sum over the tokens that spell the value, the model's own, before any
    constraint; absent where a provider does not say."""

    pointer: str
    choice: int
    value: Raw | UnsetType = UNSET
    logprob: float | UnsetType = UNSET


class CacheFigures(Struct, frozen=True):
    """Prompt tokens that the engine did not compute, by where they were found: in the memory of its device, or in the
    host's, from where they were copied back. Together they are the usage's cached tokens."""

    device_tokens: int
    host_tokens: int


class AnswerExtension(Struct, frozen=True, kw_only=True):
    """How the constraint was held: ``enforced`` by whom, under which ``contract``, and ``reasons`` why it is narrower
    than what was asked, or only checked. ``fields``: those that are complete now. ``cache``: beside the usage, where
    the engine answered.

    Who answered. ``attempts``: how many candidates were asked. ``cost_usd``: dollars for all of them, null where it
    is not known. ``route_reason``: why this one."""

    enforced: Literal["engine", "provider-strict", "validated", "none"] | UnsetType = UNSET
    contract: str | UnsetType = UNSET
    reasons: list[str] | UnsetType = UNSET
    fields: list[AnsweredField] | UnsetType = UNSET
    cache: CacheFigures | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    cost_usd: str | UnsetType | None = UNSET
    route_reason: str | UnsetType = UNSET
