"""Conversations and items through the official client: gone on from, listed, referred to, each tenant its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import openai
import pytest
from msgspec import Raw

from gateway.database.database import Database
from gateway.storing.conversation_store import ConversationStore, forget_conversations
from gateway.storing.kept_items import Said, identified
from providers.base import ANYBODY, Call, Message
from schemas.config import Responses
from tests.gateway.fakes import MODEL, TEXT
from tests.gateway.served import Served, served_at
from tests.gateway.storing.test_background import ended, failing
from tests.gateway.test_thinking import think
from tests.gateway.test_tools import call_one

ASK: dict[str, Any] = {"model": MODEL}
WEATHER: Any = {"type": "function", "name": "weather", "parameters": None, "strict": None}


@pytest.fixture(scope="module")
def refusing() -> Iterator[Served]:
    """Keeps nothing: one server for all that is refused, whatever the database."""
    with served_at("sqlite://") as served:
        yield served


@pytest.fixture
def served(database_url: str) -> Iterator[Served]:
    with served_at(database_url) as served:
        yield served


def said(text: str, role: str = "user") -> Any:
    return {"type": "message", "role": role, "content": text}


def prompt(served: Served) -> list[tuple[str, str]]:
    asked = served.provider.last.prompt
    assert isinstance(asked, tuple)
    return [(turn.role, turn.content) for turn in asked if isinstance(turn, Message)]


def test_a_conversation_is_gone_on_with(served: Served) -> None:
    client = served.client()
    conversation = client.conversations.create(metadata={"a": "b"}, items=[said("Be brief.", "developer")])
    assert conversation.metadata == {"a": "b"} and client.conversations.retrieve(conversation.id) == conversation
    first = client.responses.create(**ASK, input="One", conversation=conversation.id)
    assert first.conversation is not None and first.conversation.id == conversation.id
    with client.responses.stream(**ASK, input="Two", conversation={"id": conversation.id}) as stream:
        stream.get_final_response()
    begun = client.responses.create(**ASK, input="Three", conversation=conversation.id, background=True)
    assert ended(client, begun.id).status == "completed"
    client.responses.create(**ASK, input="Four", conversation=conversation.id, store=False)
    turns = [("system", "Be brief.")]
    for text in ("One", "Two", "Three"):
        turns += [("user", text), ("assistant", TEXT)]
    assert prompt(served) == [*turns, ("user", "Four")]
    items = list(client.conversations.items.list(conversation.id, order="asc", limit=2))
    assert len(items) == 9 and all(item.id for item in items)
    assert items[2].to_dict() | {"status": "completed"} == first.output[0].to_dict() | {"status": "completed"}
    assert [item.id for item in client.conversations.items.list(conversation.id)] == [item.id for item in items[::-1]]


def test_a_failed_answer_adds_nothing(served: Served) -> None:
    client = served.client()
    conversation = client.conversations.create()
    served.provider.script = failing
    with pytest.raises(openai.APIError):
        client.responses.create(**ASK, input="One", conversation=conversation.id)
    list(client.responses.create(**ASK, input="One", conversation=conversation.id, stream=True))
    list(client.responses.create(**ASK, input="One", conversation=conversation.id, stream=True, background=True))
    assert not client.conversations.items.list(conversation.id).data


def test_items_are_added_shown_and_removed(served: Served) -> None:
    client = served.client()
    id = client.conversations.create().id
    call: Any = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Oslo"}'}
    output: Any = {"type": "function_call_output", "call_id": "c1", "output": "Rain"}
    added = client.conversations.items.create(id, items=[said("One"), call, output])
    assert [item.type for item in added.data] == ["message", "function_call", "function_call_output"]
    message: Any = client.conversations.items.retrieve(added.data[0].id or "", conversation_id=id)
    assert (
        message.content[0].type == "input_text" and message.content[0].text == "One" and message.status == "completed"
    )
    client.responses.create(**ASK, input="Well?", conversation=id)
    assert served.provider.last.prompt == (
        Message("user", "One"),
        Message("assistant", "", calls=(Call("c1", "weather", {"city": "Oslo"}),)),
        Message("tool", "Rain", "weather", call_id="c1"),
        Message("user", "Well?"),
    )
    client.conversations.items.delete(added.data[0].id or "", conversation_id=id)
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(added.data[0].id or "", conversation_id=id)
    assert len(client.conversations.items.list(id).data) == 4
    client.conversations.update(id, metadata={"c": "d"})
    assert client.conversations.retrieve(id).metadata == {"c": "d"}
    assert client.conversations.delete(id).deleted
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**ASK, input="Well?", conversation=id)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"items": [{"type": "message"}]}, "items[0].role"),
    ({"items": [said("a")] * 21}, "items"),
    ({"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0].id"),
    ({"items": [{"type": "web_search_call"}]}, "items[0].type"),
    ({"items": [{**said("a"), "id": "x" * 101}]}, "items[0].id"),
    ({"items": [{**said("a"), "id": 1}]}, "items[0].id"),
    ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
    ({"foo": 1}, "foo"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_refused(refusing: Served, body: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.APIStatusError) as refusal:
        refusing.client().post("/conversations", body=body, cast_to=object)
    assert refusal.value.status_code in (400, 404) and refusal.value.body["param"] == param  # type: ignore[index]


def test_another_tenants_conversation_is_none(served: Served) -> None:
    mine, other = served.client(), served.client("sk-third")
    id = mine.conversations.create(items=[said("secret")]).id
    item = mine.conversations.items.list(id).data[0].id or ""
    items = other.conversations.items
    for attempt in (
        lambda: other.conversations.retrieve(id),
        lambda: other.conversations.update(id, metadata={}),
        lambda: other.conversations.delete(id),
        lambda: items.list(id),
        lambda: items.create(id, items=[said("a")]),
        lambda: items.retrieve(item, conversation_id=id),
        lambda: items.delete(item, conversation_id=id),
        lambda: other.responses.create(**ASK, input="One", conversation=id),
        lambda: other.responses.create(**ASK, input=[{"type": "item_reference", "id": item}]),
    ):
        with pytest.raises(openai.NotFoundError) as refusal:
            attempt()
        assert refusal.value.code in ("conversation_not_found", "item_not_found")
    assert not served.provider.requests and len(mine.conversations.items.list(id).data) == 1


def test_what_was_said_stays_under_its_rules(served: Served) -> None:
    client = served.client()
    id = client.conversations.create().id
    private: Any = {"sluice": {"policy": {"local_only": True, "max_usd": "1"}}}
    first = client.responses.create(**ASK, input="One", conversation=id, extra_body=private)
    item: Any = {"type": "item_reference", "id": first.output[0].id}
    copied = client.conversations.create(items=[item]).id
    for fields in ({"conversation": id}, {"conversation": copied}):
        client.responses.create(**ASK, input="Two", **fields)  # type: ignore[call-overload]
        policy = served.provider.last.policy
        assert policy.local_only and policy.max_usd is None
    client.responses.create(**ASK, input=[item])
    assert served.provider.last.policy.local_only
    client.responses.create(**ASK, input="Two")
    assert not served.provider.last.policy.local_only


def test_thoughts_go_on_with_what_they_led_to(served: Served) -> None:
    client = served.client()
    served.provider.script = think
    id = client.conversations.create().id
    first = client.responses.create(**ASK, input="One", conversation=id)
    assert [item.type for item in first.output] == ["reasoning", "message"]
    turns = (Message("user", "One"), Message("assistant", first.output_text, thoughts="Hm, well"))
    client.responses.create(**ASK, input="Two", conversation=id)
    assert served.provider.last.prompt == (*turns, Message("user", "Two"))
    sent_back: Any = [said("One"), *(item.to_dict() for item in first.output), said("Two")]
    client.responses.create(**ASK, input=sent_back)
    assert served.provider.last.prompt == (*turns, Message("user", "Two"))
    called: Any = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    client.responses.create(**ASK, input=[said("One"), first.output[0].to_dict(), called])  # type: ignore[list-item]
    assert served.provider.last.prompt == (
        Message("user", "One"),
        Message("assistant", "", calls=(Call("c", "f", {}),), thoughts="Hm, well"),
    )


def test_two_ways_to_go_on_are_one_too_many(served: Served) -> None:
    client = served.client()
    answer = client.responses.create(**ASK, input="One")
    conversation = client.conversations.create()
    with pytest.raises(openai.BadRequestError) as refusal:
        client.responses.create(**ASK, input="Two", conversation=conversation.id, previous_response_id=answer.id)
    assert refusal.value.param == "previous_response_id"


def test_the_items_of_a_response_are_listed_and_referred_to(served: Served) -> None:
    client = served.client()
    served.provider.script = call_one
    first = client.responses.create(
        **ASK, input=[said("One"), said("Two", "assistant"), said("Rain?")], tools=[WEATHER]
    )
    (call,) = first.output
    assert call.type == "function_call"
    items: list[Any] = list(client.responses.input_items.list(first.id, order="asc", limit=2))
    assert [item.content[0].text for item in items] == ["One", "Two", "Rain?"]
    assert [item.content[0].type for item in items] == ["input_text", "output_text", "input_text"]
    page = client.responses.input_items.list(first.id, after=items[1].id, order="asc")
    assert [item.id for item in page.data] == [items[2].id] and not page.has_more
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "No"}
    second = client.responses.create(**ASK, input=[output], previous_response_id=first.id)
    listed: list[Any] = list(client.responses.input_items.list(second.id, order="asc"))
    assert [item.type for item in listed] == [*["message"] * 3, "function_call", "function_call_output"]
    assert [item.id for item in listed[:4]] == [*(item.id for item in items), call.id]
    references: list[Any] = [{"type": "item_reference", "id": one} for one in (items[2].id, call.id, listed[4].id)]
    client.responses.create(**ASK, input=references, store=False)
    assert [turn.content for turn in served.provider.last.prompt] == ["Rain?", "", "No"]  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError) as refusal:
        client.responses.input_items.list(first.id, after="msg_none")
    assert refusal.value.param == "after"
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.create(**ASK, input=references)
    assert gone.value.param == "input[0].id"


def test_without_the_setting_there_are_none(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.conversations.create()
    assert refusal.value.code == "unsupported_endpoint"
    with pytest.raises(openai.NotFoundError) as refusal:
        client.responses.create(**ASK, input="One", conversation="conv_1")
    assert refusal.value.code == "conversation_not_found"
    with pytest.raises(openai.NotFoundError) as refusal:
        client.responses.create(**ASK, input=[{"type": "item_reference", "id": "msg_1"}])
    assert refusal.value.code == "item_not_found"


async def test_a_conversation_lives_while_it_is_used(database: Database) -> None:
    now = [1_000_000.0]
    store = ConversationStore(database, Responses(store=True, retention_days=2.0), clock=lambda: now[0])
    item = identified(Raw(b'{"role":"user","content":"a"}'), "x")
    id = (await store.make("t", "{}", Said([item], ANYBODY))).id
    now[0] += 86_400 * 1.5
    added = [Said([identified(Raw(b'{"role":"user","content":"b"}'), "x", str(i))], ANYBODY) for i in range(20)]
    assert all(await asyncio.gather(*(store.add(id, "t", one) for one in added)))
    now[0] += 86_400 * 1.5
    assert await store.find(id, "t") is not None and len((await store.said(id)).items) == 21
    now[0] += 86_400
    assert await store.find(id, "t") is None and not await store.add(id, "t", added[0])
    assert await database.write(partial(forget_conversations, now=int(now[0] * 1e6), limit=9)) == 1
    assert (await store.said(id)).items == []
