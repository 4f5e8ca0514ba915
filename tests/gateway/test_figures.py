"""What /metrics says of routing, providers and the ledger, held against what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.database.database import Database
from gateway.ledger.figures import LedgerFigures
from gateway.ledger.ledger import Ledger
from gateway.ledger.limiting import LimitBook
from gateway.ledger.refusals import Refused
from gateway.routing.figures import BREAKER_STATES, RoutingFigures
from providers.base import ErrorKind, ProviderError, Usage
from schemas.config import ModelSettings, Settings, Telemetry
from schemas.limits import ScopedLimit
from schemas.policy import Policy
from schemas.providers import Breaker, ProviderSettings, RemoteModel, Retries
from schemas.routing import Price, Route, Target
from tests.gateway.fakes import MODEL, FakeProvider, serving
from tests.gateway.ledger.accounts import asking
from tests.gateway.routing.fakes import Behaviour, Fake, ask, house, read


async def test_legs_of_every_end_are_counted_once(database: Database) -> None:
    registry = CollectorRegistry()
    limits = LimitBook([ScopedLimit(key="ci", per="day", tokens=40), ScopedLimit(tenant="acme", per="month", usd="1")])
    ledger = Ledger(database, limits, figures=LedgerFigures(registry, by_key=True))

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"sluice_{name}", labels) or 0.0

    def legs(state: str) -> tuple[float, float]:
        who = {"provider": "local", "model": "tiny", "state": state}
        return value("ledger_legs_total", **who), round(value("ledger_charged_usd_total", **who) * 1e9)

    reserved = [await ledger.reserve(asking(request)) for request in "abcd"]
    assert value("ledger_open_legs") == 4 and round(value("ledger_reserved_usd") * 1e9) == 400
    with pytest.raises(Refused):
        await ledger.reserve(asking("e"))
    with pytest.raises(Refused):
        await ledger.reserve(asking("f", nano=None))
    await reserved[0].settle(Usage(3, 1, 2), 40)
    await reserved[1].estimate(Usage(1, 0, 1), 20)
    await reserved[2].release()
    await reserved[3].unknown()
    assert [legs(state) for state in ("settled", "estimated", "released", "unknown")] == [
        (1, 40), (1, 20), (1, 0), (1, 100)
    ]  # fmt: skip
    assert value("ledger_open_legs") == 0 and abs(value("ledger_reserved_usd")) < 1e-15
    assert value("ledger_refusals_total", limit="tokens", per="day", scope="key") == 1
    assert value("ledger_refusals_total", limit="price", per="month", scope="tenant") == 1
    tokens = {kind: value("ledger_tokens_total", provider="local", model="tiny", kind=kind) for kind in
              ("prompt", "cached", "completion")}  # fmt: skip
    assert tokens == {"prompt": 4, "cached": 1, "completion": 3}
    key = {"tenant": "acme", "key": "ci"}
    assert value("key_legs_total", **key) == 4 and round(value("key_charged_usd_total", **key) * 1e9) == 160
    assert value("key_tokens_total", **key, kind="completion") == 3


async def test_a_caller_that_gives_up_while_it_is_reserved_leaves_no_open_leg(database: Database) -> None:
    registry = CollectorRegistry()
    ledger = Ledger(database, LimitBook([]), figures=LedgerFigures(registry))
    await ledger.open()
    asks = [asyncio.create_task(ledger.reserve(asking(str(number)))) for number in range(20)]
    await asyncio.sleep(0)
    for ask_ in asks:
        ask_.cancel()
    outcomes = await asyncio.gather(*asks, return_exceptions=True)
    for leg in outcomes:
        if not isinstance(leg, BaseException):
            await leg.release()
    await ledger.aclose()
    assert registry.get_sample_value("sluice_ledger_open_legs") == 0


async def test_routing_counts_who_answered_who_failed_and_who_was_left_out() -> None:
    def down() -> Behaviour:
        return Behaviour(refusal=ProviderError("unavailable", "Down.", elsewhere=True))

    one, two, three = (Fake(name, "self_hosted") for name in ("one", "two", "three"))
    told = house(one, two, three)
    registry = CollectorRegistry()
    told.router.directory.figures = RoutingFigures(registry)

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"sluice_{name}", labels) or 0.0

    one.behaviours = [down()]
    await read(told.router, ask(Policy(deny_providers=frozenset({"three"}))))
    error: ErrorKind = "unavailable"
    assert value("route_answers_total", provider="two", model="m") == 1
    assert value("route_fallbacks_total", provider="one", error=error) == 1
    assert value("provider_errors_total", provider="one", model="m", error=error) == 1
    assert value("route_exclusions_total", provider="three", rule="lists") == 1
    assert value("provider_time_to_first_token_seconds_count", provider="two", model="m") == 1
    assert value("provider_answer_seconds_count", provider="two", model="m") == 1
    two.behaviours = [Behaviour(breaks_after=1)]
    with pytest.raises(ProviderError):
        await read(told.router, ask(Policy(allow_providers=frozenset({"two"}))))
    assert value("provider_errors_total", provider="two", model="m", error=error) == 1
    with pytest.raises(ProviderError, match="Nobody"):
        await read(told.router, ask(Policy(zero_retention=True)))
    assert value("route_nobody_total") == 1
    assert value("route_exclusions_total", provider="one", rule="zero_retention") == 1


@pytest.fixture(scope="module")
def lonely() -> Iterator[str]:
    """A server whose provider "gone" is not there; its breaker opens at once."""
    gone = ProviderSettings(
        name="gone",
        kind="openai-compatible",
        base_url="http://127.0.0.1:9/v1",
        hosting="self_hosted",
        models=(RemoteModel(name="far"),),
        retries=Retries(attempts=1),
        breaker=Breaker(failures=1, open_s=600.0),
    )
    targets = (Target(provider="gone", model="far"), Target(provider="local", model=MODEL))
    settings = Settings(
        models=(ModelSettings(name=MODEL, path=MODEL),),
        providers=(gone,),
        routes=(Route(name="both", targets=targets),),
        prices=(Price(provider="gone", prompt_usd_per_mtok="1", completion_usd_per_mtok="1"),),
        telemetry=Telemetry(by_key=False),
    )
    with serving(FakeProvider(), settings) as url:
        yield url


def test_metrics_over_http_have_bounded_labels(lonely: str) -> None:
    with httpx.Client(base_url=lonely) as http:
        assert breaker(http) == "closed"
        for number in range(3):
            body = {"model": "both", "messages": [{"role": "user", "content": "Hi"}], "user": f"jane-{number}"}
            assert http.post("/v1/chat/completions", json=body).headers["x-sluice-provider"] == "local"
        http.post("/v1/chat/completions", json={"model": "no such model", "messages": []})
        assert breaker(http) == "open"
        text = http.get("/metrics").text
    assert "sluice_key_" not in text and "jane" not in text and "no such model" not in text
    assert 'sluice_ledger_legs_total{model="far",provider="gone",state="released"}' in text
    assert 'sluice_route_fallbacks_total{error="unavailable",provider="gone"} 3.0' in text


def breaker(http: httpx.Client) -> str:
    samples = {
        sample.labels["state"]: sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
        if sample.name == "sluice_provider_breaker" and sample.labels["provider"] == "gone"
    }
    assert sum(samples.values()) == 1 and set(samples) == set(BREAKER_STATES)
    return next(state for state, value in samples.items() if value)
