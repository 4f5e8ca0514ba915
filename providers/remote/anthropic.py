"""Anthropic's Messages: the system's words apart, tool results in the user's turns, one choice a call."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Raw, Struct

from providers.base import GenerationEvent, Message, Usage
from providers.remote.dialect import Ask, BrokenAnswer, Choices, decoded, instructions, named
from providers.remote.failures import failed_midway
from providers.remote.shaping import ShapedTool

VERSION = "2023-06-01"
_NAMES = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
_CUTS = frozenset({"max_tokens", "model_context_window_exceeded"})


class Anthropic:
    """A `Dialect`."""

    def path(self, ask: Ask) -> str:
        return "/messages"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"anthropic-version": VERSION, **({"x-api-key": key} if key else {})}

    def body(self, ask: Ask) -> dict[str, Any]:
        parameters = {_NAMES[name]: value for name, value in ask.parameters().items()}
        body: dict[str, Any] = {
            "model": ask.model,
            "max_tokens": ask.max_tokens,
            "messages": _turns(ask.messages),
            **parameters,
        }
        if system := "\n\n".join(instructions(ask)):
            body["system"] = system
        if ask.stream:
            body["stream"] = True
        if ask.request.stop:
            body["stop_sequences"] = list(ask.request.stop)
        if ask.shaping.schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": ask.shaping.schema}}
        if ask.request.tools is not None:
            body["tools"] = [_tool(tool) for tool in ask.shaping.tools]
            body["tool_choice"] = _choice(ask)
        return body

    def reader(self, ask: Ask) -> MessagesReader:
        return MessagesReader()


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if message.role == "system" or not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks  # the results of parallel calls belong in one turn
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": _id(message.call_id), "content": message.content}]
    text = named(message)
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    blocks += [
        {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": call.arguments} for call in message.calls
    ]
    return blocks


def _id(id: str) -> str:
    """An id that the API takes: other APIs' may hold more than letters, digits, - and _."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", id):
        return id
    return f"call_{hashlib.sha256(id.encode()).hexdigest()[:24]}"


def _tool(shaped: ShapedTool) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": shaped.name, "input_schema": shaped.parameters}
    if shaped.description is not None:
        tool["description"] = shaped.description
    if shaped.strict:
        tool["strict"] = True
    return tool


def _choice(ask: Ask) -> dict[str, Any]:
    tools = ask.request.tools
    assert tools is not None
    choice: dict[str, Any] = {"type": "any" if tools.required else "auto"}
    if tools.required and len(ask.shaping.tools) == 1 and not tools.parallel:
        choice = {"type": "tool", "name": ask.shaping.tools[0].name}
    if not tools.parallel:
        choice["disable_parallel_tool_use"] = True
    return choice


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Block(Struct):
    type: str
    text: str = ""
    name: str | None = None
    input: Raw = Raw(b"{}")


class _Message(Struct):
    content: list[_Block] = []
    usage: _Usage | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    error: Any = None


class _Delta(Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Event(Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


class MessagesReader:
    """A `Reader` of one choice."""

    def __init__(self) -> None:
        self.done = False
        self._choices = Choices(1)
        self._counts = _Usage()
        self._counted = False
        self._calls: dict[int, int] = {}
        self._spoken: set[int] = set()

    @property
    def usage(self) -> Usage | None:
        counts = self._counts
        if not self._counted or counts.input_tokens is None or counts.output_tokens is None:
            return None
        read, written = counts.cache_read_input_tokens or 0, counts.cache_creation_input_tokens or 0
        return Usage(counts.input_tokens + read + written, read, counts.output_tokens, written)

    def event(self, data: bytes) -> Iterator[GenerationEvent]:
        event = decoded(data, _Event)
        match event.type:
            case "message_start":
                self._count(event.message.usage if event.message else None)
            case "content_block_start":
                yield from self._begin(event.index, event.content_block)
            case "content_block_delta":
                yield from self._more(event.index, event.delta or _Delta())
            case "content_block_stop":
                yield from self._stop(event.index)
            case "message_delta":
                self._counted = event.usage is not None
                self._count(event.usage)
                delta = event.delta or _Delta()
                yield from self._finish(delta.stop_reason, delta.stop_sequence)
            case "message_stop":
                self.done = True
            case "error":
                raise failed_midway(event.error)
            case _:
                pass  # pings, and what the API may add

    def whole(self, body: bytes) -> Iterator[GenerationEvent]:
        message = decoded(body, _Message)
        if message.error:
            raise failed_midway(message.error)
        self._counted = message.usage is not None
        self._count(message.usage)
        for index, block in enumerate(message.content):
            yield from self._begin(index, block)
            if block.type == "tool_use":
                self._spoken.add(index)
                yield from self._choices.arguments(0, self._calls[index], bytes(block.input).decode())
        yield from self._finish(message.stop_reason, message.stop_sequence)
        self.end()

    def end(self) -> None:
        self._choices.end()

    def _begin(self, index: int, block: _Block | None) -> Iterator[GenerationEvent]:
        if block is None:
            raise BrokenAnswer("a block begins with nothing")
        if block.type == "text":
            yield from self._choices.text(0, block.text)
        elif block.type == "tool_use":
            self._calls[index] = self._choices.calls.get(0, 0)
            yield from self._choices.begin(0, block.name)

    def _more(self, index: int, delta: _Delta) -> Iterator[GenerationEvent]:
        if delta.type == "text_delta":
            yield from self._choices.text(0, delta.text)
        elif delta.type == "input_json_delta" and delta.partial_json:
            if index not in self._calls:
                raise BrokenAnswer("arguments belong to no call")
            self._spoken.add(index)
            yield from self._choices.arguments(0, self._calls[index], delta.partial_json)

    def _stop(self, index: int) -> Iterator[GenerationEvent]:
        """A call without arguments streams none."""
        if index in self._calls and index not in self._spoken:
            yield from self._choices.arguments(0, self._calls[index], "{}")

    def _finish(self, reason: str | None, stop: str | None) -> Iterator[GenerationEvent]:
        if reason is None:
            return
        if reason == "refusal":
            self._choices.decline(0)
        elif reason in ("end_turn", "tool_use", "stop_sequence"):
            yield from self._choices.finish(0, "stop", stop)
        elif reason in _CUTS:
            yield from self._choices.finish(0, "length")
        else:
            raise BrokenAnswer("the answer ended for a reason that nothing in the request allows")

    def _count(self, usage: _Usage | None) -> None:
        """Later counts replace earlier ones; what they leave out stays."""
        for name in self._counts.__struct_fields__:
            if usage is not None and (value := getattr(usage, name)) is not None:
                setattr(self._counts, name, value)
