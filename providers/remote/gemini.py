"""Gemini's generateContent: turns of parts, one event an answer so far, and no event that says it is over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from msgspec import Raw, Struct

from providers.base import GenerationEvent, Message, Usage
from providers.remote.dialect import Ask, BrokenAnswer, Choices, decoded, instructions, named
from providers.remote.failures import failed_midway
from providers.remote.shaping import ShapedTool

_NAMES = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_DECLINED = frozenset({"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"})

UNSIGNED = "skip_thought_signature_validator"
"""In place of a call's thought signature, which other APIs do not carry: Google's documented way to bring calls along
that its models did not make (https://ai.google.dev/gemini-api/docs/thought-signatures)."""


class Gemini:
    """A `Dialect`."""

    def path(self, ask: Ask) -> str:
        model = quote(ask.model, safe="")
        return f"/models/{model}:streamGenerateContent?alt=sse" if ask.stream else f"/models/{model}:generateContent"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"x-goog-api-key": key} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        config: dict[str, Any] = {_NAMES[name]: value for name, value in ask.parameters().items()}
        if ask.max_tokens is not None:
            config["maxOutputTokens"] = ask.max_tokens
        if ask.n > 1:
            config["candidateCount"] = ask.n
        if ask.request.stop:
            config["stopSequences"] = list(ask.request.stop)
        if ask.shaping.schema is not None or ask.shaping.json_mode:
            config["responseMimeType"] = "application/json"
        if ask.shaping.schema is not None:
            config["responseJsonSchema"] = ask.shaping.schema
        body: dict[str, Any] = {"contents": _turns(ask.messages), "generationConfig": config}
        if system := "\n\n".join(instructions(ask)):
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if ask.request.tools is not None:
            body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in ask.shaping.tools]}]
            mode = "ANY" if ask.request.tools.required else "AUTO"
            body["toolConfig"] = {"functionCallingConfig": {"mode": mode}}
        return body

    def reader(self, ask: Ask) -> ContentReader:
        return ContentReader(ask.n)


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "model" if message.role == "assistant" else "user"
        parts = _parts(message)
        if message.role == "system" or not parts:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        else:
            turns.append({"role": role, "parts": parts})
    return turns


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"functionResponse": {"name": message.name or "", "response": {"output": message.content}}}]
    text = named(message)
    parts: list[dict[str, Any]] = [{"text": text}] if text else []
    calls: list[dict[str, Any]] = [{"functionCall": {"name": c.name, "args": c.arguments}} for c in message.calls]
    if calls:
        calls[0]["thoughtSignature"] = UNSIGNED
    return parts + calls


def _declaration(shaped: ShapedTool) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": shaped.name, "parametersJsonSchema": shaped.parameters}
    if shaped.description is not None:
        declaration["description"] = shaped.description
    return declaration


class _FunctionCall(Struct):
    name: str | None = None
    args: Raw = Raw(b"{}")


class _Part(Struct, rename="camel"):
    text: str | None = None
    thought: bool = False
    function_call: _FunctionCall | None = None


class _Content(Struct):
    parts: list[_Part] = []


class _Candidate(Struct, rename="camel"):
    index: int = 0
    content: _Content | None = None
    finish_reason: str | None = None


class _UsageMetadata(Struct, rename="camel"):
    prompt_token_count: int = 0
    cached_content_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0


class _Feedback(Struct, rename="camel"):
    block_reason: str | None = None


class _Answer(Struct, rename="camel"):
    candidates: list[_Candidate] = []
    usage_metadata: _UsageMetadata | None = None
    prompt_feedback: _Feedback | None = None
    error: Any = None


class ContentReader:
    """A `Reader`."""

    def __init__(self, n: int) -> None:
        self.usage: Usage | None = None
        self.done = False
        self._n = n
        self._choices = Choices(n)

    def event(self, data: bytes) -> Iterator[GenerationEvent]:
        answer = decoded(data, _Answer)
        if answer.error:
            raise failed_midway(answer.error)
        if answer.usage_metadata is not None:
            self.usage = _usage(answer.usage_metadata)
        if answer.prompt_feedback is not None and answer.prompt_feedback.block_reason:
            for choice in range(self._n):
                self._choices.decline(choice, answer.prompt_feedback.block_reason)
        for candidate in answer.candidates:
            for part in candidate.content.parts if candidate.content else ():
                yield from self._part(candidate.index, part)
            if candidate.finish_reason is not None:
                yield from self._finish(candidate.index, candidate.finish_reason)

    def whole(self, body: bytes) -> Iterator[GenerationEvent]:
        yield from self.event(body)
        self.end()

    def end(self) -> None:
        self._choices.end()

    def _part(self, choice: int, part: _Part) -> Iterator[GenerationEvent]:
        if part.function_call is not None:
            number = self._choices.calls.get(choice, 0)
            yield from self._choices.begin(choice, part.function_call.name)
            yield from self._choices.arguments(choice, number, bytes(part.function_call.args).decode())
        elif not part.thought:
            yield from self._choices.text(choice, part.text)

    def _finish(self, choice: int, reason: str) -> Iterator[GenerationEvent]:
        if reason == "STOP":
            yield from self._choices.finish(choice, "stop")
        elif reason == "MAX_TOKENS":
            yield from self._choices.finish(choice, "length")
        elif reason in _DECLINED:
            self._choices.decline(choice, reason)
        else:
            raise BrokenAnswer(f"the answer ended with {reason[:60]}")


def _usage(usage: _UsageMetadata) -> Usage:
    thoughts = usage.thoughts_token_count
    return Usage(
        prompt=usage.prompt_token_count,
        cached=usage.cached_content_token_count,
        completion=usage.candidates_token_count + thoughts,
        reasoning=thoughts,
    )
