"""llama-index: chat, completions and streams; structured output by tools and by schema; a tool."""

from __future__ import annotations

from typing import Any, Literal

from checks import MODEL, QUESTION, URL, Order, run
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Size(BaseModel):
    """Of a pizza."""

    size: Literal["small", "large"]


ASK = [ChatMessage(role="user", content=QUESTION)]
PROMPT = PromptTemplate("{question}")


def model(max_tokens: int = 300, **options: Any) -> OpenAILike:
    given: dict[str, Any] = {
        "model": MODEL,
        "api_base": f"{URL}/v1",
        "api_key": "none",
        "temperature": 0,
        "max_tokens": max_tokens,
        "context_window": 8192,
        "is_chat_model": True,
        "is_function_calling_model": True,
    }
    return OpenAILike(**{**given, **options})


def chat() -> None:
    """chat"""
    assert model(9).chat(ASK).message.content


def streamed() -> None:
    """stream_chat"""
    assert "".join(chunk.delta or "" for chunk in model(9).stream_chat(ASK))


def completion() -> None:
    """complete, legacy completions"""
    assert model(9, is_chat_model=False, is_function_calling_model=False).complete("One, two,").text


def by_tools() -> None:
    """structured_predict, by a tool"""
    assert isinstance(model().structured_predict(Order, PROMPT, question=QUESTION), Order)


def by_schema() -> None:
    """structured_predict, by a schema"""
    by_format = model(should_use_structured_outputs=True)
    assert isinstance(by_format.structured_predict(Order, PROMPT, question=QUESTION), Order)


def structured() -> None:
    """as_structured_llm"""
    assert isinstance(model().as_structured_llm(Order).chat(ASK).raw, Order)


def tool() -> None:
    """chat_with_tools"""

    def in_stock(size: str) -> str:
        """How many pizzas of a size there are."""
        return f"7 {size} ones"

    offered = FunctionTool.from_defaults(in_stock, fn_schema=Size)
    llm = model()
    answer = llm.chat_with_tools([offered], user_msg=QUESTION, tool_required=True)
    (call, *_) = llm.get_tool_calls_from_response(answer)
    assert call.tool_name == "in_stock" and call.tool_kwargs["size"] in ("small", "large")
    assert str(offered(**call.tool_kwargs)).startswith("7 ")


if __name__ == "__main__":
    run("llama-index-llms-openai-like", chat, streamed, completion, by_tools, by_schema, structured, tool)
