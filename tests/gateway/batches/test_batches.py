"""Batches through the official client: answered line by line as their endpoints answer, each tenant its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch
from sqlalchemy import select, update

from gateway.auth import Caller
from gateway.batches.batch_store import BatchStore, Line
from gateway.batches.in_process import BEHIND_OTHERS
from gateway.batches.routes import new_row
from gateway.batches.tables import BatchLine, StoredBatch
from gateway.database.database import Database
from gateway.database.place import database_at
from gateway.keys.registry import create_key, revoke_key
from providers.base import GenerateRequest, GenerationEvent, ProviderError
from schemas.config import Auth, Batches, Settings
from schemas.config import Database as Place
from schemas.limits import ScopedLimit
from schemas.openai.batches import BatchRequest
from tests.gateway.fakes import MODEL, TEXT, FakeProvider, serving, silence, speak, wait_until
from tests.gateway.served import KEYS, Served, served_at
from tests.gateway.test_parameters import LEAST

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")


@pytest.fixture(scope="module")
def refusing() -> Iterator[Served]:
    """Keeps nothing: one server for all that is refused, whatever the database."""
    with served_at("sqlite://") as served:
        yield served


@pytest.fixture
def served(database_url: str) -> Iterator[Served]:
    with served_at(database_url, batches=Batches(concurrency=3)) as served:
        yield served


def row(id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    return {"custom_id": id, "method": "POST", "url": url, "body": body or LEAST["chat"]}


def begun(client: openai.OpenAI, rows: list[dict[str, Any]], endpoint: Any = CHAT, **options: Any) -> Batch:
    text = "\n".join(map(json.dumps, rows))
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **options)


def until(client: openai.OpenAI, id: str, done: Callable[[Batch], bool], seconds: float = 10) -> Batch:
    deadline = time.monotonic() + seconds
    while not done(batch := client.batches.retrieve(id)):
        assert time.monotonic() < deadline, batch
        time.sleep(0.02)
    return batch


def ended(client: openai.OpenAI, id: str) -> Batch:
    return until(client, id, lambda batch: batch.status in ENDED)


def answered_one(batch: Batch) -> bool:
    return batch.request_counts is not None and batch.request_counts.completed == 1


def output(client: openai.OpenAI, id: str | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.files.content(id).text.splitlines()] if id else []


ASKED = [
    (CHAT, LEAST["chat"]),
    ("/v1/completions", LEAST["completions"]),
    ("/v1/responses", LEAST["responses"]),
    ("/v1/decisions", LEAST["decisions"]),
]


@pytest.mark.parametrize(("endpoint", "body"), ASKED, ids=[endpoint for endpoint, _ in ASKED])
def test_every_line_is_answered_as_its_endpoint_answers(served: Served, endpoint: str, body: dict[str, Any]) -> None:
    client = served.client()
    first = begun(client, [row(f"r{i}", endpoint, **body) for i in range(7)], endpoint, metadata={"a": "b"})
    assert first.status == "validating" and first.metadata == {"a": "b"} and first.output_file_id is None
    batch = ended(client, first.id)
    assert batch.status == "completed" and batch.request_counts is not None and batch.usage is not None
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (7, 7, 0)
    assert batch.error_file_id is None and batch.model == MODEL and batch.errors is None
    assert batch.created_at <= (batch.in_progress_at or 0) <= (batch.finalizing_at or 0) <= (batch.completed_at or 0)
    assert batch.expires_at == batch.created_at + 24 * 3600
    lines = output(client, batch.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"r{i}" for i in range(7)]
    assert len({line["id"] for line in lines}) == len({line["response"]["request_id"] for line in lines}) == 7
    plain = client.post(endpoint.removeprefix("/v1"), body=body, cast_to=object)
    for line in lines:
        answer = line["response"]
        assert answer["status_code"] == 200 and line["error"] is None
        assert set(answer["body"]) == set(plain)  # type: ignore[call-overload]
    usage = plain["usage"]  # type: ignore[index]
    assert batch.usage.input_tokens == 7 * usage.get("input_tokens", usage.get("prompt_tokens"))
    assert batch.usage.output_tokens == 7 * usage.get("output_tokens", usage.get("completion_tokens"))
    assert batch.usage.input_tokens_details.cached_tokens == 7 * (3 if endpoint == "/v1/decisions" else 4)
    asked = served.provider.weighed if endpoint == "/v1/decisions" else served.provider.requests
    assert {(one.tenant, one.key) for one in asked} == {("acme", "ci")}
    assert [one.priority for one in asked] == [BEHIND_OTHERS] * 7 + [0]
    kept = client.files.retrieve(batch.output_file_id or "")
    assert kept.purpose == "batch_output" and kept.expires_at is not None


def test_what_fails_goes_into_another_file(served: Served) -> None:
    client = served.client()

    async def picky(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
        assert isinstance(request.prompt, tuple)
        if request.prompt[0].content == "bad":
            raise ProviderError("internal", "Broken.")
        async for event in speak(request):
            yield event

    served.provider.script = picky
    rows = [
        row("good"),
        row("broken", **{**LEAST["chat"], "messages": [{"role": "user", "content": "bad"}]}),
        row("wrong", **{**LEAST["chat"], "temperature": 9}),
    ]
    expiry: Any = {"anchor": "created_at", "seconds": 7200}
    batch = ended(client, begun(client, rows, output_expires_after=expiry).id)
    assert batch.status == "completed" and batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 2)
    (good,) = output(client, batch.output_file_id)
    assert good["response"]["body"]["choices"][0]["message"]["content"] == TEXT
    broken, wrong = output(client, batch.error_file_id)
    assert (broken["custom_id"], broken["response"]["status_code"]) == ("broken", 500)
    assert (wrong["custom_id"], wrong["response"]["status_code"]) == ("wrong", 400)
    assert wrong["response"]["body"]["error"]["param"] == "temperature"
    for id in (batch.output_file_id, batch.error_file_id):
        file = client.files.retrieve(id or "")
        assert file.expires_at == file.created_at + 7200


def test_an_input_with_faults_fails_before_anything_is_asked(served: Served) -> None:
    client = served.client()
    batch = ended(client, begun(client, [row("a"), row("a"), row("b", "/v1/completions")]).id)
    assert batch.status == "failed" and batch.failed_at and batch.errors is not None and batch.errors.data is not None
    assert [(e.code, e.line, e.param) for e in batch.errors.data] == [
        ("duplicate_custom_id", 2, "custom_id"),
        ("invalid_url", 3, "url"),
    ]
    assert not served.provider.requests and batch.output_file_id is None


REFUSED = [
    ({"endpoint": "/v1/embeddings"}, "endpoint"),
    ({"completion_window": "1 day"}, "completion_window"),
    ({"metadata": {"a": "x" * 513}}, "metadata"),
    ({"extra_body": {"foo": 1}}, "foo"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_refused(refusing: Served, fields: dict[str, Any], param: str) -> None:
    client = refusing.client()
    file = client.files.create(file=("a", json.dumps(row("a")).encode()), purpose="batch")
    asked: Any = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError) as refusal:
        client.batches.create(**asked | fields)
    assert (refusal.value.param or "").startswith(param)
    other = client.files.create(file=("a", b"x"), purpose="user_data")
    with pytest.raises(openai.BadRequestError) as refusal:
        client.batches.create(**asked | {"input_file_id": other.id})
    assert refusal.value.param == "input_file_id" and not client.batches.list().data


def test_a_policy_of_the_whole_batch_is_refused_rather_than_forgotten(served: Served) -> None:
    with pytest.raises(openai.BadRequestError, match=r"sluice\.policy") as refused:
        begun(served.client(), [row("a")], extra_headers={"x-sluice-policy": '{"local_only": true}'})
    assert refused.value.param == "x-sluice-policy"


def test_another_tenants_batch_is_none(served: Served) -> None:
    mine, other = served.client(), served.client("sk-third")
    batch = ended(mine, begun(mine, [row("a")]).id)
    for attempt in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            attempt(batch.id)
    with pytest.raises(openai.NotFoundError):
        other.files.content(batch.output_file_id or "")
    assert not other.batches.list().data
    more = [begun(mine, [row("a")]).id for _ in range(3)]
    assert [one.id for one in served.client("sk-second").batches.list(limit=2)] == [*more[::-1], batch.id]


def test_cancelled(served: Served) -> None:
    served.provider.script = silence
    client = served.client()
    id = begun(client, [row(f"r{i}") for i in range(5)]).id
    wait_until(lambda: len(served.provider.open) == 3)
    assert client.batches.cancel(id).status in ("cancelling", "cancelled")
    batch = ended(client, id)
    assert batch.status == "cancelled" and batch.cancelling_at and batch.cancelled_at and not served.provider.open
    lines = output(client, batch.error_file_id)
    assert [line["custom_id"] for line in lines] == [f"r{i}" for i in range(5)]
    assert {line["error"]["code"] for line in lines} == {"batch_cancelled"} and lines[0]["response"] is None
    assert client.batches.cancel(id).status == "cancelled"
    served.provider.script = speak
    done = ended(client, begun(client, [row("a")]).id)
    with pytest.raises(openai.ConflictError) as refusal:
        client.batches.cancel(done.id)
    assert "'completed'" in refusal.value.message


async def test_expired(served: Served, database_url: str) -> None:
    async def once(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
        async for event in (speak if len(served.provider.requests) <= 1 else silence)(request):
            yield event

    served.provider.script = once
    client = served.client()
    id = begun(client, [row(f"r{i}") for i in range(4)]).id
    await asyncio.to_thread(until, client, id, answered_one)
    database = database_at(database_url)
    past = update(StoredBatch).where(StoredBatch.id == id).values(expires_at=1)
    await database.write(lambda connection: connection.execute(past))
    await database.aclose()
    batch = await asyncio.to_thread(ended, client, id)
    assert batch.status == "expired" and batch.expired_at and batch.finalizing_at and not served.provider.open
    (done,) = output(client, batch.output_file_id)
    rest = output(client, batch.error_file_id)
    assert {line["custom_id"] for line in (done, *rest)} == {f"r{i}" for i in range(4)}
    assert {line["error"]["code"] for line in rest} == {"batch_expired"}


def test_a_tenants_limit_is_waited_for_and_others_go_on(database_url: str) -> None:
    limits = (ScopedLimit(tenant="acme", per="total", requests=2),)
    with served_at(database_url, limits=limits) as served:
        client = served.client()
        batch = ended(client, begun(client, [row(f"r{i}") for i in range(3)]).id)
        (refused,) = output(client, batch.error_file_id)
        assert refused["response"]["status_code"] == 429
        assert refused["response"]["body"]["error"]["code"] == "insufficient_quota"

        served.provider.refusal = ProviderError("overloaded", "Full.", retry_after=1)
        other = served.client("sk-third")
        batch = ended(other, begun(other, [row("a"), row("b")]).id)
        assert batch.request_counts is not None and batch.request_counts.completed == 2
        assert len(served.provider.requests) > 4


def test_unfinished_batches_are_bounded(database_url: str) -> None:
    with served_at(database_url, batches=Batches(concurrency=1, max_unfinished=1)) as served:
        served.provider.script = silence
        client = served.client()
        begun(client, [row("a")])
        with pytest.raises(openai.RateLimitError) as refusal:
            begun(client, [row("a")])
        assert refusal.value.code == "batches_exceeded"
        begun(served.client("sk-third"), [row("a")])


def test_tenants_take_turns(database_url: str) -> None:
    with served_at(database_url, batches=Batches(concurrency=1)) as served:
        client, other = served.client(), served.client("sk-third")

        async def slow(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
            await asyncio.sleep(0.02)
            async for event in speak(request):
                yield event

        served.provider.script = slow
        long = begun(client, [row(f"r{i}") for i in range(40)])
        short = begun(other, [row(f"r{i}") for i in range(3)])
        assert ended(other, short.id).status == "completed"
        assert client.batches.retrieve(long.id).status == "in_progress"


def test_an_input_that_is_deleted_while_it_waits(database_url: str) -> None:
    provider = FakeProvider()
    settings = Settings(auth=Auth(keys=KEYS), database=Place(url=database_url))
    with serving(provider, settings) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-first")
        batch = ended(client, begun(client, [row("a")]).id)
        assert batch.status == "completed"
        client.files.delete(batch.input_file_id)
        with pytest.raises(openai.NotFoundError):
            client.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")


async def test_a_revoked_key_asks_for_nothing_any_more(served: Served, database_url: str) -> None:
    database = database_at(database_url)
    await database.open()
    key = (await create_key(database, "brief", "acme")).key
    client, other = served.client(key), served.client()
    await asyncio.sleep(1.5)
    rows = [row(f"r{i}") for i in range(4)]

    async def slow(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
        await asyncio.sleep(2)
        async for event in speak(request):
            yield event

    served.provider.script = slow
    id = (await asyncio.to_thread(begun, client, rows)).id
    await asyncio.to_thread(wait_until, lambda: len(served.provider.requests) == 3)
    await revoke_key(database, "brief")
    batch = await asyncio.to_thread(ended, other, id)
    await database.aclose()
    assert batch.status == "completed" and len(served.provider.requests) == 3
    (line,) = output(other, batch.error_file_id)
    assert line["error"]["code"] == "invalid_api_key" and line["response"] is None


async def test_old_batches_and_their_lines_are_forgotten(database: Database) -> None:
    now = [2_000_000.0]
    store = BatchStore(database, "worker_a", clock=lambda: now[0])
    row = new_row(BatchRequest("f", CHAT, "1h"), Caller("ci", "t"), store.now())
    await store.add(row, 1)
    batch = await store.find(row["id"], "t")
    assert batch is not None and await store.take(batch) and not await store.take(batch)
    await store.put(batch.id, [Line(batch.id, i, str(i), "{}") for i in range(3)])
    await store.reject(batch.id, "[]")
    await store.sweep(3600)
    async with database.reading() as session:
        assert not (await session.scalars(select(BatchLine))).all()
    assert await store.find(batch.id, "t") is not None
    now[0] += 2 * 3600 + 1
    await store.sweep(3600)
    assert await store.find(batch.id, "t") is None
