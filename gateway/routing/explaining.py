"""``POST /v1/route/explain``: a dry run. The decision is the router's own, so it cannot say anything else than what
happens."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from gateway.errors import from_provider
from gateway.policy.pii.redaction import Redaction, guard
from gateway.policy.selection import Candidate, Objection, select
from gateway.routing.router import Router
from providers.base import GenerateRequest, ProviderError
from schemas.explanation import ExplainedCandidate, ExplainedObjection, Explanation
from schemas.money import usd_text

_encode = msgspec.json.Encoder().encode


async def explain(router: Router, request: GenerateRequest) -> bytes:
    """Raises `ApiError` for a request that nobody would be asked about."""
    policy = router.effective(request)
    try:
        candidates = await router.directory.candidates(request, enforcement=True)
    except ProviderError as error:
        raise from_provider(error, None, "messages") from error
    selection = select(candidates, policy)
    told, against = "", Redaction(request, request)
    try:
        against = await guard(request, policy.pii, selection.allowed, router.finder)
    except ProviderError as error:
        told, against = error.message, Redaction(request, None, reason=error.message)
    kept = [candidate for candidate in selection.allowed if told or against.keeps_from(candidate)]
    asked = [candidate for candidate in selection.allowed if candidate not in kept]
    asked = asked if policy.fallbacks else asked[:1]
    left = {id(candidate): objections for candidate, objections in selection.excluded}
    explained = [_explained(candidate, asked.index(candidate) + 1, ()) for candidate in asked]
    for candidate in candidates:
        if candidate in asked:
            continue
        reasons = left.get(id(candidate)) or (_because(candidate in kept, against.reason),)
        explained.append(_explained(candidate, None, reasons))
    return _encode(Explanation(request.model, policy, explained, _personal(against) or told or UNSET))


def _because(kept: bool, reason: str) -> Objection:
    if kept:
        return Objection("pii", reason)
    return Objection("fallbacks", "only the first candidate is asked")


def _personal(redaction: Redaction) -> str:
    if redaction.originals:
        return f"{len(redaction.originals)} values are hidden from all but the local engine"
    return redaction.reason


def _explained(candidate: Candidate, place: int | None, objections: tuple[Objection, ...]) -> ExplainedCandidate:
    known = candidate.known
    return ExplainedCandidate(
        provider=candidate.endpoint.name,
        model=candidate.model,
        hosting=candidate.endpoint.hosting,
        place=place,
        objections=[ExplainedObjection(objection.rule, objection.reason) for objection in objections],
        enforcement=candidate.enforcement,
        tier=candidate.tier,
        max_usd=_usd(candidate.max_nano_usd),
        prompt_usd_per_mtok=_usd(candidate.prompt_nano_usd),
        completion_usd_per_mtok=_usd(candidate.completion_nano_usd),
        trains=known.trains,
        retention_days=known.retention_days,
        regions=None if known.regions is None else sorted(known.regions),
        sources=dict(known.sources),
        ttft_s=candidate.ttft_s,
        tokens_per_s=candidate.tokens_per_s,
    )


def _usd(nano: int | None) -> str | None:
    return None if nano is None else usd_text(nano)
