"""openai-agents: a tool loop and a typed output, over Responses (its default) and over chat."""

from __future__ import annotations

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from checks import MODEL, QUESTION, URL, Order, run
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=f"{URL}/v1", api_key="none")
called: list[str] = []


@function_tool
def in_stock(size: str) -> str:
    """How many pizzas of a size there are."""
    called.append(size)
    return "7"


def loop(model: OpenAIResponsesModel | OpenAIChatCompletionsModel) -> None:
    called.clear()
    settings = ModelSettings(tool_choice="required", temperature=0, max_tokens=800, parallel_tool_calls=False)
    agent = Agent(name="cook", model=model, tools=[in_stock], model_settings=settings)
    assert Runner.run_sync(agent, "Are there large pizzas? Answer in one word.", max_turns=4).final_output
    assert called


def typed(model: OpenAIResponsesModel | OpenAIChatCompletionsModel) -> None:
    agent = Agent(name="cook", model=model, output_type=Order, model_settings=ModelSettings(temperature=0))
    assert isinstance(Runner.run_sync(agent, QUESTION).final_output, Order)


def responses_loop() -> None:
    """tool loop, Responses"""
    loop(OpenAIResponsesModel(MODEL, client))


def chat_loop() -> None:
    """tool loop, chat"""
    loop(OpenAIChatCompletionsModel(MODEL, client))


def responses_typed() -> None:
    """output type, Responses"""
    typed(OpenAIResponsesModel(MODEL, client))


def chat_typed() -> None:
    """output type, chat"""
    typed(OpenAIChatCompletionsModel(MODEL, client))


if __name__ == "__main__":
    run("openai-agents", responses_loop, chat_loop, responses_typed, chat_typed)
