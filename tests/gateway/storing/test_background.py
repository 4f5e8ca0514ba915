"""Responses in the background: made while nobody waits, cancelled, failed, and lost with their process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from msgspec import Raw
from openai.types.responses import Response

from gateway.database.database import Database
from gateway.database.place import database_at
from gateway.storing.response_store import ResponseStore
from providers.base import Delta, Finished, GenerateRequest, GenerationEvent, Message, ProviderError, Usage
from schemas.config import Database as Place
from schemas.config import Responses, Settings
from tests.gateway.fakes import MODEL, TEXT, FakeProvider, forever, serving, silence, wait_until
from tests.gateway.served import Served, served_at

ASK: dict[str, Any] = {"model": MODEL, "input": "One", "background": True}


@pytest.fixture
def served(database_url: str) -> Iterator[Served]:
    with served_at(database_url) as served:
        yield served


def ended(client: openai.OpenAI, id: str) -> Response:
    deadline = time.monotonic() + 5
    while (answer := client.responses.retrieve(id)).status == "in_progress":
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.01)
    return answer


async def failing(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, "half")
    raise ProviderError("unavailable", "Gone.")


async def short(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, "half")
    yield Finished(0, "length")
    yield Usage(1, 0, 1)


def test_an_answer_that_nobody_waits_for(served: Served) -> None:
    client = served.client()
    begun = client.responses.create(**ASK)
    assert begun.status == "in_progress" and begun.background and begun.output == []
    answer = ended(client, begun.id)
    assert answer.status == "completed" and answer.output_text == TEXT and answer.usage is not None
    client.responses.create(model=MODEL, input="Two", previous_response_id=begun.id)
    assert served.provider.last.prompt == (Message("user", "One"), Message("assistant", TEXT), Message("user", "Two"))
    served.provider.script = short
    assert ended(client, client.responses.create(**ASK).id).status == "incomplete"


def test_cancelled(served: Served) -> None:
    served.provider.script = forever
    client = served.client()
    begun = client.responses.create(**ASK)
    wait_until(lambda: len(served.provider.open) == 1)
    with pytest.raises(openai.NotFoundError):
        served.client("sk-third").responses.cancel(begun.id)
    assert client.responses.cancel(begun.id).status == "cancelled"
    assert not served.provider.open
    assert client.responses.cancel(begun.id).status == client.responses.retrieve(begun.id).status == "cancelled"


def test_failed(served: Served) -> None:
    client = served.client()
    served.provider.script = failing
    answer = ended(client, client.responses.create(**ASK).id)
    assert answer.status == "failed" and answer.error is not None and answer.error.message == "Gone."
    served.provider.refusal = ProviderError("overloaded", "Full.")
    with pytest.raises(openai.RateLimitError):
        client.responses.create(**ASK)
    assert not served.provider.open


REFUSED: list[dict[str, Any]] = [{"store": False}, {"store": False, "stream": True}]


@pytest.mark.parametrize("fields", REFUSED, ids=str)
def test_refused(served: Served, fields: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        served.client().responses.create(**ASK, **fields)
    assert refusal.value.param == "background" and not served.provider.requests


def test_only_what_runs_in_the_background_can_be_cancelled(served: Served) -> None:
    answer = served.client().responses.create(model=MODEL, input="One")
    with pytest.raises(openai.BadRequestError):
        served.client().responses.cancel(answer.id)


async def test_what_a_stopped_server_was_making_has_failed(database_url: str) -> None:
    provider = FakeProvider()
    provider.script = silence
    settings = Settings(responses=Responses(store=True), database=Place(url=database_url))
    with serving(provider, settings) as url:
        begun = openai.OpenAI(base_url=f"{url}/v1", api_key="none").responses.create(**ASK)
    database = database_at(database_url)
    found = await ResponseStore(database, settings.responses).find(begun.id, "")
    await database.aclose()
    assert found is not None and '"status":"failed"' in found.body and "stopped" in found.body
    assert not provider.open


async def test_what_a_dead_process_was_making_is_lost(database: Database) -> None:
    settings = Responses(store=True)
    dead = ResponseStore(database, settings, "worker_dead")
    await dead.keep("a", "t", [], b'{"id":"a","status":"in_progress","output":[1.0]}', begun=True)
    found = await ResponseStore(database, settings, "worker_other").find("a", "t")
    assert found is not None and found.worker == ""
    assert found.body.startswith('{"id":"a","status":"failed","output":[1.0],"error":{"message":"The server')
    await dead.end("a", [Raw(b"1")], b"{}")
    again = await dead.find("a", "t")
    assert again is not None and again.body == found.body and again.context == "[]"
