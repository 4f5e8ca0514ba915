"""Reading the input of a batch: however it is cut into chunks, every fault is told with its line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batches.batch_store import Line
from gateway.batches.input_file import MAX_ERRORS, InputReader
from gateway.errors import unknown_model
from schemas.openai.batches import BatchError
from tests.gateway.fakes import MODEL

URL = "/v1/chat/completions"


def line(**changes: Any) -> dict[str, Any]:
    return {"custom_id": "a", "method": "POST", "url": URL, "body": {"model": MODEL}} | changes


def find_model(name: str) -> None:
    if name != MODEL:
        raise unknown_model(f"There is no '{name}'.")


async def read(data: bytes, size: int = 7, **limits: int) -> tuple[list[Line], InputReader]:
    async def chunks() -> AsyncIterator[bytes]:
        for i in range(0, len(data), size):
            yield data[i : i + size]

    reader = InputReader("b", URL, find_model, **{"max_lines": 1000, "max_bytes": 10_000} | limits)
    return [line async for line in reader.read(chunks())], reader


TEXTS = st.lists(st.text(max_size=40), max_size=12)


@given(TEXTS, st.integers(1, 200), st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.booleans())
async def test_lines_come_as_they_were_written(texts: list[str], size: int, between: bytes, last: bool) -> None:
    bodies = [json.dumps({"model": MODEL, "x": text}, ensure_ascii=False) for text in texts]
    rows = [
        f'{{"custom_id":"{i}","method":"POST","url":"{URL}","body":{body}}}'.encode() for i, body in enumerate(bodies)
    ]
    lines, reader = await read(between.join(rows) + between * last, size)
    assert [(line.custom_id, line.body) for line in lines] == [(str(i), body) for i, body in enumerate(bodies)]
    assert [line.number for line in lines] == [i * between.count(b"\n") + 1 for i in range(len(texts))]
    assert bool(reader.errors) == (not texts) and reader.model == (MODEL if texts else "")


WRONG: list[tuple[Any, str, str | None]] = [
    (b"nonsense", "invalid_json_line", None),
    (b"[1]", "invalid_json_line", None),
    (b'"\xff"', "invalid_json_line", None),
    (line(method="GET"), "invalid_method", "method"),
    (line(url="/v1/completions"), "invalid_url", "url"),
    (line(url=1), "invalid_type", "url"),
    (line(custom_id=""), "invalid_custom_id", "custom_id"),
    (line(custom_id=1), "invalid_type", "custom_id"),
    (line(custom_id="x" * 513), "invalid_custom_id", "custom_id"),
    (line(foo=1), "unknown_parameter", "foo"),
    (line(body=1), "invalid_type", "body"),
    (line(body={}), "missing_required_parameter", "body.model"),
    (line(body={"model": "nope"}), "model_not_found", "body.model"),
    (line(body={"model": MODEL, "stream": True}), "unsupported_parameter", "body.stream"),
    (line(body={"model": MODEL, "background": True}), "unsupported_parameter", "body.background"),
    ({"custom_id": "a", "method": "POST", "url": URL}, "missing_required_parameter", "body"),
]


@pytest.mark.parametrize(("wrong", "code", "param"), WRONG)
async def test_every_fault_is_told_with_its_line(wrong: Any, code: str, param: str | None) -> None:
    text = wrong if isinstance(wrong, bytes) else json.dumps(wrong).encode()
    good = json.dumps(line(custom_id="good")).encode()
    lines, reader = await read(b"\n".join([good, text, b"", json.dumps(line(custom_id="z")).encode()]))
    (error,) = reader.errors
    assert (error.code, error.line, error.param) == (code, 2, param) and error.message
    assert [(line.custom_id, line.number) for line in lines] == [("good", 1), ("z", 4)]


async def test_ids_differ() -> None:
    one = json.dumps(line()).encode()
    _, reader = await read(one + b"\n" + one)
    (error,) = reader.errors
    assert (error.code, error.line) == ("duplicate_custom_id", 2)


async def test_bounds() -> None:
    rows = [json.dumps(line(custom_id=str(i))).encode() for i in range(5)]
    lines, reader = await read(b"\n".join(rows), max_lines=3)
    assert len(lines) == 3 and [(e.code, e.line) for e in reader.errors] == [("too_many_tasks", 4)]
    for end in (b"", b"\n"):
        _, reader = await read(b"\n" + rows[0] + end, max_bytes=20)
        assert [(e.code, e.line) for e in reader.errors] == [("line_too_long", 2)]
    _, reader = await read(b"x\n" * 500, size=100)
    assert len(reader.errors) == MAX_ERRORS
    assert (await read(b"\n \n"))[1].errors == [BatchError("empty_file", "The input file has no requests in it.")]
