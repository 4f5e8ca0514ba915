"""The policy that a request itself states, wherever it does: ``sluice.policy`` and ``provider`` of the body, and the
header ``x-sluice-policy``. All of them hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from gateway.auth import Caller
from gateway.errors import from_decoding
from gateway.policy.lasting import lasting
from gateway.policy.merging import merged
from gateway.policy.openrouter import policy_of
from providers.base import ANYBODY, GenerateRequest
from schemas.extension import PolicyExtension
from schemas.policy import Policy, ProviderPreferences

HEADER = "x-sluice-policy"

_decode = msgspec.json.Decoder(Policy).decode


def stated(extension: PolicyExtension | None, preferences: ProviderPreferences | None) -> Policy:
    """What the body says. Raises `ApiError`."""
    said = [policy_of(preferences)] if preferences is not None else []
    if extension is not None and extension.policy is not None:
        said.append(extension.policy)
    return merged(said) if said else ANYBODY


def sent_by(request: GenerateRequest, caller: Caller | None, headers: Mapping[str, str]) -> GenerateRequest:
    """``request`` with whose it is, and with the policy of its header. Raises `ApiError`."""
    return replace(request, key=caller.name if caller else "", policy=with_header(request.policy, headers))


def with_header(policy: Policy, headers: Mapping[str, str]) -> Policy:
    """``policy`` together with that of the header, if there is one. Raises `ApiError`."""
    header = headers.get(HEADER)
    if header is None:
        return policy
    try:
        return merged([policy, _decode(header)])
    except (msgspec.DecodeError, RecursionError) as error:
        raise from_decoding(error, HEADER, Policy) from None


def standing(
    effective: Callable[[GenerateRequest], Policy], caller: Caller | None, headers: Mapping[str, str]
) -> Policy:
    """The rules for what ``caller`` brings to be kept, before anything is asked about it. ``effective``: all policies
    that hold for a request, as one. Raises `ApiError`."""
    nothing = GenerateRequest("", "", "", tenant=caller.tenant if caller else "")
    return lasting(effective(sent_by(nothing, caller, headers)))
