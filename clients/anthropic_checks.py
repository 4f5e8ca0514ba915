"""Anthropic's SDK: messages, tools, formats and token counting."""

from __future__ import annotations

from typing import Any

import anthropic
from checks import MODEL, QUESTION, URL, Order, run

client = anthropic.Anthropic(base_url=URL, api_key="none")
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
TOOLS: list[Any] = [{"name": "order", "input_schema": Order.model_json_schema()}]


def messages() -> None:
    """messages"""
    assert client.messages.create(model=MODEL, max_tokens=9, messages=MESSAGES).content


def streamed() -> None:
    """messages, streamed"""
    with client.messages.stream(model=MODEL, max_tokens=9, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream)


def tools() -> None:
    """tools"""
    chosen: Any = {"type": "tool", "name": "order"}
    answer = client.messages.create(model=MODEL, max_tokens=200, messages=MESSAGES, tools=TOOLS, tool_choice=chosen)
    (block,) = answer.content
    assert block.type == "tool_use" and Order.model_validate(block.input)


def formats() -> None:
    """output_config.format"""
    schema: Any = {"type": "json_schema", "schema": Order.model_json_schema()}
    answer = client.messages.create(
        model=MODEL, max_tokens=200, messages=MESSAGES, extra_body={"output_config": {"format": schema}}
    )
    assert answer.content[0].type == "text" and Order.model_validate_json(answer.content[0].text)


def counted() -> None:
    """count_tokens"""
    assert client.messages.count_tokens(model=MODEL, messages=MESSAGES, tools=TOOLS).input_tokens > 20


if __name__ == "__main__":
    run("anthropic", messages, streamed, tools, formats, counted)
