"""Providers that fail in every way there is, behind the whole gateway: nothing invalid is delivered, nothing is charged
twice, and the ledger is what the providers' own log says wherever they told it."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest

from gateway import logs
from gateway.database.place import database_at
from gateway.ledger.limiting import Amounts
from gateway.ledger.tables import Leg
from schemas.config import Database as Place
from schemas.config import Settings
from schemas.limits import ScopedLimit
from schemas.providers import Breaker
from schemas.routing import Price, Route, Target
from tests.gateway.fakes import FakeProvider, serving, wait_until
from tests.gateway.ledger.accounts import Books, books
from tests.providers.fault_server import Act, Asked, FaultServer, Used
from tests.providers.remote_cases import APIS, MODEL, settings_for
from tests.providers.test_remote_faults import SCHEMA, check_valid, scripted

WAITED_FOR = "This answer is read to its end, whatever it is."
LONG = "x" * 14_000
"""Makes a prompt as long as the server's counts say that it is."""
CLIENTS = 8
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
PRICES = tuple(
    Price(provider=api, prompt_usd_per_mtok="1", cached_usd_per_mtok="0.5", completion_usd_per_mtok="2") for api in APIS
)
LIMITS = (ScopedLimit(per="total", requests=10**9, tokens=10**12, usd="1000000"),)
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"fallbacks": False},
    {"hedge_after_s": 0.002},
    {"max_ttft_s": 0.004},
    {"cascade_min_confidence": 0.5},
)


def cost(used: Used) -> int:
    """Nano-dollars."""
    return 1000 * (used.prompt - used.cached) + 500 * used.cached + 2000 * used.completion


@dataclass(frozen=True)
class World:
    """``remote``: what all four providers are."""

    url: str
    remote: FaultServer
    database: str

    def books(self) -> Books:
        async def read() -> Books:
            database = database_at(self.database)
            try:
                return await books(database)
            finally:
                await database.aclose()

        return asyncio.run(read())


@contextmanager
def world(database: str, breaker: Breaker) -> Iterator[World]:
    logs.configure("critical")
    remote = FaultServer()
    with remote.in_a_thread():
        settings = Settings(
            providers=tuple(settings_for(remote, api, breaker=breaker) for api in APIS),
            routes=(Route(name="all", targets=tuple(Target(provider=api, model=MODEL) for api in APIS)),),
            prices=PRICES,
            limits=LIMITS,
            database=Place(url=database),
        )
        with serving(FakeProvider(), settings) as url:
            yield World(url, remote, database)


def drawn(rng: random.Random) -> dict[str, Any]:
    """The body of a request."""
    policy = rng.choice(POLICIES)
    waited = not policy.keys() & {"hedge_after_s", "max_ttft_s"}
    body: dict[str, Any] = {
        "model": rng.choice(["all", *(f"{api}/{MODEL}" for api in APIS)]),
        "messages": [{"role": "user", "content": f"{WAITED_FOR if waited else 'Go on.'} {LONG}"}],
        "max_tokens": 1000,
        "stream": rng.random() < 0.5,
        "sluice": {"policy": policy},
    }
    if rng.random() < 0.7:
        body["response_format"] = FORMAT
    if rng.random() < 0.3:
        body["tools"] = [{"type": "function", "function": {"name": "save", "parameters": SCHEMA}}]
    return body


@dataclass
class Heard:
    """What a client has of an answer. ``error``: its code."""

    id: str = ""
    text: str = ""
    calls: tuple[str, ...] = ()
    reason: str = ""
    error: str = ""
    cost_usd: str | None = None


async def ask(http: httpx.AsyncClient, body: dict[str, Any]) -> Heard:
    answer = await http.post("/v1/chat/completions", json=body)
    if answer.status_code != 200:
        assert answer.status_code != 500, answer.text
        return Heard(error=answer.json()["error"]["code"])
    return _streamed(answer.text) if body["stream"] else _plain(answer)


def _plain(answer: httpx.Response) -> Heard:
    told = answer.json()
    (choice,) = told["choices"]
    message = choice["message"]
    calls = tuple(call["function"]["arguments"] for call in message.get("tool_calls") or ())
    cost_usd = answer.headers.get("x-sluice-cost-usd")
    return Heard(told["id"], message["content"] or "", calls, choice["finish_reason"], cost_usd=cost_usd)


def _streamed(text: str) -> Heard:
    heard, arguments = Heard(), dict[int, str]()
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    for line in lines:
        if line == "[DONE]":
            break
        event = json.loads(line)
        if "error" in event:
            heard.error = event["error"]["code"]
            break
        for choice in event["choices"]:
            heard.text += choice["delta"].get("content") or ""
            heard.reason = choice["finish_reason"] or heard.reason
            for call in choice["delta"].get("tool_calls") or ():
                arguments[call["index"]] = arguments.get(call["index"], "") + call["function"]["arguments"]
        heard.id = event["id"]
    assert heard.error or lines[-1] == "[DONE]", "a stream ends in neither way"
    heard.calls = tuple(arguments.values())
    return heard


