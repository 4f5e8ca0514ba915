"""``POST /v1/chat/completions``: the request, the answer, and the chunks of a streamed answer (openai SDK 3 types)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.openai.generation import MAX_TOP_LOGPROBS, Effort, GenerationFields, MaxTokens, Usage
from schemas.openai.messages import ChatMessages
from schemas.openai.tools import AnsweredCall, AnsweredCustomCall, CallDelta, ChatTools, ToolChoice


class TemplateOptions(msgspec.Struct, forbid_unknown_fields=True):
    """vLLM's and SGLang's ``chat_template_kwargs``: variables of the template."""

    enable_thinking: bool | None = None


class ChatRequest(GenerationFields, kw_only=True, forbid_unknown_fields=True):
    messages: ChatMessages
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    store: bool | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    parallel_tool_calls: bool | None = None
    prediction: dict[str, object] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: object = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    reasoning_effort: Effort | None = None
    modalities: object = None
    tools: ChatTools | None = None
    tool_choice: ToolChoice | None = None
    functions: object = None
    function_call: object = None
    audio: object = None
    moderation: object = None
    web_search_options: object = None
    chat_template_kwargs: TemplateOptions | None = None


class TopLogprob(msgspec.Struct):
    """``bytes``: the token's own bytes, which alone need not be UTF-8."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(msgspec.Struct):
    content: list[TokenLogprob]
    refusal: None = None


class ChatAnswer(msgspec.Struct):
    """``content`` is null where the answer is calls and no text. ``reasoning`` and ``reasoning_content``, of which
    clients read either: what the model thought before it."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    tool_calls: list[AnsweredCall | AnsweredCustomCall] | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class ChatChoice(msgspec.Struct):
    index: int
    message: ChatAnswer
    finish_reason: str
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"
    service_tier: str | UnsetType = UNSET


class ChatDelta(msgspec.Struct, omit_defaults=True):
    role: str | None = None
    content: str | UnsetType | None = UNSET
    tool_calls: list[CallDelta] | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class ChunkChoice(msgspec.Struct):
    index: int
    delta: ChatDelta
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None


class ChatChunk(msgspec.Struct):
    """``usage`` is left out unless asked for; then it is null in every chunk but the last, which has no choices."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    usage: Usage | UnsetType | None = UNSET
    service_tier: str | UnsetType = UNSET
