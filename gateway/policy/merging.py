"""Policies of several sources become one: rules by the strictest, preferences by the nearest.

Rules form a meet-semilattice: `stricter` is associative, commutative and idempotent, `Rules()` is its neutral element,
and whoever the result allows is allowed by both. So the order in which sources are merged cannot matter, and none can
widen what another forbids. Preferences have no such order; the request's own count before its key's, its tenant's, the
route's and the server's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import reduce
from typing import Any, TypeVar

from msgspec.structs import asdict

from schemas.policy import ENFORCEMENT_LEVELS, PII_LEVELS, Policy, Rules

T = TypeVar("T")
PREFERENCES = tuple(name for name in Policy.__struct_fields__ if name not in Rules.__struct_fields__)


def _either(a: bool, b: bool) -> bool:
    return a or b


def _both(a: bool, b: bool) -> bool:
    return a and b


def _stricter_of(levels: tuple[Any, ...]) -> Callable[[Any, Any], Any]:
    return lambda a, b: max(a, b, key=levels.index)


def _union(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    return a | b


def _if_given(meet: Callable[[T, T], T]) -> Callable[[T | None, T | None], T | None]:
    """``meet`` where None forbids nothing."""

    def merged(a: T | None, b: T | None) -> T | None:
        if a is None or b is None:
            return b if a is None else a
        return meet(a, b)

    return merged


def _cheaper(a: str, b: str) -> str:
    """Of two texts for one amount, always the same one."""
    return min(a, b, key=lambda text: (Decimal(text), len(text)))


_common: Callable[[frozenset[str], frozenset[str]], frozenset[str]] = frozenset.intersection

MEETS: dict[str, Callable[[Any, Any], Any]] = {
    "local_only": _either,
    "self_hosted_only": _either,
    "no_training": _either,
    "zero_retention": _either,
    "regions": _if_given(_common),
    "pii": _stricter_of(PII_LEVELS),
    "max_usd": _if_given(_cheaper),
    "max_prompt_usd_per_mtok": _if_given(_cheaper),
    "max_completion_usd_per_mtok": _if_given(_cheaper),
    "max_ttft_s": _if_given(min),
    "max_total_s": _if_given(min),
    "min_tier": max,
    "allow_providers": _if_given(_common),
    "deny_providers": _union,
    "allow_models": _if_given(_common),
    "deny_models": _union,
    "require_enforcement": _stricter_of((None, *ENFORCEMENT_LEVELS)),
    "fallbacks": _both,
}
"""How two values of a rule become one. A rule without an entry here fails every merge."""


def stricter(a: Rules, b: Rules) -> Rules:
    """The rules that forbid what either forbids."""
    return Rules(**{name: MEETS[name](getattr(a, name), getattr(b, name)) for name in Rules.__struct_fields__})


def merged(policies: list[Policy]) -> Policy:
    """One policy of many, the outermost first: all their rules, and of each preference the innermost that is given."""
    if len(policies) == 1:
        return policies[0]
    rules = reduce(stricter, policies, Rules())
    preferred: dict[str, Any] = {name: next(_given(policies, name), None) for name in PREFERENCES}
    return Policy(**asdict(rules), **preferred)


def _given(policies: list[Policy], name: str) -> Iterator[Any]:
    return (value for policy in reversed(policies) if (value := getattr(policy, name)) is not None)
