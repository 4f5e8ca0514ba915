"""litellm's SDK: chat by each of its two providers for such servers, Responses, Messages, and its errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import litellm
from checks import MODEL, QUESTION, URL, Order, run

litellm.suppress_debug_info = True
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
OPENAI: dict[str, Any] = {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": "none"}
VLLM: dict[str, Any] = {**OPENAI, "model": f"hosted_vllm/{MODEL}"}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "order", "parameters": Order.model_json_schema()}}
ONE: dict[str, Any] = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}


def text() -> None:
    """completion"""
    answer = litellm.completion(**OPENAI, messages=MESSAGES, max_tokens=9)
    assert answer.choices[0].message.content and answer.usage.completion_tokens


def streamed() -> None:
    """completion, streamed with usage"""
    options = {"include_usage": True}
    chunks = list(litellm.completion(**OPENAI, messages=MESSAGES, max_tokens=9, stream=True, stream_options=options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage.completion_tokens


def _model(by: dict[str, Any]) -> None:
    answer = litellm.completion(**by, messages=MESSAGES, temperature=0, response_format=Order)
    assert Order.model_validate_json(answer.choices[0].message.content)


def model() -> None:
    """response_format, a pydantic model"""
    _model(OPENAI)


def vllm_model() -> None:
    """hosted_vllm, response_format"""
    _model(VLLM)


def tools() -> None:
    """tools"""
    answer = litellm.completion(**OPENAI, messages=MESSAGES, temperature=0, **ONE)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "order" and Order.model_validate_json(call.function.arguments)


def streamed_tools() -> None:
    """tools, streamed"""
    named = {"type": "function", "function": {"name": "order"}}
    chunks = list(litellm.completion(**OPENAI, messages=MESSAGES, tools=[TOOL], tool_choice=named, stream=True))
    built = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    (call,) = built.choices[0].message.tool_calls
    assert Order.model_validate_json(call.function.arguments)


def responses() -> None:
    """responses"""
    answer = litellm.responses(**OPENAI, input=QUESTION, temperature=0, text_format=Order)
    (message,) = (item for item in answer.output if item.type == "message")
    assert Order.model_validate_json(message.content[0].text)


def messages() -> None:
    """Anthropic's Messages"""

    async def ask() -> Any:
        by: dict[str, Any] = {"model": f"anthropic/{MODEL}", "api_base": URL, "api_key": "none"}
        return await litellm.anthropic_messages(**by, messages=MESSAGES, max_tokens=9)

    answer = asyncio.run(ask())
    assert answer["content"][0]["text"] and answer["usage"]["output_tokens"]


def asynchronous() -> None:
    """acompletion"""

    async def ask() -> Any:
        form = {"type": "json_schema", "json_schema": {"name": "o", "schema": Order.model_json_schema()}}
        return await litellm.acompletion(**OPENAI, messages=MESSAGES, temperature=0, response_format=form)

    assert Order(**json.loads(asyncio.run(ask()).choices[0].message.content))


def errors() -> None:
    """errors by their classes"""
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (litellm.NotFoundError, {"model": "openai/nothing"}),
        (litellm.BadRequestError, {"response_format": _form({"type": "strin"})}),
        (litellm.ContextWindowExceededError, {"messages": [{"role": "user", "content": "long " * 20_000}]}),
    ]
    for expected, fields in refused:
        try:
            litellm.completion(**{**OPENAI, "messages": MESSAGES, "num_retries": 0, **fields})
        except expected:
            continue
        raise AssertionError(f"{fields} were accepted")


def _form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


if __name__ == "__main__":
    run(
        "litellm",
        text, streamed, model, tools, streamed_tools, asynchronous, vllm_model, responses, messages, errors,
    )  # fmt: skip
