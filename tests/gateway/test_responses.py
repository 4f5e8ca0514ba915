"""The Responses API through the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.offer import NO_ARGUMENTS
from providers.base import (
    Call,
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
from schemas.constraint import JsonObjectSpec, JsonSchemaSpec
from schemas.engine import Sampling
from tests.gateway.fakes import MODEL, TEXT, FakeProvider, scored, wait_until
from tests.gateway.test_chat import Person, ann
from tests.gateway.test_errors import failing
from tests.gateway.test_tools import call_one, call_two, cut

ASK: dict[str, Any] = {"model": MODEL, "input": "Hello"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: list[Any] = [
    {"type": "function", "name": "weather", "description": "The weather.", "parameters": SCHEMA, "strict": True},
    {"type": "function", "name": "clock", "parameters": None, "strict": None},
]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


async def cut_text(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, "Once upon")
    yield Finished(0, "length")
    yield Usage(3, 1, 2)


async def nothing(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Finished(0, "stop")
    yield Usage(3, 1, 1)


async def scores(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    for letter in "ab":
        yield Delta(0, letter, scored(letter.encode(), request.sampling.logprobs))
    yield Finished(0, "stop")
    yield Usage(3, 1, 2)


def test_plain_answer(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ASK, instructions="Be brief.", metadata={"a": "b"}, temperature=0.5)
    assert answer.output_text == TEXT and answer.status == "completed" and answer.id.startswith("resp_")
    (message,) = answer.output
    assert message.type == "message" and message.status == "completed" and message.id.startswith("msg_")
    assert answer.usage is not None and answer.usage.input_tokens_details.cached_tokens == 4
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens == 7 + len(TEXT)
    assert (answer.instructions, answer.metadata, answer.temperature) == ("Be brief.", {"a": "b"}, 0.5)
    assert answer.error is None and answer.incomplete_details is None


def raw_events(client: openai.OpenAI, **fields: Any) -> list[dict[str, Any]]:
    """The events as they are on the wire, each of a type that the SDK knows."""
    raw = client.responses.with_raw_response.create(**{**ASK, **fields}, stream=True)
    events: list[dict[str, Any]] = []
    for chunk in raw.http_response.read().decode().removesuffix("\n\n").split("\n\n"):
        name, data = chunk.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event, strict=False)
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


MESSAGE = ["output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"]
CALL = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Types without their prefix, repeated deltas once."""
    found: list[str] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        if not (kind.endswith("delta") and found[-1:] == [kind]):
            found.append(kind)
    return found


