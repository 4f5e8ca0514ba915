"""The field `sluice` of answers: it says what holds, and tells each field of the JSON once, when it is complete."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import anthropic
import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fields import Field, FieldReader
from providers.base import (
    Admission,
    CacheHits,
    Candidate,
    Delta,
    Finished,
    GenerateRequest,
    GenerationEvent,
    ScoredToken,
    Usage,
)
from tests.gateway.fakes import MODEL, FakeProvider

keys = st.text(alphabet='ab~/"\\é🦆', max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


def expected(value: Any, pointer: str = "") -> list[tuple[str, Any]]:
    """Fields in the order in which they end; objects and arrays as ..."""
    if isinstance(value, dict):
        steps = [(key.replace("~", "~0").replace("/", "~1"), inner) for key, inner in value.items()]
    elif isinstance(value, list):
        steps = [(str(i), inner) for i, inner in enumerate(value)]
    else:
        return [(pointer, value)]
    return [*(found for step, inner in steps for found in expected(inner, f"{pointer}/{step}")), (pointer, ...)]


def told(fields: list[Field]) -> list[tuple[str, Any]]:
    return [(field.pointer, ... if field.value is None else json.loads(field.value)) for field in fields]


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(places)]


@settings(max_examples=150)
@given(value=values, indent=st.sampled_from([None, 1]), cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_every_field_is_told_once(value: Any, indent: int | None, cuts: list[int]) -> None:
    reader = FieldReader()
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    fields = [field for piece in pieces(text, cuts) for field in reader.feed(piece)] + reader.flush()
    assert told(fields) == expected(value)
    assert all(field.logprob is None for field in fields)


def spans(value: Any, start: int = 0) -> list[tuple[int, int]]:
    """Where each field stands in `dumps(value)`, in the order in which they end; characters."""
    found: list[tuple[int, int]] = []
    at = start + 1
    if isinstance(value, dict):
        for key, inner in value.items():
            at += len(dumps(key)) + 2
            found += spans(inner, at)
            at += len(dumps(inner)) + 2
    elif isinstance(value, list):
        for inner in value:
            found += spans(inner, at)
            at += len(dumps(inner)) + 2
    return [*found, (start, start + len(dumps(value)))]


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@settings(max_examples=100)
@given(value=values, cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_log_probabilities_are_those_of_the_tokens_of_a_value(value: Any, cuts: list[int]) -> None:
    texts = pieces(dumps(value), cuts)
    tokens = [ScoredToken(Candidate(i, text.encode(), -1.0 - i)) for i, text in enumerate(texts)]
    reader, fields = FieldReader(), list[Field]()
    for token in tokens:
        reader.score([token])
        fields += reader.feed(token.sampled.data.decode())
    fields += reader.flush()
    owner = [i for i, text in enumerate(texts) for _ in text]
    sums = [sum(-1.0 - i for i in set(owner[start:end])) for start, end in spans(value)]
    assert [field.logprob for field in fields] == sums


ANN = '{"name": "Ann", "tags": ["é"]}'
FIELDS = [
    {"pointer": "/name", "choice": 0, "value": "Ann"},
    {"pointer": "/tags/0", "choice": 0, "value": "é"},
    {"pointer": "/tags", "choice": 0},
    {"pointer": "", "choice": 0},
]
SUMS = [-5.0, -3.0, -5.0, -30.0]
"""Every character is a token of -1."""
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Ann?"}]}


async def ann(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    assert request.sampling.logprobs is not None
    for character in ANN:
        yield Delta(0, character, (ScoredToken(Candidate(1, character.encode(), -1.0)),))
    yield Finished(0, "stop")
    yield Usage(1, 0, len(ANN))


@pytest.fixture
def scored(provider: FakeProvider) -> FakeProvider:
    provider.script = ann
    provider.admission = Admission(7, "engine", "sound_subset", ("because",))
    return provider


def held(extension: dict[str, Any]) -> None:
    fields = extension.pop("fields")
    assert [field.pop("logprob") for field in fields] == SUMS and fields == FIELDS


SERVED = {"provider": "local", "model": MODEL, "attempts": 1, "route_reason": "the only candidate"}
ABOUT = {"enforced": "engine", "contract": "sound_subset", "reasons": ["because"], **SERVED}


def test_plain_chat(client: openai.OpenAI, scored: FakeProvider) -> None:
    answer = client.chat.completions.create(**ASK, response_format=FORMAT, extra_body={"sluice": {"fields": True}})
    assert answer.choices[0].message.content == ANN and answer.choices[0].logprobs is None
    extension = answer.to_dict()["sluice"]
    assert isinstance(extension, dict)
    held(extension)
    assert extension == {**ABOUT, "cost_usd": "0"}
    assert scored.last.sampling.logprobs == 0


def test_streamed_chat(client: openai.OpenAI, scored: FakeProvider) -> None:
    chunks = [
        chunk.to_dict()
        for chunk in client.chat.completions.create(
            **ASK, response_format=FORMAT, stream=True, logprobs=True, extra_body={"sluice": {"fields": True}}
        )
    ]
    told: list[dict[str, Any]] = [chunk["sluice"] for chunk in chunks if "sluice" in chunk]  # type: ignore[misc]
    assert chunks[0]["sluice"] == told.pop(0) == ABOUT
    held({"fields": [field for extension in told for field in extension["fields"]]})
    texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]  # type: ignore[index]
    (name,) = [i for i, chunk in enumerate(chunks) if "Ann" in str(chunk.get("sluice"))]
    assert "".join(texts[: name + 1]) == '{"name": "Ann"'
    assert chunks[1]["choices"][0]["logprobs"]["content"][0]["logprob"] == -1.0  # type: ignore[index]


def test_responses_and_messages(client: openai.OpenAI, url: str, scored: FakeProvider) -> None:
    extra = {"sluice": {"fields": True}}
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": {}}}
    plain = client.responses.create(model=MODEL, input="Ann?", text=form, extra_body=extra)
    held(dict(plain.to_dict()["sluice"]))  # type: ignore[call-overload]
    assert plain.to_dict()["output"][0]["content"][0]["logprobs"] == []  # type: ignore[index]
    events = client.responses.create(model=MODEL, input="Ann?", text=form, stream=True, extra_body=extra)
    told: list[Any] = [event.to_dict()["sluice"] for event in events if "sluice" in event.to_dict()]
    assert told.pop(0) == ABOUT
    held({"fields": [field for extension in told for field in extension["fields"]]})
    claude = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    config: Any = {"output_config": {"format": {"type": "json_schema", "schema": {}}}, **extra}
    message = claude.messages.create(**ASK, max_tokens=99, extra_body=config)
    held(dict(message.to_dict()["sluice"]))  # type: ignore[call-overload]
    with claude.messages.stream(**ASK, max_tokens=99, extra_body=config) as stream:
        assert "".join(stream.text_stream) == ANN


def test_without_fields_it_says_what_holds(client: openai.OpenAI, provider: FakeProvider) -> None:
    answer = client.completions.create(model=MODEL, prompt="x", extra_body={"sluice": {}})
    assert (
        answer.to_dict()["sluice"] == {"enforced": "none", **SERVED, "cost_usd": "0"}
        and provider.last.sampling.logprobs is None
    )
    assert "sluice" not in client.completions.create(model=MODEL, prompt="x").to_dict()
    provider.admission = Admission(7, "validated", "", ("why",))
    answer = client.chat.completions.create(**ASK, response_format=FORMAT, extra_body={"sluice": {}})
    assert answer.to_dict()["sluice"] == {"enforced": "validated", "reasons": ["why"], **SERVED, "cost_usd": "0"}
    unasked = client.chat.completions.with_raw_response.create(**ASK, response_format=FORMAT)
    assert unasked.headers["x-sluice-enforced"] == "validated"
    assert "sluice" not in unasked.parse().to_dict()


async def remembering(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, "a")
    yield Finished(0, "stop")
    yield Usage(9, 5, 1, hits=CacheHits(2, 3))


FOUND = {"cache": {"device_tokens": 2, "host_tokens": 3}}


def test_where_the_prompt_was_found_stands_beside_the_usage(
    client: openai.OpenAI, url: str, provider: FakeProvider
) -> None:
    provider.script = remembering
    extra: Any = {"extra_body": {"sluice": {}}}
    usage: Any = {"stream": True, "stream_options": {"include_usage": True}}
    claude = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    plain = [
        client.chat.completions.create(**ASK, **extra),
        client.completions.create(model=MODEL, prompt="x", **extra),
        client.responses.create(model=MODEL, input="x", **extra),
        claude.messages.create(**ASK, max_tokens=9, **extra),
    ]
    for answer in plain:
        assert FOUND.items() <= answer.to_dict()["sluice"].items()  # type: ignore[union-attr]
    streams: list[Any] = [
        client.chat.completions.create(**ASK, **usage, **extra),
        client.completions.create(model=MODEL, prompt="x", **usage, **extra),
        client.responses.create(model=MODEL, input="x", stream=True, **extra),
        claude.messages.create(**ASK, max_tokens=9, stream=True, **extra),
    ]
    for stream in streams:
        *others, last = [event.to_dict() for event in stream]
        assert last["sluice"] == FOUND and not any("cache" in event.get("sluice", {}) for event in others)


def test_a_stream_that_tells_no_usage_tells_no_cache(http: httpx.Client, provider: FakeProvider) -> None:
    provider.script = remembering
    stream = http.post("/v1/chat/completions", json={**ASK, "stream": True, "sluice": {}}).text
    assert '"sluice":{"enforced"' in stream and "device_tokens" not in stream
    assert stream.endswith("data: [DONE]\n\n")


def test_a_cache_of_others_has_no_tiers(client: openai.OpenAI, provider: FakeProvider) -> None:
    answer = client.completions.create(model=MODEL, prompt="x", extra_body={"sluice": {}})
    assert answer.usage and answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert "cache" not in answer.to_dict()["sluice"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sluice": {"fields": True}}, "sluice.fields"),
        ({"sluice": {"fields": True}, "structured_outputs": {"regex": "a"}}, "sluice.fields"),
        ({"sluice": {"field": True}}, "sluice.field"),
        ({"sluice": {"fields": 1}}, "sluice.fields"),
    ],
)
def test_refused(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    refusal = http.post("/v1/chat/completions", json={**ASK, **fields})
    assert refusal.status_code == 400 and refusal.json()["error"]["param"] == param