def check_answer(heard: Heard, body: dict[str, Any]) -> None:
    if heard.error:
        return
    for arguments in heard.calls:
        check_valid(arguments)
    if "response_format" in body and heard.reason == "stop":
        check_valid(heard.text)


async def load(url: str, bodies: list[dict[str, Any]]) -> list[Heard]:
    waiting, found = iter(bodies), list[Heard]()
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:

        async def one_client() -> None:
            for body in waiting:
                heard = await ask(http, body)
                check_answer(heard, body)
                found.append(heard)

        await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
    return found


def check_books(world: World, heard: list[Heard]) -> None:
    wait_until(lambda: not world.books().states["reserved"])
    found = world.books()
    legs: dict[str, list[Leg]] = {api: [leg for leg in found.legs if leg.provider == api] for api in APIS}
    asked: dict[str, list[Asked]] = {api: [one for one in world.remote.log if one.api == api] for api in APIS}
    for api in APIS:
        check_provider(legs[api], asked[api])
    charged = [(leg.charged_tokens, leg.charged_nano or 0) for leg in found.legs]
    first = sum(leg.number == 0 for leg in found.legs)
    total = Amounts(first, sum(tokens for tokens, _ in charged), sum(nano for _, nano in charged))
    assert list(found.meters.values()) == [total]
    assert len({leg.request for leg in found.legs}) == first, "a request counts once"
    for answer in heard:
        if answer.cost_usd is not None:
            legs_of = [leg.charged_nano or 0 for leg in found.legs if leg.request == answer.id]
            assert Decimal(answer.cost_usd) == Decimal(sum(legs_of)) / 10**9


def check_provider(legs: list[Leg], log: list[Asked]) -> None:
    """What one provider's legs are charged against what it knows it did."""
    executed = {asked.used.prompt: asked for asked in log if asked.used is not None}
    settled = {leg.prompt_tokens: leg for leg in legs if leg.state == "settled"}
    assert len(settled) == sum(leg.state == "settled" for leg in legs), "an answer is charged twice"
    for prompt, leg in settled.items():
        used = executed[prompt].used
        assert used is not None
        assert (leg.completion_tokens, leg.cached_tokens) == (used.completion, used.cached)
        assert (leg.charged_tokens, leg.charged_nano) == (used.prompt + used.completion, cost(used))
    arrived = {prompt for prompt, asked in executed.items() if asked.delivered and asked.act.counted}
    assert {prompt for prompt in arrived if WAITED_FOR in json.dumps(executed[prompt].body)} <= set(settled)
    marked = [leg for leg in legs if leg.state == "unknown"]
    untold = [asked.used for prompt, asked in executed.items() if prompt not in settled and asked.used is not None]
    assert len(marked) >= len(untold)
    assert {leg.state for leg in legs} <= {"settled", "unknown", "released"}
    for leg in marked:
        assert (leg.charged_tokens, leg.charged_nano) == (leg.reserved_tokens, leg.reserved_nano)
        for used in untold:
            assert leg.charged_tokens >= used.prompt + used.completion and (leg.charged_nano or 0) >= cost(used)
    assert all(leg.charged_tokens == leg.charged_nano == 0 for leg in legs if leg.state == "released")


def ordeal(database: str, seed: int, requests: int) -> Counter[str]:
    """Returns how the requests ended."""
    rng = random.Random(seed)
    faults = random.Random(seed + 1)
    with world(database, Breaker(failures=6, open_s=0.05)) as one:
        one.remote.script = lambda api, body: scripted(faults)
        heard = asyncio.run(load(one.url, [drawn(rng) for _ in range(requests)]))
        check_books(one, heard)
    assert len(heard) == requests
    return Counter(answer.error or "answered" for answer in heard)


def test_the_ledger_is_what_the_providers_say(database_url: str) -> None:
    outcomes = ordeal(database_url, seed=1, requests=60)
    assert outcomes["answered"] > 15 and len(outcomes) > 2


@pytest.mark.slow
def test_the_same_of_2000_requests(database_url: str) -> None:
    outcomes = ordeal(database_url, seed=2, requests=2000)
    assert outcomes["answered"] > 800
    assert {"invalid_answer", "unavailable", "overloaded"} <= set(outcomes)


def test_a_breaker_opens_and_closes(database_url: str) -> None:
    body = {"model": f"chat/{MODEL}", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}
    with world(database_url, Breaker(failures=2, open_s=0.5)) as one, httpx.Client(base_url=one.url) as http:

        def status() -> int:
            return http.post("/v1/chat/completions", json=body).status_code

        one.remote.script = lambda api, body: Act(fault="status", status=500)
        assert status() == 503
        sent = len(one.remote.log)
        alone = http.post("/v1/chat/completions", json=body)
        assert alone.status_code == 503 and int(alone.headers["retry-after"]) >= 1
        assert len(one.remote.log) == sent, "nothing is sent to who is left alone"
        one.remote.script = lambda api, body: Act()
        while status() != 200:
            pass
        assert status() == 200
        legs = one.books().states
    assert legs == {"unknown": sent, "settled": 2}, "who is not asked is not reserved for"
