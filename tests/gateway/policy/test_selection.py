"""Who is left out and why, and in which order the others are asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from gateway.policy.facts import LOCAL_ENDPOINT, NOWHERE_ELSE, Endpoint, Known
from gateway.policy.selection import Candidate, objections, select
from schemas.policy import Policy, Rules
from tests.gateway.policy.strategies import candidates, policies

LOCAL = Candidate(LOCAL_ENDPOINT, "small", NOWHERE_ELSE, max_nano_usd=0, prompt_nano_usd=0, completion_nano_usd=0)
OURS = Candidate(Endpoint("ours", "self_hosted"), "small", Known(trains=False), max_nano_usd=0)
THEIRS = Candidate(
    Endpoint("theirs", "managed"),
    "large",
    Known(False, 30, frozenset({"us"})),
    tier=3,
    enforcement="provider-strict",
    max_nano_usd=2_000_000,
    prompt_nano_usd=1_000_000_000,
    completion_nano_usd=5_000_000_000,
)
NOBODY_KNOWS = Candidate(Endpoint("others", "managed"), "large", Known())


@given(candidates, policies)
def test_everybody_is_either_asked_or_excluded_with_a_reason(everybody: tuple[Candidate, ...], policy: Policy) -> None:
    selection = select(everybody, policy)
    out = [candidate for candidate, _ in selection.excluded]
    assert sorted(map(repr, (*selection.allowed, *out))) == sorted(map(repr, everybody))
    assert all(reasons and all(reason.reason for reason in reasons) for _, reasons in selection.excluded)


@pytest.mark.parametrize(
    ("rule", "candidate", "reason"),
    [
        ({"local_only": True}, OURS, "not the engine of this server"),
        ({"self_hosted_only": True}, THEIRS, "managed API"),
        ({"no_training": True}, NOBODY_KNOWS, "not known"),
        ({"no_training": True}, replace(THEIRS, known=Known(trains=True)), "trains on requests"),
        ({"zero_retention": True}, OURS, "not known"),
        ({"zero_retention": True}, THEIRS, "30 days"),
        ({"regions": frozenset({"eu"})}, OURS, "not known"),
        ({"regions": frozenset({"eu"})}, THEIRS, "in us"),
        ({"allow_providers": frozenset({"ours"})}, THEIRS, "not among the allowed providers"),
        ({"deny_providers": frozenset({"theirs"})}, THEIRS, "denied providers"),
        ({"allow_models": frozenset({"theirs/small"})}, THEIRS, "not among the allowed models"),
        ({"deny_models": frozenset({"theirs/large"})}, THEIRS, "denied models"),
        ({"min_tier": 4}, THEIRS, "tier 3, 4 is asked for"),
        ({"min_tier": 1}, LOCAL, "not graded"),
        ({"require_enforcement": "engine"}, THEIRS, "`provider-strict`"),
        ({"max_usd": "0.001"}, THEIRS, "0.002 dollars"),
        ({"max_usd": "1000"}, NOBODY_KNOWS, "not known"),
        ({"max_prompt_usd_per_mtok": "0.5"}, THEIRS, "1 dollars"),
        ({"max_completion_usd_per_mtok": "4.999999999"}, THEIRS, "5 dollars"),
    ],
)
def test_each_rule_forbids_with_its_reason(rule: dict[str, Any], candidate: Candidate, reason: str) -> None:
    (objection,) = objections(candidate, Rules(**rule))
    assert set(rule) <= set(objection.rule.split(", "))
    assert reason in objection.reason


def test_what_keeps_everything_here_satisfies_every_privacy_rule() -> None:
    strict = Rules(local_only=True, self_hosted_only=True, no_training=True, zero_retention=True, regions=frozenset())
    assert not objections(LOCAL, strict)


def test_bounds_are_included() -> None:
    assert not objections(THEIRS, Rules(max_usd="0.002", max_prompt_usd_per_mtok="1", max_completion_usd_per_mtok="5"))


def names(*candidates: Candidate, **preferences: Any) -> list[str]:
    return [candidate.name for candidate in select(candidates, Policy(**preferences)).allowed]


def test_without_preferences_the_order_of_the_settings_holds() -> None:
    assert names(THEIRS, LOCAL, OURS) == ["theirs/large", "local/small", "ours/small"]


def test_named_ones_come_first_and_the_others_keep_their_order() -> None:
    assert names(THEIRS, LOCAL, OURS, order=("ours/small", "local")) == ["ours/small", "local/small", "theirs/large"]


def test_unknown_prices_and_paces_come_last() -> None:
    quick = replace(THEIRS, ttft_s=0.1, tokens_per_s=90.0)
    slow = replace(OURS, ttft_s=0.9, tokens_per_s=9.0)
    assert names(NOBODY_KNOWS, THEIRS, LOCAL, sort="price") == ["local/small", "theirs/large", "others/large"]
    assert names(NOBODY_KNOWS, slow, quick, sort="latency") == ["theirs/large", "ours/small", "others/large"]
    assert names(NOBODY_KNOWS, slow, quick, sort="throughput") == ["theirs/large", "ours/small", "others/large"]


def test_a_cascade_begins_with_the_lowest_tier_and_the_lowest_price() -> None:
    cheap, dear = replace(OURS, tier=1, max_nano_usd=1), replace(LOCAL, tier=1, max_nano_usd=2)
    found = names(THEIRS, dear, cheap, cascade_min_confidence=0.5)
    assert found == ["ours/small", "local/small", "theirs/large"]
