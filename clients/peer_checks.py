"""OpenAI's and Anthropic's SDKs, asking for a model that somebody else serves: `peers.py` runs this for each.

Whoever answers is a provider of the server that is asked, so each answer has to say which one it was.
"""

from __future__ import annotations

from typing import Any

import anthropic
import openai
from checks import MODEL, QUESTION, URL, Plain, run

client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
claude = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
ASK: dict[str, Any] = {"model": MODEL, "messages": MESSAGES}
PROVIDER = MODEL.partition("/")[0]


def chat() -> None:
    """chat"""
    answer = client.chat.completions.with_raw_response.create(**ASK, max_tokens=9)
    assert answer.headers["x-sluice-provider"] == PROVIDER
    told = answer.parse()
    assert told.choices[0].message.content and told.usage and told.usage.completion_tokens


def streamed() -> None:
    """chat, streamed"""
    options: Any = {"include_usage": True}
    *chunks, last = client.chat.completions.create(**ASK, max_tokens=9, stream=True, stream_options=options)
    assert any(chunk.choices[0].delta.content for chunk in chunks) and last.usage
    assert last.usage.completion_tokens


def parsed() -> None:
    """chat, `.parse()` to a model"""
    assert isinstance(client.chat.completions.parse(**ASK, response_format=Plain).choices[0].message.parsed, Plain)


def stream_helper() -> None:
    """chat, `.stream()` to a model"""
    with client.chat.completions.stream(**ASK, response_format=Plain) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Plain)


def tools() -> None:
    """chat, a tool that must be called"""
    tool = openai.pydantic_function_tool(Plain)
    answer = client.chat.completions.parse(**ASK, tools=[tool], tool_choice="required", parallel_tool_calls=False)
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Plain)


def responses() -> None:
    """Responses, parsed"""
    assert isinstance(client.responses.parse(model=MODEL, input=QUESTION, text_format=Plain).output_parsed, Plain)


def messages() -> None:
    """messages, streamed"""
    with claude.messages.stream(model=MODEL, max_tokens=9, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream)


def formats() -> None:
    """messages, `output_config.format`"""
    schema: Any = {"type": "json_schema", "schema": Plain.model_json_schema()}
    answer = claude.messages.create(
        model=MODEL, max_tokens=200, messages=MESSAGES, extra_body={"output_config": {"format": schema}}
    )
    assert answer.content[0].type == "text" and Plain.model_validate_json(answer.content[0].text)


def called() -> None:
    """messages, a tool that must be called"""
    chosen: Any = {"type": "tool", "name": "order"}
    offered: list[Any] = [{"name": "order", "input_schema": Plain.model_json_schema()}]
    answer = claude.messages.create(model=MODEL, max_tokens=200, messages=MESSAGES, tools=offered, tool_choice=chosen)
    (block,) = answer.content
    assert block.type == "tool_use" and Plain.model_validate(block.input)


if __name__ == "__main__":
    run("openai", chat, streamed, parsed, stream_helper, tools, responses)
    run("anthropic", messages, formats, called)
