"""Routing over HTTP: policies of bodies, headers and settings; who answered; and a second Sluice as a provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest

from providers.base import Delta, Finished, GenerateRequest, GenerationEvent, Usage
from schemas.config import ModelSettings, Settings
from schemas.policy import Policy
from schemas.providers import ProviderSettings, RemoteModel
from schemas.routing import Price, Route, Target
from tests.gateway.fakes import MODEL, TEXT, FakeProvider, serving

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
CHAT = "/v1/chat/completions"


def test_answers_say_who_gave_them(http: httpx.Client) -> None:
    answer = http.post(CHAT, json={**ASK, "sluice": {"policy": {"local_only": True, "max_usd": "0"}}})
    assert answer.status_code == 200
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-sluice-")}
    assert told["x-sluice-provider"] == "local" and told["x-sluice-model"] == MODEL
    assert told["x-sluice-attempts"] == "1" and told["x-sluice-cost-usd"] == "0"
    assert told["x-sluice-route-reason"] == "the only candidate"


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({"sluice": {"policy": {"deny_providers": ["local"]}}}, None),
        ({"provider": {"only": ["openai"]}}, None),
        ({}, {"allow_models": ["local/other"]}),
        ({"sluice": {"policy": {"allow_providers": ["local"]}}, "provider": {"ignore": ["local"]}}, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_policies_hold_wherever_they_come_from(
    client: openai.OpenAI, provider: FakeProvider, fields: dict[str, Any], header: dict[str, Any] | None, stream: bool
) -> None:
    headers = {"x-sluice-policy": json.dumps(header)} if header else {}
    with pytest.raises(openai.BadRequestError, match="Nobody may answer") as refusal:
        client.chat.completions.create(**ASK, stream=stream, extra_body=fields, extra_headers=headers)
    assert (refusal.value.code, refusal.value.param) == ("policy_excludes_all", "sluice.policy")
    assert not provider.requests


@pytest.mark.parametrize(
    ("fields", "header", "param"),
    [
        ({"sluice": {"policy": {"max_usd": 1}}}, "{}", "sluice.policy.max_usd"),
        ({"sluice": {"policy": {"private": True}}}, "{}", "sluice.policy.private"),
        ({"provider": {"quantizations": ["fp8"]}}, "{}", "provider.quantizations"),
        ({"provider": {"max_price": {"prompt": -1}}}, "{}", "provider.max_price.prompt"),
        ({}, '{"min_tier": 10}', "x-sluice-policy.min_tier"),
        ({}, '{"local": true}', "x-sluice-policy.local"),
        ({}, "[", "x-sluice-policy"),
    ],
)
def test_what_is_wrong_with_a_policy_is_named(
    client: openai.OpenAI, fields: dict[str, Any], header: str, param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**ASK, extra_body=fields, extra_headers={"x-sluice-policy": header})
    assert refusal.value.param == param


def test_personal_data_is_refused_by_its_place_alone(client: openai.OpenAI, provider: FakeProvider) -> None:
    messages: Any = [{"role": "user", "content": "I am jane.doe@corp.example."}]
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(
            model=MODEL, messages=messages, extra_body={"sluice": {"policy": {"pii": "block"}}}
        )
    assert refusal.value.param == "messages[0].content"
    assert "email" in refusal.value.message and "jane" not in refusal.value.message
    assert not provider.requests


@pytest.fixture(scope="module")
def second(shared: tuple[FakeProvider, str]) -> Iterator[str]:
    """A server whose provider "peer" is the first one; its route "both" prefers the peer."""
    _, url = shared
    peer = ProviderSettings(
        name="peer",
        kind="openai-compatible",
        base_url=f"{url}/v1",
        hosting="self_hosted",
        models=(RemoteModel(name="theirs", upstream=MODEL, context_length=2048),),
    )
    routes = (
        Route(
            name="both",
            targets=(Target(provider="peer", model="theirs", tier=2), Target(provider="local", model=MODEL, tier=1)),
        ),
    )
    prices = (Price(provider="peer", prompt_usd_per_mtok="1", completion_usd_per_mtok="2"),)
    models = (ModelSettings(name=MODEL, path=MODEL),)
    policy = Policy(max_total_s=20.0)
    settings = Settings(models=models, providers=(peer,), routes=routes, prices=prices, policy=policy)
    with serving(FakeProvider(), settings) as second_url:
        yield second_url


def test_a_second_sluice_answers_behind_the_first(second: str, provider: FakeProvider) -> None:
    with httpx.Client(base_url=second) as http:
        answer = http.post(CHAT, json={**ASK, "model": "both", "max_tokens": 50, "sluice": {}})
        assert answer.json()["choices"][0]["message"]["content"] == TEXT
        usage = answer.json()["usage"]
        cost = f"0.{usage['prompt_tokens'] + 2 * usage['completion_tokens']:06d}"
        assert answer.headers["x-sluice-cost-usd"] == cost.rstrip("0")
        assert answer.json()["sluice"]["provider"] == "peer" and answer.json()["sluice"]["model"] == "theirs"
        assert provider.last.model == MODEL
        named = http.post(CHAT, json={**ASK, "model": "peer/theirs"})
        assert named.headers["x-sluice-provider"] == "peer"


def test_what_may_not_leave_does_not(second: str, provider: FakeProvider) -> None:
    with httpx.Client(base_url=second) as http:
        for policy in ({"local_only": True}, {"zero_retention": True}, {"regions": ["eu"]}, {"pii": "route_local"}):
            messages = [{"role": "user", "content": "Mail jane.doe@corp.example"}]
            body = {"model": "both", "messages": messages, "sluice": {"policy": policy}}
            answer = http.post(CHAT, json=body)
            assert answer.headers["x-sluice-provider"] == "local"
    assert not provider.requests


def test_hidden_data_comes_back(second: str, provider: FakeProvider) -> None:
    mail = "jane.doe@corp.example"

    async def echo(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
        assert isinstance(request.prompt, tuple)
        for character in request.prompt[0].content:
            yield Delta(0, character)
        yield Finished(0, "stop")
        yield Usage(5, 0, 5)

    provider.script = echo
    for stream in (False, True):
        with openai.OpenAI(base_url=f"{second}/v1", api_key="none", max_retries=0) as client:
            answer: Any = client.chat.completions.create(
                model="both",
                messages=[{"role": "user", "content": f"Mail {mail}, or {mail}!"}],
                stream=stream,
                extra_body={"sluice": {"policy": {"pii": "redact", "allow_providers": ["peer"]}}},
            )
            if stream:
                text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
            else:
                text = answer.choices[0].message.content
        assert text == f"Mail {mail}, or {mail}!"
        assert mail not in str(provider.last) and "@example.org" in str(provider.last)


def test_explaining_asks_nobody(second: str, provider: FakeProvider) -> None:
    body = {**ASK, "model": "both", "max_tokens": 10, "sluice": {"policy": {"no_training": True, "max_usd": "0.00001"}}}
    with httpx.Client(base_url=second) as http:
        told = http.post("/v1/route/explain", json=body).json()
        local, peer = told["candidates"]
        assert (local["provider"], local["place"], local["max_usd"]) == ("local", 1, "0")
        assert peer["place"] is None and [o["rule"] for o in peer["objections"]] == ["max_usd"]
        assert (peer["trains"], peer["retention_days"], peer["prompt_usd_per_mtok"]) == (False, None, "1")
        assert told["policy"].items() >= {"no_training": True, "max_usd": "0.00001", "max_total_s": 20.0}.items()
        blocked = {**body, "messages": [{"role": "user", "content": "+49 30 901820"}]}
        blocked["sluice"] = {"policy": {"pii": "block"}}
        told = http.post("/v1/route/explain", json=blocked).json()
        assert {candidate["place"] for candidate in told["candidates"]} == {None}
        assert "phone number" in told["personal_data"]
    assert not provider.requests
