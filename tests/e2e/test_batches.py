"""Batches with the real model: what a schema asks for is what every line has, at a server and without one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main
from tests.e2e.conftest import MODEL, Server

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Porto", "Taipei"]}, "size": {"type": "integer", "minimum": 1}},
    "required": ["city", "size"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}


def line(number: int, **changes: Any) -> str:
    messages = [{"role": "user", "content": f"A city, and a number near {number}."}]
    body = {"model": MODEL, "messages": messages, "response_format": FORMAT, "max_tokens": 64, "seed": number} | changes
    row = {"custom_id": f"city-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(row) + "\n"


def valid(line: dict[str, Any]) -> bool:
    choice = line["response"]["body"]["choices"][0]
    place = json.loads(choice["message"]["content"])
    return choice["finish_reason"] == "stop" and place["city"] in ("Oslo", "Porto", "Taipei") and place["size"] >= 1


def test_a_batch_beside_a_conversation(server: Server) -> None:
    client = server.client()
    text = "".join(line(i) for i in range(12)) + line(12, max_tokens=10**6)
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    deadline = time.monotonic() + 300
    while batch.status not in ("completed", "failed"):
        assert time.monotonic() < deadline
        messages: Any = [{"role": "user", "content": "Hello"}]
        assert client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8).choices
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed" and batch.request_counts is not None and batch.usage is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (12, 1)
    lines = [json.loads(one) for one in client.files.content(batch.output_file_id or "").text.splitlines()]
    assert [one["custom_id"] for one in lines] == [f"city-{i}" for i in range(12)] and all(map(valid, lines))
    used = sum(one["response"]["body"]["usage"]["total_tokens"] for one in lines)
    assert batch.usage.total_tokens == used
    (refused,) = [json.loads(one) for one in client.files.content(batch.error_file_id or "").text.splitlines()]
    assert refused["response"]["body"]["error"]["code"] == "context_length_exceeded"


@pytest.mark.slow
def test_without_a_server(embedded_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("".join(line(i) for i in range(4)) + line(4, max_tokens=10**6))
    assert main(["batch", str(file)]) == 1
    file.write_text("".join(line(i) for i in range(5)))
    assert main(["batch", str(file)]) == 0
    assert "5 of 5 answered, 0 failed\n" in capsys.readouterr().err
    lines = [json.loads(one) for one in (tmp_path / "in.out.jsonl").read_text().splitlines()]
    assert sorted(one["custom_id"] for one in lines) == [f"city-{i}" for i in range(5)] and all(map(valid, lines))
