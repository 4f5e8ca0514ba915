"""OpenAI's chat completions, and the extensions of vLLM, SGLang, TGI, llama.cpp, OpenRouter and Sluice that their rows
name.

Servers differ in what they leave out: an index of a call, the name of a finish reason, the last `[DONE]`, the usage.
What can be told all the same is taken; what cannot is a broken answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from providers.base import (
    Call,
    Candidate,
    Delta,
    GenerationEvent,
    Message,
    ScoredToken,
    Usage,
)
from providers.remote.dialect import ANSWER, Ask, BrokenAnswer, Choices, decoded, named
from providers.remote.failures import failed_midway
from providers.remote.shaping import ShapedTool

_STOPS = frozenset({"stop", "tool_calls", "function_call", "eos", "eos_token", "stop_sequence", "end_turn"})
_CUTS = frozenset({"length", "max_tokens", "model_length"})
_UNKNOWN_TOKEN = -1


class OpenAIChat:
    """A `Dialect`."""

    def path(self, ask: Ask) -> str:
        return "/chat/completions"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        request, can, shaping = ask.request, ask.can, ask.shaping
        body: dict[str, Any] = {"model": ask.model, "messages": _messages(ask), **ask.parameters()}
        if ask.stream:
            body["stream"] = True
            if can.stream_usage:
                body["stream_options"] = {"include_usage": True}
        if can.store:
            body["store"] = False
        if ask.n > 1:
            body["n"] = ask.n
        if ask.max_tokens is not None:
            body[can.max_tokens_field] = ask.max_tokens
        if request.stop:
            body["stop"] = list(request.stop)
        if request.stop_token_ids:
            body["stop_token_ids"] = list(request.stop_token_ids)
        if request.ignore_eos:
            body["ignore_eos"] = True
        if request.close:
            body["sluice"] = {"close": True}
        if request.sampling.logprobs is not None:
            body["logprobs"] = True
            body["top_logprobs"] = request.sampling.logprobs
        if can.require_parameters:
            body["provider"] = {"require_parameters": True}
        if shaping.schema is not None and can.schema_type == "json":
            body["response_format"] = {"type": "json", "value": shaping.schema}
        elif shaping.schema is not None and can.schema_type == "json_object":
            body["response_format"] = {"type": "json_object", "schema": shaping.schema}
        elif shaping.schema is not None:
            named = {"name": ANSWER, "schema": shaping.schema, "strict": shaping.strict}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        elif shaping.json_mode:
            body["response_format"] = {"type": "json_object"}
        if shaping.native:
            body["structured_outputs"] = shaping.native
        if request.tools is not None:
            body["tools"] = [_tool(tool) for tool in shaping.tools]
            body["tool_choice"] = _choice(ask)
            if not request.tools.parallel and can.parallel_tools:
                body["parallel_tool_calls"] = False
        return body

    def reader(self, ask: Ask) -> ChatReader:
        return ChatReader(ask.n)


def _messages(ask: Ask) -> list[dict[str, Any]]:
    messages = [_message(message, names=ask.can.names) for message in ask.messages]
    if ask.shaping.instruction:
        # After the system's own words, before the conversation.
        place = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
        messages.insert(place, {"role": "system", "content": ask.shaping.instruction})
    return messages


def _message(message: Message, *, names: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": message.content if names else named(message)}
    if names and message.name and message.role != "tool":
        out["name"] = message.name
    if message.calls:
        out["content"] = message.content or None
        out["tool_calls"] = [_called(call) for call in message.calls]
    if message.role == "tool":
        out["tool_call_id"] = message.call_id
    return out


def _called(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"id": call.id, "type": "function", "function": function}


def _tool(shaped: ShapedTool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": shaped.name, "parameters": shaped.parameters}
    if shaped.description is not None:
        function["description"] = shaped.description
    if shaped.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _choice(ask: Ask) -> Any:
    tools = ask.request.tools
    assert tools is not None
    if not tools.required:
        return "auto"
    if len(ask.shaping.tools) == 1 and not tools.parallel:
        return {"type": "function", "function": {"name": ask.shaping.tools[0].name}}
    return "required"


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    function: _Function | None = None
    index: int | None = None
    id: str | None = None


class _Alternative(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class Logprobs(_Alternative):
    top_logprobs: list[_Alternative] = []


class _ScoredText(Struct):
    content: list[Logprobs] | None = None


class _Said(Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    logprobs: _ScoredText | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class PromptDetails(Struct):
    """Of a usage, in both of OpenAI's APIs."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class ChatReader:
    """A `Reader`."""

    def __init__(self, n: int) -> None:
        self.usage: Usage | None = None
        self._choices = Choices(n)
        self._refusals: dict[int, str] = {}
        self._calls: dict[tuple[int, int], tuple[int, str | None]] = {}
        self.done = False

    def event(self, data: bytes) -> Iterator[GenerationEvent]:
        if self.done or data == b"[DONE]":
            self.done = True
            return
        yield from self._chunk(decoded(data, _Chunk))

    def whole(self, body: bytes) -> Iterator[GenerationEvent]:
        yield from self._chunk(decoded(body, _Chunk))
        self.end()

    def end(self) -> None:
        self._choices.end()

    def _chunk(self, chunk: _Chunk) -> Iterator[GenerationEvent]:
        if chunk.error:
            raise failed_midway(chunk.error)
        if chunk.usage is not None:
            used = chunk.usage
            self.usage = usage_of(
                used.prompt_tokens, used.completion_tokens, used.prompt_tokens_details, used.completion_tokens_details
            )
        for choice in chunk.choices:
            said = choice.delta or choice.message
            if said is not None:
                yield from self._said(choice.index, said, choice.logprobs)
            if choice.finish_reason is not None:
                yield from self._finish(choice, choice.finish_reason)

    def _said(self, choice: int, said: _Said, logprobs: _ScoredText | None) -> Iterator[GenerationEvent]:
        if said.refusal:
            self._refusals[choice] = self._refusals.get(choice, "") + said.refusal
        scores = tuple(map(scored, logprobs.content)) if logprobs and logprobs.content else ()
        for event in self._choices.text(choice, said.content):
            yield Delta(choice, said.content or "", scores) if scores else event
        if scores and not said.content:
            yield Delta(choice, "", scores)
        for position, call in enumerate(said.tool_calls or ()):
            yield from self._call(choice, position if call.index is None else call.index, call)

    def _call(self, choice: int, index: int, call: _Call) -> Iterator[GenerationEvent]:
        function = call.function or _Function()
        known = self._calls.get((choice, index))
        # Some servers give every call the index 0 and an id of its own.
        if known is None or (call.id and function.name and known[1] and call.id != known[1]):
            number = self._choices.calls.get(choice, 0)
            self._calls[choice, index] = known = (number, call.id)
            yield from self._choices.begin(choice, function.name)
        yield from self._choices.arguments(choice, known[0], function.arguments)

    def _finish(self, choice: _Choice, reason: str) -> Iterator[GenerationEvent]:
        refusal = self._refusals.get(choice.index, "")
        if refusal or reason == "content_filter":
            self._choices.decline(choice.index, refusal)
        elif reason in _STOPS:
            stop = choice.stop_reason if isinstance(choice.stop_reason, str) else None
            yield from self._choices.finish(choice.index, "stop", stop)
        elif reason in _CUTS:
            yield from self._choices.finish(choice.index, "length")
        else:
            raise BrokenAnswer("a choice ended for a reason that the API does not have")


def usage_of(prompt: int, completion: int, read: PromptDetails | None, spent: CompletionDetails | None) -> Usage:
    return Usage(
        prompt=prompt,
        cached=(read and read.cached_tokens) or 0,
        completion=completion,
        written=(read and read.cache_write_tokens) or 0,
        reasoning=(spent and spent.reasoning_tokens) or 0,
    )


def scored(token: Logprobs) -> ScoredToken:
    return ScoredToken(_candidate(token), tuple(map(_candidate, token.top_logprobs)))


def _candidate(it: _Alternative) -> Candidate:
    data = it.token.encode() if it.bytes is None else bytes(byte & 255 for byte in it.bytes)
    return Candidate(_UNKNOWN_TOKEN, data, it.logprob)
