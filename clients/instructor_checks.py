"""instructor: each of its modes, and partial objects."""

from __future__ import annotations

from typing import Any

import instructor
import openai
from checks import MODEL, QUESTION, URL, Loose, Order, run

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}


def patched(mode: instructor.Mode) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key="none"), mode=mode)


def tools() -> None:
    """TOOLS"""
    assert isinstance(patched(instructor.Mode.TOOLS).create(response_model=Order, **ASK), Order)


def json_schema() -> None:
    """JSON_SCHEMA"""
    assert isinstance(patched(instructor.Mode.JSON_SCHEMA).create(response_model=Order, **ASK), Order)


def json() -> None:
    """JSON"""
    assert isinstance(patched(instructor.Mode.JSON).create(response_model=Loose, max_tokens=600, **ASK), Loose)


def partial() -> None:
    """Partial, streamed"""
    *_, last = patched(instructor.Mode.TOOLS).create_partial(response_model=Order, **ASK)
    assert last.size in ("small", "large")


if __name__ == "__main__":
    run("instructor", tools, json_schema, json, partial)
