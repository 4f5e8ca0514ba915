"""OpenAI's Responses: items instead of messages, nothing stored, one choice a call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from providers.base import Delta, GenerationEvent, Message, Usage
from providers.remote.dialect import ANSWER, Ask, BrokenAnswer, Choices, decoded, named
from providers.remote.failures import failed_midway
from providers.remote.openai_chat import CompletionDetails, Logprobs, PromptDetails, scored, usage_of
from providers.remote.shaping import ShapedTool

_SCORES = "message.output_text.logprobs"


class OpenAIResponses:
    """A `Dialect`."""

    def path(self, ask: Ask) -> str:
        return "/responses"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        shaping, tools = ask.shaping, ask.request.tools
        body: dict[str, Any] = {"model": ask.model, "input": _items(ask), "store": False, **ask.parameters()}
        if ask.stream:
            body["stream"] = True
        if ask.max_tokens is not None:
            body["max_output_tokens"] = ask.max_tokens
        if ask.request.sampling.logprobs is not None:
            body["include"] = [_SCORES]
            body["top_logprobs"] = ask.request.sampling.logprobs
        if shaping.schema is not None:
            form = {"type": "json_schema", "name": ANSWER, "schema": shaping.schema, "strict": shaping.strict}
            body["text"] = {"format": form}
        elif shaping.json_mode:
            body["text"] = {"format": {"type": "json_object"}}
        if tools is not None:
            body["tools"] = [_tool(tool) for tool in shaping.tools]
            body["tool_choice"] = _choice(ask)
            body["parallel_tool_calls"] = tools.parallel
        return body

    def reader(self, ask: Ask) -> ResponsesReader:
        return ResponsesReader()


def _items(ask: Ask) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for message in ask.messages:
        items += _item(message)
    if ask.shaping.instruction:
        place = next((i for i, item in enumerate(items) if item.get("role") != "system"), len(items))
        items.insert(place, {"role": "system", "content": ask.shaping.instruction})
    return items


def _item(message: Message) -> Iterator[dict[str, Any]]:
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": message.call_id, "output": message.content}
        return
    if message.content or not message.calls:
        yield {"role": message.role, "content": named(message)}
    for call in message.calls:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}


def _tool(shaped: ShapedTool) -> dict[str, Any]:
    # Here "strict" is true unless it is said not to be.
    tool = {"type": "function", "name": shaped.name, "parameters": shaped.parameters, "strict": shaped.strict}
    return tool if shaped.description is None else {**tool, "description": shaped.description}


def _choice(ask: Ask) -> Any:
    tools = ask.request.tools
    assert tools is not None
    if not tools.required:
        return "auto"
    if len(ask.shaping.tools) == 1 and not tools.parallel:
        return {"type": "function", "name": ask.shaping.tools[0].name}
    return "required"


class _Usage(Struct):
    input_tokens: int
    output_tokens: int
    input_tokens_details: PromptDetails | None = None
    output_tokens_details: CompletionDetails | None = None


class _Part(Struct):
    type: str
    text: str = ""
    refusal: str = ""
    logprobs: list[Logprobs] | None = None


class _Item(Struct):
    type: str
    name: str | None = None
    arguments: str = ""
    content: list[_Part] | None = None
    phase: str | None = None


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Struct):
    status: str | None = None
    output: list[_Item] = []
    usage: _Usage | None = None
    incomplete_details: _Incomplete | None = None
    error: Any = None


class _Event(Struct):
    type: str
    output_index: int = 0
    delta: Any = None
    item: _Item | None = None
    logprobs: list[Logprobs] | None = None
    response: _Response | None = None
    code: str | None = None


class ResponsesReader:
    """A `Reader` of one choice."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.done = False
        self._choices = Choices(1)
        self._calls: dict[int, int] = {}
        self._asides: set[int] = set()
        self._refusal = ""

    def event(self, data: bytes) -> Iterator[GenerationEvent]:
        if data == b"[DONE]":
            return
        event = decoded(data, _Event)
        match event.type:
            case "response.output_item.added":
                yield from self._begin(event.output_index, event.item)
            case "response.output_text.delta":
                yield from self._text(event.output_index, _string(event.delta), event.logprobs)
            case "response.refusal.delta":
                self._refusal += _string(event.delta)
            case "response.function_call_arguments.delta":
                if event.output_index not in self._calls:
                    raise BrokenAnswer("arguments belong to no call")
                yield from self._choices.arguments(0, self._calls[event.output_index], _string(event.delta))
            case "response.completed" | "response.incomplete" | "response.failed":
                yield from self._finish(event.response)
                self.done = True
            case "error":
                raise failed_midway({"code": event.code})
            case _:
                pass

    def whole(self, body: bytes) -> Iterator[GenerationEvent]:
        response = decoded(body, _Response)
        for index, item in enumerate(response.output):
            yield from self._begin(index, item)
            if item.type == "function_call":
                yield from self._choices.arguments(0, self._calls[index], item.arguments)
            for part in (item.content or ()) if item.type == "message" else ():
                yield from self._text(index, part.text, part.logprobs)
                self._refusal += part.refusal
        yield from self._finish(response)
        self.end()

    def end(self) -> None:
        self._choices.end()

    def _begin(self, index: int, item: _Item | None) -> Iterator[GenerationEvent]:
        if item is None:
            raise BrokenAnswer("an item begins with nothing")
        if item.phase == "commentary":
            self._asides.add(index)
        if item.type == "function_call":
            self._calls[index] = self._choices.calls.get(0, 0)
            yield from self._choices.begin(0, item.name)

    def _text(self, index: int, text: str, logprobs: list[Logprobs] | None) -> Iterator[GenerationEvent]:
        if index in self._asides:
            return
        scores = tuple(map(scored, logprobs or ()))
        for event in self._choices.text(0, text):
            yield Delta(0, text, scores) if scores else event

    def _finish(self, response: _Response | None) -> Iterator[GenerationEvent]:
        if response is None:
            raise BrokenAnswer("the answer ends with nothing")
        if response.error or response.status in ("failed", "cancelled"):
            raise failed_midway(response.error)
        if response.usage is not None:
            used = response.usage
            self.usage = usage_of(
                used.input_tokens, used.output_tokens, used.input_tokens_details, used.output_tokens_details
            )
        reason = response.incomplete_details.reason if response.incomplete_details else None
        if self._refusal or reason == "content_filter":
            self._choices.decline(0, self._refusal)
        elif response.status == "completed":
            yield from self._choices.finish(0, "stop")
        elif reason == "max_output_tokens":
            yield from self._choices.finish(0, "length")
        else:
            raise BrokenAnswer("the answer has a status that nothing in the request allows")


def _string(delta: Any) -> str:
    if not isinstance(delta, str):
        raise BrokenAnswer("a delta is no text")
    return delta
