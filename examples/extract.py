"""Bulk extraction: a schema for many texts, as one batch that is answered behind all other requests.

    make serve                        # in one terminal
    python examples/extract.py        # in another; needs the package openai

The server is taken from OPENAI_BASE_URL and OPENAI_API_KEY, by default the one that `make serve` starts. The same file
without a server: `sluice batch requests.jsonl -o answers.jsonl`.
"""

from __future__ import annotations

import json
import os
import time

from openai import OpenAI

MODEL = "smollm2-135m-instruct"
TEXTS = (
    "Ann Smith, 34, lives in Oslo and writes compilers.",
    "In Porto, Rui Costa (51) repairs clocks.",
    "Mei is nine years old and draws dragons in Taipei.",
)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "city": {"type": "string", "maxLength": 40},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}


def request(number: int, text: str) -> dict[str, object]:
    """A line of the input."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Who is this about?\n\n{text}"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}},
        "temperature": 0,
    }
    return {"custom_id": f"text-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def main() -> None:
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    lines = "\n".join(json.dumps(request(i, text)) for i, text in enumerate(TEXTS))
    file = client.files.create(file=("requests.jsonl", lines.encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"what": "people"}
    )
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    print(batch.status, batch.request_counts)
    if batch.output_file_id:
        for line in client.files.content(batch.output_file_id).text.splitlines():
            answer = json.loads(line)
            print(answer["custom_id"], answer["response"]["body"]["choices"][0]["message"]["content"])


if __name__ == "__main__":
    main()
