"""``POST /v1/responses``: the request. Input items are decoded one by one (`INPUT_ITEMS`), since a message need not say
that it is one.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, field

from schemas.openai.constraints import GrammarReading
from schemas.openai.generation import MAX_TOP_LOGPROBS, Effort, MaxTokens, SamplingFields
from schemas.openai.messages import RefusalPart
from schemas.openai.tools import MAX_TOOLS, TextInput, ToolName

LOGPROBS = "message.output_text.logprobs"


class TextFormat(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """No constraint."""


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """``strict``, true by default, says what becomes of a schema that cannot be enforced; what can be is enforced in
    either case."""

    name: ToolName
    schema: Raw
    description: str | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: Literal["medium"] | None = None


class FunctionTool(msgspec.Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """The last three are about programs that call tools; only null passes."""

    name: ToolName
    parameters: Raw = field(default_factory=partial(Raw, b"null"))
    strict: bool | None = None
    description: str | None = None
    allowed_callers: None = None
    defer_loading: Literal[False] | None = None
    output_schema: None = None


class GrammarInput(msgspec.Struct, tag_field="type", tag="grammar", forbid_unknown_fields=True, omit_defaults=True):
    """As `schemas.openai.tools.Definition`."""

    syntax: Literal["lark", "regex"]
    definition: str
    sluice: GrammarReading | None = None


class CustomTool(msgspec.Struct, tag_field="type", tag="custom", forbid_unknown_fields=True, omit_defaults=True):
    """A tool whose argument is a text. The last two are about programs that call tools."""

    name: ToolName
    description: str | None = None
    format: TextInput | GrammarInput | None = None
    allowed_callers: None = None
    defer_loading: Literal[False] | None = None


class NamedFunction(msgspec.Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    name: str


class NamedCustom(msgspec.Struct, tag_field="type", tag="custom", forbid_unknown_fields=True):
    name: str


class AllowedTools(msgspec.Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction | NamedCustom], Meta(min_length=1)]


ToolChoice = Literal["none", "auto", "required"] | NamedFunction | NamedCustom | AllowedTools


class ReasoningConfig(msgspec.Struct, forbid_unknown_fields=True):
    """No thoughts are summarised: they are shown as they are."""

    effort: Effort | None = None
    summary: None = None
    generate_summary: None = None


class ConversationRef(msgspec.Struct, forbid_unknown_fields=True):
    id: str


class ResponseRequest(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    """Fields typed ``object`` are guarded: only their neutral values pass."""

    input: str | Annotated[list[Raw], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: MaxTokens | None = None
    text: TextConfig | None = None
    tools: Annotated[list[FunctionTool | CustomTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    include: list[str] | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    previous_response_id: str | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: object = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    background: bool | None = None
    background_options: object = None
    conversation: str | ConversationRef | None = None
    context_management: object = None
    access_programs: object = None
    image: object = None
    moderation: object = None
    prompt: object = None
    reasoning: ReasoningConfig | None = None
    stream_options: object = None
    truncation: object = None

    @property
    def conversation_ref(self) -> ConversationRef | None:
        return ConversationRef(self.conversation) if isinstance(self.conversation, str) else self.conversation


class InputText(msgspec.Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """``prompt_cache_breakpoint`` is a hint to a cache that changes no answer; every prefix is cached here."""

    text: str
    prompt_cache_breakpoint: object = None


class OutputText(msgspec.Struct, tag_field="type", tag="output_text", forbid_unknown_fields=True):
    """Of an earlier answer; ``parsed`` is what OpenAI's SDK adds."""

    text: str
    annotations: Annotated[list[Raw], Meta(max_length=0)] | None = None
    logprobs: list[Raw] | None = None
    parsed: object = None


class MessageItem(msgspec.Struct, forbid_unknown_fields=True):
    """``id``, ``status`` and ``phase`` label an earlier answer that is sent back; they ask for nothing."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText | OutputText | RefusalPart]
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class FunctionCallItem(msgspec.Struct, forbid_unknown_fields=True):
    """``parsed_arguments`` is what OpenAI's SDK adds."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None
    parsed_arguments: object = None


class FunctionOutputItem(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputText]
    id: str | None = None
    name: str | None = None
    status: str | None = None


class CustomCallItem(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    input: str
    id: str | None = None
    status: str | None = None


class CustomOutputItem(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["custom_tool_call_output"]
    call_id: str
    output: str | list[InputText]
    id: str | None = None
    status: str | None = None


class ReasoningText(msgspec.Struct, tag_field="type", tag="reasoning_text", forbid_unknown_fields=True):
    text: str


class ReasoningItem(msgspec.Struct, forbid_unknown_fields=True):
    """What a model thought before an earlier answer of its own. Nothing is encrypted or summarised here."""

    type: Literal["reasoning"]
    content: list[ReasoningText] | None = None
    id: str | None = None
    status: str | None = None
    summary: Annotated[list[Raw], Meta(max_length=0)] | None = None


InputItem = ReasoningItem | MessageItem | FunctionCallItem | FunctionOutputItem | CustomCallItem | CustomOutputItem
INPUT_ITEMS: dict[str, type[InputItem]] = {
    "message": MessageItem,
    "reasoning": ReasoningItem,
    "function_call": FunctionCallItem,
    "function_call_output": FunctionOutputItem,
    "custom_tool_call": CustomCallItem,
    "custom_tool_call_output": CustomOutputItem,
}
