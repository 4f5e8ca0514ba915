"""Request fields that several endpoints share, with their ranges. A field that is absent or null has the API's own
default. Which fields exist at all, and what becomes of them, is said in `schemas.parameters`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType, field

from schemas.extension import RequestExtension
from schemas.openai.constraints import ResponseFormat, StructuredOutputs
from schemas.policy import ProviderPreferences

MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20

Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]
TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
StopString = Annotated[str, Meta(min_length=1, max_length=1024)]
MaxTokens = Annotated[int, Meta(ge=1, lt=2**31)]
Effort = Literal["none", "medium"]
"""Of thinking before the answer. Models here think or do not; how much, none of them can be told."""


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """``include_obfuscation`` (padding against traffic analysis) is refused when true."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which model, how its tokens are drawn, and where the text ends."""

    model: str
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Meta(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100.0)] | None = None
    logit_bias: dict[int, Annotated[float, Meta(ge=-100.0, le=100.0)]] | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=16)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=64)] | None = None
    ignore_eos: bool | None = None
    user: str | None = None
    provider: ProviderPreferences | None = None
    sluice: RequestExtension | None = None


class GenerationFields(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    """Of chat completions and completions. Fields typed ``object`` are guarded: only their neutral values pass."""

    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: MaxTokens | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Raw = field(default_factory=Raw)
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    priority: object = None
    guided_whitespace_pattern: object = None
    guided_decoding_backend: object = None
    ebnf: object = None
    regex: object = None
    json_schema: object = None


class PromptTokensDetails(msgspec.Struct, omit_defaults=True):
    """``cache_write_tokens``: written to a remote API's cache, where that has a price."""

    cached_tokens: int
    cache_write_tokens: int = 0


class CompletionTokensDetails(msgspec.Struct):
    """``reasoning_tokens``: of what was thought before the answer."""

    reasoning_tokens: int


class Usage(msgspec.Struct):
    """Tokens over all choices; a prompt counts once, whatever ``n`` is."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET
