"""Custom tools in chat completions and in Responses, through the official client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

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
from providers.custom_tools import PARAMETERS
from schemas.constraint import IndenterSpec, LarkSpec, RegexSpec
from tests.gateway.fakes import MODEL, FakeProvider

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Two and two?"}]}
RESPONSES: dict[str, Any] = {"model": MODEL, "input": "Two and two?"}
LARK, REGEX = 'start: "a"', "[0-9]+"
READING = {"start": "file", "semantics": "contextual", "indenter": {"tab_len": 4}}
CHAT_TOOLS: list[Any] = [
    {"type": "custom", "custom": {"name": "note"}},
    {
        "type": "custom",
        "custom": {
            "name": "sum",
            "description": "Adds.",
            "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": LARK}},
        },
    },
    {
        "type": "custom",
        "custom": {
            "name": "year",
            "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": REGEX}},
        },
    },
    {
        "type": "custom",
        "custom": {
            "name": "code",
            "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": LARK, "sluice": READING}},
        },
    },
]
RESPONSES_TOOLS: list[Any] = [
    {"type": "custom", "name": "note", "format": {"type": "text"}},
    {
        "type": "custom",
        "name": "sum",
        "description": "Adds.",
        "format": {"type": "grammar", "syntax": "lark", "definition": LARK},
    },
    {"type": "custom", "name": "year", "format": {"type": "grammar", "syntax": "regex", "definition": REGEX}},
    {
        "type": "custom",
        "name": "code",
        "format": {"type": "grammar", "syntax": "lark", "definition": LARK, "sluice": READING},
    },
]
OFFERED = (
    Tool("note", PARAMETERS, custom=True),
    Tool("sum", PARAMETERS, "Adds.", custom=True, grammar=LarkSpec(LARK)),
    Tool("year", PARAMETERS, custom=True, grammar=RegexSpec(REGEX)),
    Tool("code", PARAMETERS, custom=True, grammar=LarkSpec(LARK, "file", "contextual", IndenterSpec(tab_len=4))),
)
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


async def add(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, "So")
    yield CallBegun(0, 0, "sum", True)
    yield CallDelta(0, 0, "2+")
    yield CallDelta(0, 0, "2")
    yield CallBegun(0, 1, "weather")
    yield CallDelta(0, 1, "{}")
    yield Finished(0, "stop")
    yield Usage(9, 0, 20)


def test_chat(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = add
    chosen: Any = {"type": "custom", "custom": {"name": "sum"}}
    (choice,) = client.chat.completions.create(**CHAT, tools=CHAT_TOOLS, tool_choice=chosen).choices
    assert provider.last.tools == Tools(OFFERED, ("sum",), required=True, parallel=False)
    custom, function = choice.message.tool_calls or []
    assert custom.type == "custom" and (custom.custom.name, custom.custom.input) == ("sum", "2+2")
    assert function.type == "function" and choice.finish_reason == "stop"
    result = {"role": "tool", "tool_call_id": custom.id, "content": "4"}
    messages = [*CHAT["messages"], {"role": "assistant", "tool_calls": [custom.to_dict()]}, result]
    client.chat.completions.create(model=MODEL, messages=messages)
    call = Call(custom.id, "sum", {"input": "2+2"})
    assert provider.last.prompt[1:] == (
        Message("assistant", "", calls=(call,)),
        Message("tool", "4", "sum", call_id=custom.id),
    )


def test_streamed_chat(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = add
    stream = client.chat.completions.create(**CHAT, tools=CHAT_TOOLS, stream=True)
    deltas = [chunk.to_dict()["choices"][0]["delta"] for chunk in stream]  # type: ignore[index]
    begun, first, second, function, *_ = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert begun.pop("id").startswith("call_")
    assert begun == {"index": 0, "type": "custom", "custom": {"name": "sum", "input": ""}}
    assert first == {"index": 0, "custom": {"input": "2+"}} and second == {"index": 0, "custom": {"input": "2"}}
    assert function["type"] == "function" and "custom" not in function


def test_responses(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = add
    answer = client.responses.create(**RESPONSES, tools=RESPONSES_TOOLS)
    assert provider.last.tools == Tools(OFFERED, ("note", "sum", "year", "code"))
    _, custom, function = answer.output
    assert custom.type == "custom_tool_call" and (custom.name, custom.input) == ("sum", "2+2")
    assert function.type == "function_call"
    output: Any = {"type": "custom_tool_call_output", "call_id": custom.call_id, "output": "4"}
    client.responses.create(model=MODEL, input=[{"role": "user", "content": "Hm"}, custom.to_dict(), output])  # type: ignore[list-item]
    assert provider.last.prompt[2] == Message("tool", "4", "sum", call_id=custom.call_id)
    chosen: Any = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "year"}]}
    client.responses.create(**RESPONSES, tools=RESPONSES_TOOLS, tool_choice=chosen)
    assert provider.last.tools == Tools(OFFERED, ("year",), required=True)


def test_streamed_responses(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = add
    events = [EVENT.validate_python(e.to_dict()) for e in client.responses.create(**RESPONSES, stream=True)]
    mine = [event for event in events if getattr(event, "output_index", None) == 1]
    assert [event.type for event in mine] == [
        "response.output_item.added",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
    ]
    assert mine[3].input == "2+2" and len({event.item_id for event in mine[1:4]}) == 1
    assert [event.sequence_number for event in events] == list(range(len(events)))


CODES = [(1, "unsupported_grammar", LARK), (2, "unsupported_regex", REGEX)]


@pytest.mark.parametrize(("tool", "code", "definition"), CODES, ids=["lark", "regex"])
def test_a_grammar_at_fault_is_named(
    client: openai.OpenAI, provider: FakeProvider, tool: int, code: str, definition: str
) -> None:
    for create, fields, param in (
        (
            client.chat.completions.create,
            {**CHAT, "tools": CHAT_TOOLS},
            f"tools[{tool}].custom.format.grammar.definition",
        ),
        (client.responses.create, {**RESPONSES, "tools": RESPONSES_TOOLS}, f"tools[{tool}].format.definition"),
    ):
        provider.refusal = ProviderError("unsupported_constraint", "not like this.", tool=tool)
        with pytest.raises(openai.BadRequestError) as refusal:
            create(**fields)  # type: ignore[operator]
        assert (refusal.value.param, refusal.value.code) == (param, code)
