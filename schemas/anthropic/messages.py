"""``POST /v1/messages`` and ``/v1/messages/count_tokens``: the requests (anthropic SDK 2 types).

``cache_control`` is a hint to a cache that changes no answer; every prefix is cached here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw

from schemas.extension import RequestExtension

MAX_TOOLS = 128


class TextBlock(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """``parsed_output`` is what Anthropic's SDK adds."""

    text: str
    cache_control: object = None
    citations: Annotated[list[Raw], Meta(max_length=0)] | None = None
    parsed_output: object = None


class ThinkingBlock(msgspec.Struct, tag_field="type", tag="thinking", forbid_unknown_fields=True):
    """What was thought before an earlier answer."""

    thinking: str
    signature: str = ""


class NoThinking(msgspec.Struct, tag_field="type", tag="disabled", forbid_unknown_fields=True):
    """The model is not to think. How much it thinks otherwise is its own affair, so no budget is taken."""


class ToolUseBlock(msgspec.Struct, tag_field="type", tag="tool_use", forbid_unknown_fields=True):
    """A call of an earlier answer."""

    id: str
    name: str
    input: dict[str, object]
    cache_control: object = None
    caller: None = None
    toolset_name: None = None


class ToolResultBlock(msgspec.Struct, tag_field="type", tag="tool_result", forbid_unknown_fields=True):
    tool_use_id: str
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None
    cache_control: object = None
    toolset_name: None = None


class UserMessage(msgspec.Struct, tag_field="role", tag="user", forbid_unknown_fields=True):
    content: str | list[TextBlock | ToolResultBlock]


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    content: str | list[TextBlock | ThinkingBlock | ToolUseBlock]


class SystemMessage(msgspec.Struct, tag_field="role", tag="system", forbid_unknown_fields=True):
    content: str | list[TextBlock]


Turn = UserMessage | AssistantMessage | SystemMessage


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """Input streams as it comes, so ``eager_input_streaming`` asks for nothing. ``strict`` says what becomes
    of a schema that cannot be enforced; what can be is enforced in either case."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    input_schema: Raw
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: object = None
    eager_input_streaming: bool | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None
    input_examples: Annotated[list[Raw], Meta(max_length=0)] | None = None


class AutoChoice(msgspec.Struct, tag_field="type", tag="auto", forbid_unknown_fields=True):
    disable_parallel_tool_use: bool | None = None


class AnyChoice(msgspec.Struct, tag_field="type", tag="any", forbid_unknown_fields=True):
    disable_parallel_tool_use: bool | None = None


class ToolChoice(msgspec.Struct, tag_field="type", tag="tool", forbid_unknown_fields=True):
    name: str
    disable_parallel_tool_use: bool | None = None


class NoChoice(msgspec.Struct, tag_field="type", tag="none", forbid_unknown_fields=True):
    """No tool may be called."""


class JsonOutput(msgspec.Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    schema: Raw


class OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    """``effort``: only what is the default passes; the others need a trained model."""

    format: JsonOutput | None = None
    effort: Literal["high"] | None = None


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str | None = None


class CountRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What makes up a prompt. Fields typed ``object`` are guarded: only their neutral values pass."""

    model: str
    messages: Annotated[list[Turn], Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoChoice | None = None
    output_config: OutputConfig | None = None
    output_format: JsonOutput | None = None
    cache_control: object = None
    thinking: NoThinking | None = None
    speed: object = None
    user_profile_id: object = None
    workspace_id: object = None


class MessageRequest(CountRequest, kw_only=True, forbid_unknown_fields=True):
    max_tokens: Annotated[int, Meta(ge=1, lt=2**31)]
    stream: bool | None = None
    stop_sequences: Annotated[list[Annotated[str, Meta(min_length=1, max_length=1024)]], Meta(max_length=16)] | None = (
        None
    )
    temperature: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    metadata: Metadata | None = None
    service_tier: object = None
    container: object = None
    diagnostics: object = None
    inference_geo: object = None
    context_management: object = None
    mcp_servers: object = None
    sluice: RequestExtension | None = None