def test_stream_of_text(client: openai.OpenAI) -> None:
    events = raw_events(client)
    assert kinds(events) == ["created", "in_progress", *MESSAGE, "output_item.done", "completed"]
    assert "".join(event["delta"] for event in events if "delta" in event) == TEXT
    assert events[0]["response"]["status"] == "in_progress" and events[0]["response"]["output"] == []
    last = events[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == TEXT and last["usage"]["output_tokens"] == len(TEXT)
    ids = {event["item_id"] for event in events if "item_id" in event}
    assert ids == {last["output"][0]["id"]} == {event["item"]["id"] for event in events if "item" in event}
    added = next(event for event in events if event["type"] == "response.output_item.added")
    assert (added["item"]["status"], added["item"]["content"]) == ("in_progress", [])


def test_stream_of_text_and_calls(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = call_two
    events = raw_events(client, tools=TOOLS)
    assert kinds(events) == ["created", "in_progress", *MESSAGE, "output_item.done", *CALL, *CALL, "completed"]
    message, weather, clock = events[-1]["response"]["output"]
    assert message["content"][0]["text"] == "Hm"
    assert (weather["name"], weather["arguments"], weather["status"]) == ("weather", '{"city": "Oslo"}', "completed")
    assert (clock["name"], clock["arguments"]) == ("clock", "{}")
    for index, item in enumerate((message, weather, clock)):
        mine = [event for event in events if event.get("output_index") == index]
        assert {event.get("item_id", item["id"]) for event in mine} == {item["id"]}
        assert mine[-1]["item"] == item
    plain = client.responses.create(**ASK, tools=TOOLS)
    assert [(item.type, getattr(item, "arguments", None)) for item in plain.output] == [
        ("message", None),
        ("function_call", '{"city": "Oslo"}'),
        ("function_call", "{}"),
    ]


@pytest.mark.parametrize("script", [cut_text, cut], ids=["text", "call"])
def test_what_is_cut_is_incomplete(client: openai.OpenAI, provider: FakeProvider, script: Any) -> None:
    provider.script = script
    answer = client.responses.create(**ASK, tools=TOOLS)
    last = Response.model_validate(raw_events(client, tools=TOOLS)[-1]["response"])
    for response in (answer, last):
        assert response.status == "incomplete" and response.output[-1].status == "incomplete"  # type: ignore[union-attr]
        assert response.incomplete_details is not None and response.incomplete_details.reason == "max_output_tokens"
        assert response.completed_at is None


def test_an_empty_answer_is_an_empty_message(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = nothing
    assert client.responses.create(**ASK).output_text == ""
    events = raw_events(client)
    assert kinds(events) == ["created", "in_progress", *MESSAGE, "output_item.done", "completed"]
    assert len(events[-1]["response"]["output"]) == 1


def test_failures_half_way(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = failing(ProviderError("internal", "The engine stopped."))
    events = raw_events(client)
    failed = events[-1]
    assert failed["type"] == "response.failed" and failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "The engine stopped."}
    with pytest.raises(openai.InternalServerError):
        client.responses.create(**ASK)
    wait_until(lambda: not provider.open)


def test_logprobs(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = scores
    fields: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = client.responses.create(**ASK, **fields)
    assert provider.last.sampling.logprobs == 2
    (message,) = answer.output
    assert message.type == "message" and message.content[0].type == "output_text"
    tokens = message.content[0].logprobs
    assert tokens is not None and [(token.token, token.logprob) for token in tokens] == [("a", -0.5), ("b", -0.5)]
    events = raw_events(client, **fields)
    deltas = [token for event in events if "delta" in event for token in event["logprobs"]]
    done = next(event for event in events if event["type"] == "response.output_text.done")
    assert deltas == done["logprobs"] and [token["token"] for token in deltas] == ["a", "b"]


def test_parse_into_a_model(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = ann
    assert client.responses.parse(**ASK, text_format=Person).output_parsed == Person(name="Ann", age=7)
    constraint = provider.last.constraint
    assert isinstance(constraint, JsonSchemaSpec) and json.loads(constraint.schema)["required"] == ["name", "age"]
    with client.responses.stream(**ASK, text_format=Person) as stream:
        assert [event.type for event in stream][-1] == "response.completed"
        assert stream.get_final_response().output_parsed == Person(name="Ann", age=7)


class weather(pydantic.BaseModel):
    city: str


def test_a_tool_loop(client: openai.OpenAI, provider: FakeProvider) -> None:
    """What came out goes back in, as objects and as dicts, and the result with it."""
    provider.script = call_one
    tools: list[Any] = [openai.pydantic_function_tool(weather)]
    tools = [{"type": "function", **tools[0]["function"]}]
    answer = client.responses.parse(**ASK, tools=tools)
    (call,) = answer.output
    assert call.type == "function_call" and getattr(call, "parsed_arguments", None) == {"city": "Oslo"}
    told = [{"type": "input_text", "text": "rain"}]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": told}
    hello = {"role": "user", "content": "Hello"}
    for form in (call, call.model_dump(by_alias=True, exclude={"async_"}), call.model_dump(exclude_none=True)):
        client.responses.create(model=MODEL, input=[hello, form, result], tools=tools)  # type: ignore[list-item]
        assert provider.last.prompt == (
            Message("user", "Hello"),
            Message("assistant", "", calls=(Call(call.call_id, "weather", {"city": "Oslo"}),)),
            Message("tool", "rain", "weather", call_id=call.call_id),
        )


def test_items_become_turns(client: openai.OpenAI, provider: FakeProvider) -> None:
    first = client.responses.create(**ASK).output[0]
    call = {"type": "function_call", "name": "clock", "arguments": ""}
    client.responses.create(
        model=MODEL,
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "And kind."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in "ab"]},
            first,  # type: ignore[list-item]
            {**call, "call_id": "1"},  # type: ignore[list-item]
            {**call, "call_id": "2"},  # type: ignore[list-item]
            {"type": "function_call_output", "call_id": "1", "output": "noon"},
            {"type": "function_call_output", "call_id": "2", "output": "one"},
        ],
    )
    assert provider.last.prompt == (
        Message("system", "Be brief."),
        Message("system", "And kind."),
        Message("user", "a\nb"),
        Message("assistant", TEXT, calls=(Call("1", "clock", {}), Call("2", "clock", {}))),
        Message("tool", "noon", "clock", call_id="1"),
        Message("tool", "one", "clock", call_id="2"),
    )


OFFERED = (Tool("weather", json.dumps(SCHEMA, separators=(",", ":")), "The weather."), Tool("clock", NO_ARGUMENTS))
ALL = ("weather", "clock")
CLOCK = {"type": "function", "name": "clock"}
ASKED = [
    ({}, Tools(OFFERED, ALL)),
    ({"tool_choice": "none"}, None),
    ({"tool_choice": "required", "parallel_tool_calls": False}, Tools(OFFERED, ALL, True, False)),
    ({"tool_choice": CLOCK}, Tools(OFFERED, ("clock",), True, False)),
    ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [CLOCK]}}, Tools(OFFERED, ("clock",))),
]


