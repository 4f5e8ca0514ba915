"""``POST /v1/messages``: the answer, and the events of a streamed answer (anthropic SDK 2 types); errors in this API's
shape.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import msgspec
from msgspec import Raw, field

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class Text(msgspec.Struct, tag_field="type", tag="text"):
    text: str
    citations: None = None


class Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    """What the model thought before it answered. It is not signed: whoever sends it back may change it."""

    thinking: str
    signature: str = ""


class ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    """``input``: the object's JSON text."""

    id: str
    name: str
    input: Raw = field(default_factory=partial(Raw, b"{}"))


Block = Text | Thinking | ToolUse


class Usage(msgspec.Struct):
    """``input_tokens``: those that were not read from the prefix cache."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class Message(msgspec.Struct):
    id: str
    model: str
    content: list[Block]
    usage: Usage
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    role: Literal["assistant"] = "assistant"
    type: Literal["message"] = "message"


class MessageStart(msgspec.Struct, tag_field="type", tag="message_start"):
    message: Message


class BlockStart(msgspec.Struct, tag_field="type", tag="content_block_start"):
    index: int
    content_block: Block


class TextDelta(msgspec.Struct, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(msgspec.Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class InputDelta(msgspec.Struct, tag_field="type", tag="input_json_delta"):
    partial_json: str


class BlockDelta(msgspec.Struct, tag_field="type", tag="content_block_delta"):
    index: int
    delta: TextDelta | ThinkingDelta | InputDelta


class BlockStop(msgspec.Struct, tag_field="type", tag="content_block_stop"):
    index: int


class Ending(msgspec.Struct):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(msgspec.Struct, tag_field="type", tag="message_delta"):
    delta: Ending
    usage: Usage


class MessageStop(msgspec.Struct, tag_field="type", tag="message_stop"):
    """The end of a stream that is whole."""


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class TokenCount(msgspec.Struct):
    input_tokens: int


class ErrorDetail(msgspec.Struct):
    type: str
    message: str


class ErrorAnswer(msgspec.Struct, tag_field="type", tag="error"):
    error: ErrorDetail
    request_id: str | None = None
