"""Keys, tenants, and what is open to everyone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import Caller, KeyRing, bearer_token
from schemas.config import ApiKey, Auth, Settings
from tests.gateway.fakes import MODEL, FakeProvider, serving
from tests.gateway.test_parameters import LEAST


def key(name: str, text: str, tenant: str) -> ApiKey:
    return ApiKey(name=name, sha256=hashlib.sha256(text.encode()).hexdigest(), tenant=tenant)


KEYS = (key("ci", "sk-first", "acme"), key("app", "sk-second", "acme"), key("lab", "sk-thïrd", "lab"))


@pytest.fixture(scope="module")
def locked() -> Iterator[tuple[FakeProvider, str]]:
    provider = FakeProvider()
    with serving(provider, Settings(auth=Auth(keys=KEYS))) as url:
        yield provider, url


@pytest.mark.parametrize(("text", "tenant"), [("sk-first", "acme"), ("sk-second", "acme")])
def test_the_tenant_goes_with_the_request(locked: tuple[FakeProvider, str], text: str, tenant: str) -> None:
    provider, url = locked
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=text)
    client.chat.completions.create(**LEAST["chat"])
    client.completions.create(**LEAST["completions"])
    assert [request.tenant for request in provider.requests[-2:]] == [tenant, tenant]


@pytest.mark.parametrize("text", ["sk-wrong", "sk-first ", "sk-firs", "SK-FIRST", KEYS[0].sha256])
def test_wrong_keys(locked: tuple[FakeProvider, str], text: str) -> None:
    provider, url = locked
    provider.reset()
    with pytest.raises(openai.AuthenticationError) as refusal:
        openai.OpenAI(base_url=f"{url}/v1", api_key=text.strip() + "!").chat.completions.create(**LEAST["chat"])
    assert refusal.value.code == "invalid_api_key"
    assert text not in refusal.value.message
    assert not provider.requests


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic c2s="}, {"authorization": "Bearer"}])
def test_no_key(locked: tuple[FakeProvider, str], headers: dict[str, str]) -> None:
    with httpx.Client(base_url=locked[1], headers=headers) as http:
        for path in ("/v1/chat/completions", "/v1/completions"):
            answer = http.post(path, content=b"not even JSON")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert http.get("/v1/models").status_code == 401
        for path in ("/health", "/ready", "/metrics"):
            assert http.get(path).status_code == 200


@given(st.text(max_size=20))
def test_only_the_keys_themselves_open(text: str) -> None:
    ring = KeyRing(KEYS)
    expected = {"sk-first": "ci", "sk-second": "app", "sk-thïrd": "lab"}.get(text)
    caller = ring.caller(text)
    assert (caller.name if caller else None) == expected


def test_key_ring() -> None:
    assert KeyRing(()).open and not KeyRing(KEYS).open
    assert KeyRing(KEYS).caller("sk-thïrd") == Caller("lab", "lab")


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer a", "a"), ("bearer  a ", "a"), ("Bearer", None), ("Bearer ", None), ("Basic a", None), ("", None)],
)
def test_bearer(header: str, token: str | None) -> None:
    assert bearer_token(header) == token


PAGES = [
    {"host": "evil.example"},
    {"host": "evil.example:8000"},
    {"host": "127.0.0.1.evil.example"},
    {"host": "localhost.evil.example."},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://[::1"},
]
PROGRAMS = [
    {"host": "localhost:8000"},
    {"host": "[::1]:8000"},
    {"host": "host.docker.internal"},
    {"host": "sluice"},
    {"origin": "http://localhost:3000"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "vscode-webview://abc.def"},
]


@pytest.mark.parametrize("headers", PAGES, ids=str)
def test_an_open_server_answers_no_page_of_the_web(
    http: httpx.Client, provider: FakeProvider, headers: dict[str, str]
) -> None:
    for path, body in (("/v1/chat/completions", LEAST["chat"]), ("/tokenize", {"model": MODEL, "prompt": "Hello"})):
        answer = http.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_page")
    asked = http.post("/v1/messages", json=LEAST["messages"], headers=headers)
    assert (asked.status_code, asked.json()["error"]["type"]) == (403, "permission_error")
    assert not provider.requests
    assert http.get("/health", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", PROGRAMS, ids=str)
def test_programs_of_the_same_machine_are_answered(http: httpx.Client, headers: dict[str, str]) -> None:
    assert http.post("/v1/chat/completions", json=LEAST["chat"], headers=headers).status_code == 200


@pytest.mark.parametrize("headers", PAGES, ids=str)
def test_who_has_a_key_may_come_from_anywhere(locked: tuple[FakeProvider, str], headers: dict[str, str]) -> None:
    headers = {**headers, "authorization": "Bearer sk-first"}
    assert httpx.post(f"{locked[1]}/v1/chat/completions", json=LEAST["chat"], headers=headers).status_code == 200
