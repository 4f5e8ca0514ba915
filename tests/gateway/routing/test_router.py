"""Fallback, hedging, cascades, deadlines and bounds on cost: who is asked, who answers, and what the ledger sees."""

from __future__ import annotations

import asyncio

import pytest

from gateway.ledger.refusals import OverBudget, Refused
from providers.base import Delta, ProviderError, Usage
from schemas.constraint import ChoiceSpec, JsonObjectSpec
from schemas.engine import Sampling
from schemas.policy import Policy
from schemas.routing import ScopedPolicy
from tests.gateway.routing.fakes import MODEL, USAGE, Behaviour, Fake, ask, house, read

TEXT = "four little words"
DOWN = Behaviour(refusal=ProviderError("unavailable", "It is down.", elsewhere=True))
BAD = Behaviour(refusal=ProviderError("invalid_constraint", "No schema.", pointer="/type"))
COST = (USAGE.prompt + USAGE.completion) * 1000
"""Nano-dollars of one answer."""


def fake(name: str, *behaviours: Behaviour, hosting: str = "managed") -> Fake:
    return Fake(name, hosting, list(behaviours))


async def test_a_local_model_needs_no_route() -> None:
    one = house()
    text, served, _ = await read(one.router, ask(model=MODEL))
    assert (text, served.provider, served.attempts) == (TEXT, "local", 1)
    assert one.ledger.states == [("local", "settled")]
    assert served.nano_usd == 0


async def test_the_first_that_can_answers() -> None:
    three = house(fake("a", DOWN), fake("b", DOWN), fake("c"))
    text, served, _ = await read(three.router, ask())
    assert (text, served.provider, served.attempts) == (TEXT, "c", 3)
    assert served.reason == f"after a/{MODEL}: unavailable; b/{MODEL}: unavailable"
    assert three.ledger.states == [("a", "released"), ("b", "released"), ("c", "settled")]
    assert served.nano_usd == COST
    assert [entry.reservation.number for entry in three.ledger.entries] == [0, 1, 2]
    assert all(fake.open == 0 for fake in three.fakes.values())


async def test_what_is_wrong_everywhere_is_asked_once() -> None:
    two = house(fake("a", BAD), fake("b"))
    with pytest.raises(ProviderError) as refusal:
        await read(two.router, ask(constraint=JsonObjectSpec()))
    assert (refusal.value.kind, refusal.value.pointer) == ("invalid_constraint", "/type")
    assert not two.fakes["b"].seen


async def test_when_nobody_answers_everybody_is_named() -> None:
    two = house(fake("a", DOWN), fake("b", DOWN))
    with pytest.raises(ProviderError, match=rf"\[a/{MODEL}\] It is down\. \[b/{MODEL}\] It is down\.") as refusal:
        await read(two.router, ask())
    assert refusal.value.kind == "unavailable"


async def test_without_fallbacks_only_the_first_is_asked() -> None:
    two = house(fake("a", DOWN), fake("b"))
    with pytest.raises(ProviderError, match="It is down"):
        await read(two.router, ask(Policy(fallbacks=False)))
    assert not two.fakes["b"].seen


async def test_an_answer_that_breaks_before_its_first_word_is_taken_over() -> None:
    two = house(fake("a", Behaviour(breaks_after=0)), fake("b"))
    text, served, _ = await read(two.router, ask())
    assert (text, served.provider) == (TEXT, "b")
    assert two.ledger.states == [("a", "unknown"), ("b", "settled")]


async def test_an_answer_that_breaks_later_is_an_error() -> None:
    """What has been delivered cannot be taken back."""
    two = house(fake("a", Behaviour(breaks_after=2, between_s=0.01)), fake("b"))
    with pytest.raises(ProviderError, match="broke off"):
        await read(two.router, ask())
    assert not two.fakes["b"].seen
    assert two.ledger.states == [("a", "unknown")]
    assert two.fakes["a"].open == 0


async def test_a_hedge_is_won_by_the_faster_one() -> None:
    two = house(fake("a", Behaviour(before_s=5.0)), fake("b"))
    text, served, _ = await asyncio.wait_for(read(two.router, ask(Policy(hedge_after_s=0.02))), 2)
    assert (text, served.provider) == (TEXT, "b")
    assert served.reason == f"faster than a/{MODEL}"
    assert two.ledger.states == [("a", "unknown"), ("b", "settled")]
    assert all(fake.open == 0 for fake in two.fakes.values())


