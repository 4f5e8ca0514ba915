"""``POST /v1/completions``: the request and the answer. A streamed chunk has the shape of the whole answer."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.openai.generation import MAX_TOP_LOGPROBS, GenerationFields, TokenId, Usage

MAX_PROMPTS = 64


class CompletionRequest(GenerationFields, kw_only=True, forbid_unknown_fields=True):
    """``prompt``: text, token ids, or a list of either kind (never mixed): each prompt gets its own ``n`` choices."""

    prompt: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


class CompletionLogprobs(msgspec.Struct):
    """Parallel lists, one entry a token. ``text_offset``: code points of the choice's text before the token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct):
    index: int
    text: str
    finish_reason: str | None = None
    logprobs: CompletionLogprobs | None = None


class Completion(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    object: Literal["text_completion"] = "text_completion"
    usage: Usage | UnsetType | None = UNSET
