"""Decisions under policies: who may make them, what the ledger sees, and in which time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from providers.base import Message, ProviderError, Question, WeighRequest
from schemas.policy import Policy
from schemas.routing import ScopedPolicy
from tests.gateway.routing.fakes import MODEL, USAGE, Fake, FakeEngine, House, house

MAIL = "jane.doe@corp.example"
EVEN = ((0.5, 0.5),)


def asking(policy: Policy | None = None, text: str = "Hello", about: str = "So?", model: str = MODEL) -> WeighRequest:
    turns = (Message("system", "Decide."), Message("user", text))
    question = Question(about, ("true", "false"), "questions[0]")
    return WeighRequest("d", model, turns, (question,), "acme", "ci", policy=policy or Policy(), place="input")


def refused_house(rule: Policy, source: str) -> tuple[House, WeighRequest]:
    scoped = {"tenant": ScopedPolicy(tenant="acme", policy=rule), "key": ScopedPolicy(key="ci", policy=rule)}
    one = house(server=rule if source == "server" else None, scoped=[scoped[source]] if source in scoped else [])
    return one, asking(rule if source == "request" else None)


@pytest.mark.parametrize("source", ["server", "tenant", "key", "request"])
@pytest.mark.parametrize(
    "rule",
    [
        Policy(deny_providers=frozenset({"local"})),
        Policy(allow_providers=frozenset({"other"})),
        Policy(deny_models=frozenset({f"local/{MODEL}"})),
        Policy(min_tier=1),
    ],
)
async def test_every_policy_holds(rule: Policy, source: str) -> None:
    one, request = refused_house(rule, source)
    with pytest.raises(ProviderError, match=f"Nobody may answer .* local/{MODEL}: ") as refusal:
        await one.router.weigh(request)
    assert (refusal.value.kind, refusal.value.param) == ("policy", "sluice.policy")
    assert not one.engine.weighed and not one.ledger.entries


async def test_nothing_that_stays_here_is_refused_for_staying_here() -> None:
    private = Policy(local_only=True, zero_retention=True, no_training=True, regions=frozenset(), max_usd="0")
    one = house()
    weighed = await one.router.weigh(asking(private, MAIL))
    assert weighed.probabilities == EVEN and one.engine.weighed[0].prompt[-1].content == MAIL
    assert weighed.served is not None
    assert (weighed.served.provider, weighed.served.model, weighed.served.nano_usd) == ("local", MODEL, 0)


@pytest.mark.parametrize(
    ("request_", "place"),
    [(asking(text=f"I am {MAIL}"), "input"), (asking(about=f"Is it {MAIL}?"), "questions[0]"), (asking(), None)],
)
async def test_personal_data_is_refused_by_its_place_alone(request_: WeighRequest, place: str | None) -> None:
    one = house(server=Policy(pii="block"))
    if place is None:
        assert (await one.router.weigh(request_)).probabilities == EVEN
        return
    with pytest.raises(ProviderError) as refusal:
        await one.router.weigh(request_)
    assert refusal.value.param == place and place in refusal.value.message and "jane" not in refusal.value.message
    assert not one.engine.weighed


async def test_a_text_too_long_to_be_looked_through_is_refused() -> None:
    one = house(server=Policy(pii="block"))
    with pytest.raises(ProviderError, match="not looked through") as refusal:
        await one.router.weigh(asking(text="x" * 1_000_001))
    assert refusal.value.param == "input" and not one.engine.weighed


@pytest.mark.parametrize("pii", ["route_local", "redact"])
async def test_personal_data_may_stay_here(pii: str) -> None:
    one = house(server=Policy(pii=pii))  # type: ignore[arg-type]
    await one.router.weigh(asking(text=MAIL))
    assert one.engine.weighed[0].prompt[-1].content == MAIL


async def test_of_a_route_only_the_engine_is_asked() -> None:
    one = house(Fake("far"), FakeEngine("local", "local"))
    weighed = await one.router.weigh(asking(model="all"))
    assert weighed.served is not None and weighed.served.provider == "local"
    assert not one.fakes["far"].seen


async def test_others_cannot_weigh() -> None:
    one = house(Fake("far"))
    with pytest.raises(ProviderError, match=f"far/{MODEL}: only the engine of this server can weigh") as refusal:
        await one.router.weigh(asking(model="all"))
    assert refusal.value.kind == "policy" and not one.fakes["far"].seen
    with pytest.raises(ProviderError) as unknown:
        await one.router.weigh(asking(model="nobody"))
    assert unknown.value.kind == "unknown_model"


async def test_a_decision_is_a_settled_leg() -> None:
    one = house(local_usd_per_mtok="2")
    weighed = await one.router.weigh(asking())
    (entry,) = one.ledger.entries
    reserved = entry.reservation
    assert (entry.state, entry.usage, reserved.tenant, reserved.key) == ("settled", USAGE, "acme", "ci")
    cost = 2 * (USAGE.prompt + USAGE.completion) * 1000
    assert entry.nano_usd == cost and weighed.served is not None and weighed.served.nano_usd == cost
    assert reserved.max_tokens >= USAGE.prompt and reserved.max_nano_usd == 2 * reserved.max_tokens * 1000


async def test_what_could_cost_too_much_is_not_asked() -> None:
    one = house(local_usd_per_mtok="2")
    with pytest.raises(ProviderError, match="the most that this request can cost"):
        await one.router.weigh(asking(Policy(max_usd="0.001")))
    await one.router.weigh(asking(Policy(max_usd="0.01")))
    assert len(one.engine.weighed) == 1


async def test_the_bound_on_tokens_grows_with_every_question() -> None:
    """It is of all questions, not of a context."""
    one, request = house(), asking()
    many = replace(request, id="e", questions=tuple(Question("x" * 5000, ("a", "b")) for _ in range(100)))
    for each in (request, many):
        await one.router.weigh(each)
    few, all = (entry.reservation.max_tokens for entry in one.ledger.entries)
    assert few < 2000 and all > 500_000


async def test_what_the_engine_refuses_is_released() -> None:
    one = house()
    one.engine.weigh_refusal = ProviderError("context_length", "Too long.")
    with pytest.raises(ProviderError, match="Too long"):
        await one.router.weigh(asking())
    assert one.ledger.states == [("local", "released")]


@pytest.mark.parametrize("policy", [Policy(max_total_s=0.05), Policy(max_ttft_s=0.05, max_total_s=9.0)])
async def test_no_decision_outlasts_its_deadline(policy: Policy) -> None:
    one = house()
    one.engine.weighs_s = 5.0
    with pytest.raises(ProviderError) as refusal:
        await asyncio.wait_for(one.router.weigh(asking(policy)), 2)
    assert refusal.value.kind == "deadline"
    assert one.ledger.states == [("local", "estimated")]


async def test_one_that_is_given_up_is_charged_for_what_it_may_have_used() -> None:
    one = house()
    one.engine.weighs_s = 5.0
    task = asyncio.create_task(one.router.weigh(asking()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (entry,) = one.ledger.entries
    assert entry.state == "estimated" and entry.usage is not None
    assert entry.usage.prompt == entry.reservation.max_tokens