@pytest.mark.parametrize(("fields", "tools"), ASKED, ids=str)
def test_tools(client: openai.OpenAI, provider: FakeProvider, fields: dict[str, Any], tools: Tools | None) -> None:
    answer = client.responses.create(**ASK, tools=TOOLS, **fields)
    assert provider.last.tools == tools
    assert [tool.name for tool in answer.tools if tool.type == "function"] == ["weather", "clock"]
    assert json.loads(answer.to_json())["tool_choice"] == fields.get("tool_choice", "auto")


FORMATS = [
    (None, None),
    ({"type": "text"}, None),
    ({"type": "json_object"}, JsonObjectSpec()),
    ({"type": "json_schema", "name": "a", "schema": SCHEMA}, JsonSchemaSpec(json.dumps(SCHEMA, separators=(",", ":")))),
]


@pytest.mark.parametrize(("form", "spec"), FORMATS, ids=str)
def test_formats(client: openai.OpenAI, provider: FakeProvider, form: Any, spec: object) -> None:
    answer = client.responses.create(**ASK, text={"format": form})
    assert provider.last.constraint == spec
    assert answer.text is not None and answer.text.format is not None
    assert answer.text.format.type == (form or {"type": "text"})["type"]


def test_sampling(client: openai.OpenAI, provider: FakeProvider) -> None:
    extra = {"top_k": 5, "seed": 3, "stop": ["x"]}
    client.responses.create(**ASK, temperature=0, top_p=0.5, max_output_tokens=9, extra_body=extra)
    assert provider.last.sampling == Sampling(temperature=0.0, top_p=0.5, top_k=5, seed=3)
    assert (provider.last.max_tokens, provider.last.stop, provider.last.n) == (9, ("x",), 1)


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [fields]}


REFUSED = [
    (item(type="computer_call", id="cu_1"), "input[0].type"),
    (item(type="function_call_output", call_id="x", output="y"), "input[0].call_id"),
    (item(type="function_call", call_id="x", name="f", arguments="[]"), "input[0].arguments"),
    (item(type="function_call", call_id="x", name="f"), "input[0].arguments"),
    (item(role="tool", content="x"), "input[0].role"),
    (item(role="user"), "input[0].content"),
    (item(role="user", content="x", foo=1), "input[0].foo"),
    (item(role="user", content=[{"type": "input_image", "image_url": "x"}]), "input[0].content[0].type"),
    ({"input": ["x"]}, "input[0]"),
    ({"input": []}, "input"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "name": "f", "parameters": {"type": "array"}}]}, "tools[0].parameters"),
    ({"tool_choice": CLOCK}, "tool_choice.name"),
    ({"include": ["file_search_call.results"]}, "include[0]"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"store": True}, "store"),
    ({"background": True}, "background"),
    ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
    ({"n": 2}, "n"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_refused(client: openai.OpenAI, provider: FakeProvider, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.responses.create(**ASK, extra_body=fields)
    assert refusal.value.param == param and param in refusal.value.message, refusal.value.body
    assert not provider.requests


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "previous_response_not_found"),
        (item(type="item_reference", id="msg_1"), "input[0].id", "item_not_found"),
        ({"conversation": "conv_1"}, "conversation", "conversation_not_found"),
    ],
)
def test_what_would_be_stored_is_not_found(
    client: openai.OpenAI, fields: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.responses.create(**ASK, extra_body=fields)
    assert (refusal.value.param, refusal.value.code) == (param, code)


@pytest.mark.parametrize(
    ("error", "param"),
    [
        (ProviderError("unsupported_constraint", "no.", tool=1), "tools[1].parameters"),
        (ProviderError("unsupported_constraint", "no."), "text.format"),
        (ProviderError("context_length", "Too long."), "input"),
        (ProviderError("invalid_request", "The chat template refuses.", param="messages"), "input"),
    ],
    ids=str,
)
def test_faults_name_the_fields_of_this_endpoint(
    client: openai.OpenAI, provider: FakeProvider, error: ProviderError, param: str
) -> None:
    provider.refusal = error
    with pytest.raises(openai.BadRequestError) as refusal:
        client.responses.create(**ASK, tools=TOOLS, text={"format": {"type": "json_object"}})
    assert refusal.value.param == param


def test_async_client(url: str, provider: FakeProvider) -> None:
    async def streamed() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            async with client.responses.stream(**ASK) as stream:
                text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
            return text, (await stream.get_final_response()).output_text

    assert asyncio.run(streamed()) == (TEXT, TEXT)
