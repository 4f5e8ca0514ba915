"""dspy: a text, a signature by a schema, one by JSON mode, and a native tool call."""

from __future__ import annotations

from typing import Any, Literal

import dspy
from checks import MODEL, QUESTION, URL, run
from dspy.lm15 import AccessPolicy, ModelSupport, OpenAIChatCompat, ProviderDefinition, register_provider

register_provider(
    ProviderDefinition.chat(
        AccessPolicy(provider="sluice", env_keys=("SLUICE_KEY",), base_url=f"{URL}/v1"), compat=OpenAIChatCompat()
    ),
    supports=ModelSupport(function_calling=True, response_schema=True),
)
lm = dspy.LM(f"sluice/{MODEL}", api_key="none", max_tokens=300, temperature=0, cache=False)


class Read(dspy.Signature):
    """Read an order of food."""

    order: str = dspy.InputField()
    size: Literal["small", "large"] = dspy.OutputField()
    urgent: bool = dspy.OutputField()


def text() -> None:
    """LM"""
    (answer,) = lm(QUESTION, max_tokens=9)
    assert answer


def by_schema() -> None:
    """Predict, JSONAdapter with a schema"""
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        answer = dspy.Predict(Read)(order=QUESTION)
    assert answer.size in ("small", "large") and isinstance(answer.urgent, bool)


def several() -> None:
    """Predict, several completions"""
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        answer = dspy.Predict(Read, n=2, temperature=1.0)(order=QUESTION)
    assert len(answer.completions.size) == 2 and set(answer.completions.size) <= {"small", "large"}


def native_tool() -> None:
    """LM, tools"""
    parameters = {"type": "object", "properties": {"size": {"enum": ["small", "large"]}}, "required": ["size"]}
    tool: dict[str, Any] = {"type": "function", "function": {"name": "in_stock", "parameters": parameters}}
    (answer,) = lm(messages=[{"role": "user", "content": QUESTION}], tools=[tool], tool_choice="required")
    assert {call.function.name for call in answer["tool_calls"]} == {"in_stock"}


if __name__ == "__main__":
    run("dspy", text, by_schema, several, native_tool)
