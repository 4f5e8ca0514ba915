"""What a model thinks, in each API: apart from the answer, whole and streamed, and sent back with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from providers.base import (
    CallBegun,
    CallDelta,
    Delta,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Message,
    Thought,
    Usage,
)
from tests.gateway.fakes import MODEL, FakeProvider

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
def claude(url: str, provider: FakeProvider) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)


async def think(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    """Thoughts, and then the answer, or a call where there are tools."""
    yield Thought(0, "Hm, ")
    yield Thought(0, "well")
    if request.tools is None:
        yield Delta(0, "Yes")
        yield Delta(0, ".")
    else:
        yield CallBegun(0, 0, "f")
        yield CallDelta(0, 0, "{}")
    yield Finished(0, "stop")
    yield Usage(5, 0, 9, reasoning=6)


async def cut(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Thought(0, "Hm")
    yield Finished(0, "length")
    yield Usage(5, 0, 1, reasoning=1)


async def silent(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Thought(0, "Hm")
    yield Finished(0, "stop")
    yield Usage(5, 0, 1, reasoning=1)


def test_chat(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = think
    answer = client.chat.completions.create(**ASK)
    message: Any = answer.choices[0].message
    assert (message.reasoning, message.reasoning_content, message.content) == ("Hm, well", "Hm, well", "Yes.")
    assert answer.usage and answer.usage.completion_tokens_details
    assert answer.usage.completion_tokens_details.reasoning_tokens == 6
    called: Any = client.chat.completions.create(**ASK, tools=[TOOL]).choices[0].message
    assert (called.reasoning, called.content, called.tool_calls[0].function.name) == ("Hm, well", None, "f")


@pytest.mark.parametrize("tools", [False, True])
def test_chat_streamed(client: openai.OpenAI, provider: FakeProvider, tools: bool) -> None:
    provider.script = think
    more: Any = {"tools": [TOOL]} if tools else {}
    deltas: list[Any] = [chunk.choices[0].delta for chunk in client.chat.completions.create(**ASK, **more, stream=True)]
    assert deltas[0].role == "assistant"
    thoughts = [delta.reasoning for delta in deltas if getattr(delta, "reasoning", None)]
    assert (
        thoughts == ["Hm, ", "well"] == [d.reasoning_content for d in deltas if getattr(d, "reasoning_content", None)]
    )
    assert "".join(delta.content or "" for delta in deltas) == ("" if tools else "Yes.")


def test_no_thoughts_no_fields(http: httpx.Client) -> None:
    message = http.post("/v1/chat/completions", json=ASK).json()["choices"][0]["message"]
    assert not {"reasoning", "reasoning_content"} & set(message)


SWITCHES: list[tuple[dict[str, Any], bool | None]] = [
    ({}, None),
    ({"reasoning_effort": "none"}, False),
    ({"reasoning_effort": "medium"}, True),
    ({"chat_template_kwargs": {"enable_thinking": False}}, False),
    ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "medium"}, True),
    ({"chat_template_kwargs": {}}, None),
]


@pytest.mark.parametrize(("fields", "thinking"), SWITCHES)
def test_chat_switches(http: httpx.Client, provider: FakeProvider, fields: dict[str, Any], thinking: object) -> None:
    assert http.post("/v1/chat/completions", json={**ASK, **fields}).status_code == 200
    assert provider.last.thinking is thinking


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("chat/completions", {"reasoning_effort": "high"}, "reasoning_effort"),
        ("chat/completions", {"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools"),
        (
            "chat/completions",
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"},
            "chat_template_kwargs.enable_thinking",
        ),
        ("responses", {"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ("responses", {"reasoning": {"summary": "auto"}}, "reasoning.summary"),
    ],
)
def test_what_cannot_be_asked_for(http: httpx.Client, path: str, fields: dict[str, Any], param: str) -> None:
    asked = {**(ASK if path.startswith("chat") else {"model": MODEL, "input": "Hello"}), **fields}
    refusal = http.post(f"/v1/{path}", json=asked)
    assert refusal.status_code == 400 and refusal.json()["error"]["param"] == param


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_chat_takes_thoughts_back(http: httpx.Client, provider: FakeProvider, name: str) -> None:
    earlier = [{"role": "assistant", "content": "Yes.", name: "Hm"}, {"role": "user", "content": "Why?"}]
    assert http.post("/v1/chat/completions", json={**ASK, "messages": ASK["messages"] + earlier}).status_code == 200
    assert provider.last.prompt[1] == Message("assistant", "Yes.", thoughts="Hm")


def test_responses(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = think
    answer = client.responses.create(model=MODEL, input="Hello", reasoning={"effort": "medium"})
    output: Any = answer.output
    thoughts, message = output
    assert provider.last.thinking and answer.reasoning and answer.reasoning.effort == "medium"
    assert thoughts.type == "reasoning" and thoughts.content and thoughts.content[0].text == "Hm, well"
    assert thoughts.status == "completed" and thoughts.summary == []
    assert message.type == "message" and answer.output_text == "Yes."
    assert answer.usage and answer.usage.output_tokens_details.reasoning_tokens == 6


def test_responses_streamed(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = think
    with client.responses.stream(model=MODEL, input="Hello") as stream:
        events: list[Any] = list(stream)
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[2:10] == [
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta",
        "reasoning_text.done", "content_part.done", "output_item.done", "output_item.added",
    ]  # fmt: skip
    thoughts, message = events[-1].response.output
    assert (thoughts.content[0].text, message.content[0].text) == ("Hm, well", "Yes.")
    assert {event.item_id for event in events if event.type.startswith("response.reasoning_text")} == {thoughts.id}


def test_thoughts_alone(client: openai.OpenAI, provider: FakeProvider) -> None:
    """Cut, they are all there is; else the answer is an empty message."""
    for script, kinds in ((cut, ["reasoning"]), (silent, ["reasoning", "message"])):
        provider.script = script
        plain = client.responses.create(model=MODEL, input="Hello")
        with client.responses.stream(model=MODEL, input="Hello") as stream:
            *_, last = stream
        streamed: Any = last
        responses: list[Any] = [plain, streamed.response]
        for response in responses:
            assert [item.type for item in response.output] == kinds
            assert response.output[0].status == response.status == ("incomplete" if script is cut else "completed")


def test_messages(claude: anthropic.Anthropic, provider: FakeProvider) -> None:
    provider.script = think
    answer = claude.messages.create(max_tokens=9, **ASK)
    thoughts, text = answer.content
    assert thoughts.type == "thinking" and thoughts.thinking == "Hm, well"
    assert text.type == "text" and text.text == "Yes." and provider.last.thinking is None
    with claude.messages.stream(max_tokens=9, **ASK) as stream:
        kinds = [event.type for event in stream]
        assert [block.type for block in stream.get_final_message().content] == ["thinking", "text"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2
    turns: Any = [*ASK["messages"], {"role": "assistant", "content": answer.content}, {"role": "user", "content": "?"}]
    claude.messages.create(model=MODEL, max_tokens=9, messages=turns, thinking={"type": "disabled"})
    assert provider.last.prompt[1] == Message("assistant", "Yes.", thoughts="Hm, well")
    assert provider.last.thinking is False


def test_a_budget_of_thoughts_is_refused(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="thinking"):
        claude.messages.create(max_tokens=9, **ASK, thinking={"type": "enabled", "budget_tokens": 1024})
