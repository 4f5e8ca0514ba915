"""From an HTTP request through policy, ledger and a remote provider to a server on another port, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from gateway import logs
from schemas.config import ModelSettings, Settings
from schemas.providers import RemoteModel
from schemas.routing import Route, Target
from tests.gateway.fakes import TEXT, FakeProvider, serving, wait_until
from tests.providers.fault_server import Act, FaultServer
from tests.providers.remote_cases import settings_for

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
MODEL = "gpt-4o-mini"
TALK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello?"}]


@dataclass
class World:
    """``remote``: what stands behind the model `far`; ``local``: the engine, which is `far`'s second choice."""

    url: str
    remote: FaultServer
    local: FakeProvider

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def ask(self, **fields: object) -> httpx.Response:
        body = {"model": "chat/gpt-4o-mini", "messages": TALK, **fields}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=30)


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    logs.configure("error")
    remote, local = FaultServer(), FakeProvider()
    with remote.in_a_thread():
        targets = (Target(provider="messages", model=MODEL), Target(provider="local", model="tiny"))
        models = (RemoteModel(name=MODEL, max_output=1000),)
        settings = Settings(
            models=(ModelSettings(name="tiny", path="tiny"),),
            providers=(settings_for(remote, "chat", models=models), settings_for(remote, "messages", models=models)),
            routes=(Route(name="far", targets=targets),),
        )
        with serving(local, settings) as url:
            yield World(url, remote, local)


@pytest.fixture
def world(running: World) -> World:
    running.local.reset()
    running.local.ready = True
    running.remote.log.clear()
    running.remote.script = lambda api, body: Act(('{"a": 5}',))
    return running


def test_models_of_providers_are_listed_under_their_names(world: World) -> None:
    assert {"tiny", "far", "chat/gpt-4o-mini", "messages/gpt-4o-mini"} <= {m.id for m in world.client().models.list()}


def test_an_answer_says_who_gave_it_and_what_was_enforced(world: World) -> None:
    answer = world.ask(response_format=FORMAT)
    assert answer.json()["choices"][0]["message"]["content"] == '{"a": 5}'
    assert answer.json()["usage"]["prompt_tokens"] == 10_001
    assert answer.headers["x-sluice-enforced"] == "provider-strict"
    sent = world.remote.log[0].body
    assert (sent["store"], sent["response_format"]["json_schema"]["strict"]) == (False, True)
    assert sent["model"] == MODEL


def test_an_invalid_answer_is_an_error(world: World) -> None:
    world.remote.script = lambda api, body: Act(('{"a": 2}',))
    answer = world.ask(response_format=FORMAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "invalid_answer")
    assert answer.headers["x-should-retry"] == "false"
    streamed = world.ask(response_format=FORMAT, stream=True, sluice={"pass_on": True})
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
    assert events[-1]["error"]["code"] == "invalid_answer"
    assert "[DONE]" not in streamed.text


def test_a_stream_is_what_the_sdk_reads(world: World) -> None:
    world.remote.script = lambda api, body: Act(("Grüße aus der Ferne",))
    with world.client().chat.completions.stream(model="chat/gpt-4o-mini", messages=TALK) as stream:
        stream.until_done()
        message = stream.get_final_completion().choices[0].message
    assert message.content == "Grüße aus der Ferne"


def test_where_a_provider_fails_the_next_one_answers(world: World) -> None:
    world.remote.script = lambda api, body: Act(fault="status", status=500)
    answer = world.ask(model="far")
    assert answer.json()["choices"][0]["message"]["content"] == TEXT
    assert {asked.api for asked in world.remote.log} == {"messages"}


def test_a_parameter_that_a_provider_does_not_have_leads_to_another_one(world: World) -> None:
    answer = world.ask(model="far", seed=3)
    assert answer.json()["choices"][0]["message"]["content"] == TEXT
    assert not world.remote.log
    refused = world.ask(model="messages/gpt-4o-mini", seed=3)
    assert refused.status_code in (400, 403)
    assert "'seed'" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_a_client_that_goes_away_ends_the_stream_at_its_source(world: World, path: str) -> None:
    """The answer comes for a minute: passed on as it comes, and given up where it is made once nobody listens."""
    world.remote.script = lambda api, body: Act(("word " * 20_000,), pause=0.05)
    body: dict[str, object] = {"model": "chat/gpt-4o-mini", "stream": True}
    body |= {"input": "Hello?"} if path == "responses" else {"messages": TALK}
    body |= {"max_tokens": 100} if path == "messages" else {}
    with httpx.stream("POST", f"{world.url}/v1/{path}", json=body, timeout=30) as stream:
        assert any(b"word" in piece for piece in stream.iter_bytes())
    wait_until(lambda: world.remote.log[0].left)