async def test_a_quick_answer_is_not_hedged() -> None:
    two = house(fake("a"), fake("b"))
    await read(two.router, ask(Policy(hedge_after_s=1.0)))
    assert not two.fakes["b"].seen


async def test_a_hedged_failure_does_not_end_the_other() -> None:
    two = house(fake("a", Behaviour(before_s=0.2)), fake("b", DOWN))
    text, served, _ = await read(two.router, ask(Policy(hedge_after_s=0.02)))
    assert (text, served.provider) == (TEXT, "a")


async def test_two_that_fail_together_are_both_failures() -> None:
    """The second fails while what the first has left is tidied up."""
    late = Behaviour(before_s=0.06, refusal=DOWN.refusal)
    three = house(fake("a", Behaviour(before_s=0.08, breaks_after=0)), fake("b", late), fake("c"))
    three.fakes["a"].closing_s = 0.05
    text, served, _ = await read(three.router, ask(Policy(hedge_after_s=0.02)))
    assert (text, served.provider, served.attempts) == (TEXT, "c", 3)
    assert {entry.state for entry in three.ledger.entries} <= {"released", "unknown", "settled"}


async def test_who_does_not_begin_in_time_is_given_up() -> None:
    two = house(fake("a", Behaviour(before_s=5.0)), fake("b"))
    text, served, _ = await asyncio.wait_for(read(two.router, ask(Policy(max_ttft_s=0.05))), 2)
    assert (text, served.provider) == (TEXT, "b")
    assert served.reason == f"after a/{MODEL}: deadline"


@pytest.mark.parametrize("slow", [Behaviour(before_s=5.0), Behaviour(between_s=1.0)])
@pytest.mark.parametrize("names", ["a", "ab"])
async def test_no_answer_outlasts_its_deadline(slow: Behaviour, names: str) -> None:
    some = house(*(fake(name, slow) for name in names))
    with pytest.raises(ProviderError) as late:
        await asyncio.wait_for(read(some.router, ask(Policy(max_total_s=0.1))), 2)
    assert late.value.kind == "deadline"
    assert some.ledger.states == [("a", "unknown")]
    assert all(fake.open == 0 for fake in some.fakes.values())


async def test_a_small_model_that_is_sure_spares_the_large_one() -> None:
    two = house(fake("small", Behaviour(logprob=-0.01)), fake("large"), tiers={"small": 1, "large": 2})
    generation = await two.router.generate(ask(Policy(cascade_min_confidence=0.9)))
    events = [event async for event in generation]
    await generation.aclose()
    assert generation.admission.served is not None
    assert generation.admission.served.provider == "small"
    assert generation.admission.served.reason == "confidence 0.99 of 0.90"
    assert all(not event.tokens for event in events if isinstance(event, Delta)), "scores that nobody asked for"
    assert not two.fakes["large"].seen


@pytest.mark.parametrize(
    "unsure",
    [
        Behaviour(logprob=-1.0),
        Behaviour(logprob=None),
        Behaviour(logprob=-0.01, reason="length"),
        Behaviour(breaks_after=3),
        DOWN,
    ],
)
async def test_otherwise_the_large_one_is_asked(unsure: Behaviour) -> None:
    two = house(fake("large"), fake("small", unsure), tiers={"small": 1, "large": 2})
    text, served, _ = await read(two.router, ask(Policy(cascade_min_confidence=0.9)))
    assert (text, served.provider, served.attempts) == (TEXT, "large", 2)
    assert [request.sampling.logprobs for request in two.fakes["large"].seen] == [None]
    assert "reserved" not in dict(two.ledger.states).values()


async def test_scores_that_were_asked_for_are_kept() -> None:
    two = house(fake("small", Behaviour(logprob=-0.01)), fake("large"))
    request = ask(Policy(cascade_min_confidence=0.9), sampling=Sampling(logprobs=0))
    generation = await two.router.generate(request)
    assert any([event.tokens async for event in generation if isinstance(event, Delta)])
    await generation.aclose()


