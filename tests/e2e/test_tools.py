"""Tools with the real model: what it calls exists, and what it passes validates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import OpenAI

from tests.e2e.conftest import MODEL, Server
from tests.e2e.test_guarantee import validator

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 20},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "description": "A forecast.", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "clock", "description": "The time."}},
]
ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "How is the weather in Oslo?"}],
    "tools": TOOLS,
    "max_tokens": 100,
    "seed": 3,
}


def named(name: str) -> Any:
    return {"type": "function", "function": {"name": name}}


def hold(name: str, arguments: str) -> None:
    schemas = {"weather": WEATHER, "clock": {"type": "object", "maxProperties": 0}}
    validator(schemas[name]).validate(json.loads(arguments))


def called(client: OpenAI, **fields: Any) -> list[tuple[str, str]]:
    """Name and arguments of each call, streamed and whole; they must be the same."""
    whole = client.chat.completions.create(**ASK, **fields).choices[0].message
    calls = [
        (call.function.name, call.function.arguments) for call in whole.tool_calls or () if call.type == "function"
    ]
    with client.chat.completions.stream(**ASK, **fields) as stream:
        last = stream.get_final_completion().choices[0].message
    assert [(call.function.name, call.function.arguments) for call in last.tool_calls or ()] == calls
    return calls


def test_a_named_tool_is_called(server: Server) -> None:
    client = server.client()
    for temperature in (0.0, 1.0):
        ((name, arguments),) = called(client, tool_choice=named("weather"), temperature=temperature)
        assert name == "weather"
        hold(name, arguments)
    ((name, arguments),) = called(client, tool_choice=named("clock"))
    assert (name, json.loads(arguments)) == ("clock", {})


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_required_calls(server: Server, temperature: float) -> None:
    calls = called(server.client(), tool_choice="required", temperature=temperature, parallel_tool_calls=False)
    assert len(calls) == 1
    hold(*calls[0])


BEGUN = {
    "role": "assistant",
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}],
}


def test_auto_is_text_or_calls(server: Server) -> None:
    """With a bias against the end, one that begins a call begins a right one."""
    client = server.client()
    answer = client.chat.completions.create(**{**ASK, "max_tokens": 40}, temperature=0, tool_choice="auto").choices[0]
    assert (answer.message.content or "").count("<tool_call>") == 0
    for call in answer.message.tool_calls or ():
        assert call.type == "function"
        if answer.finish_reason == "tool_calls":
            hold(call.function.name, call.function.arguments)
    history = [*ASK["messages"], BEGUN, {"role": "tool", "tool_call_id": "a", "content": "Rain, 7 degrees."}]
    told = client.chat.completions.create(**{**ASK, "messages": history, "max_tokens": 20}, temperature=0)
    assert told.choices[0].message.content or told.choices[0].message.tool_calls


def test_json_or_calls(server: Server) -> None:
    """One grammar for both: what is no call is the JSON that was asked for."""
    schema = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]}
    schema["additionalProperties"] = False
    client = server.client()
    for seed in range(4):
        answer = client.chat.completions.create(
            **{**ASK, "seed": seed, "max_tokens": 150},
            temperature=1.2,
            response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
            parallel_tool_calls=False,
        ).choices[0]
        if answer.finish_reason == "length":
            continue
        calls = [call for call in answer.message.tool_calls or () if call.type == "function"]
        if answer.message.content is not None:
            assert not calls
            validator(schema).validate(json.loads(answer.message.content))
        for call in calls:
            hold(call.function.name, call.function.arguments)
