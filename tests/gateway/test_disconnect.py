"""A client that goes away frees its generation, wherever it is."""

from __future__ import annotations

import json
import random
import socket
import struct
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from tests.gateway.fakes import MODEL, FakeProvider, forever, silence, wait_until


def test_a_closed_stream(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = forever
    stream = client.completions.create(model=MODEL, prompt="a", stream=True)
    assert next(iter(stream)).choices[0].text == "x"
    assert len(provider.open) == 1
    stream.close()
    wait_until(lambda: not provider.open)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["admission", "first token"])
@pytest.mark.parametrize("prompt", ["a", ["a", "b", "c"]])
def test_a_closed_connection(url: str, provider: FakeProvider, stream: bool, where: str, prompt: object) -> None:
    provider.stall = where == "admission"
    provider.script = silence
    body = json.dumps({"model": MODEL, "prompt": prompt, "stream": stream}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as connection:
        connection.sendall(head + body)
        expected = 1 if provider.stall or isinstance(prompt, str) else 3
        wait_until(lambda: len(provider.open) == expected)
    wait_until(lambda: not provider.open)


MESSAGES = [{"role": "user", "content": "a"}]
STREAMS = {
    "/v1/completions": {"prompt": "a"},
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/responses": {"input": "a"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 100_000},
}


@pytest.mark.parametrize("path", STREAMS)
def test_streams_killed_at_random_bytes(url: str, provider: FakeProvider, path: str) -> None:
    provider.script = forever
    rng = random.Random(path)
    body = json.dumps({"model": MODEL, "stream": True, **STREAMS[path]}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(12):
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as connection:
            connection.sendall(head + body)
            left = rng.randrange(4000)
            while left > 0:
                left -= len(connection.recv(left))
            # Reset, as when a client dies.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: not provider.open)
    assert len(provider.requests) >= 11, "no more than one was gone before it was read"


def test_a_read_answer_leaves_nothing_open(client: openai.OpenAI, provider: FakeProvider) -> None:
    client.completions.create(model=MODEL, prompt="a")
    list(client.completions.create(model=MODEL, prompt="a", stream=True))
    wait_until(lambda: not provider.open)
    assert len(provider.requests) == 2


def test_disconnects_are_counted(client: openai.OpenAI, http: httpx.Client, provider: FakeProvider) -> None:
    def count() -> float:
        (line,) = (t for t in http.get("/metrics").text.splitlines() if t.startswith("sluice_http_disconnects_total "))
        return float(line.split()[1])

    before = count()
    list(client.completions.create(model=MODEL, prompt="a", stream=True))
    provider.script = forever
    stream = client.completions.create(model=MODEL, prompt="a", stream=True)
    next(iter(stream))
    stream.close()
    wait_until(lambda: count() == before + 1)