@pytest.mark.parametrize("spare", [0, -1])
async def test_repeated_calls_stay_within_max_usd(spare: int) -> None:
    """A third call fits while those before it came to less than was reserved for them."""
    one = house(fake("a", Behaviour(calls=3)))
    await read(one.router, ask())
    reserved = one.ledger.entries[0].reservation.max_nano_usd
    assert reserved is not None and reserved > COST
    bound = reserved + 2 * COST + spare
    again = house(fake("a", Behaviour(calls=3)))
    request = ask(Policy(max_usd=f"0.{bound:09d}"))
    if spare < 0:
        with pytest.raises(ProviderError, match="max_usd"):
            await read(again.router, request)
    else:
        _, served, _ = await read(again.router, request)
        assert served.nano_usd == 3 * COST
    assert sum(entry.nano_usd or 0 for entry in again.ledger.entries) <= bound


async def test_a_fallback_that_could_exceed_max_usd_is_not_asked() -> None:
    two = house(fake("a", Behaviour(breaks_after=0)), fake("b"))
    with pytest.raises(ProviderError, match="max_usd"):
        await read(two.router, ask(Policy(max_usd="0.00006")))
    assert two.ledger.states == [("a", "unknown")]


async def test_what_the_ledger_refuses_is_not_sent() -> None:
    one = house()
    one.ledger.refusals = [OverBudget(429, "Spent.")]
    with pytest.raises(OverBudget):
        await read(one.router, ask())
    assert not one.fakes["local"].seen


def too_dear() -> OverBudget:
    refusal = OverBudget(429, "Too dear.", code="insufficient_quota")
    refusal.elsewhere = True
    return refusal


@pytest.mark.parametrize("policy", [Policy(), Policy(hedge_after_s=5.0), Policy(max_ttft_s=5.0)])
async def test_where_dollars_are_too_few_for_one_another_is_asked(policy: Policy) -> None:
    three = house(fake("a"), fake("b"), fake("local", hosting="local"))
    three.ledger.refusals = [too_dear(), too_dear()]
    text, served, _ = await read(three.router, ask(policy))
    assert (text, served.provider, served.attempts, served.nano_usd) == (TEXT, "local", 3, 0)
    assert served.reason == f"after a/{MODEL}: insufficient_quota; b/{MODEL}: insufficient_quota"
    (entry,) = three.ledger.entries
    assert entry.reservation.number == 0, "what was refused was no attempt"


async def test_where_dollars_are_too_few_for_everybody_that_is_the_answer() -> None:
    two = house(fake("a"), fake("b"))
    two.ledger.refusals = [too_dear(), too_dear()]
    with pytest.raises(OverBudget):
        await read(two.router, ask())
    assert not two.ledger.entries


async def test_who_was_down_is_told_of_before_who_was_too_dear() -> None:
    """A client may try again then: whoever was down may be up, and fits."""
    two = house(fake("a", DOWN), fake("b"))
    two.ledger.unrefused = 1
    two.ledger.refusals = [too_dear()]
    with pytest.raises(ProviderError, match=r"\[b/m\] Too dear") as refusal:
        await read(two.router, ask())
    assert refusal.value.kind == "unavailable"


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [(Policy(fallbacks=False), too_dear()), (Policy(), OverBudget(429, "No more requests this month."))],
)
async def test_no_other_is_asked_where_the_policy_or_the_limit_leaves_none(policy: Policy, refusal: Refused) -> None:
    two = house(fake("a"), fake("b"))
    two.ledger.refusals = [refusal]
    with pytest.raises(OverBudget):
        await read(two.router, ask(policy))
    assert not two.fakes["b"].seen


async def test_a_cascade_goes_on_where_a_step_is_too_dear() -> None:
    two = house(fake("small"), fake("large"), tiers={"small": 1, "large": 2})
    two.ledger.refusals = [too_dear()]
    _, served, _ = await read(two.router, ask(Policy(cascade_min_confidence=0.5)))
    assert (served.provider, served.attempts) == ("large", 2)


async def test_what_nobody_could_enforce_names_the_tool() -> None:
    refusal = ProviderError("unsupported_constraint", "No such schema.", tool=1, elsewhere=True)
    two = house(fake("a", Behaviour(refusal=refusal)), fake("b", Behaviour(refusal=refusal)))
    with pytest.raises(ProviderError) as together:
        await read(two.router, ask())
    assert together.value.tool == 1


