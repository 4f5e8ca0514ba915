"""smolagents: text, a stream, a schema, a tool, and an agent that calls tools until it answers."""

from __future__ import annotations

import json
from typing import Any

from checks import MODEL, QUESTION, URL, Order, run
from smolagents import OpenAIModel, Tool, ToolCallingAgent
from smolagents.memory import ActionStep

MESSAGES: list[Any] = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
FORMAT = {"type": "json_schema", "json_schema": {"name": "order", "schema": Order.model_json_schema(), "strict": True}}


class Stock(Tool):
    """A tool whose argument has three values."""

    name = "in_stock"
    description = "How many pizzas of a size there are."
    inputs = {"size": {"type": "string", "description": "The size.", "enum": ["small", "large"]}}  # noqa: RUF012
    output_type = "string"

    def forward(self, size: str) -> str:
        called.append(size)
        return "7"


called: list[str] = []


def model(max_tokens: int, **options: Any) -> OpenAIModel:
    return OpenAIModel(MODEL, api_base=f"{URL}/v1", api_key="none", temperature=0, max_tokens=max_tokens, **options)


def text() -> None:
    """generate"""
    answer = model(9).generate(MESSAGES)
    assert answer.content and answer.token_usage.output_tokens


def streamed() -> None:
    """generate_stream"""
    *deltas, last = model(9).generate_stream(MESSAGES)
    assert "".join(delta.content or "" for delta in deltas) and last.token_usage.output_tokens


def schema() -> None:
    """response_format"""
    assert Order.model_validate_json(model(300).generate(MESSAGES, response_format=FORMAT).content)


def tool() -> None:
    """tool_choice required"""
    calls = model(300).generate(MESSAGES, tools_to_call_from=[Stock()]).tool_calls
    assert calls
    for call in calls:
        arguments = call.function.arguments
        given = json.loads(arguments) if isinstance(arguments, str) else arguments
        assert call.function.name == "in_stock" and set(given) == {"size"}


def agent() -> None:
    """ToolCallingAgent"""
    called.clear()
    one_by_one = model(400, parallel_tool_calls=False)
    cook = ToolCallingAgent(tools=[Stock()], model=one_by_one, max_steps=2, verbosity_level=0)
    cook.run("Are there large pizzas?")
    steps = [step for step in cook.memory.steps if isinstance(step, ActionStep)]
    assert any(step.tool_calls for step in steps)
    assert {call.name for step in steps for call in step.tool_calls or []} <= {"in_stock", "final_answer"}


if __name__ == "__main__":
    run("smolagents", text, streamed, schema, tool, agent)
