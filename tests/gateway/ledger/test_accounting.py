"""Requests over HTTP as the ledger sees them, and its refusals as official clients do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai
import pytest

from gateway.database.place import database_at
from gateway.ledger.tables import Leg
from providers.base import Admission, Delta, GenerateRequest, GenerationEvent, ProviderError
from schemas.config import Auth, ModelSettings, Settings
from schemas.config import Database as Place
from schemas.limits import ScopedLimit
from schemas.money import usd_text
from schemas.routing import Price, Route, Target
from tests.gateway.fakes import MODEL, TEXT, FakeProvider, forever, serving, wait_until
from tests.gateway.ledger.accounts import books
from tests.gateway.test_auth import key
from tests.gateway.test_parameters import LEAST
from tests.providers.fault_server import Act, FaultServer
from tests.providers.remote_cases import MODEL as REMOTE
from tests.providers.remote_cases import settings_for

KEYS = (key("ci", "sk-first", "acme"), key("app", "sk-second", "acme"), key("lab", "sk-third", "lab"))
LIMITS = (
    ScopedLimit(key="ci", per="minute", requests=1000, tokens=1_000_000),
    ScopedLimit(key="app", per="total", requests=50),
    ScopedLimit(tenant="lab", per="day", requests=1),
)


@dataclass(frozen=True)
class Served:
    provider: FakeProvider
    url: str
    database: str

    def client(self, key: str = "sk-first", **options: object) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **options)  # type: ignore[arg-type]

    def legs(self) -> list[Leg]:
        async def read() -> list[Leg]:
            database = database_at(self.database)
            legs = (await books(database)).legs
            await database.aclose()
            return legs

        return asyncio.run(read())


@pytest.fixture
def served(database_url: str) -> Iterator[Served]:
    provider = FakeProvider()
    settings = Settings(auth=Auth(keys=KEYS), limits=LIMITS, database=Place(url=database_url))
    with serving(provider, settings) as url:
        yield Served(provider, url, database_url)


def test_an_answer_is_a_settled_leg(served: Served) -> None:
    served.provider.admission = Admission(prompt_tokens=7, enforcement="engine", contract="exact")
    answer = served.client().chat.completions.with_raw_response.create(**LEAST["chat"])
    with served.client().chat.completions.stream(**LEAST["chat"]) as stream:
        stream.until_done()
    plain, streamed = served.legs()
    assert plain.request == answer.parse().id
    assert answer.headers["x-ratelimit-limit-requests"] == "1000"
    assert answer.headers["x-ratelimit-remaining-requests"] == "999"
    for leg in (plain, streamed):
        assert (leg.state, leg.tenant, leg.key, leg.model, leg.provider) == ("settled", "acme", "ci", "tiny", "local")
        assert (leg.prompt_tokens, leg.cached_tokens, leg.completion_tokens) == (7, 4, len(TEXT))
        assert (leg.charged_nano, leg.charged_tokens, leg.enforcement) == (0, 7 + len(TEXT), "engine")
        assert leg.first_token_us is not None and leg.total_us is not None
        assert 0 <= leg.first_token_us <= leg.total_us
        assert TEXT not in repr(leg.to_dict()) and "Hello" not in repr(leg.to_dict())


def test_what_the_provider_refuses_is_released(served: Served) -> None:
    served.provider.refusal = ProviderError("overloaded", "Full.")
    with pytest.raises(openai.RateLimitError):
        served.client(max_retries=0).chat.completions.create(**LEAST["chat"])
    (leg,) = served.legs()
    assert (leg.state, leg.charged_tokens) == ("released", 0)


async def breaking(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, "half")
    raise ProviderError("unavailable", "Gone.")


def test_what_breaks_off_is_estimated(served: Served) -> None:
    served.provider.script = breaking
    with pytest.raises(openai.APIStatusError):
        served.client(max_retries=0).chat.completions.create(**LEAST["chat"])
    with pytest.raises(openai.APIError), served.client().chat.completions.stream(**LEAST["chat"]) as stream:
        stream.until_done()
    assert [(leg.state, leg.prompt_tokens, leg.completion_tokens) for leg in served.legs()] == [("estimated", 7, 4)] * 2


def test_a_client_that_goes_away_pays_for_what_there_was(served: Served) -> None:
    served.provider.script = forever
    ask = {**LEAST["chat"], "stream": True}
    headers = {"authorization": "Bearer sk-first"}
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=ask, headers=headers) as stream:
        next(stream.iter_bytes())
    wait_until(lambda: [leg.state for leg in served.legs()] == ["estimated"])
    (leg,) = served.legs()
    assert 0 < leg.completion_tokens < leg.reserved_tokens


async def ask_often(url: str, times: int) -> list[object]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-second", max_retries=2) as client:
        asked = (client.chat.completions.create(**LEAST["chat"]) for _ in range(times))
        return await asyncio.gather(*asked, return_exceptions=True)


async def ask_claude_often(url: str, times: int) -> list[object]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="sk-second", max_retries=2) as client:
        asked = (client.messages.create(**LEAST["messages"]) for _ in range(times))
        return await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.parametrize(
    ("often", "limited", "kind"),
    [
        (ask_often, openai.RateLimitError, "insufficient_quota"),
        (ask_claude_often, anthropic.RateLimitError, "rate_limit_error"),
    ],
)
def test_of_two_hundred_requests_against_a_budget_of_fifty_fifty_succeed_and_none_is_retried(
    served: Served, often: Callable[[str, int], Coroutine[Any, Any, list[object]]], limited: type[Exception], kind: str
) -> None:
    outcomes = asyncio.run(often(served.url, 200))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refusals) == 150 and {type(refusal) for refusal in refusals} == {limited}
    assert {getattr(refusal, "type", None) for refusal in refusals} == {kind}
    assert len(served.provider.requests) == 50
    assert [leg.state for leg in served.legs()] == ["settled"] * 50
    figures = httpx.get(f"{served.url}/metrics").text
    tried = [line for line in figures.splitlines() if line.startswith("sluice_http_requests_total") and "429" in line]
    assert [float(line.split()[-1]) for line in tried] == [150.0], "an SDK tried again"


def test_of_two_hundred_requests_against_dollars_for_fifty_fifty_succeed(database_url: str) -> None:
    """All of them reserve what they will cost, to the nano-dollar: seven ids, and as many tokens as they may have."""
    tokens = 7 + len(TEXT)
    price = Price(provider="local", prompt_usd_per_mtok="0.5", completion_usd_per_mtok="0.5")
    budget = ScopedLimit(tenant="acme", per="month", usd=usd_text(50 * tokens * 500))
    settings = Settings(auth=Auth(keys=KEYS), limits=(budget,), prices=(price,), database=Place(url=database_url))

    async def ask(url: str) -> list[object]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-first", max_retries=2) as client:
            asked = (
                client.completions.create(model=MODEL, prompt=[1, 2, 3, 4, 5, 6, 7], max_tokens=len(TEXT))
                for _ in range(200)
            )
            return await asyncio.gather(*asked, return_exceptions=True)

    provider = FakeProvider()
    with serving(provider, settings) as url:
        outcomes = asyncio.run(ask(url))
        legs = Served(provider, url, database_url).legs()
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert {getattr(refusal, "code", None) for refusal in refusals} == {"insufficient_quota"}
    assert len(provider.requests) == 50 == 200 - len(refusals)
    assert {(leg.state, leg.reserved_nano, leg.charged_nano) for leg in legs} == {
        ("settled", tokens * 500, tokens * 500)
    }


def test_where_dollars_are_too_few_for_one_candidate_a_cheaper_one_answers(database_url: str) -> None:
    """The preferred one costs two dollars a million tokens, the engine nothing."""
    price = Price(provider="chat", prompt_usd_per_mtok="2", completion_usd_per_mtok="2")
    targets = (Target(provider="chat", model=REMOTE), Target(provider="local", model=MODEL))
    budget = ScopedLimit(tenant="acme", per="month", usd="0.002")
    provider, remote = FakeProvider(), FaultServer(lambda api, body: Act(whole=True))
    with remote.in_a_thread():
        settings = Settings(
            auth=Auth(keys=KEYS),
            limits=(budget,),
            models=(ModelSettings(name=MODEL, path=MODEL),),
            providers=(settings_for(remote, "chat"),),
            routes=(Route(name="both", targets=targets),),
            prices=(price,),
            database=Place(url=database_url),
        )
        with serving(provider, settings) as url:
            served = Served(provider, url, database_url)
            ask: dict[str, Any] = {"model": "both", "messages": LEAST["chat"]["messages"]}
            kept: dict[str, Any] = {"extra_body": {"sluice": {"policy": {"fallbacks": False}}}}
            create = served.client(max_retries=2).chat.completions.with_raw_response.create
            cheap, dear = create(**ask, max_tokens=20), create(**ask, max_tokens=1000)
            with pytest.raises(openai.RateLimitError, match=r"this request may cost \$0.002") as refused:
                create(**ask, max_tokens=1000, **kept)
            legs = served.legs()
    assert (cheap.headers["x-sluice-provider"], dear.headers["x-sluice-provider"]) == ("chat", "local")
    assert dear.headers["x-sluice-route-reason"] == f"after chat/{REMOTE}: insufficient_quota"
    assert refused.value.code == "insufficient_quota"
    assert [(leg.provider, leg.number, leg.state) for leg in legs] == [("chat", 0, "settled"), ("local", 0, "settled")]
    assert len(remote.log) == 1


def test_a_rate_limit_in_each_apis_own_words(served: Served) -> None:
    served.client("sk-third").chat.completions.create(**LEAST["chat"])
    with pytest.raises(openai.RateLimitError) as refused:
        served.client("sk-third", max_retries=0).chat.completions.create(**LEAST["chat"])
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 24 * 3600
    with pytest.raises(anthropic.RateLimitError) as limited:
        client = anthropic.Anthropic(base_url=served.url, api_key="sk-third", max_retries=0)
        client.messages.create(**LEAST["messages"])
    assert isinstance(limited.value.body, dict)
    assert limited.value.body["error"]["type"] == "rate_limit_error"
    assert len(served.provider.requests) == 1


def test_a_decision_is_a_settled_leg(served: Served) -> None:
    served.client().decisions.create(**LEAST["decisions"])
    served.provider.refusal = ProviderError("overloaded", "Full.")
    with pytest.raises(openai.RateLimitError):
        served.client(max_retries=0).decisions.create(**LEAST["decisions"])
    settled, released = served.legs()
    assert (settled.state, settled.key, settled.prompt_tokens, settled.charged_tokens) == ("settled", "ci", 11, 11)
    assert settled.reserved_tokens > 1000 and (released.state, released.charged_tokens) == ("released", 0)
