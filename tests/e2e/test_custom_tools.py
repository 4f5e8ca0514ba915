"""Custom tools with the real model: every input is a sentence of its grammar, in chat and in Responses."""

from __future__ import annotations

import json
import re
from typing import Any

import lark
import pytest

from tests.e2e.conftest import MODEL, Server

SUM = 'start: NUMBER ("+" NUMBER)+\nNUMBER: /[0-9]{1,3}/'
DAY = r'"\d{4}-\d\d"'
GRAMMARS: dict[str, tuple[str, str]] = {"sum": ("lark", SUM), "day": ("regex", DAY)}
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "What is 12 plus 30?"}]}
TOOLS: list[Any] = [
    {
        "type": "custom",
        "custom": {"name": name, "format": {"type": "grammar", "grammar": {"syntax": syntax, "definition": text}}},
    }
    for name, (syntax, text) in GRAMMARS.items()
]
TOOLS.append({"type": "function", "function": {"name": "clock"}})


def hold(name: str, text: str) -> None:
    if name == "sum":
        lark.Lark(SUM).parse(text)
    elif name == "day":
        assert re.fullmatch(DAY, text)
    else:
        assert json.loads(text) == {}


@pytest.mark.parametrize("choice", ["required", "sum", "day"])
def test_chat(server: Server, choice: str) -> None:
    chosen: Any = choice if choice == "required" else {"type": "custom", "custom": {"name": choice}}
    ask: dict[str, Any] = {**ASK, "tools": TOOLS, "tool_choice": chosen, "max_tokens": 80}
    for seed in range(3):
        answer = server.client().chat.completions.create(**ask, seed=seed, temperature=1.2, parallel_tool_calls=False)
        (call,) = answer.choices[0].message.tool_calls or []
        if answer.choices[0].finish_reason == "length":
            continue
        if call.type == "custom":
            hold(call.custom.name, call.custom.input)
        else:
            hold(call.function.name, call.function.arguments)


def test_responses(server: Server) -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": SUM}
    tools: list[Any] = [{"type": "custom", "name": "sum", "format": grammar}]
    stream = server.client().responses.create(
        model=MODEL,
        input="2+2?",
        tools=tools,
        tool_choice={"type": "custom", "name": "sum"},
        temperature=0,
        stream=True,
    )
    deltas = ""
    for event in stream:
        if event.type == "response.custom_tool_call_input.delta":
            deltas += event.delta
        elif event.type == "response.custom_tool_call_input.done":
            assert event.input == deltas
            hold("sum", event.input)
    assert deltas
