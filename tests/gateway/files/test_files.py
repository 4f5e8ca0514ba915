"""Files through the official client: uploaded, read back, listed by page, each tenant its own, gone in time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import func, select

from gateway.database.database import Database
from gateway.errors import ApiError
from gateway.files.file_store import CHUNK, SWEPT_TOGETHER, FileGone, FileStore
from gateway.files.tables import FileChunk, StoredFile
from gateway.paging import Page
from schemas.config import Files
from tests.gateway.served import Served, served_at

LIST = Page(None, 10, ascending=True)


@pytest.fixture(scope="module")
def refusing() -> Iterator[Served]:
    """Keeps nothing: one server for all that is refused, whatever the database."""
    with served_at("sqlite://") as served:
        yield served


@pytest.fixture
def served(database_url: str) -> Iterator[Served]:
    with served_at(database_url, files=Files(max_mb=2, tenant_mb=4)) as served:
        yield served


def test_what_is_uploaded_comes_back(served: Served) -> None:
    client = served.client()
    for size in (0, 1, CHUNK, CHUNK + 1, 3 * CHUNK - 1):
        data = os.urandom(size)
        file = client.files.create(file=('Grüße;"1".bin', data), purpose="user_data")
        assert (file.bytes, file.filename, file.purpose, file.status) == (
            size,
            'Grüße;"1".bin',
            "user_data",
            "processed",
        )
        assert file.expires_at is None and abs(file.created_at - time.time()) < 60
        assert client.files.retrieve(file.id) == file
        assert client.files.content(file.id).content == data


def test_how_long_files_live(served: Served) -> None:
    client = served.client()
    batch = client.files.create(file=("a", b"a"), purpose="batch")
    assert batch.expires_at is not None and batch.expires_at - batch.created_at == 30 * 86_400
    brief = client.files.create(
        file=("a", b"a"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert brief.expires_at is not None and brief.expires_at - brief.created_at == 3600


def test_pages(served: Served) -> None:
    client = served.client()
    made = [client.files.create(file=(str(i), b"x"), purpose="batch" if i % 2 else "user_data").id for i in range(5)]
    assert [file.id for file in client.files.list()] == made[::-1]
    assert [file.id for file in client.files.list(order="asc", limit=2)] == made
    assert [file.id for file in client.files.list(purpose="batch")] == [made[3], made[1]]
    assert not client.files.list(purpose="fine-tune").data
    page = client.files.list(after=made[1], order="asc", limit=2)
    assert [file.id for file in page.data] == made[2:4] and page.has_more
    client.files.delete(made[1])
    assert client.files.list(after=made[1], order="asc").data[0].id == made[2]


BAD_QUERIES = [("limit", "0"), ("limit", "x"), ("limit", "10001"), ("order", "up"), ("purpose", "fun"), ("foo", "1")]


@pytest.mark.parametrize(("name", "value"), BAD_QUERIES)
def test_queries_that_are_refused(refusing: Served, name: str, value: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        refusing.client().files.list(extra_query={name: value})
    assert refusal.value.param == name


def test_another_tenants_file_is_none(served: Served) -> None:
    mine, other = served.client(), served.client("sk-third")
    id = mine.files.create(file=("a", b"secret"), purpose="batch").id
    assert served.client("sk-second").files.content(id).content == b"secret"
    for attempt in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError) as refusal:
            attempt(id)
        assert refusal.value.code == "file_not_found"
    assert not other.files.list().data
    with pytest.raises(openai.NotFoundError):
        other.batches.create(input_file_id=id, endpoint="/v1/completions", completion_window="24h")
    assert mine.files.delete(id).deleted
    with pytest.raises(openai.NotFoundError):
        mine.files.retrieve(id)


@pytest.mark.parametrize("purpose", ["assistants", "fine-tune", "vision", "evals", "batch_output", "other"])
def test_purposes_without_sense_are_refused(refusing: Served, purpose: Any) -> None:
    client = refusing.client()
    with pytest.raises(openai.BadRequestError) as refusal:
        client.files.create(file=("a", b"a"), purpose=purpose)
    assert refusal.value.param == "purpose" and f"'{purpose}'" in refusal.value.message
    assert not client.files.list().data


FORMS: list[tuple[dict[str, Any], str | None]] = [
    ({"files": {"file": ("a", b"a")}}, "purpose"),
    ({"files": {"file": ("a", b"a")}, "data": {"purpose": "batch", "foo": "1"}}, "foo"),
    ({"files": {"other": ("a", b"a")}, "data": {"purpose": "batch"}}, "other"),
    ({"files": {"purpose": (None, b"batch")}}, "file"),
    ({"files": {"file": (None, b"a"), "purpose": (None, b"batch")}}, "file"),
    ({"files": [("file", ("a", b"a")), ("file", ("b", b"b")), ("purpose", (None, b"batch"))]}, "file"),
    ({"files": {"file": ("a", b"a")}, "data": {"purpose": "x" * 1001}}, "purpose"),
    (
        {"files": {"file": ("a", b"a")}, "data": {"purpose": "batch", "expires_after[seconds]": "7200"}},
        "expires_after.anchor",
    ),
    (
        {
            "files": {"file": ("a", b"a")},
            "data": {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
        },
        "expires_after.seconds",
    ),
    ({"content": b"--b\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=b"}}, None),
    (
        {
            "content": b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
            "headers": {"content-type": "multipart/form-data; boundary=b"},
        },
        None,
    ),
]


@pytest.mark.parametrize(("form", "param"), FORMS)
def test_forms_that_are_refused(refusing: Served, form: dict[str, Any], param: str | None) -> None:
    given = {**form, "headers": {"authorization": "Bearer sk-first", **form.get("headers", {})}}
    answer = httpx.post(f"{refusing.url}/v1/files", **given)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
    assert not refusing.client().files.list().data


def test_other_content_is_refused(refusing: Served) -> None:
    answer = httpx.post(f"{refusing.url}/v1/files", json={}, headers={"authorization": "Bearer sk-first"})
    assert answer.status_code == 415 and answer.json()["error"]["code"] == "unsupported_media_type"


def test_files_and_tenants_are_bounded(served: Served) -> None:
    client = served.client()
    with pytest.raises(openai.APIStatusError) as refusal:
        client.files.create(file=("a", bytes(2 * 1024 * 1024 + 1)), purpose="batch")
    assert refusal.value.status_code == 413
    for _ in range(2):
        client.files.create(file=("a", bytes(2 * 1024 * 1024)), purpose="batch")
    with pytest.raises(openai.BadRequestError) as full:
        client.files.create(file=("a", b"1"), purpose="batch")
    assert full.value.code == "storage_full"
    served.client("sk-third").files.create(file=("a", b"1"), purpose="batch")
    client.files.delete(client.files.list().data[0].id)
    client.files.create(file=("a", b"1"), purpose="batch")


def test_a_server_that_keeps_no_files() -> None:
    with served_at("sqlite://", files=Files(store=False)) as served:
        client = served.client()
        for attempt in (
            client.files.list,
            lambda: client.files.create(file=("a", b"a"), purpose="batch"),
            client.batches.list,
            lambda: client.batches.create(input_file_id="f", endpoint="/v1/completions", completion_window="24h"),
        ):
            with pytest.raises(openai.NotFoundError) as refusal:
                attempt()
            assert refusal.value.code == "unsupported_endpoint"


async def test_what_is_past_its_time_is_swept(database: Database) -> None:
    now = [1_000_000.0]
    store = FileStore(database, Files(retention_days=1.0), clock=lambda: now[0])

    async def chunks() -> int:
        async with database.reading() as session:
            return await session.scalar(select(func.count()).select_from(FileChunk)) or 0

    async def kept(seconds: int | None) -> StoredFile:
        writer = await store.begin("t", "a")
        await writer.write(bytes(CHUNK * (SWEPT_TOGETHER + 1)))
        return await writer.finish("batch", seconds)

    brief, long = await kept(3600), await kept(None)
    cut = await store.begin("t", "half")
    await cut.write(bytes(CHUNK))
    assert await store.find(cut.id, "t") is None
    await store.sweep()
    assert await chunks() == 2 * SWEPT_TOGETHER + 3
    now[0] += 3601
    assert await store.find(brief.id, "t") is None and len(await store.list("t", LIST)) == 1
    await store.sweep()
    assert await chunks() == SWEPT_TOGETHER + 1
    reading = store.content(long)
    await anext(reading)
    assert await store.forget(long.id, "t") and not await store.forget(long.id, "t")
    with pytest.raises(FileGone):
        await anext(reading)
    assert await chunks() == 0


async def test_tenants_are_bounded_together_however_they_write(database: Database) -> None:
    store = FileStore(database, Files(tenant_mb=1))
    writers = [await store.begin("t", str(i)) for i in range(3)]
    outcomes = await asyncio.gather(*(w.write(bytes(2 * CHUNK)) for w in writers), return_exceptions=True)
    # Two where all three have begun before one of them is done.
    assert sum(isinstance(outcome, ApiError) for outcome in outcomes) in (1, 2), outcomes
    async with database.reading() as session:
        assert (await session.execute(select(func.sum(StoredFile.bytes)))).scalar_one() <= 1 << 20
