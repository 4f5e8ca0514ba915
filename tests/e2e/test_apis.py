"""The other two APIs with the real model, through their official clients."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.e2e.conftest import MODEL, Server
from tests.e2e.schemas import OWN
from tests.e2e.test_guarantee import validator
from tests.e2e.test_tools import WEATHER, hold

NAME = min(OWN)
SCHEMA: dict[str, Any] = OWN[NAME]


def test_responses(server: Server) -> None:
    client = server.client()
    ask: dict[str, Any] = {"model": MODEL, "input": f"A {NAME}, as JSON.", "max_output_tokens": 250, "temperature": 0}
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}
    plain = client.responses.create(**ask, text=form)
    with client.responses.stream(**ask, text=form) as stream:
        streamed = stream.get_final_response()
    assert plain.output_text == streamed.output_text
    if plain.status == "completed":
        validator(SCHEMA).validate(json.loads(plain.output_text))
    tools: list[Any] = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
    called = client.responses.create(**ask, tools=tools, tool_choice={"type": "function", "name": "weather"})
    (call,) = called.output
    assert call.type == "function_call" and called.status == "completed"
    hold("weather", call.arguments)
    told: list[Any] = [{"role": "user", "content": "How is the weather?"}, call]
    told.append({"type": "function_call_output", "call_id": call.call_id, "output": "Rain."})
    answer = client.responses.create(model=MODEL, input=told, max_output_tokens=20)
    assert answer.output_text and answer.status in ("completed", "incomplete")


def test_messages(server: Server) -> None:
    client = anthropic.Anthropic(base_url=server.url, api_key="none")
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Oslo?"}]
    ask: dict[str, Any] = {"model": MODEL, "messages": messages, "max_tokens": 100}
    tools: list[Any] = [{"name": "weather", "input_schema": WEATHER}]
    choice: Any = {"type": "tool", "name": "weather"}
    answer = client.messages.create(**ask, tools=tools, tool_choice=choice)
    (block,) = answer.content
    assert block.type == "tool_use" and answer.stop_reason == "tool_use"
    validator(WEATHER).validate(block.input)
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "Rain, 7 degrees."}
    more = [*messages, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    with client.messages.stream(**{**ask, "messages": more, "max_tokens": 20}) as stream:
        text = "".join(stream.text_stream)
        assert stream.get_final_message().usage.output_tokens > 0 and text
    counted = client.messages.count_tokens(model=MODEL, messages=messages, tools=tools).input_tokens
    usage = client.messages.create(**{**ask, "max_tokens": 1}, tools=tools).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_the_second_time_a_prompt_is_found(server: Server) -> None:
    ask: dict[str, Any] = {"model": MODEL, "prompt": " ".join(map(str, range(60))), "max_tokens": 2}
    first, second = (server.client().completions.create(**ask, extra_body={"sluice": {}}).to_dict() for _ in range(2))
    found: Any = second["usage"]["prompt_tokens_details"]["cached_tokens"]  # type: ignore[index]
    assert found > 60 and first["sluice"]["cache"] == {"device_tokens": 0, "host_tokens": 0}  # type: ignore[index]
    assert second["sluice"]["cache"] == {"device_tokens": found, "host_tokens": 0}  # type: ignore[index]


def test_more_than_the_context_ends_with_the_context(server: Server) -> None:
    """Anthropic's clients ask for as much as they may; chat's get a 400."""
    client = anthropic.Anthropic(base_url=server.url, api_key="none")
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}
    answer = client.messages.create(
        model=MODEL,
        max_tokens=20_000,
        messages=[{"role": "user", "content": "JSON"}],
        extra_body={"output_config": {"format": {"type": "json_schema", "schema": schema}}},
    )
    assert answer.content[0].type == "text" and json.loads(answer.content[0].text) == {"a": 1}


def test_tokens_there_and_back(server: Server) -> None:
    text = "Grüße <|im_end|> 🦆"
    ids = httpx.post(f"{server.url}/tokenize", json={"model": MODEL, "prompt": text}).json()["tokens"]
    assert httpx.post(f"{server.url}/detokenize", json={"model": MODEL, "tokens": ids}).json()["prompt"] == text


def test_contracts_are_told_before_anything_is_generated(server: Server) -> None:
    def asked(structured: dict[str, Any]) -> Any:
        body = {"model": MODEL, "structured_outputs": structured}
        return httpx.post(f"{server.url}/v1/compile", json=body, timeout=60).json()

    exact = asked({"json": {"type": "integer", "minimum": 3}})
    assert exact["contract"] == "exact" and exact["reasons"] == [] and exact["compile_ms"] > 0
    assert asked({"json": {"type": "integer", "minimum": 3}})["compile_ms"] == 0
    assert asked({"regex": "[a-z]+"})["contract"] == "exact"
    refused = asked({"json": {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}})
    assert (refused["contract"], refused["refusal"]["pointer"]) == ("refused", "/properties/a/pattern")
    twice = asked({"json": {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}})
    assert twice == refused


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_answers_that_are_to_be_closed_are_whole_within_their_tokens(server: Server, temperature: float) -> None:
    """A small model never ends such texts by itself; one byte a token less than the shortest is refused."""
    client = server.client()
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        },
        "required": ["title", "tags"],
    }
    ask: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "A long book, as JSON."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
        "extra_body": {"sluice": {"close": True}},
        "temperature": temperature,
    }
    for max_tokens in (12, 20, 60):
        answer = client.chat.completions.create(**ask, max_tokens=max_tokens, n=3, seed=max_tokens)
        assert answer.usage is not None and answer.usage.completion_tokens <= 3 * max_tokens
        for choice in answer.choices:
            assert choice.finish_reason == "stop"
            validator(schema).validate(json.loads(choice.message.content or ""))
    with pytest.raises(openai.BadRequestError, match="a complete answer is asked for in 2 tokens; the shortest"):
        client.chat.completions.create(**ask, max_tokens=2)
