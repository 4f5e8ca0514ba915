"""``POST /v1/chat/completions``."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request
from msgspec import UNSET, UnsetType

from gateway.answer import Asked, Choice
from gateway.asking import chat_request
from gateway.body import read_fields
from gateway.constraint import constraint_of
from gateway.models import find_model
from gateway.tokens import chat_logprobs
from providers.base import Delta, Finished, Provider, Usage
from schemas.openai import generation as wire
from schemas.openai.chat import ChatAnswer, ChatChoice, ChatChunk, ChatCompletion, ChatDelta, ChatRequest, ChunkChoice

_decoder = msgspec.json.Decoder(ChatRequest)
_encode = msgspec.json.Encoder().encode


async def read_chat(
    request: Request[Any, Any, Any], provider: Provider, *, tenant: str, id: str, created: int
) -> Asked:
    """Understand a request. Raises `ApiError`."""
    fields = await read_fields(request, _decoder, "chat")
    card = find_model(provider, fields.model)
    constraint = constraint_of(fields)
    generate = chat_request(fields, card, constraint, id=id, tenant=tenant)
    return Asked([generate], "messages", constraint, ChatShape(fields, id, created), bool(fields.stream))


class ChatShape:
    """`gateway.answer.Shape` of chat completions."""

    def __init__(self, fields: ChatRequest, id: str, created: int) -> None:
        self._id = id
        self._created = created
        self._model = fields.model
        self._logprobs = bool(fields.logprobs)
        self._include_usage = bool(fields.stream_options and fields.stream_options.include_usage)
        self._tier: str | UnsetType = "default" if fields.service_tier else UNSET

    def opening(self, choices: int) -> list[bytes]:
        """The role comes in a chunk of its own, before any text."""
        return [self._chunk([ChunkChoice(i, ChatDelta(role="assistant", content=""))]) for i in range(choices)]

    def delta(self, event: Delta) -> bytes:
        logprobs = chat_logprobs(event.tokens) if self._logprobs else None
        return self._chunk([ChunkChoice(event.choice, ChatDelta(content=event.text), logprobs=logprobs)])

    def finish(self, event: Finished) -> bytes:
        return self._chunk([ChunkChoice(event.choice, ChatDelta(), finish_reason=event.reason)])

    def usage(self, usage: Usage) -> bytes | None:
        return self._chunk([], usage_fields(usage)) if self._include_usage else None

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        answers = [
            ChatChoice(
                index=i,
                message=ChatAnswer("".join(choice.text)),
                finish_reason=choice.reason,
                logprobs=chat_logprobs(choice.tokens) if self._logprobs else None,
            )
            for i, choice in enumerate(choices)
        ]
        fields = usage_fields(usage)
        return _encode(ChatCompletion(self._id, self._created, self._model, answers, fields, service_tier=self._tier))

    def _chunk(self, choices: list[ChunkChoice], usage: wire.Usage | None = None) -> bytes:
        shown = usage if self._include_usage else UNSET
        return _encode(ChatChunk(self._id, self._created, self._model, choices, usage=shown, service_tier=self._tier))


def usage_fields(usage: Usage) -> wire.Usage:
    return wire.Usage(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        total_tokens=usage.prompt + usage.completion,
        prompt_tokens_details=wire.PromptTokensDetails(usage.cached),
    )
