"""Rules form a meet-semilattice, and what two of them leave together is what both leave."""

from __future__ import annotations

from itertools import permutations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.merging import MEETS, PREFERENCES, merged, stricter
from gateway.policy.selection import Candidate, objections, select
from schemas.policy import Policy, Rules
from tests.gateway.policy.strategies import PREFERENCES as PREFERRED
from tests.gateway.policy.strategies import RULES, candidates, policies, rules


def test_every_rule_has_a_meet_and_a_strategy() -> None:
    assert set(MEETS) == set(Rules.__struct_fields__) == set(RULES)
    assert set(PREFERENCES) == set(PREFERRED)


@given(rules, rules, rules)
def test_the_meet_is_associative(a: Rules, b: Rules, c: Rules) -> None:
    assert stricter(stricter(a, b), c) == stricter(a, stricter(b, c))


@given(rules, rules)
def test_the_meet_is_commutative(a: Rules, b: Rules) -> None:
    assert stricter(a, b) == stricter(b, a)


@given(rules)
def test_the_meet_is_idempotent_and_no_rules_are_neutral(a: Rules) -> None:
    assert stricter(a, a) == stricter(a, Rules()) == stricter(Rules(), a) == a


@given(rules, rules, candidates)
def test_what_the_meet_leaves_is_what_both_leave(a: Rules, b: Rules, everybody: tuple[Candidate, ...]) -> None:
    both = stricter(a, b)
    for candidate in everybody:
        forbidden = bool(objections(candidate, a) or objections(candidate, b))
        assert bool(objections(candidate, both)) == forbidden


@given(st.lists(policies, min_size=1, max_size=4), candidates)
def test_no_source_widens_what_another_forbids(given: list[Policy], everybody: tuple[Candidate, ...]) -> None:
    """Whatever the order, and whatever is preferred."""
    allowed = {candidate.name for candidate in select(everybody, merged(given)).allowed}
    for policy in given:
        assert allowed <= {candidate.name for candidate in select(everybody, policy).allowed}
    for order in list(permutations(given))[:6]:
        assert {candidate.name for candidate in select(everybody, merged(list(order))).allowed} == allowed


@given(policies, policies)
def test_of_preferences_the_innermost_counts(outer: Policy, inner: Policy) -> None:
    both = merged([outer, inner])
    for name in PREFERENCES:
        own = getattr(inner, name)
        assert getattr(both, name) == (getattr(outer, name) if own is None else own)


@given(policies)
def test_policies_travel_as_json(policy: Policy) -> None:
    assert msgspec.json.decode(msgspec.json.encode(policy), type=Policy) == policy