async def test_nobody_left_is_told_why() -> None:
    two = house(fake("a"), fake("ours", hosting="self_hosted"))
    with pytest.raises(ProviderError) as refusal:
        await read(two.router, ask(Policy(self_hosted_only=True, zero_retention=True)))
    assert refusal.value.kind == "policy" and refusal.value.param == "sluice.policy"
    assert f"a/{MODEL}: it is a managed API; how long it keeps requests is not known" in refusal.value.message
    assert f"ours/{MODEL}: how long" in refusal.value.message


async def test_all_policies_hold() -> None:
    scoped = [
        ScopedPolicy(tenant="t", policy=Policy(deny_providers=frozenset({"b"}))),
        ScopedPolicy(key="k", policy=Policy(deny_providers=frozenset({"c"}))),
    ]
    some = house(*map(fake, "abcd"), server=Policy(deny_providers=frozenset({"a"})), scoped=scoped)
    for tenant, key, expected in (("", "", "b"), ("t", "", "c"), ("x", "k", "b"), ("t", "k", "d")):
        _, served, _ = await read(some.router, ask(tenant=tenant, key=key))
        assert served.provider == expected


async def test_what_enforces_too_little_is_not_asked() -> None:
    two = house(fake("a"), fake("local", hosting="local"))
    request = ask(Policy(require_enforcement="engine"), constraint=ChoiceSpec(["x"]))
    _, served, admission = await read(two.router, request)
    assert (served.provider, admission.enforcement) == ("local", "engine")
    assert not two.fakes["a"].seen


@pytest.mark.parametrize("names", [["local"], ["local", "local2"]])
async def test_what_turns_out_to_enforce_too_little_is_not_delivered(names: list[str]) -> None:
    """A schema may turn out to be beyond the compiler only when it is compiled."""
    some = house(*(fake(name, hosting="local" if name == "local" else "managed") for name in names))
    some.fakes["local"].held = "validated"
    request = ask(Policy(require_enforcement="engine"), constraint=ChoiceSpec(["x"]))
    with pytest.raises(ProviderError, match="holds this constraint as `validated`"):
        await read(some.router, request)
    assert some.ledger.states == [("local", "estimated")]
    assert some.fakes["local"].open == 0


@pytest.mark.parametrize("policy", [Policy(), Policy(hedge_after_s=0.01)])
async def test_a_cancelled_request_leaves_nothing_behind(policy: Policy) -> None:
    two = house(fake("a", Behaviour(before_s=5.0)), fake("b", Behaviour(before_s=5.0)))
    task = asyncio.create_task(read(two.router, ask(policy)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert two.ledger.entries and all(entry.state == "unknown" for entry in two.ledger.entries)
    assert all(fake.open == 0 for fake in two.fakes.values())


async def test_a_client_that_goes_away_is_charged_for_what_was_said() -> None:
    one = house()
    generation = await one.router.generate(ask(model=MODEL))
    await anext(aiter(generation))
    await generation.aclose()
    (entry,) = one.ledger.entries
    assert entry.state == "estimated" and entry.usage == Usage(10, 0, len("four"))
    assert one.fakes["local"].open == 0


async def test_attempts_have_ids_of_their_own() -> None:
    three = house(fake("a", DOWN), fake("b", DOWN), fake("c"))
    await read(three.router, ask())
    assert [three.fakes[name].seen[0].id for name in "abc"] == ["r", "r.1", "r.2"]
    assert {entry.reservation.request_id for entry in three.ledger.entries} == {"r"}


async def test_names_lead_to_targets() -> None:
    some = house(fake("a"), fake("b"))
    assert [card.name for card in some.router.models()] == ["all", MODEL, f"a/{MODEL}", f"b/{MODEL}"]
    _, served, _ = await read(some.router, ask(model=f"b/{MODEL}"))
    assert served.provider == "b"
    with pytest.raises(ProviderError, match="does not exist"):
        await some.router.generate(ask(model="c/m"))
    with pytest.raises(ProviderError, match="no tokenizer in common"):
        some.router.tokenize("all", "text")
    assert some.router.detokenize(f"b/{MODEL}", [1]) == "b"
