"""``POST /v1/completions``."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
from litestar import Request
from msgspec import UNSET

from gateway.answer import DONE, Asked, Choice, sent
from gateway.asking import completion_requests
from gateway.body import read_fields
from gateway.chat import usage_fields
from gateway.constraint import constraint_of
from gateway.errors import ApiError
from gateway.extension import extending
from gateway.models import find_model
from gateway.tokens import CompletionTokens
from providers.base import Admission, Delta, Finished, Provider, Spoken, Usage
from schemas.openai import generation as wire
from schemas.openai.completions import Completion, CompletionChoice, CompletionRequest

_decoder = msgspec.json.Decoder(CompletionRequest)
_encode = msgspec.json.Encoder().encode


async def read_completion(
    request: Request[Any, Any, Any], provider: Provider, *, tenant: str, id: str, created: int
) -> Asked:
    """Understand a request. Raises `ApiError`."""
    fields = await read_fields(request, _decoder, "completions")
    card = find_model(provider, fields.model)
    constraint = constraint_of(fields)
    generates = completion_requests(fields, card, constraint, id=id, tenant=tenant)
    shape = CompletionShape(fields, id, created)
    extend = extending(fields.sluice, constraint, scored=fields.logprobs is not None)
    return Asked(generates, "prompt", constraint, shape, bool(fields.stream), extend=extend)


class CompletionShape:
    """`gateway.answer.Shape` of completions. There is no role to open with."""

    def __init__(self, fields: CompletionRequest, id: str, created: int) -> None:
        self._id = id
        self._created = created
        self._model = fields.model
        self._logprobs = fields.logprobs is not None
        self._include_usage = bool(fields.stream_options and fields.stream_options.include_usage)
        self._tokens: defaultdict[int, CompletionTokens] = defaultdict(CompletionTokens)

    def opening(self, choices: int, admission: Admission) -> bytes:
        return b""

    def spoken(self, event: Spoken) -> bytes:
        assert isinstance(event, Delta), "completions have no tools, and no template that has models think"
        logprobs = self._tokens[event.choice].logprobs(event.tokens) if self._logprobs else None
        return self._chunk([CompletionChoice(event.choice, event.text, logprobs=logprobs)])

    def finish(self, event: Finished) -> bytes:
        return self._chunk([CompletionChoice(event.choice, "", event.reason)])

    def closing(self, usage: Usage) -> bytes:
        return (self._chunk([], usage_fields(usage)) if self._include_usage else b"") + DONE

    def failure(self, error: ApiError) -> bytes:
        return sent(error.body())

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        answers = [
            CompletionChoice(
                index=i,
                text=choice.text,
                finish_reason=choice.reason,
                logprobs=CompletionTokens().logprobs(choice.tokens) if self._logprobs else None,
            )
            for i, choice in enumerate(choices)
        ]
        return _encode(Completion(self._id, self._created, self._model, answers, usage=usage_fields(usage)))

    def _chunk(self, choices: list[CompletionChoice], usage: wire.Usage | None = None) -> bytes:
        shown = usage if self._include_usage else UNSET
        return sent(_encode(Completion(self._id, self._created, self._model, choices, usage=shown)))
