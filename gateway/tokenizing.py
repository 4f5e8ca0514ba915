"""``POST /tokenize`` and ``POST /detokenize``: what a prompt is to a model, and what ids say."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from gateway.asking import known_ids
from gateway.body import read_struct
from gateway.chat_tools import offered_tools
from gateway.conversation import turns_of
from gateway.errors import from_provider, invalid
from gateway.models import find_model
from providers.base import Prompt, Provider, ProviderError
from schemas.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest

_text = msgspec.json.Decoder(TokenizeRequest)
_ids = msgspec.json.Decoder(DetokenizeRequest)
_encode = msgspec.json.Encoder().encode


async def tokenize(request: Request[Any, Any, Any], provider: Provider) -> bytes:
    """Raises `ApiError`."""
    fields = await read_struct(request, _text)
    card = find_model(provider, fields.model)
    if (fields.prompt is None) == (fields.messages is None):
        raise invalid("Exactly one of 'prompt' and 'messages' is wanted.", "prompt")
    if fields.prompt is not None and fields.tools:
        raise invalid("'tools' go together with 'messages'.", "tools")
    # A raw text has what the model wants around it; a conversation has what its template spells, and nothing more.
    usual = fields.prompt is not None
    if fields.add_special_tokens not in (None, usual):
        raise invalid(f"'add_special_tokens' can only be {str(usual).lower()} here.", "add_special_tokens")
    prompt: Prompt = turns_of(fields.messages) if fields.messages is not None else fields.prompt or ""
    try:
        ids = provider.tokenize(card.name, prompt, tuple(offered_tools(fields.tools or [])))
        texts = [provider.detokenize(card.name, [i]) for i in ids] if fields.return_token_strs else None
    except ProviderError as error:
        raise from_provider(error, None, "messages") from error
    return _encode(Tokenized(len(ids), card.context_length, ids, texts))


async def detokenize(request: Request[Any, Any, Any], provider: Provider) -> bytes:
    """Raises `ApiError`."""
    fields = await read_struct(request, _ids)
    card = find_model(provider, fields.model)
    known_ids(fields.tokens, card, "tokens")
    return _encode(Detokenized(provider.detokenize(card.name, fields.tokens)))
