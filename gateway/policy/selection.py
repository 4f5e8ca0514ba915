"""Who may answer a request, in which order, and why the others may not: a pure function of candidates and a policy.

    candidates ──▶ objections of the rules ──▶ order by the preferences ──▶ Selection

Every rule looks at one candidate alone, so what two policies leave together is what both leave: `select` turns the meet
of rules (`gateway.policy.merging`) into the intersection of candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from gateway.policy.facts import Endpoint, Known
from schemas.money import nano_usd, usd_text
from schemas.policy import ENFORCEMENT_LEVELS, Enforcement, Policy, Rules


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of a provider, looked at for one request.

    ``enforcement``: how it would hold the request's constraint; None where there is no constraint. ``unfit``: why it
    cannot serve this request at all, "" where it can. ``max_nano_usd``: the most that this request can cost there.
    ``prompt_nano_usd`` and ``completion_nano_usd``: the price of a million tokens. None = not known. ``ttft_s`` and
    ``tokens_per_s``: as measured, if it was asked before.
    """

    endpoint: Endpoint
    model: str
    known: Known
    tier: int | None = None
    enforcement: Enforcement | None = None
    unfit: str = ""
    max_nano_usd: int | None = None
    prompt_nano_usd: int | None = None
    completion_nano_usd: int | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None

    @property
    def name(self) -> str:
        return f"{self.endpoint.name}/{self.model}"


@dataclass(frozen=True, slots=True)
class Objection:
    """``rule``: the field of the policy, or "request" where the candidate cannot do what is asked."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """``allowed``: in the order in which they are to be asked. ``excluded``: with every reason."""

    allowed: tuple[Candidate, ...]
    excluded: tuple[tuple[Candidate, tuple[Objection, ...]], ...]


def select(candidates: tuple[Candidate, ...], policy: Policy) -> Selection:
    """Those that no rule objects to, by the policy's preferences; equals stay in the order given."""
    judged = [(candidate, objections(candidate, policy)) for candidate in candidates]
    allowed = [candidate for candidate, against in judged if not against]
    excluded = tuple((candidate, against) for candidate, against in judged if against)
    return Selection(tuple(_ordered(allowed, policy)), excluded)


def objections(candidate: Candidate, rules: Rules) -> tuple[Objection, ...]:
    """Why ``candidate`` may not be asked; empty if it may."""
    found = [(rule, objects(candidate, rules)) for rule, objects in JUDGES]
    return tuple(Objection(rule, reason) for rule, reason in found if reason)


def _local_only(candidate: Candidate, rules: Rules) -> str:
    if not rules.local_only or candidate.endpoint.hosting == "local":
        return ""
    return "it is not the engine of this server"


def _self_hosted_only(candidate: Candidate, rules: Rules) -> str:
    if not rules.self_hosted_only or candidate.endpoint.hosting != "managed":
        return ""
    return "it is a managed API"


def _no_training(candidate: Candidate, rules: Rules) -> str:
    if not rules.no_training or candidate.known.trains is False:
        return ""
    return "it trains on requests" if candidate.known.trains else "whether it trains on requests is not known"


def _zero_retention(candidate: Candidate, rules: Rules) -> str:
    days = candidate.known.retention_days
    if not rules.zero_retention or days == 0:
        return ""
    return f"it keeps requests for {days} days" if days else "how long it keeps requests is not known"


def _regions(candidate: Candidate, rules: Rules) -> str:
    if rules.regions is None or candidate.endpoint.hosting == "local":
        return ""
    regions = candidate.known.regions
    if not regions:
        return "where it processes requests is not known"
    elsewhere = sorted(regions - rules.regions)
    return f"it processes requests in {', '.join(elsewhere)}" if elsewhere else ""


def _names(candidate: Candidate, rules: Rules) -> str:
    provider, target = candidate.endpoint.name, candidate.name
    if rules.allow_providers is not None and provider not in rules.allow_providers:
        return f"`{provider}` is not among the allowed providers"
    if provider in rules.deny_providers:
        return f"`{provider}` is among the denied providers"
    if rules.allow_models is not None and target not in rules.allow_models:
        return f"`{target}` is not among the allowed models"
    return f"`{target}` is among the denied models" if target in rules.deny_models else ""


