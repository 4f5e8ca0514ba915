"""Chat messages as they arrive, one Struct a role. Content is text, or parts of text."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.openai.tools import CustomCall, FunctionCall


class TextPart(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """``prompt_cache_breakpoint`` is a hint to a cache that changes no answer; every prefix is cached here."""

    text: str
    prompt_cache_breakpoint: object = None


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str


class SystemMessage(msgspec.Struct, tag_field="role", tag="system", forbid_unknown_fields=True):
    content: str | list[TextPart]
    name: str | None = None


class DeveloperMessage(msgspec.Struct, tag_field="role", tag="developer", forbid_unknown_fields=True):
    """OpenAI's newer name for the system message."""

    content: str | list[TextPart]
    name: str | None = None


class UserMessage(msgspec.Struct, tag_field="role", tag="user", forbid_unknown_fields=True):
    content: str | list[TextPart]
    name: str | None = None


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    """An earlier answer. Clients send back what they got, so empty ``tool_calls`` and the like must pass; ``parsed`` is
    what OpenAI's SDK adds. ``reasoning`` and ``reasoning_content``: what was thought before it, by either name."""

    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[FunctionCall | CustomCall] | None = None
    function_call: object = None
    audio: object = None
    annotations: object = None
    parsed: object = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class ToolMessage(msgspec.Struct, tag_field="role", tag="tool", forbid_unknown_fields=True):
    """The result of a call."""

    content: str | list[TextPart]
    tool_call_id: str
    name: str | None = None


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
ChatMessages = Annotated[list[ChatMessage], Meta(min_length=1)]
