"""Tools with the real model: what it calls exists, and what it passes validates."""

from __future__ import annotations

import json
from typing import Any

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