def _tier(candidate: Candidate, rules: Rules) -> str:
    if rules.min_tier == 0 or (candidate.tier is not None and candidate.tier >= rules.min_tier):
        return ""
    graded = "it is not graded" if candidate.tier is None else f"it is of tier {candidate.tier}"
    return f"{graded}, {rules.min_tier} is asked for"


def _enforcement(candidate: Candidate, rules: Rules) -> str:
    asked, held = rules.require_enforcement, candidate.enforcement
    if held is None or not weaker(held, asked):
        return ""
    return f"it holds constraints as `{held}`, `{asked}` is asked for"


def weaker(held: Enforcement, least: Enforcement | None) -> bool:
    """Whether a constraint that is ``held`` so is held less than ``least`` asks for; None asks for nothing."""
    return least is not None and ENFORCEMENT_LEVELS.index(held) < ENFORCEMENT_LEVELS.index(least)


def _at_most(price: int | None, bound: str | None, what: str) -> str:
    if bound is None or (price is not None and price <= nano_usd(bound)):
        return ""
    if price is None:
        return f"{what} is not known"
    return f"{what} is {usd_text(price)} dollars, the bound {bound}"


def _max_usd(candidate: Candidate, rules: Rules) -> str:
    return _at_most(candidate.max_nano_usd, rules.max_usd, "the most that this request can cost")


def _prompt_price(candidate: Candidate, rules: Rules) -> str:
    return _at_most(candidate.prompt_nano_usd, rules.max_prompt_usd_per_mtok, "the price of a million prompt tokens")


def _completion_price(candidate: Candidate, rules: Rules) -> str:
    what = "the price of a million completion tokens"
    return _at_most(candidate.completion_nano_usd, rules.max_completion_usd_per_mtok, what)


def _fitness(candidate: Candidate, rules: Rules) -> str:
    return candidate.unfit


JUDGES: tuple[tuple[str, Callable[[Candidate, Rules], str]], ...] = (
    ("local_only", _local_only),
    ("self_hosted_only", _self_hosted_only),
    ("no_training", _no_training),
    ("zero_retention", _zero_retention),
    ("regions", _regions),
    ("allow_providers, deny_providers, allow_models, deny_models", _names),
    ("min_tier", _tier),
    ("require_enforcement", _enforcement),
    ("max_usd", _max_usd),
    ("max_prompt_usd_per_mtok", _prompt_price),
    ("max_completion_usd_per_mtok", _completion_price),
    ("request", _fitness),
)
"""Rules that one candidate satisfies or not. The others (time, personal data, fallbacks) are held while it is asked."""


def _ordered(allowed: list[Candidate], policy: Policy) -> list[Candidate]:
    """`sorted` is stable: what two keys leave equal keeps the order of the settings."""
    if policy.cascade_min_confidence is not None and policy.sort is None:
        allowed = sorted(allowed, key=_smallness)
    elif policy.sort is not None:
        allowed = sorted(allowed, key=_SORTS[policy.sort])
    named = {name: place for place, name in reversed(list(enumerate(policy.order or ())))}
    return sorted(allowed, key=lambda c: min(named.get(c.endpoint.name, inf), named.get(c.name, inf)))


def _price(candidate: Candidate) -> float:
    return inf if candidate.max_nano_usd is None else candidate.max_nano_usd


def _latency(candidate: Candidate) -> float:
    return inf if candidate.ttft_s is None else candidate.ttft_s


def _slowness(candidate: Candidate) -> float:
    return -(candidate.tokens_per_s or 0.0)


def _smallness(candidate: Candidate) -> tuple[float, float]:
    return (inf if candidate.tier is None else candidate.tier, _price(candidate))


_SORTS: dict[str, Callable[[Candidate], float]] = {"price": _price, "latency": _latency, "throughput": _slowness}
