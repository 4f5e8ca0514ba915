"""Google's own SDK, asking the server that speaks Gemini's published shapes: what our provider is tested against is
what Google's client understands."""

from __future__ import annotations

import os

from checks import QUESTION, Plain, run
from google import genai
from google.genai import types

OPTIONS = types.HttpOptions(base_url=os.environ["GEMINI_URL"], api_version="v1beta")
client = genai.Client(api_key="none", vertexai=False, http_options=OPTIONS)


def generated() -> None:
    """generate_content"""
    answer = client.models.generate_content(model="gemini", contents=QUESTION)
    assert answer.text and answer.usage_metadata and answer.usage_metadata.candidates_token_count


def streamed() -> None:
    """generate_content_stream"""
    *_, last = chunks = list(client.models.generate_content_stream(model="gemini", contents=QUESTION))
    assert "".join(chunk.text or "" for chunk in chunks) and last.usage_metadata


def parsed() -> None:
    """a response schema, parsed"""
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Plain)
    assert isinstance(client.models.generate_content(model="gemini", contents=QUESTION, config=config).parsed, Plain)


def called() -> None:
    """a function that must be called"""
    function = types.FunctionDeclaration(name="order", parameters_json_schema=Plain.model_json_schema())
    calling = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[function])],
        tool_config=types.ToolConfig(function_calling_config=calling),
    )
    answer = client.models.generate_content(model="gemini", contents=QUESTION, config=config)
    (call,) = answer.function_calls or []
    assert call.name == "order" and Plain.model_validate(call.args)


if __name__ == "__main__":
    run("google-genai", generated, streamed, parsed, called)
