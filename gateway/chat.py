"""``POST /v1/chat/completions``."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
from litestar import Request
from msgspec import UNSET, UnsetType

from gateway.answer import DONE, Asked, Called, Choice, sent
from gateway.asking import chat_request
from gateway.body import read_fields
from gateway.chat_tools import tool_places
from gateway.constraint import constraint_of
from gateway.errors import ApiError
from gateway.extension import extending
from gateway.models import find_model
from gateway.tokens import chat_logprobs
from providers.base import Admission, CallBegun, CallDelta, Delta, Finished, Provider, Spoken, Thought, Tools, Usage
from schemas.openai import generation as wire
from schemas.openai import tools as wire_tools
from schemas.openai.chat import ChatAnswer, ChatChoice, ChatChunk, ChatCompletion, ChatDelta, ChatRequest, ChunkChoice
from schemas.openai.tools import (
    AnsweredCall,
    AnsweredCustomCall,
    AnsweredFunction,
    CalledCustom,
    CustomDelta,
    FunctionDelta,
    NamedCustom,
    NamedFunction,
)

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
    shape = ChatShape(fields, generate.tools, id, created)
    extend = extending(fields.sluice, constraint, scored=bool(fields.logprobs))
    places = tool_places(fields.tools or [])
    return Asked([generate], "messages", constraint, shape, bool(fields.stream), places, extend)


class ChatShape:
    """`gateway.answer.Shape` of chat completions.

    The role comes in a chunk of its own, before anything else, with the content that the answer will have: "" for text,
    null for calls alone. So where the model may choose, that chunk waits until it has.
    """

    def __init__(self, fields: ChatRequest, tools: Tools | None, id: str, created: int) -> None:
        self._id = id
        self._created = created
        self._model = fields.model
        self._logprobs = bool(fields.logprobs)
        self._include_usage = bool(fields.stream_options and fields.stream_options.include_usage)
        self._tier: str | UnsetType = "default" if fields.service_tier else UNSET
        self._tools = tools
        # OpenAI ends a call that was asked for by name as if it were the text that was asked for.
        self._called = "stop" if isinstance(fields.tool_choice, NamedFunction | NamedCustom) else "tool_calls"
        self._opened: set[int] = set()
        self._calling: set[int] = set()
        self._custom: set[tuple[int, int]] = set()

    def opening(self, choices: int, admission: Admission) -> bytes:
        if self._tools is not None and not self._tools.required:
            return b""
        content = "" if self._tools is None else None
        return b"".join(self._open(i, content) for i in range(choices))

    def spoken(self, event: Spoken) -> bytes:
        opening = self._open(event.choice, None if isinstance(event, CallBegun | CallDelta) else "")
        logprobs = None
        match event:
            case Delta():
                delta = ChatDelta(content=event.text)
                logprobs = chat_logprobs(event.tokens) if self._logprobs else None
            case Thought(text=text):
                delta = ChatDelta(reasoning=text, reasoning_content=text)
            case CallBegun(choice, number, name, custom):
                self._calling.add(choice)
                if custom:
                    self._custom.add((choice, number))
                delta = self._call(choice, number, "", name)
            case CallDelta(choice, number, arguments):
                delta = self._call(choice, number, arguments)
        return opening + self._chunk([ChunkChoice(event.choice, delta, logprobs=logprobs)])

    def _call(self, choice: int, number: int, text: str, name: str | None = None) -> ChatDelta:
        """``name``: the call begins."""
        id = call_id() if name else None
        if (choice, number) in self._custom:
            custom = CustomDelta(text, name)
            delta = wire_tools.CallDelta(number, id=id, type="custom" if name else None, custom=custom)
        else:
            delta = wire_tools.CallDelta(number, FunctionDelta(text, name), id, "function" if name else None)
        return ChatDelta(tool_calls=[delta])

    def finish(self, event: Finished) -> bytes:
        reason = self._reason(event.reason, event.choice in self._calling)
        last = self._chunk([ChunkChoice(event.choice, ChatDelta(), finish_reason=reason)])
        return self._open(event.choice, "") + last

    def closing(self, usage: Usage) -> bytes:
        return (self._chunk([], usage_fields(usage)) if self._include_usage else b"") + DONE

    def failure(self, error: ApiError) -> bytes:
        return sent(error.body())

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        answers = [
            ChatChoice(
                index=i,
                message=_answer(choice),
                finish_reason=self._reason(choice.reason, bool(choice.calls)),
                logprobs=chat_logprobs(choice.tokens) if self._logprobs else None,
            )
            for i, choice in enumerate(choices)
        ]
        fields = usage_fields(usage)
        return _encode(ChatCompletion(self._id, self._created, self._model, answers, fields, service_tier=self._tier))

    def _open(self, choice: int, content: str | None) -> bytes:
        if choice in self._opened:
            return b""
        self._opened.add(choice)
        return self._chunk([ChunkChoice(choice, ChatDelta(role="assistant", content=content))])

    def _reason(self, reason: str, called: bool) -> str:
        return self._called if called and reason == "stop" else reason

    def _chunk(self, choices: list[ChunkChoice], usage: wire.Usage | None = None) -> bytes:
        shown = usage if self._include_usage else UNSET
        chunk = ChatChunk(self._id, self._created, self._model, choices, usage=shown, service_tier=self._tier)
        return sent(_encode(chunk))


def call_id() -> str:
    return f"call_{uuid4().hex[:24]}"


def _answer(choice: Choice) -> ChatAnswer:
    calls = [_answered(call) for call in choice.calls]
    content = choice.text or (None if calls else "")
    thoughts = choice.thoughts or UNSET
    return ChatAnswer(content, tool_calls=calls or UNSET, reasoning=thoughts, reasoning_content=thoughts)


def _answered(call: Called) -> AnsweredCall | AnsweredCustomCall:
    if call.custom:
        return AnsweredCustomCall(call_id(), CalledCustom(call.name, call.arguments))
    return AnsweredCall(call_id(), AnsweredFunction(call.name, call.arguments))


def usage_fields(usage: Usage) -> wire.Usage:
    return wire.Usage(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        total_tokens=usage.prompt + usage.completion,
        prompt_tokens_details=wire.PromptTokensDetails(usage.cached, usage.written),
        completion_tokens_details=wire.CompletionTokensDetails(usage.reasoning) if usage.reasoning else UNSET,
    )
