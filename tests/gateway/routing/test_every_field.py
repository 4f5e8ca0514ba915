"""Every field of a policy, and of OpenRouter's ``provider``, changes what happens: who answers, or that nobody does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from gateway.policy.openrouter import policy_of
from providers.base import ProviderError
from schemas.constraint import ChoiceSpec
from schemas.policy import Policy, Prices, ProviderPreferences
from tests.gateway.routing.fakes import Behaviour, Fake, House, ask, house, read

DOWN = Behaviour(refusal=ProviderError("unavailable", "It is down.", elsewhere=True))
SLOW = Behaviour(before_s=0.3)
SURE = Behaviour(logprob=-0.01)


@dataclass(frozen=True)
class Case:
    """``given``: of the field. ``answers``: who does then, or the kind of the error; ``else_answers``: without the
    field. ``first``: what the preferred one does."""

    given: Any
    answers: str
    else_answers: str = "managed"
    first: Behaviour | None = None
    request: dict[str, Any] | None = None

    def house(self) -> House:
        """A managed API first, then a server of the operator's own, then the engine."""
        managed = Fake("managed", "managed", [self.first] if self.first else [])
        owned = Fake("owned", "self_hosted", [SURE])
        return house(managed, owned, Fake("local", "local"), tiers={"managed": 2, "owned": 1, "local": 3})

    async def answered(self, policy: Policy) -> str:
        try:
            _, served, _ = await read(self.house().router, ask(policy, **(self.request or {})))
        except ProviderError as error:
            return error.kind
        return served.provider


POLICY = {
    "local_only": Case(True, "local"),
    "self_hosted_only": Case(True, "owned"),
    "no_training": Case(True, "owned"),
    "zero_retention": Case(True, "local"),
    "regions": Case(frozenset({"eu"}), "local"),
    "pii": Case("route_local", "local", request={"text": "Mail jane.doe@corp.example"}),
    "max_usd": Case("0", "owned"),
    "max_prompt_usd_per_mtok": Case("0.5", "owned"),
    "max_completion_usd_per_mtok": Case("0.5", "owned"),
    "max_ttft_s": Case(0.05, "owned", first=SLOW),
    "max_total_s": Case(0.05, "deadline", first=SLOW),
    "min_tier": Case(3, "local"),
    "allow_providers": Case(frozenset({"owned"}), "owned"),
    "deny_providers": Case(frozenset({"managed"}), "owned"),
    "allow_models": Case(frozenset({"owned/m"}), "owned"),
    "deny_models": Case(frozenset({"managed/m"}), "owned"),
    "require_enforcement": Case("engine", "local", request={"constraint": ChoiceSpec(["x"])}),
    "fallbacks": Case(False, "unavailable", "owned", first=DOWN),
    "order": Case(("local",), "local"),
    "sort": Case("price", "owned"),
    "hedge_after_s": Case(0.05, "owned", first=SLOW),
    "cascade_min_confidence": Case(0.9, "owned"),
}

OPENROUTER = {
    "order": Case(("owned",), "owned"),
    "only": Case(frozenset({"owned"}), "owned"),
    "ignore": Case(frozenset({"managed"}), "owned"),
    "allow_fallbacks": Case(False, "unavailable", "owned", first=DOWN),
    "data_collection": Case("deny", "local"),
    "zdr": Case(True, "local"),
    "max_price": Case(Prices(prompt=0.5), "owned"),
    "sort": Case("price", "owned"),
}
ALWAYS_SO = {"require_parameters"}


def test_no_field_is_left_out() -> None:
    assert set(POLICY) == set(Policy.__struct_fields__)
    assert set(OPENROUTER) | ALWAYS_SO == set(ProviderPreferences.__struct_fields__)


@pytest.mark.parametrize("field", POLICY)
async def test_every_field_of_a_policy_takes_effect(field: str) -> None:
    case = POLICY[field]
    assert await case.answered(Policy()) == case.else_answers
    assert await case.answered(Policy(**{field: case.given})) == case.answers


@pytest.mark.parametrize("field", OPENROUTER)
async def test_every_field_of_openrouters_preferences_takes_effect(field: str) -> None:
    case = OPENROUTER[field]
    assert await case.answered(policy_of(ProviderPreferences())) == case.else_answers
    assert await case.answered(policy_of(ProviderPreferences(**{field: case.given}))) == case.answers


@pytest.mark.parametrize(("sort", "answers"), [("latency", "owned"), ("throughput", "managed")])
async def test_what_was_measured_is_what_is_sorted_by(sort: Any, answers: str) -> None:
    """One begins sooner, the other goes on more quickly once it has begun."""
    late = Behaviour(before_s=0.1, between_s=0.001)
    managed, owned = Fake("managed", "managed", [late]), Fake("owned", "self_hosted", [Behaviour(between_s=0.05)])
    one = house(managed, owned)
    for name in ("managed", "owned"):
        await read(one.router, ask(Policy(order=(name,))))
    _, served, _ = await read(one.router, ask(Policy(sort=sort)))
    assert served.provider == answers


def test_a_parameter_that_a_candidate_does_not_have_excludes_it_without_being_asked_to() -> None:
    """Why ``require_parameters`` has nothing to do: tests of remote members show that it is always so."""
    assert policy_of(ProviderPreferences(require_parameters=True)) == policy_of(ProviderPreferences())
