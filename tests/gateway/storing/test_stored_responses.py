"""Stored responses through the official client: found by their own tenant, gone on from, forgotten in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import openai
import pytest
from msgspec import Raw

from gateway.database.database import Database
from gateway.storing.response_store import ResponseStore, forget_expired
from providers.base import Call, Message
from schemas.config import Responses
from tests.gateway.fakes import MODEL, TEXT
from tests.gateway.served import Served, served_at
from tests.gateway.test_tools import call_one, cut

ASK: dict[str, Any] = {"model": MODEL}
WEATHER: Any = {"type": "function", "name": "weather", "parameters": None, "strict": None}


@pytest.fixture
def served(database_url: str) -> Iterator[Served]:
    with served_at(database_url) as served:
        yield served


def test_a_conversation_goes_on(served: Served) -> None:
    client = served.client()
    first = client.responses.create(**ASK, input="One", instructions="Be brief.")
    assert first.to_dict()["store"] is True
    with client.responses.stream(**ASK, input="Two", previous_response_id=first.id) as stream:
        second = stream.get_final_response()
    assert second.previous_response_id == first.id
    assert served.provider.last.prompt == (Message("user", "One"), Message("assistant", TEXT), Message("user", "Two"))
    third = client.responses.create(**ASK, input="Three", previous_response_id=second.id, instructions="Rhyme.")
    said = ["One", TEXT, "Two", TEXT, "Three"]
    assert [turn.content for turn in served.provider.last.prompt] == ["Rhyme.", *said]  # type: ignore[union-attr]
    for answer in (first, second, third):
        kept = client.responses.retrieve(answer.id)
        assert kept.output_text == TEXT and kept.usage == answer.usage and kept.id == answer.id
    assert served.client("sk-second").responses.retrieve(first.id).status == "completed"


def test_calls_go_on_too(served: Served) -> None:
    served.provider.script = call_one
    client = served.client()
    first = client.responses.create(**ASK, input="Rain?", tools=[WEATHER])
    (call,) = first.output
    assert call.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "No"}
    client.responses.create(**ASK, input=[output], previous_response_id=first.id)
    assert served.provider.last.prompt == (
        Message("user", "Rain?"),
        Message("assistant", "", calls=(Call(call.call_id, "weather", {"city": "Oslo"}),)),
        Message("tool", "No", "weather", call_id=call.call_id),
    )
    served.provider.script = cut
    half = client.responses.create(**ASK, input="Rain?", tools=[WEATHER])
    assert half.status == "incomplete" and client.responses.retrieve(half.id).status == "incomplete"
    client.responses.create(**ASK, input="Well?", previous_response_id=half.id)
    assert served.provider.last.prompt == (Message("user", "Rain?"), Message("user", "Well?"))


def test_what_is_not_there_or_not_mine_is_not_found(served: Served) -> None:
    client, other = served.client(), served.client("sk-third")
    mine = client.responses.create(**ASK, input="One").id
    for id, who in ((mine, other), ("resp_1", client), ("resp_1", other)):
        with pytest.raises(openai.NotFoundError) as refusal:
            who.responses.retrieve(id)
        assert refusal.value.code == "response_not_found" and id in refusal.value.message
        with pytest.raises(openai.NotFoundError):
            who.responses.delete(id)
        with pytest.raises(openai.NotFoundError) as refusal:
            who.responses.create(**ASK, input="Two", previous_response_id=id)
        assert refusal.value.code == "previous_response_not_found"
    with pytest.raises(openai.AuthenticationError):
        served.client("sk-none").responses.retrieve(mine)
    client.responses.delete(mine)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(mine)


def test_store_false_keeps_nothing(served: Served) -> None:
    client = served.client()
    answer = client.responses.create(**ASK, input="One", store=False)
    assert answer.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_without_the_setting_nothing_is_found(http: httpx.Client, client: openai.OpenAI) -> None:
    answer = client.responses.create(**ASK, input="One")
    assert answer.to_dict()["store"] is False
    assert http.get(f"/v1/responses/{answer.id}").status_code == 404
    assert http.delete(f"/v1/responses/{answer.id}").json()["error"]["code"] == "response_not_found"
    with pytest.raises(openai.BadRequestError) as refusal:
        client.responses.create(**ASK, input="One", store=True)
    assert refusal.value.param == "store"


async def test_what_is_past_its_time_is_gone(database: Database) -> None:
    now = [1_000_000.0]
    store = ResponseStore(database, Responses(store=True, retention_days=2.0), clock=lambda: now[0])
    await store.keep("a", "t", [Raw(b'{"x":1.0}')], b"{}")
    found = await store.find("a", "t")
    assert found is not None and found.context == '[{"x":1.0}]' and await store.find("a", "u") is None
    now[0] += 2 * 86_400 + 1
    assert await store.find("a", "t") is None and not await store.forget("a", "t")
    await store.keep("b", "t", [], b"{}")
    forget = partial(forget_expired, now=int(now[0] * 1e6), limit=1)
    assert [await database.write(forget) for _ in range(2)] == [1, 0]
    now[0] -= 2 * 86_400
    assert await store.find("a", "t") is None and await store.find("b", "t") is not None
    assert await store.forget("b", "t") and not await store.forget("b", "t")
    await asyncio.gather(*(store.keep(f"c{i}", "t", [], b"{}") for i in range(20)))
    assert all([await store.find(f"c{i}", "t") for i in range(20)])
