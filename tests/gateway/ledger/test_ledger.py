"""Reservations on both databases: limits hold however many ask at once, a leg ends once, and the dead are found."""

from __future__ import annotations

import asyncio

import pytest

from gateway.database.database import Database
from gateway.database.place import database_at
from gateway.ledger.ledger import Ledger
from gateway.ledger.limiting import Amounts, LimitBook
from gateway.ledger.refusals import OverBudget, RateLimited
from gateway.ledger.tables import Worker
from providers.base import Usage
from schemas.limits import ScopedLimit
from tests.gateway.ledger.accounts import asking, books, states_become

NO_LIMITS = LimitBook([])


def ledger_of(database: Database, *limits: ScopedLimit, now: float = 1e9) -> Ledger:
    return Ledger(database, LimitBook(limits), clock=lambda: now)


async def test_of_two_hundred_at_once_fifty_fit(database: Database, database_url: str) -> None:
    """Two processes' worth of ledgers, one budget."""
    limit = ScopedLimit(tenant="acme", per="total", usd="0.000005")
    other = database_at(database_url)
    await other.open()
    ledgers = [ledger_of(database, limit), ledger_of(other, limit)]
    outcomes = await asyncio.gather(*(ledgers[i % 2].reserve(asking()) for i in range(200)), return_exceptions=True)
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refusals) == 150
    assert {type(refusal) for refusal in refusals} == {OverBudget}
    found = await books(database)
    assert found.states == {"reserved": 50}
    assert found.meters == {"tenant:acme:total:": Amounts(50, 500, 5000)}
    await other.aclose()


async def test_what_is_left_over_is_given_back(database: Database) -> None:
    ledger = ledger_of(database, ScopedLimit(key="ci", per="day", tokens=25, usd="0.00000025"))
    reserved = [await ledger.reserve(asking(request)) for request in "ab"]
    with pytest.raises(OverBudget):
        await ledger.reserve(asking())
    await reserved[0].settle(Usage(3, 1, 2), 40)
    third = await ledger.reserve(asking("c"))
    await reserved[1].release()
    await third.estimate(Usage(1, 0, 1), 20)
    found = await books(database)
    legs = sorted(found.legs, key=lambda leg: leg.request)
    assert [leg.state for leg in legs] == ["settled", "released", "estimated"]
    assert [(leg.charged_tokens, leg.charged_nano) for leg in legs] == [(5, 40), (0, 0), (2, 20)]
    assert (legs[0].prompt_tokens, legs[0].cached_tokens, legs[0].completion_tokens) == (3, 1, 2)
    assert found.meters == {"key:ci:day:2001-09-09": Amounts(3, 7, 60)}


async def test_later_attempts_are_no_further_requests(database: Database) -> None:
    ledger = ledger_of(database, ScopedLimit(key="ci", per="minute", requests=2))
    for request in "ab":
        for number in range(3):
            await ledger.reserve(asking(request, number=number))
    with pytest.raises(RateLimited):
        await ledger.reserve(asking("c"))


