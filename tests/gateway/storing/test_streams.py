"""Streams of responses that are stored: followed again from any event on, with the same numbers, here and elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent

from gateway.database.database import Database
from gateway.database.place import database_at
from gateway.storing.journal import follow
from gateway.storing.response_store import ResponseStore, split
from providers.base import Delta, Finished, GenerateRequest, GenerationEvent, ProviderError, Usage
from schemas.config import Responses
from tests.gateway.fakes import MODEL, TEXT, forever, wait_until
from tests.gateway.served import Served, served_at
from tests.gateway.storing.test_background import failing

ASK: dict[str, Any] = {"model": MODEL, "input": "One", "stream": True}
BACKGROUND: dict[str, Any] = {**ASK, "background": True}


@pytest.fixture
def served(database_url: str) -> Iterator[Served]:
    with served_at(database_url) as served:
        yield served


async def slow(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    """Half a second: longer than what is told of it waits to be written down."""
    for word in ("one ", "two ", "three ", "four ", "five"):
        yield Delta(0, word)
        await asyncio.sleep(0.1)
    yield Finished(0, "stop")
    yield Usage(1, 0, 5)


def told(events: list[ResponseStreamEvent]) -> list[Any]:
    return [event.to_dict() for event in events]


@pytest.mark.parametrize("ask", [ASK, BACKGROUND], ids=["stored", "background"])
def test_a_stream_can_be_read_again_from_any_event_on(served: Served, ask: dict[str, Any]) -> None:
    client = served.client()
    events = list(client.responses.create(**ask))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed" and last.response.output_text == TEXT
    id = last.response.id
    for after in (None, 0, 3, len(events) - 2, len(events) - 1, 1000):
        given = {} if after is None else {"starting_after": after}
        again = list(client.responses.retrieve(id, stream=True, **given))  # type: ignore[call-overload]
        assert told(again) == told(events[0 if after is None else after + 1 :])
    assert client.responses.retrieve(id).to_dict() == last.response.to_dict()
    with pytest.raises(openai.NotFoundError):
        served.client("sk-third").responses.retrieve(id, stream=True)


def test_what_was_begun_elsewhere_is_followed_to_its_end(served: Served, database_url: str) -> None:
    served.provider.script = slow
    with served_at(database_url) as other:
        stream = served.client().responses.create(**BACKGROUND)
        events = [next(stream) for _ in range(5)]
        # Whoever listened goes away, and what is made goes on.
        stream.close()
        created = events[0]
        assert created.type == "response.created" and created.response.background
        id = created.response.id
        followed = [list(one.client().responses.retrieve(id, stream=True)) for one in (other, served)]
        assert told(followed[0]) == told(followed[1]) and told(followed[0])[:5] == told(events)
        completed = followed[0][-1]
        assert completed.type == "response.completed" and completed.response.output_text == "one two three four five"
        assert [event.sequence_number for event in followed[0]] == list(range(len(followed[0])))
    assert not served.provider.open


def test_the_sdk_goes_on_with_a_stream(served: Served) -> None:
    served.provider.script = slow
    client = served.client()
    with client.responses.stream(model=MODEL, input="One", background=True) as stream:
        first = [event for event, _ in zip(stream, range(4), strict=False)]
    created: Any = first[0]
    with client.responses.stream(response_id=created.response.id, starting_after=3) as stream:
        rest = list(stream)
        final = stream.get_final_response()
    assert rest[0].sequence_number == 4 and final.output_text == "one two three four five"


def test_cancelled_and_failed(served: Served) -> None:
    client = served.client()
    served.provider.script = forever
    stream = client.responses.create(**BACKGROUND)
    created: Any = next(stream)
    id = created.response.id
    assert client.responses.cancel(id).status == "cancelled"
    seen = list(stream)
    assert seen[-1].type == "response.output_text.delta" and not served.provider.open
    assert told(list(client.responses.retrieve(id, stream=True)))[1:] == told(seen)
    served.provider.script = failing
    events = list(client.responses.create(**BACKGROUND))
    failed: Any = events[-1]
    assert failed.type == "response.failed" and failed.response.error.message == "Gone."
    assert told(list(client.responses.retrieve(failed.response.id, stream=True))) == told(events)
    assert client.responses.retrieve(failed.response.id).status == "failed"
    events = list(client.responses.create(**ASK))
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(events[-1].response.id)  # type: ignore[union-attr]
    served.provider.refusal = ProviderError("overloaded", "Full.")
    with pytest.raises(openai.RateLimitError):
        client.responses.create(**BACKGROUND)


def test_what_is_not_there_to_be_streamed(served: Served) -> None:
    client = served.client()
    plain = client.responses.create(model=MODEL, input="One")
    for query, param in (
        ({"stream": "true"}, "stream"),
        ({"stream": "yes"}, "stream"),
        ({"starting_after": "1"}, "starting_after"),
        ({"stream": "true", "starting_after": "-1"}, "starting_after"),
        ({"stream": "true", "include_obfuscation": "true"}, "include_obfuscation"),
    ):
        with pytest.raises(openai.BadRequestError) as refusal:
            client.responses.retrieve(plain.id, extra_query=query)
        assert refusal.value.param == param


async def test_a_stream_whose_process_died_ends_with_a_failure(database: Database) -> None:
    settings = Responses(store=True)
    dead, store = ResponseStore(database, settings, "worker_dead"), ResponseStore(database, settings, "worker_other")
    body = b'{"id":"a","status":"in_progress"}'
    await dead.keep("a", "t", [], body, begun=True, events=[])
    events = [f'event: e\ndata: {{"sequence_number":{i}}}\n\n'.encode() for i in range(5)]
    await dead.tell("a", events[:2], 1)
    await dead.tell("a", events[2:], 4)
    found = await store.find("a", "t")
    assert found is not None
    for after in (-1, 0, 1, 3):
        heard = b"".join([some async for some in follow(store, found, after)])
        *kept, failure = split(heard)
        assert kept == events[after + 1 :]
        assert failure.startswith(b'event: response.failed\ndata: {"type":"response.failed","sequence_number":5,')
    assert [some async for some in follow(store, found, 5)] == []
    assert await store.forget("a", "t") and await store.events("a", -1) == []
    await dead.tell("a", events, 9)
    assert await store.events("a", -1) == []


async def test_a_stopped_server_leaves_no_stream_open(database_url: str) -> None:
    with served_at(database_url) as served:
        served.provider.script = forever
        stream = served.client().responses.create(**BACKGROUND)
        created: Any = next(stream)
        wait_until(lambda: len(served.provider.open) == 1)
        stream.close()
    database = database_at(database_url)
    found = await ResponseStore(database, Responses(store=True)).find(created.response.id, "acme")
    await database.aclose()
    assert found is not None and '"status":"failed"' in found.body and not served.provider.open
