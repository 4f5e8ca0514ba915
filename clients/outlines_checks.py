"""outlines over OpenAI's API, and over vLLM's additions to it."""

from __future__ import annotations

import re
from typing import Any, Literal

import openai
import outlines
from checks import MODEL, QUESTION, URL, Order, run
from outlines.types import CFG, JsonSchema, Regex

client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none")
by_openai = outlines.from_openai(client, MODEL)
by_vllm = outlines.from_vllm(client, MODEL)
SHORT: dict[str, Any] = {"max_tokens": 300, "temperature": 0}
DATE = r"20[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9]"


def text() -> None:
    """OpenAI, text"""
    assert by_openai(QUESTION, max_tokens=9)


def streamed() -> None:
    """OpenAI, stream"""
    assert "".join(by_openai.stream(QUESTION, max_tokens=9))


def model() -> None:
    """OpenAI, a pydantic model"""
    assert Order.model_validate_json(by_openai(QUESTION, Order, **SHORT))


def vllm_model() -> None:
    """vLLM, a pydantic model"""
    assert Order.model_validate_json(by_vllm(QUESTION, Order, **SHORT))


def vllm_schema() -> None:
    """vLLM, a JSON Schema"""
    assert by_vllm("Yes or no?", JsonSchema({"enum": ["yes", "no"]}), **SHORT) in ('"yes"', '"no"')


def vllm_regex() -> None:
    """vLLM, a regular expression"""
    assert re.fullmatch(DATE, by_vllm("When was it?", Regex(DATE), **SHORT))


def vllm_choice() -> None:
    """vLLM, a choice"""
    assert by_vllm("Is pizza food?", Literal["Yes", "No"], **SHORT) in ("Yes", "No")


def vllm_grammar() -> None:
    """vLLM, a grammar"""
    sums = CFG('start: NUMBER ("+" NUMBER)~1..3\nNUMBER: /[1-9][0-9]?/')
    assert re.fullmatch(r"[1-9][0-9]?(\+[1-9][0-9]?){1,3}", by_vllm("A sum:", sums, **SHORT))


def vllm_streamed() -> None:
    """vLLM, a streamed model"""
    assert Order.model_validate_json("".join(by_vllm.stream(QUESTION, Order, **SHORT)))


if __name__ == "__main__":
    run(
        "outlines", text, streamed, model, vllm_model, vllm_schema, vllm_regex, vllm_choice, vllm_grammar, vllm_streamed
    )
