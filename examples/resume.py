"""Résumé extraction with the official openai client: what comes back validates, streamed or not.

    make serve                        # in one terminal
    python examples/resume.py         # in another; needs the packages openai and jsonschema

The server is taken from OPENAI_BASE_URL and OPENAI_API_KEY, by default the one that `make serve` starts.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from jsonschema import Draft202012Validator
from openai import OpenAI

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 60},
        "experience": {
            "type": "array",
            "minItems": 1,
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {
                    "company": {"type": "string", "minLength": 1, "maxLength": 60},
                    "title": {"type": "string", "minLength": 1, "maxLength": 60},
                    "years": {"type": "string", "pattern": "^(19|20)[0-9]{2}-((19|20)[0-9]{2}|now)$"},
                },
                "required": ["company", "title", "years"],
                "additionalProperties": False,
            },
        },
        "skills": {
            "type": "array",
            "minItems": 1,
            "maxItems": 8,
            "items": {"type": "string", "minLength": 1, "maxLength": 30},
        },
    },
    "required": ["name", "experience", "skills"],
    "additionalProperties": False,
}

RESUME = """\
Grace Hopper joined the Navy Reserve in 1943 and was posted to the Harvard Computation Laboratory, where she programmed
the Mark I until 1949. She then became senior mathematician at the Eckert-Mauchly Computer Corporation, worked there on
UNIVAC from 1949 to 1967, wrote the first compiler and led the group behind FLOW-MATIC, from which COBOL grew. From 1967
to 1986 she directed the Navy Programming Languages Group at the Pentagon. She knows compilers, COBOL, assembly
language, numerical analysis, standardisation, and teaching."""


def main() -> int:
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    request: dict[str, Any] = {
        "model": client.models.list().data[0].id,
        "messages": [
            {
                "role": "system",
                "content": "Extract the résumé as JSON: name, experience (company, title, years), skills.",
            },
            {"role": "user", "content": RESUME},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "resume", "strict": True, "schema": SCHEMA}},
        "temperature": 0,
        "max_completion_tokens": 600,
    }

    print(f"--- {request['model']}, in one piece")
    whole = client.chat.completions.create(**request).choices[0]
    print(whole.message.content)
    check(whole.message.content, whole.finish_reason)

    print("--- streamed")
    text, finish_reason = "", None
    for chunk in client.chat.completions.create(**request, stream=True):
        for choice in chunk.choices:
            piece = choice.delta.content or ""
            print(piece, end="", flush=True)
            text += piece
            finish_reason = choice.finish_reason or finish_reason
    print()
    check(text, finish_reason)
    return 0


def check(text: str | None, finish_reason: str | None) -> None:
    """Exits where the answer is cut off or does not validate."""
    if text is None or finish_reason != "stop":
        sys.exit(f"the answer did not finish: {finish_reason}")
    Draft202012Validator(SCHEMA).validate(json.loads(text))
    print("--- validates")


if __name__ == "__main__":
    sys.exit(main())
