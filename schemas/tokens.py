"""``POST /tokenize`` and ``POST /detokenize``, in vLLM's shape."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.openai.generation import TokenId
from schemas.openai.messages import ChatMessages
from schemas.openai.tools import ChatTools


class TokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A text (``prompt``), or a conversation (``messages``, with ``tools``) as its chat template renders it. The ids
    are those that a request would be answered for, so the two switches can only say what happens anyway."""

    model: str
    prompt: str | None = None
    messages: ChatMessages | None = None
    tools: ChatTools | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: Literal[True] | None = None
    return_token_strs: bool | None = None


class Tokenized(msgspec.Struct, omit_defaults=True):
    """``max_model_len``: the model's context."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    tokens: Annotated[list[TokenId], Meta(max_length=1_000_000)]


class Detokenized(msgspec.Struct):
    prompt: str