async def test_a_refused_leg_charges_no_meter(database: Database) -> None:
    """Of several limits the first may have room where the last has none."""
    roomy, narrow = ScopedLimit(key="ci", per="day", requests=9), ScopedLimit(tenant="acme", per="day", requests=1)
    ledger = ledger_of(database, roomy, narrow)
    await ledger.reserve(asking())
    outcomes = await asyncio.gather(*(ledger.reserve(asking()) for _ in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {RateLimited}
    assert set((await books(database)).meters.values()) == {Amounts(1, 10, 100)}


async def test_a_limit_of_everybody_tells_nobody_what_others_used(database: Database) -> None:
    ledger = ledger_of(database, ScopedLimit(per="minute", tokens=100), ScopedLimit(per="day", usd="0.000001"))
    leg = await ledger.reserve(asking(tenant="acme", tokens=71, nano=613))
    assert leg.allowances == ()
    with pytest.raises(RateLimited, match="100 tokens a minute: fewer are left") as limited:
        await ledger.reserve(asking(key="a", tenant="lab", tokens=40, nano=0))
    with pytest.raises(OverBudget, match=r"\$0.000001 a day: less is left, and .* \$0.0000005") as over:
        await ledger.reserve(asking(key="a", tenant="lab", tokens=1, nano=500))
    assert limited.value.headers.keys() == {"retry-after", "x-should-retry"}
    assert not any(used in f"{one.value}{one.value.headers}" for one in (limited, over) for used in ("71", "29", "613"))


async def test_refusals_say_who_how_much_and_when(database: Database) -> None:
    limits = (
        ScopedLimit(key="ci", per="minute", requests=1, tokens=15),
        ScopedLimit(tenant="lab", per="month", requests=0),
        ScopedLimit(tenant="poor", per="day", usd="0.0000001"),
        ScopedLimit(tenant="small", per="minute", tokens=3),
        ScopedLimit(tenant="daily", per="day", tokens=15),
    )
    ledger = ledger_of(database, *limits, now=120 + 48.5)
    leg = await ledger.reserve(asking(tokens=4))
    left = {allowance.what: (allowance.limit, allowance.remaining, allowance.reset_s) for allowance in leg.allowances}
    assert left == {"requests": (1, 0, 11.5), "tokens": (15, 11, 11.5)}
    with pytest.raises(RateLimited, match=r"The key 'ci' may make 1 requests a minute. Try again in 12 s.") as limited:
        await ledger.reserve(asking())
    assert limited.value.code == "rate_limit_exceeded"
    assert limited.value.headers == {
        "retry-after": "12",
        "x-should-retry": "true",
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "12s",
        "x-ratelimit-limit-tokens": "15",
        "x-ratelimit-remaining-tokens": "11",
        "x-ratelimit-reset-tokens": "12s",
    }
    with pytest.raises(OverBudget, match="'lab' may make 0 requests a month") as over:
        await ledger.reserve(asking(key="a", tenant="lab"))
    assert (over.value.code, over.value.headers) == ("insufficient_quota", {"x-should-retry": "false"})
    assert not over.value.elsewhere, "every candidate's attempt is a request"
    await ledger.reserve(asking(key="a", tenant="poor"))
    with pytest.raises(
        OverBudget, match=r"\$0.0000001 a day: \$0.0000001 is spent or reserved.* cost \$0.00000002"
    ) as dear:
        await ledger.reserve(asking(key="a", tenant="poor", nano=20))
    with pytest.raises(OverBudget, match="what tiny costs is not known") as unpriced:
        await ledger.reserve(asking(key="a", tenant="poor", nano=None))
    assert dear.value.elsewhere and unpriced.value.elsewhere
    with pytest.raises(RateLimited, match="may use 3 tokens a minute: 0 are used") as never:
        await ledger.reserve(asking(key="a", tenant="small"))
    assert never.value.headers == {"x-should-retry": "false"}, "waiting does not make the request smaller"
    await ledger.reserve(asking(key="a", tenant="daily"))
    with pytest.raises(RateLimited) as tomorrow:
        await ledger.reserve(asking(key="a", tenant="daily"))
    assert tomorrow.value.headers["x-should-retry"] == "false", "SDKs do not wait a day"


async def test_a_leg_whose_price_is_not_known(database: Database) -> None:
    ledger = ledger_of(database, ScopedLimit(key="ci", per="day", tokens=25))
    leg = await ledger.reserve(asking(nano=None))
    await leg.settle(Usage(1, 0, 1), None)
    (row,) = (await books(database)).legs
    assert (row.reserved_nano, row.charged_nano, row.charged_tokens) == (None, None, 2)


async def test_a_leg_ends_once(database: Database) -> None:
    ledger = ledger_of(database, ScopedLimit(key="ci", per="day", tokens=25))
    leg = await ledger.reserve(asking())
    await leg.settle(Usage(1, 0, 1), 7)
    for again in (leg.release, leg.unknown):
        with pytest.raises(RuntimeError, match="ended twice"):
            await again()
    assert (await books(database)).states == {"settled": 1}


async def test_an_unknown_leg_stays_charged(database: Database) -> None:
    ledger = ledger_of(database, ScopedLimit(key="ci", per="day", tokens=25))
    await (await ledger.reserve(asking())).unknown()
    found = await books(database)
    assert found.states == {"unknown": 1}
    assert found.meters == {"key:ci:day:2001-09-09": Amounts(1, 10, 100)}


async def test_whoever_is_cancelled_while_reserving_has_reserved_nothing(database: Database) -> None:
    ledger = ledger_of(database, ScopedLimit(key="ci", per="day", tokens=1000))
    async with database.session() as session:
        # SQLite would reserve at once, did nobody else write.
        session.add(Worker(id="w", beats=0, started_at=0))
        await session.flush()
        reserving = [asyncio.create_task(ledger.reserve(asking())) for _ in range(20)]
        for turns, task in enumerate(reserving):
            for _ in range(turns % 4):
                await asyncio.sleep(0)
            task.cancel()
        outcomes = await asyncio.gather(*reserving, return_exceptions=True)
    await ledger.aclose()
    found = await books(database)
    cancelled = sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert cancelled >= 5
    assert found.states["reserved"] == 20 - cancelled
    assert sum(level.tokens for level in found.meters.values()) == 10 * (20 - cancelled)


async def test_an_end_is_written_although_its_caller_is_cancelled(database: Database) -> None:
    ledger = ledger_of(database)
    leg = await ledger.reserve(asking())
    ending = asyncio.create_task(leg.settle(Usage(1, 0, 1), 5))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    await states_become(database, {"settled": 1})


async def test_the_legs_of_a_silent_process_are_in_doubt(database: Database, database_url: str) -> None:
    """One process stops without a word, another lives on, and a third one finds out."""
    other = database_at(database_url)
    await other.open()
    killed = Ledger(other, NO_LIMITS, beat_seconds=3600)
    living, watching = (Ledger(database, NO_LIMITS, beat_seconds=0.02) for _ in range(2))
    for ledger in (killed, living, watching):
        await ledger.open()
    lost = await killed.reserve(asking("lost"))
    kept = await living.reserve(asking("kept"))
    await states_become(database, {"unknown": 1, "reserved": 1})
    states = {leg.request: leg.state for leg in (await books(database)).legs}
    assert states == {"lost": "unknown", "kept": "reserved"}
    await kept.settle(Usage(1, 0, 1), 1)
    # It was only slow, after all: what it knows is worth more than doubt.
    await lost.settle(Usage(1, 0, 1), 1)
    assert (await books(database)).states == {"settled": 2}
    for ledger in (living, watching, killed):
        await ledger.aclose()
    await other.aclose()


async def test_a_ledger_that_is_closed_leaves_no_reservation(database: Database) -> None:
    ledger = Ledger(database, NO_LIMITS)
    await ledger.open()
    await ledger.reserve(asking())
    await ledger.aclose()
    assert (await books(database)).states == {"unknown": 1}
