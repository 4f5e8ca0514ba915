"""langchain-openai: structured output by each of its methods, tools, and a stream."""

from __future__ import annotations

from typing import Any

from checks import MODEL, QUESTION, URL, Order, run
from langchain_openai import ChatOpenAI

options: dict[str, Any] = {"model": MODEL, "base_url": f"{URL}/v1", "api_key": "none", "temperature": 0}
model = ChatOpenAI(**options, max_tokens=300)


def invoke() -> None:
    """invoke"""
    assert ChatOpenAI(**options, max_tokens=9).invoke(QUESTION).content


def streamed() -> None:
    """stream"""
    assert "".join(str(chunk.content) for chunk in ChatOpenAI(**options, max_tokens=9).stream(QUESTION))


def json_schema() -> None:
    """with_structured_output, json_schema"""
    assert isinstance(model.with_structured_output(Order, method="json_schema").invoke(QUESTION), Order)


def function_calling() -> None:
    """with_structured_output, function_calling"""
    assert isinstance(model.with_structured_output(Order, method="function_calling").invoke(QUESTION), Order)


def json_mode() -> None:
    """with_structured_output, json_mode"""
    loose = {"title": "loose", "type": "object", "properties": {}}
    short = ChatOpenAI(**options, max_tokens=600).with_structured_output(loose, method="json_mode")
    assert isinstance(short.invoke('Answer with this JSON: {"a": 1}'), dict)


def bound_tools() -> None:
    """bind_tools"""
    (call,) = model.bind_tools([Order], tool_choice="Order").invoke(QUESTION).tool_calls
    assert Order.model_validate(call["args"])


def responses() -> None:
    """Responses API"""
    by_responses = ChatOpenAI(**options, use_responses_api=True).with_structured_output(Order, method="json_schema")
    assert isinstance(by_responses.invoke(QUESTION), Order)


if __name__ == "__main__":
    run("langchain-openai", invoke, streamed, json_schema, function_calling, json_mode, bound_tools, responses)
