"""Whatever comes in, what goes out is the API's own 4xx, and nothing is left running."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.openapi import OPERATIONS
from schemas.errors import ErrorResponse
from tests.gateway.conftest import MAX_BODY_BYTES
from tests.gateway.fakes import FakeProvider, forever, wait_until
from tests.gateway.test_openapi import ASKED

POSTS = [op for op in OPERATIONS if op.asked is not None]
DEEP = 20_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "half an object": b'{"model": "tiny"',
    "null": b"null",
    "a list": b"[]",
    "a text": b'"tiny"',
    "no UTF-8": b'{"model": "\xff"}',
    "UTF-16": '{"model": "tiny"}'.encode("utf-16"),
    "deep lists": b'{"model": "tiny", "messages": ' + b"[" * DEEP,
    "deep objects": b'{"a":' * (DEEP // 2) + b"1" + b"}" * (DEEP // 2),
    "a lone surrogate": b'{"model": "\\ud800"}',
    "a wrong type": b'{"model": 7}',
    "not a number": b'{"model": NaN}',
    "too long": b'{"model": "' + b"x" * MAX_BODY_BYTES + b'"}',
}


def holds(op: Any, answer: httpx.Response) -> bool:
    """Whether an error has its API's shape."""
    error = answer.json()["error"]
    if op.failed is ErrorResponse:
        return set(error) == {"message", "type", "param", "code"}
    return answer.json()["type"] == "error" and set(error) == {"type", "message"}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("op", POSTS, ids=lambda op: op.path)
def test_bodies(http: httpx.Client, provider: FakeProvider, op: Any, body: str) -> None:
    answer = http.post(op.path, content=BODIES[body], headers={"content-type": "application/json"})
    assert answer.status_code == (413 if body == "too long" else 400) and holds(op, answer)
    assert not provider.requests and not provider.weighed


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
    ids=str,
)
@pytest.mark.parametrize("op", POSTS, ids=lambda op: op.path)
def test_content_types(http: httpx.Client, op: Any, headers: dict[str, str]) -> None:
    answer = http.post(op.path, content=json.dumps(ASKED[op.path]).encode(), headers=headers)
    assert answer.status_code == 415 and holds(op, answer)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    match value:
        case dict():
            return [path, *(place for key, inner in value.items() for place in places(inner, (*path, key)))]
        case list():
            return [path, *(place for i, inner in enumerate(value) for place in places(inner, (*path, i)))]
        case _:
            return [path]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_field_that_is_anything(http: httpx.Client, provider: FakeProvider, data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(POSTS))
    body = json.loads(json.dumps(ASKED[op.path]))
    named = list(getattr(op.asked, "__struct_fields__", ()))
    if data.draw(st.booleans()):
        body[data.draw(st.sampled_from(named))] = data.draw(anything)
    else:
        *path, last = data.draw(st.sampled_from(places(body)[1:]))
        target = body
        for step in path:
            target = target[step]
        target[last] = data.draw(anything)
    answer = http.post(op.path, content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert answer.status_code < 500 and (answer.status_code == 200 or holds(op, answer))


STREAMS = [op for op in POSTS if op.streams]


@pytest.mark.parametrize("op", STREAMS, ids=lambda op: op.path)
def test_a_stream_that_is_dropped_anywhere_leaves_nothing_running(url: str, provider: FakeProvider, op: Any) -> None:
    provider.script = forever
    body = json.dumps({**ASKED[op.path], "stream": True}).encode()
    address = url.removeprefix("http://").split(":")
    dice = random.Random(op.path)
    for _ in range(3):
        sent = len(provider.requests)
        head = f"POST {op.path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection((address[0], int(address[1]))) as connection:
            connection.sendall(head.encode() + body)
            wanted = dice.randrange(1, 4000)
            while wanted > 0 and (got := connection.recv(wanted)):
                wanted -= len(got)
        assert len(provider.requests) == sent + 1
        wait_until(lambda: not provider.open)
