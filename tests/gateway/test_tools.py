"""Tools in chat completions, through the official client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest
from msgspec import Raw
from openai.types.chat import ChatCompletionMessageCustomToolCall, ChatCompletionMessageFunctionToolCall
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from gateway.errors import ApiError
from gateway.offer import NO_ARGUMENTS, arguments_schema
from providers.base import (
    Call,
    CallBegun,
    CallDelta,
    Delta,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Message,
    ProviderError,
    Tool,
    Tools,
    Usage,
)
from schemas.openai.tools import AnsweredCall, AnsweredCustomCall
from schemas.openai.tools import CallDelta as WireDelta
from tests.gateway.fakes import MODEL, FakeProvider

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Weather in Oslo?"}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "clock"}},
]
OFFERED = (
    Tool("weather", json.dumps(SCHEMA, separators=(",", ":")), "The weather.", degrades=True),
    Tool("clock", NO_ARGUMENTS, degrades=True),
)
ALL = ("weather", "clock")


async def call_two(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    """A word, then two calls, in every choice."""
    for choice in range(request.n):
        yield Delta(choice, "Hm")
    for choice in range(request.n):
        yield CallBegun(choice, 0, "weather")
        yield CallDelta(choice, 0, '{"city":')
        yield CallDelta(choice, 0, ' "Oslo"}')
        yield CallBegun(choice, 1, "clock")
        yield CallDelta(choice, 1, "{}")
        yield Finished(choice, "stop")
    yield Usage(9, 0, 20)


async def call_one(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield CallBegun(0, 0, "weather")
    yield CallDelta(0, 0, '{"city": "Oslo"}')
    yield Finished(0, "stop")
    yield Usage(9, 0, 20)


async def cut(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield CallBegun(0, 0, "weather")
    yield CallDelta(0, 0, '{"city": "Os')
    yield Finished(0, "length")
    yield Usage(9, 0, 20)


def named(name: str) -> Any:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> Any:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


ASKED = [
    ({}, Tools(OFFERED, ALL)),
    ({"tool_choice": "auto"}, Tools(OFFERED, ALL)),
    ({"tool_choice": "none"}, None),
    ({"tool_choice": "required"}, Tools(OFFERED, ALL, required=True)),
    ({"tool_choice": "required", "parallel_tool_calls": False}, Tools(OFFERED, ALL, required=True, parallel=False)),
    ({"parallel_tool_calls": False}, Tools(OFFERED, ALL, parallel=False)),
    ({"tool_choice": named("clock")}, Tools(OFFERED, ("clock",), required=True, parallel=False)),
    ({"tool_choice": allowed("auto", "clock")}, Tools(OFFERED, ("clock",))),
    ({"tool_choice": allowed("required", "clock", "weather", "clock")}, Tools(OFFERED, ("clock", "weather"), True)),
]


@pytest.mark.parametrize(("fields", "tools"), ASKED, ids=str)
def test_tools(client: openai.OpenAI, provider: FakeProvider, fields: dict[str, Any], tools: Tools | None) -> None:
    client.chat.completions.create(**ASK, tools=TOOLS, **fields)
    assert provider.last.tools == tools


def test_no_tools(client: openai.OpenAI, provider: FakeProvider) -> None:
    client.chat.completions.create(**ASK, tools=[], tool_choice="auto", parallel_tool_calls=True)
    assert provider.last.tools is None


REFUSED = [
    ({"tools": [*TOOLS, TOOLS[0]]}, "tools"),
    ({"tools": TOOLS, "tool_choice": named("nope")}, "tool_choice.function.name"),
    ({"tools": TOOLS, "tool_choice": allowed("auto", "nope")}, "tool_choice.allowed_tools.tools"),
    ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "c"}}}, "tool_choice.custom.name"),
    ({"tools": TOOLS, "tool_choice": "any"}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "schema": {}}}]}, "tools[0].function.schema"),
    ({"tools": [{"type": "custom", "custom": {"name": "c d"}}]}, "tools[0].custom.name"),
    ({"tools": [{"type": "custom", "custom": {"name": "c", "format": {"type": "x"}}}]}, "tools[0].custom.format.type"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
    (
        {"tools": [*TOOLS, {"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
        "tools[2].function.parameters",
    ),
    ({"tools": [TOOLS[0]] * 129}, "tools"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(client: openai.OpenAI, provider: FakeProvider, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**ASK, **fields)
    assert refusal.value.param == param and param in refusal.value.message
    assert not provider.requests


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (b"", NO_ARGUMENTS),
        (b"null", NO_ARGUMENTS),
        (b'{"type": "object"}', '{"type": "object"}'),
        (b"{ }", '{"type":"object"}'),
        (b'{ "minProperties": 1.0}', '{"type":"object","minProperties": 1.0}'),
        (b'{"$ref": "#/$defs/a", "$defs": {}}', '{"type":"object","$ref": "#/$defs/a", "$defs": {}}'),
    ],
)
def test_arguments_are_an_object(given: bytes, taken: str) -> None:
    assert arguments_schema(Raw(given), "p") == taken


OLD_REF = b'{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/a"}'


@pytest.mark.parametrize("given", [b"true", b"[]", b'{"type":["object"]}', OLD_REF])
def test_arguments_that_could_be_something_else_are_refused(given: bytes) -> None:
    with pytest.raises(ApiError) as refusal:
        arguments_schema(Raw(given), "p")
    assert (refusal.value.param, refusal.value.code) == ("p", "invalid_schema")


def test_a_schema_at_fault_is_named_by_its_tool(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.refusal = ProviderError("unsupported_constraint", "not like this.", pointer="/properties/city", tool=1)
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**ASK, tools=TOOLS)
    assert (refusal.value.param, refusal.value.code) == ("tools[1].function.parameters", "unsupported_schema")
    assert "at /properties/city: not like this." in refusal.value.message


def test_plain_answer(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = call_two
    (choice,) = client.chat.completions.create(**ASK, tools=TOOLS).choices
    assert (choice.message.content, choice.finish_reason) == ("Hm", "tool_calls")
    assert choice.message.refusal is None and choice.message.tool_calls is not None
    weather, clock = choice.message.tool_calls
    assert weather.type == clock.type == "function"
    assert (weather.function.name, weather.function.arguments) == ("weather", '{"city": "Oslo"}')
    assert (clock.function.name, clock.function.arguments) == ("clock", "{}")
    assert weather.id.startswith("call_") and weather.id != clock.id


def test_content_is_null_beside_calls_alone(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = call_one
    raw = client.chat.completions.with_raw_response.create(**ASK, tools=TOOLS).http_response.json()
    assert raw["choices"][0]["message"]["content"] is None
    assert raw["choices"][0]["finish_reason"] == "tool_calls"
    plain = client.chat.completions.create(**ASK, tools=TOOLS, tool_choice=named("weather"))
    assert plain.choices[0].finish_reason == "stop"


def streamed(client: openai.OpenAI, **fields: Any) -> list[dict[str, Any]]:
    """Choices of the chunks."""
    raw = client.chat.completions.with_raw_response.create(**ASK, tools=TOOLS, stream=True, **fields)
    *events, done = raw.http_response.read().decode().removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]


def test_stream_on_the_wire(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = call_two
    opening, word, begun, first, second, *rest = (choice["delta"] for choice in streamed(client))
    assert opening == {"role": "assistant", "content": ""}
    assert word == {"content": "Hm"}
    (call,) = begun.pop("tool_calls")
    id = call.pop("id")
    assert begun == {} and id.startswith("call_")
    assert call == {"index": 0, "type": "function", "function": {"arguments": "", "name": "weather"}}
    assert first == {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}
    assert second == {"tool_calls": [{"index": 0, "function": {"arguments": ' "Oslo"}'}}]}
    assert [call["index"] for delta in rest for call in delta.get("tool_calls", ())] == [1, 1]
    assert rest[-1] == {}


@pytest.mark.parametrize("choice", ["auto", "required", named("weather")], ids=str)
def test_a_stream_of_calls_alone_opens_with_null(client: openai.OpenAI, provider: FakeProvider, choice: Any) -> None:
    provider.script = call_one
    chunks = streamed(client, tool_choice=choice)
    assert chunks[0]["delta"] == {"role": "assistant", "content": None}
    assert [chunk["delta"].get("role") for chunk in chunks[1:]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["finish_reason"] == ("stop" if isinstance(choice, dict) else "tool_calls")


def test_streamed_choices_each_open_and_finish(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = call_two
    chunks = streamed(client, n=3)
    for index in range(3):
        mine = [chunk for chunk in chunks if chunk["index"] == index]
        assert [chunk["delta"].get("role") for chunk in mine].count("assistant") == 1
        assert mine[0]["delta"]["role"] == "assistant" and mine[-1]["finish_reason"] == "tool_calls"
        assert len({call["id"] for c in mine for call in c["delta"].get("tool_calls", ()) if "id" in call}) == 2


class weather(pydantic.BaseModel):
    city: str


def test_parsed_and_sent_back(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = call_one
    tools = [openai.pydantic_function_tool(weather)]
    with client.chat.completions.stream(**ASK, tools=tools) as stream:
        kinds = [event.type for event in stream]
        last = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    for answer in (client.chat.completions.parse(**ASK, tools=tools), last):
        message = answer.choices[0].message
        (call,) = message.tool_calls or []
        assert call.function.parsed_arguments == weather(city="Oslo")
        result = {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "rain"}]}
        for form in (message, message.model_dump(), message.model_dump(exclude_none=True)):
            client.chat.completions.create(**{**ASK, "messages": [*ASK["messages"], form, result]}, tools=tools)
            assert provider.last.prompt == (
                Message("user", "Weather in Oslo?"),
                Message("assistant", "", calls=(Call(call.id, "weather", {"city": "Oslo"}),)),
                Message("tool", "rain", "weather", call_id=call.id),
            )


def test_a_cut_call_never_looks_whole(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = cut
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**ASK, tools=[openai.pydantic_function_tool(weather)])
    assert streamed(client)[-1]["finish_reason"] == "length"


def called(arguments: str) -> Any:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "tool_calls": [call]}


CALLED = called("{}")
HISTORIES = [
    ([{"role": "tool", "content": "x", "tool_call_id": "a"}], "messages[1].tool_call_id"),
    ([CALLED, {"role": "tool", "content": "x", "tool_call_id": "b"}], "messages[2].tool_call_id"),
    ([CALLED, {"role": "tool", "content": "x"}], "messages[2].tool_call_id"),
    ([called("[]")], "messages[1].tool_calls[0].function.arguments"),
    (
        [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "c"}}]}],
        "messages[1].tool_calls[0].custom.input",
    ),
    ([{"role": "assistant", "tool_calls": []}], "messages[1].content"),
]


@pytest.mark.parametrize(("messages", "param"), HISTORIES, ids=[param for _, param in HISTORIES])
def test_histories_that_make_no_sense(client: openai.OpenAI, messages: list[Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model=MODEL, messages=[*ASK["messages"], *messages])
    assert refusal.value.param == param


def test_logprobs_are_those_of_the_text(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = call_two
    answer = client.chat.completions.create(**ASK, tools=TOOLS, logprobs=True)
    assert answer.choices[0].logprobs is not None and answer.choices[0].logprobs.content == []


def test_structs_say_what_the_sdk_says() -> None:
    """Every field that the SDK's types give a call exists here."""
    assert set(ChatCompletionMessageFunctionToolCall.model_fields) == {*AnsweredCall.__struct_fields__, "type"}
    assert set(ChatCompletionMessageCustomToolCall.model_fields) == {*AnsweredCustomCall.__struct_fields__, "type"}
    assert {*ChoiceDeltaToolCall.model_fields, "custom"} == set(WireDelta.__struct_fields__)
