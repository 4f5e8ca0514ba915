"""A tool loop with the official openai client: the model calls, the program answers, the model goes on.

    make serve                        # in one terminal
    python examples/tools.py          # in another; needs the package openai

Whatever model is served, the calls name functions that exist, and their arguments validate, so the program need not
check them. The server is taken from OPENAI_BASE_URL and OPENAI_API_KEY, by default the one that `make serve` starts.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from openai import OpenAI

STOCK = {"apples": 12, "pears": 0, "plums": 40}

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "in_stock",
            "description": "How many of a fruit are in stock.",
            "parameters": {
                "type": "object",
                "properties": {"fruit": {"enum": list(STOCK)}},
                "required": ["fruit"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
]


def in_stock(fruit: str) -> int:
    return STOCK[fruit]


def main() -> int:
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    model = client.models.list().data[0].id
    messages: list[Any] = [{"role": "user", "content": "Are there any plums left?"}]

    first = client.chat.completions.create(
        model=model, messages=messages, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, temperature=0
    ).choices[0]
    if first.finish_reason != "tool_calls":
        sys.exit(f"the call did not finish: {first.finish_reason}")
    messages.append(first.message)
    for call in first.message.tool_calls or []:
        assert call.type == "function"
        result = in_stock(**json.loads(call.function.arguments))
        print(f"{call.function.name}({call.function.arguments}) = {result}")
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})

    for chunk in client.chat.completions.create(model=model, messages=messages, max_completion_tokens=60, stream=True):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
