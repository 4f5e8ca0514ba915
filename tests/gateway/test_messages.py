"""Anthropic's Messages through the official client."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import RawMessageStreamEvent, TextBlock, ToolUseBlock
from pydantic import TypeAdapter

from providers.base import (
    Call,
    Delta,
    ErrorKind,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Message,
    ProviderError,
    Tool,
    Tools,
    Usage,
)
from schemas.config import ApiKey, Auth, Settings
from schemas.constraint import JsonSchemaSpec
from schemas.engine import Sampling
from tests.gateway.fakes import MODEL, TEXT, FakeProvider, serving, wait_until
from tests.gateway.test_chat import Person, ann
from tests.gateway.test_errors import failing
from tests.gateway.test_tools import call_one, call_two, cut

ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: list[Any] = [
    {"name": "weather", "description": "The weather.", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}},
    {"type": "custom", "name": "clock", "input_schema": {"type": "object"}, "strict": True},
]
OFFERED = (
    Tool("weather", json.dumps(SCHEMA, separators=(",", ":")), "The weather.", degrades=True),
    Tool("clock", '{"type":"object"}'),
)
ALL = ("weather", "clock")
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


@pytest.fixture
def claude(url: str, provider: FakeProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


async def until_stop(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, "Hm")
    yield Finished(0, "stop", "END")
    yield Usage(3, 0, 2)


async def out_of_room(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, "Hm")
    yield Finished(0, "length")
    yield Usage(3, 0, 49)


async def at_the_limit(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, "Hm")
    yield Finished(0, "length")
    yield Usage(3, 0, 50)


def raw_events(claude: anthropic.Anthropic, **fields: Any) -> list[dict[str, Any]]:
    """The events as they are on the wire, each of a type that the SDK knows."""
    raw = claude.messages.with_raw_response.create(**{**ASK, **fields}, stream=True)
    events: list[dict[str, Any]] = []
    for chunk in raw.http_response.read().decode().removesuffix("\n\n").split("\n\n"):
        name, data = chunk.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        events.append(event)
    return events


def test_plain_answer(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(**ASK)
    (block,) = answer.content
    assert block.type == "text" and block.text == TEXT
    assert (answer.role, answer.stop_reason, answer.model, answer.stop_sequence) == (
        "assistant",
        "end_turn",
        MODEL,
        None,
    )
    assert answer.id.startswith("msg_") and answer._request_id is not None and answer._request_id.startswith("req_")
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (3, 4, len(TEXT))


def test_stream_of_text_and_calls(claude: anthropic.Anthropic, provider: FakeProvider) -> None:
    provider.script = call_two
    events = raw_events(claude, tools=TOOLS)
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    kinds = [event["type"] for event in events]
    assert kinds == [
        "message_start",
        *block,
        *[block[0], block[1], block[1], block[2]],
        *block,
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["content"] == [] and events[0]["message"]["usage"]["input_tokens"] == 7
    starts = [event for event in events if event["type"] == "content_block_start"]
    assert [event["index"] for event in starts] == [0, 1, 2]
    assert starts[0]["content_block"]["type"] == "text"
    assert [(e["content_block"]["name"], e["content_block"]["input"]) for e in starts[1:]] == [
        ("weather", {}),
        ("clock", {}),
    ]
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 20
    with claude.messages.stream(**ASK, tools=TOOLS) as stream:
        last = stream.get_final_message()
    plain = claude.messages.create(**ASK, tools=TOOLS)
    for answer in (last, plain):
        text, weather, clock = answer.content
        assert isinstance(text, TextBlock) and text.text == "Hm"
        assert isinstance(weather, ToolUseBlock) and isinstance(clock, ToolUseBlock)
        assert weather.id.startswith("toolu_") and weather.id != clock.id
        assert (weather.name, weather.input, clock.name, clock.input) == ("weather", {"city": "Oslo"}, "clock", {})
        assert answer.stop_reason == "tool_use"


REASONS = [(until_stop, "stop_sequence"), (at_the_limit, "max_tokens"), (out_of_room, "model_context_window_exceeded")]


@pytest.mark.parametrize(("script", "reason"), REASONS, ids=[reason for _, reason in REASONS])
def test_why_it_stopped(claude: anthropic.Anthropic, provider: FakeProvider, script: Any, reason: str) -> None:
    provider.script = script
    answer = claude.messages.create(**ASK, stop_sequences=["END"])
    ending = raw_events(claude)[-2]["delta"]
    assert ending == {"stop_reason": answer.stop_reason, "stop_sequence": answer.stop_sequence}
    assert (answer.stop_reason, answer.stop_sequence) == (reason, "END" if reason == "stop_sequence" else None)
    assert provider.requests[0].stop == ("END",) and provider.requests[0].clip


def test_a_call_that_is_cut_has_no_input(claude: anthropic.Anthropic, provider: FakeProvider) -> None:
    provider.script = cut
    answer = claude.messages.create(**ASK, tools=TOOLS)
    (block,) = answer.content
    assert block.type == "tool_use" and block.input == {} and answer.stop_reason != "tool_use"


def test_parse_into_a_model(claude: anthropic.Anthropic, provider: FakeProvider) -> None:
    provider.script = ann
    assert claude.messages.parse(**ASK, output_format=Person).parsed_output == Person(name="Ann", age=7)
    constraint = provider.last.constraint
    assert isinstance(constraint, JsonSchemaSpec) and json.loads(constraint.schema)["required"] == ["name", "age"]
    with claude.messages.stream(**ASK, output_format=Person) as stream:
        assert stream.get_final_message().parsed_output == Person(name="Ann", age=7)


ASKED = [
    ({}, Tools(OFFERED, ALL)),
    ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, Tools(OFFERED, ALL, parallel=False)),
    ({"tool_choice": {"type": "any"}}, Tools(OFFERED, ALL, True)),
    ({"tool_choice": {"type": "tool", "name": "clock"}}, Tools(OFFERED, ("clock",), True, False)),
    ({"tool_choice": {"type": "none"}}, None),
]


@pytest.mark.parametrize(("fields", "tools"), ASKED, ids=str)
def test_tools(
    claude: anthropic.Anthropic, provider: FakeProvider, fields: dict[str, Any], tools: Tools | None
) -> None:
    claude.messages.create(**ASK, tools=TOOLS, **fields)
    assert provider.last.tools == tools


def test_a_tool_loop(claude: anthropic.Anthropic, provider: FakeProvider) -> None:
    provider.script = call_one
    answer = claude.messages.create(**ASK, tools=TOOLS)
    (block,) = answer.content
    assert block.type == "tool_use"
    result = {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "rain"}]}
    for content in (answer.content, [block.model_dump()]):
        told = [result, {"type": "text", "text": "And now?"}]
        messages = [*ASK["messages"], {"role": "assistant", "content": content}, {"role": "user", "content": told}]
        claude.messages.create(
            **{**ASK, "messages": messages}, tools=TOOLS, system=[{"type": "text", "text": "Be brief."}]
        )
        assert provider.last.prompt == (
            Message("system", "Be brief."),
            Message("user", "Hello"),
            Message("assistant", "", calls=(Call(block.id, "weather", {"city": "Oslo"}),)),
            Message("tool", "rain", "weather", call_id=block.id),
            Message("user", "And now?"),
        )
    failed = {**result, "content": "no signal", "is_error": True}
    messages = [
        *ASK["messages"],
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [failed]},
    ]
    claude.messages.create(**{**ASK, "messages": messages})
    assert provider.last.prompt[-1] == Message("tool", "Error: no signal", "weather", call_id=block.id)


def test_sampling(claude: anthropic.Anthropic, provider: FakeProvider) -> None:
    claude.messages.create(**ASK, extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 3})
    assert provider.last.sampling == Sampling(temperature=0.5, top_p=0.9, top_k=3)
    assert provider.last.max_tokens == 50


def test_tokens_are_counted(claude: anthropic.Anthropic, provider: FakeProvider) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": ASK["messages"]}
    assert claude.messages.count_tokens(**fields).input_tokens == len("Hello")
    more = claude.messages.count_tokens(**fields, system="Be brief.", tools=TOOLS).input_tokens
    assert more == len("Be brief.Hello") + sum(len(tool.parameters) for tool in OFFERED)
    assert not provider.requests


def turn(role: str, *blocks: Any) -> dict[str, Any]:
    return {"messages": [*ASK["messages"], {"role": role, "content": list(blocks)}]}


REFUSED = [
    (turn("assistant", {"type": "text", "text": "Sure"}), "messages[1]"),
    (turn("user", {"type": "tool_result", "tool_use_id": "x"}), "messages[1].content[0].tool_use_id"),
    (turn("user", {"type": "image", "source": {}}), "messages[1].content[0].type"),
    (turn("user", {"type": "tool_use", "id": "x", "name": "f", "input": {}}), "messages[1].content[0].type"),
    (turn("tool", {"type": "text", "text": "x"}), "messages[1].role"),
    ({"tools": [{"name": "bash", "type": "bash_20250124"}]}, "tools[0]"),
    ({"tools": [{"name": "f", "input_schema": {"type": "array"}}]}, "tools[0].input_schema"),
    ({"tool_choice": {"type": "tool", "name": "nope"}}, "tool_choice.name"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"temperature": 1.5}, "temperature"),
    ({"seed": 1}, "seed"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_refused(claude: anthropic.Anthropic, provider: FakeProvider, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as refusal:
        claude.messages.create(**ASK, extra_body=fields)
    body: Any = refusal.value.body
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error"
    assert param in body["error"]["message"] and body["request_id"] == refusal.value.request_id
    assert not provider.requests


KINDS: list[tuple[ErrorKind, int, str]] = [
    ("unsupported_constraint", 400, "invalid_request_error"),
    ("context_length", 400, "invalid_request_error"),
    ("unknown_model", 404, "not_found_error"),
    ("overloaded", 529, "overloaded_error"),
    ("unavailable", 529, "overloaded_error"),
    ("internal", 500, "api_error"),
]


@pytest.mark.parametrize(("kind", "status", "type"), KINDS)
def test_refusals(claude: anthropic.Anthropic, provider: FakeProvider, kind: ErrorKind, status: int, type: str) -> None:
    provider.refusal = ProviderError(kind, "Not now.", tool=1 if "constraint" in kind else None)
    with pytest.raises(anthropic.APIStatusError, match="Not now") as refusal:
        claude.messages.create(**ASK, tools=TOOLS)
    body: Any = refusal.value.body
    assert (refusal.value.status_code, body["error"]["type"]) == (status, type)
    assert ("tools[1].input_schema" in body["error"]["message"]) == ("constraint" in kind)


def test_failures_half_way(claude: anthropic.Anthropic, provider: FakeProvider) -> None:
    provider.script = failing(ProviderError("internal", "The engine stopped."))
    with pytest.raises(anthropic.APIStatusError, match="The engine stopped"):
        list(claude.messages.create(**ASK, stream=True))
    wait_until(lambda: not provider.open)


def test_other_errors_below_this_path_have_its_shape(http: httpx.Client) -> None:
    for answer, status in ((http.get("/v1/messages"), 405), (http.post("/v1/messages/nope"), 404)):
        assert answer.status_code == status and answer.json()["type"] == "error"
        assert answer.headers["request-id"] == answer.json()["request_id"] == answer.headers["x-request-id"]


def test_keys() -> None:
    provider = FakeProvider()
    keys = (ApiKey(name="app", sha256=hashlib.sha256(b"sk-right").hexdigest(), tenant="acme"),)
    with serving(provider, Settings(auth=Auth(keys=keys))) as url:
        anthropic.Anthropic(base_url=url, api_key="sk-right").messages.create(**ASK)
        anthropic.Anthropic(base_url=url, auth_token="sk-right").messages.create(**ASK)
        assert [request.tenant for request in provider.requests] == ["acme", "acme"]
        with pytest.raises(anthropic.AuthenticationError):
            anthropic.Anthropic(base_url=url, api_key="sk-wrong").messages.create(**ASK)


def test_async_client(url: str, provider: FakeProvider) -> None:
    async def streamed() -> str:
        async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
            async with client.messages.stream(**ASK) as stream:
                return "".join([text async for text in stream.text_stream])

    assert asyncio.run(streamed()) == TEXT
