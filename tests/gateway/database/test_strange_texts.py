"""Texts that JSON, forms and URLs can carry and that a column of PostgreSQL cannot: no request of a client fails the
server with them, whatever the database."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, insert
from sqlalchemy.exc import IntegrityError

from gateway.database.database import Database
from gateway.files.tables import StoredFile
from tests.gateway.fakes import MODEL
from tests.gateway.served import Served, served_at

STRANGE = "a\x00b\ufffe\U0010ffff"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": STRANGE}]}


@pytest.fixture
def http(database_url: str) -> Iterator[httpx.Client]:
    with served_at(database_url) as served, http_of(served) as http:
        yield http


def http_of(served: Served) -> httpx.Client:
    return httpx.Client(base_url=f"{served.url}/v1", headers={"authorization": "Bearer sk-first"})


def item(**fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": STRANGE, **fields}


def test_what_is_asked_for_by_a_strange_name_is_not_there(http: httpx.Client) -> None:
    for path in ("responses", "conversations", "files", "batches"):
        assert http.get(f"/{path}/a%00b").status_code == 404
    for path in ("files?after=a%00b", "files?purpose=a%00b", "batches?after=a%00b", "usage?group_by=a%00b"):
        assert http.get(f"/{path}").status_code in (200, 400)
    assert http.delete("/files/a%00b").status_code == http.delete("/responses/a%00b").status_code == 404
    ask = {"model": MODEL, "input": "Hello"}
    for field in ("previous_response_id", "conversation"):
        assert http.post("/responses", json={**ask, field: STRANGE}).status_code == 404
    reference = {"type": "item_reference", "id": STRANGE}
    assert http.post("/responses", json={"model": MODEL, "input": [reference]}).status_code == 404
    batch = {"input_file_id": STRANGE, "endpoint": "/v1/responses", "completion_window": "24h"}
    assert http.post("/batches", json=batch).status_code == 404


def test_strange_texts_come_back_as_they_were(http: httpx.Client) -> None:
    labels = {STRANGE: STRANGE}
    made = http.post("/conversations", json={"items": [item(id=STRANGE)], "metadata": labels})
    assert made.status_code == 200, made.text
    conversation = f"/conversations/{made.json()['id']}"
    assert http.get(conversation).json()["metadata"] == labels
    kept = http.get(f"{conversation}/items").json()["data"][0]
    assert kept["content"] == [{"type": "input_text", "text": STRANGE}]
    answer = http.post("/responses", json={"model": MODEL, "input": [item()], "metadata": labels})
    assert answer.status_code == 200, answer.text
    shown = http.get(f"/responses/{answer.json()['id']}").json()
    assert shown["metadata"] == labels


@pytest.mark.parametrize(("custom_id", "status"), [("a\ufffe", "completed"), (STRANGE, "failed")])
def test_strange_names_of_files_and_lines(http: httpx.Client, custom_id: str, status: str) -> None:
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    sent = http.post("/files", data={"purpose": "batch"}, files={"file": (STRANGE, json.dumps(line).encode())})
    assert sent.status_code == 200, sent.text
    file = sent.json()
    assert http.get(f"/files/{file['id']}").json()["filename"] == file["filename"]
    ask = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = http.post("/batches", json={**ask, "metadata": {"a": STRANGE}}).json()
    for _ in range(200):
        batch = http.get(f"/batches/{batch['id']}").json()
        if batch["status"] in ("completed", "failed"):
            break
        time.sleep(0.05)
    assert (batch["status"], batch["metadata"]) == (status, {"a": STRANGE})
    if status == "failed":
        (error,) = batch["errors"]["data"]
        assert (error["code"], error["line"], error["param"]) == ("invalid_custom_id", 1, "custom_id")


async def test_what_fails_tells_no_parameters(database: Database) -> None:
    """They are prompts and answers, and messages of errors are logged."""
    row = {"id": "one", "tenant": "acme", "filename": "a secret", "purpose": "", "bytes": 0}
    row |= {"status": "processed", "created_at": 0}

    def twice(connection: Connection) -> None:
        for _ in range(2):
            connection.execute(insert(StoredFile).values(row))

    with pytest.raises(IntegrityError) as failure:
        await database.write(twice)
    assert "secret" not in str(failure.value)
