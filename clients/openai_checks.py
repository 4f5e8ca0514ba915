"""The openai SDK: chat, Responses, decisions; plain, parsed, streamed, asynchronous."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
from checks import MODEL, QUESTION, URL, Order, run

client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none")
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
TOOL = openai.pydantic_function_tool(Order)
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": 'start: "ORDER " /[1-9]/'}


def chat() -> None:
    """chat"""
    assert client.chat.completions.create(**ASK, max_tokens=9).choices[0].message.content


def streamed() -> None:
    """chat, streamed"""
    options = {"include_usage": True}
    *chunks, last = client.chat.completions.create(**ASK, max_tokens=9, stream=True, stream_options=options)
    assert any(chunk.choices[0].delta.content for chunk in chunks) and last.usage.completion_tokens


def parsed() -> None:
    """`.parse()` to a model"""
    assert isinstance(client.chat.completions.parse(**ASK, response_format=Order).choices[0].message.parsed, Order)


def stream_helper() -> None:
    """`.stream()` to a model"""
    with client.chat.completions.stream(**ASK, response_format=Order) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Order)


def tools() -> None:
    """tools, required, parsed"""
    answer = client.chat.completions.parse(**ASK, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Order) and answer.choices[0].finish_reason == "tool_calls"


def custom_tool() -> None:
    """custom tool with a grammar"""
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": GRAMMAR["definition"]}}
    tool: Any = {"type": "custom", "custom": {"name": "order", "format": grammar}}
    chosen: Any = {"type": "custom", "custom": {"name": "order"}}
    answer = client.chat.completions.create(**ASK, tools=[tool], tool_choice=chosen)
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "custom" and call.custom.input.startswith("ORDER ")


def responses() -> None:
    """Responses, parsed"""
    answer = client.responses.parse(model=MODEL, input=QUESTION, text_format=Order, temperature=0)
    assert isinstance(answer.output_parsed, Order)


def responses_stream() -> None:
    """Responses, `.stream()`"""
    with client.responses.stream(model=MODEL, input=QUESTION, text_format=Order, temperature=0) as stream:
        kinds = [event.type for event in stream]
        assert isinstance(stream.get_final_response().output_parsed, Order)
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"


def responses_custom_tool() -> None:
    """Responses, custom tool with a grammar"""
    tool: Any = {"type": "custom", "name": "order", "format": GRAMMAR}
    chosen: Any = {"type": "custom", "name": "order"}
    (call,) = client.responses.create(model=MODEL, input=QUESTION, tools=[tool], tool_choice=chosen).output
    assert call.type == "custom_tool_call" and call.input.startswith("ORDER ")


def decisions() -> None:
    """decisions"""
    question: Any = {"type": "predicate", "instructions": "Somebody orders food."}
    (answer,) = client.decisions.create(model=MODEL, input=QUESTION, questions=[question]).answers
    assert answer.type == "predicate" and 0 < answer.probability < 1


def asynchronous() -> None:
    """async client"""

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none") as one:
            answer = await one.chat.completions.create(**ASK, response_format={"type": "json_object"}, max_tokens=300)
            if answer.choices[0].finish_reason == "stop":
                assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)

    asyncio.run(ask())


if __name__ == "__main__":
    run(
        "openai",
        chat, streamed, parsed, stream_helper, tools, custom_tool, asynchronous,
        responses, responses_stream, responses_custom_tool, decisions,
    )  # fmt: skip
