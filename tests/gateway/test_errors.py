"""Every error has OpenAI's shape, whoever found it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import msgspec
import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.alternatives import alternatives
from gateway.asking import chat_request, completion_requests
from gateway.body import understand
from gateway.constraint import constraint_of
from gateway.errors import ApiError
from providers.base import Delta, ErrorKind, GenerateRequest, GenerationEvent, ProviderError
from schemas.engine import ModelCard
from schemas.parameters import BOTH, PARAMETERS, Endpoint
from tests.gateway.conftest import MAX_BODY_BYTES
from tests.gateway.fakes import MODEL, VOCAB, FakeProvider, wait_until
from tests.gateway.test_parameters import DECODERS, LEAST, STRUCTS

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error, once its shape is checked."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str) and body["error"]["message"].endswith(".")
    return body["error"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (json.dumps(LEAST["chat"]).encode() + b" x", "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"model":"\xff"}', "invalid_utf8"),
        (b'{"\xff":1}', "invalid_utf8"),
        (b'{"modalities":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "invalid_json"),
        (b'{"guided_json":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "invalid_json"),
        (b"[]", "invalid_type"),
        (b"{}", "missing_required_parameter"),
        (b'{"model":"tiny","messages":[{"role":"user","content":1}]}', "invalid_type"),
    ],
)
def test_malformed_bodies(http: httpx.Client, body: bytes, code: str) -> None:
    answer = http.post(CHAT, content=body, headers=JSON)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == code


def test_wrong_types_name_path_and_both_types(http: httpx.Client) -> None:
    answer = http.post(
        CHAT, json={"model": MODEL, "messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}
    )
    error = error_of(answer)
    assert error["param"] == "messages[0].content[0].text"
    assert "expected `str`, got `int`" in error["message"]


def test_too_large_bodies(http: httpx.Client, provider: FakeProvider) -> None:
    chunks = (b" " * 1000 for _ in range(MAX_BODY_BYTES // 1000 + 1))
    for content in (b" " * (MAX_BODY_BYTES + 1), chunks):
        answer = http.post(CHAT, content=content, headers=JSON)
        assert answer.status_code == 413
        assert str(MAX_BODY_BYTES) in error_of(answer)["message"]
    fits = json.dumps(LEAST["chat"]).encode()
    assert http.post(CHAT, content=fits.ljust(MAX_BODY_BYTES), headers=JSON).status_code == 200


def test_media_types(http: httpx.Client) -> None:
    body = json.dumps(LEAST["chat"])
    for headers in ({"content-type": "text/plain"}, {**JSON, "content-encoding": "gzip"}):
        answer = http.post(CHAT, content=body, headers=headers)
        assert (answer.status_code, error_of(answer)["code"]) == (415, "unsupported_media_type")
    for content_type in ("application/json; charset=utf-8", "Application/JSON"):
        assert http.post(CHAT, content=body, headers={"content-type": content_type}).status_code == 200
    assert http.post(CHAT, content=body, headers={**JSON, "content-encoding": "Identity"}).status_code == 200


STRANGE = [
    ("chat", {"messages": [{"role": "robot", "content": "Hello"}]}, "messages[0].role", "developer"),
    (
        "chat",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0].type",
        "text",
    ),
    ("chat", {"reasoning_effort": "high"}, "reasoning_effort", "medium"),
    ("chat", {"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
    ("responses", {"tools": [{"type": "web_search"}]}, "tools[0].type", "function"),
    ("responses", {"input": [{"type": "message", "role": "robot", "content": "Hello"}]}, "input[0].role", "developer"),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type", "disabled"),
]


@pytest.mark.parametrize(("endpoint", "fields", "place", "known"), STRANGE)
def test_a_value_that_is_not_known_is_told_with_those_that_are(
    http: httpx.Client, endpoint: Endpoint, fields: dict[str, Any], place: str, known: str
) -> None:
    path = CHAT if endpoint == "chat" else f"/v1/{endpoint}"
    answer = http.post(path, json={**LEAST[endpoint], **fields})
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message.startswith(f"Invalid value for '{place}': '") and f"'{known}'" in message.partition("none of")[2]


@pytest.mark.parametrize("endpoint", STRUCTS)
def test_the_values_that_are_told_are_taken(endpoint: Endpoint) -> None:
    """Of the whole table: what a message offers instead would have passed."""
    for name in STRUCTS[endpoint].__struct_fields__:
        for value in alternatives(STRUCTS[endpoint], name):
            msgspec.json.decode(msgspec.json.encode({**LEAST[endpoint], name: value}), type=STRUCTS[endpoint])
    assert alternatives(STRUCTS[endpoint], "nothing[0].such") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"x" * 90_000: 1},
        {"model": "x" * 90_000},
        {"reasoning_effort": "x" * 90_000},
        {"messages": [{"role": "user", "content": "Hello", "x" * 90_000: 1}]},
        {"tool_choice": {"type": "function", "function": {"name": "x" * 90_000}}},
    ],
    ids=lambda fields: next(iter(fields))[:10],
)
def test_errors_are_short_whatever_was_sent(http: httpx.Client, fields: dict[str, Any]) -> None:
    answer = http.post(CHAT, json={**LEAST["chat"], **fields})
    assert 400 <= answer.status_code < 500 and answer.json()["error"]["message"]
    assert len(answer.content) < 10_000


def test_what_passes_of_a_parameter_is_told() -> None:
    with pytest.raises(ApiError, match=r"Unsupported value of 'echo': only false passes: `false` is the default\."):
        understand(json.dumps({**LEAST["completions"], "echo": True}).encode(), DECODERS["completions"], "completions")


def test_routes(http: httpx.Client) -> None:
    assert error_of(http.get("/v1/nothing"))["message"] == "There is nothing at GET /v1/nothing."
    for path, method, allowed in ((CHAT, "GET", "OPTIONS, POST"), ("/v1/models/a/b", "PUT", "GET, OPTIONS")):
        answer = http.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert error_of(answer)["code"] == "method_not_allowed"


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'nope'") as refusal:
        client.chat.completions.create(**{**LEAST["chat"], "model": "nope"})
    assert (refusal.value.param, refusal.value.code) == ("model", "model_not_found")


KINDS: list[tuple[ErrorKind, type[openai.APIStatusError], str | None, str]] = [
    ("invalid_request", openai.BadRequestError, None, "invalid_value"),
    ("context_length", openai.BadRequestError, "messages", "context_length_exceeded"),
    ("unknown_model", openai.NotFoundError, "model", "model_not_found"),
    ("overloaded", openai.RateLimitError, None, "overloaded"),
    ("unavailable", openai.InternalServerError, None, "unavailable"),
    ("internal", openai.InternalServerError, None, "internal_error"),
    ("invalid_answer", openai.InternalServerError, None, "invalid_answer"),
    ("declined", openai.BadRequestError, None, "content_filter"),
    ("policy", openai.BadRequestError, None, "policy_excludes_all"),
    ("deadline", openai.InternalServerError, None, "deadline_exceeded"),
]


def test_every_kind_of_refusal_is_mapped() -> None:
    assert {kind for kind, *_ in KINDS} == {kind for kind in get_args(ErrorKind) if "constraint" not in kind}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("kind", "error", "param", "code"), KINDS)
def test_refusals(
    client: openai.OpenAI,
    provider: FakeProvider,
    kind: ErrorKind,
    error: type[openai.APIStatusError],
    param: str | None,
    code: str,
    stream: bool,
) -> None:
    provider.refusal = ProviderError(kind, "Not now.")
    with pytest.raises(error, match="Not now") as refusal:
        client.chat.completions.create(**LEAST["chat"], stream=stream)
    assert (refusal.value.param, refusal.value.code) == (param, code)
    assert not provider.open


def test_context_length_of_a_completion_is_about_its_prompt(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.refusal = ProviderError("context_length", "Too long.")
    with pytest.raises(openai.BadRequestError) as refusal:
        client.completions.create(**LEAST["completions"])
    assert refusal.value.param == "prompt"


def test_overload_is_retried_by_the_sdk(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.refusal = ProviderError("overloaded", "The queue is full.")
    with pytest.raises(openai.RateLimitError) as refusal:
        client.chat.completions.create(**LEAST["chat"])
    headers = refusal.value.response.headers
    assert (headers["retry-after"], headers["x-should-retry"]) == ("1", "true")
    provider.refusal = ProviderError("overloaded", "The queue is full.")
    assert client.with_options(max_retries=1).chat.completions.create(**LEAST["chat"]).choices
    assert len(provider.requests) == 3


def test_one_refused_prompt_closes_the_others(client: openai.OpenAI, provider: FakeProvider) -> None:
    real = provider.generate

    async def third_fails(request: GenerateRequest) -> Any:
        if len(provider.requests) == 2:
            provider.refusal = ProviderError("overloaded", "The queue is full.")
        return await real(request)

    provider.generate = third_fails  # type: ignore[method-assign]
    try:
        with pytest.raises(openai.RateLimitError):
            client.completions.create(model=MODEL, prompt=["a", "b", "c"])
    finally:
        provider.generate = real  # type: ignore[method-assign]
    assert len(provider.requests) == 3 and not provider.open


def failing(error: Exception) -> Any:
    async def script(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
        yield Delta(0, "half")
        raise error

    return script


FAILURES = [ProviderError("internal", "The engine stopped."), RuntimeError("a secret")]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("prompt", ["a", ["a", "b"]])
def test_failures_half_way(client: openai.OpenAI, provider: FakeProvider, failure: Exception, prompt: Any) -> None:
    provider.script = failing(failure)
    with pytest.raises(openai.InternalServerError) as plain:
        client.completions.create(model=MODEL, prompt=prompt)
    with pytest.raises(openai.APIError) as streamed:
        list(client.completions.create(model=MODEL, prompt=prompt, stream=True))
    for error in (plain, streamed):
        assert error.value.code == "internal_error"
        assert "secret" not in str(error.value)
    stream = client.completions.with_raw_response.create(model=MODEL, prompt=prompt, stream=True)
    text = stream.http_response.read().decode()
    assert '"finish_reason":"' not in text and "[DONE]" not in text
    assert text.rstrip().splitlines()[-1].startswith('data: {"error":')
    wait_until(lambda: not provider.open)


fields = st.dictionaries(
    st.sampled_from([p.name for p in PARAMETERS]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["type", "role", "content", "json", "regex", "5"]), inner, max_size=2)
        ),
        max_leaves=6,
    ),
    max_size=4,
)
CARD = ModelCard(MODEL, "", 2048, 65536, VOCAB, [0], "reference")


@pytest.mark.parametrize("endpoint", BOTH)
@settings(max_examples=150, deadline=None)
@given(fields=fields)
@example(fields={"logit_bias": {str(10**30): 1}})
@example(fields={"prompt": [10**30]})
@example(fields={"temperature": 1e308})
def test_any_json_is_understood_or_refused(endpoint: Endpoint, fields: dict[str, Any]) -> None:
    body = json.dumps({**LEAST[endpoint], **fields}).encode()
    try:
        asked = understand(body, DECODERS[endpoint], endpoint)
        constraint = constraint_of(asked)
        if endpoint == "chat":
            chat_request(asked, CARD, constraint, id="", tenant="")
        else:
            completion_requests(asked, CARD, constraint, id="", tenant="")
    except ApiError as refusal:
        assert refusal.status == 400
        assert refusal.param is None or refusal.param.partition(".")[0].partition("[")[0] in {*fields, "top_logprobs"}


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
@pytest.mark.parametrize("endpoint", BOTH)
def test_any_bytes_are_refused_in_shape(endpoint: Endpoint, body: bytes) -> None:
    with pytest.raises(ApiError) as refusal:
        understand(body, DECODERS[endpoint], endpoint)
    assert refusal.value.status == 400
    assert set(json.loads(refusal.value.body())["error"]) == {"message", "type", "param", "code"}
