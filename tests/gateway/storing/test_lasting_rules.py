"""Whom a request kept its texts from does not get them with the next one, which goes on from its stored response."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given

from gateway.policy.lasting import LASTING, lasting
from gateway.policy.merging import stricter
from gateway.policy.selection import Candidate, objections
from schemas.config import Database as Place
from schemas.config import ModelSettings, Responses, Settings
from schemas.policy import Rules
from schemas.providers import RemoteModel
from schemas.routing import Route, Target
from tests.gateway.fakes import MODEL, FakeProvider, serving
from tests.gateway.policy.strategies import candidates, rules
from tests.providers.fault_server import Act, FaultServer
from tests.providers.remote_cases import settings_for

SECRET = "The launch is on the ninth."
MAIL = "jane.doe@corp.example"
ASK: dict[str, Any] = {"model": "far"}


@dataclass(frozen=True)
class World:
    """``remote``: what the model `far` prefers to the local engine."""

    client: openai.OpenAI
    remote: FaultServer

    @property
    def seen(self) -> str:
        return repr([asked.body for asked in self.remote.log])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    remote = FaultServer(lambda api, body: Act(("Noted.",)))
    with remote.in_a_thread():
        targets = (Target(provider="chat", model="remote"), Target(provider="local", model=MODEL))
        settings = Settings(
            models=(ModelSettings(name=MODEL, path=MODEL),),
            providers=(settings_for(remote, "chat", models=(RemoteModel(name="remote"),)),),
            routes=(Route(name="far", targets=targets),),
            responses=Responses(store=True),
            database=Place(url=f"sqlite:///{tmp_path}/sluice.db"),
        )
        with serving(FakeProvider(), settings) as url:
            yield World(openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0), remote)


@pytest.mark.parametrize(
    "policy",
    [{"local_only": True}, {"zero_retention": True}, {"deny_providers": ["chat"]}, {"allow_models": ["local/tiny"]}],
)
@pytest.mark.parametrize("background", [False, True])
def test_rules_hold_for_all_that_goes_on(world: World, policy: dict[str, Any], background: bool) -> None:
    body = {"sluice": {"policy": policy}}
    first = world.client.responses.create(**ASK, input=SECRET, background=background, extra_body=body)
    while world.client.responses.retrieve(first.id).status in ("queued", "in_progress"):
        time.sleep(0.01)
    second = world.client.responses.create(**ASK, input="And?", previous_response_id=first.id)
    world.client.responses.create(**ASK, input="So?", previous_response_id=second.id, store=False)
    assert not world.remote.log
    world.client.responses.create(**ASK, input="Something else.")
    assert "Something else." in world.seen and SECRET not in world.seen


def test_what_was_hidden_stays_hidden(world: World) -> None:
    body = {"sluice": {"policy": {"pii": "redact"}}}
    first = world.client.responses.create(**ASK, input=f"Write to {MAIL}.", extra_body=body)
    world.client.responses.create(**ASK, input="And again?", previous_response_id=first.id)
    assert len(world.remote.log) == 2
    assert MAIL not in world.seen and "@example.org" in world.seen


@pytest.mark.parametrize("later", [False, True])
def test_items_of_a_conversation_keep_the_rules_that_they_were_brought_under(world: World, later: bool) -> None:
    items: Any = [{"type": "message", "role": "user", "content": SECRET}]
    held = {"x-sluice-policy": '{"local_only": true}'}
    if later:
        made = world.client.conversations.create()
        world.client.conversations.items.create(made.id, items=items, extra_headers=held)
    else:
        made = world.client.conversations.create(items=items, extra_headers=held)
    world.client.responses.create(**ASK, input="And?", conversation=made.id)
    assert not world.remote.log


def test_bounds_of_one_request_end_with_it(world: World) -> None:
    body = {"sluice": {"policy": {"max_usd": "0", "min_tier": 0, "fallbacks": False}}}
    first = world.client.responses.create(**ASK, input="One", extra_body=body)
    world.client.responses.create(**ASK, input="Two", previous_response_id=first.id)
    assert len(world.remote.log) == 2


@given(rules, rules, candidates)
def test_who_may_not_see_the_first_may_not_see_what_goes_on(
    first: Rules, second: Rules, found: tuple[Candidate, ...]
) -> None:
    """Whatever the rules of the second are."""
    only = Rules(**{name: getattr(first, name) for name in LASTING})
    both = stricter(lasting(first), second)
    for candidate in found:
        assert not objections(candidate, only) or objections(candidate, both)
    assert lasting(lasting(first)) == lasting(first)
