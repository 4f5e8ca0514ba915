"""pydantic-ai: tool output, native output, a tool, over chat and over Responses."""

from __future__ import annotations

from checks import MODEL, QUESTION, URL, Order, run
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=f"{URL}/v1", api_key="none")
chat = OpenAIChatModel(MODEL, provider=provider)
SETTINGS = {"temperature": 0, "max_tokens": 300}


def tool_output() -> None:
    """tool output"""
    assert isinstance(Agent(chat, output_type=Order, model_settings=SETTINGS).run_sync(QUESTION).output, Order)


def native_output() -> None:
    """native output"""
    agent = Agent(chat, output_type=NativeOutput(Order), model_settings=SETTINGS)
    assert isinstance(agent.run_sync(QUESTION).output, Order)


def plain() -> None:
    """text"""
    assert Agent(chat, model_settings={"max_tokens": 9}).run_sync(QUESTION).output


def responses() -> None:
    """Responses, native output"""
    agent = Agent(OpenAIResponsesModel(MODEL, provider=provider), output_type=NativeOutput(Order))
    assert isinstance(agent.run_sync(QUESTION, model_settings={"temperature": 0}).output, Order)


if __name__ == "__main__":
    run("pydantic-ai-slim", plain, tool_output, native_output, responses)
