"""The local engine as a provider: chat templates, tokens and text on this side of the pipe, the engine process on the
other.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, cast
from uuid import uuid4

from engine.client import EngineClient, EngineGone, RequestEvent
from engine.model.chat_template import ChatTemplate, ChatTemplateError
from engine.model.files import open_model
from engine.model.tokenizer import Detokenizer, Tokenizer
from providers.base import (
    Admission,
    Candidate,
    Delta,
    Enforcement,
    ErrorKind,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Message,
    ProviderError,
    ScoredToken,
    Usage,
)  # fmt: skip
from providers.stops import StopFinder
from schemas.config import Settings
from schemas.engine import Failed, ModelCard, Report, Started, Submit, TokenLogprobs, Tokens
from schemas.engine import Finished as EngineFinished


@dataclass(frozen=True, slots=True)
class _Model:
    card: ModelCard
    tokenizer: Tokenizer
    template: ChatTemplate | None


class LocalProvider:
    """Answers with Sluice's own engine: constraints are masked, so what comes back cannot be wrong."""

    enforcement: Enforcement = "engine"

    def __init__(self, settings: Settings) -> None:
        self._client = EngineClient(settings)
        self._models: dict[str, _Model] = {}

    @property
    def ready(self) -> bool:
        return bool(self._models) and self._client.alive

    def models(self) -> list[ModelCard]:
        return [model.card for model in self._models.values()]

    async def start(self) -> None:
        try:
            await self._client.start()
        except EngineGone as error:
            raise ProviderError("unavailable", str(error)) from error
        opened = [await asyncio.to_thread(_open, card) for card in self._client.models]
        self._models = {model.card.name: model for model in opened}

    async def generate(self, request: GenerateRequest) -> LocalGeneration:
        model = self._models.get(request.model)
        if model is None:
            raise ProviderError("unknown_model", f"The model `{request.model}` does not exist.", param="model")
        prompt = _prompt_tokens(model, request.prompt)
        room = model.card.context_length - len(prompt)
        if room < 1 or (request.max_tokens or 0) > room:
            asked = f" and {request.max_tokens} for the answer" if request.max_tokens else ""
            raise ProviderError(
                "context_length",
                f"The model's context holds {model.card.context_length} tokens; the request needs {len(prompt)} for the"
                f" prompt{asked}.",
            )
        submit = Submit(
            id=request.id,
            model=request.model,
            prompt=prompt,
            max_tokens=request.max_tokens or max(1, min(room, model.card.kv_tokens - len(prompt))),
            n=request.n,
            sampling=request.sampling,
            constraint=request.constraint,
            stop_token_ids=list(request.stop_token_ids),
            ignore_eos=request.ignore_eos,
            tenant=request.tenant,
            priority=request.priority,
            track_complete=bool(request.stop) and request.constraint is not None,
        )
        try:
            events = self._client.submit(submit)
        except EngineGone as error:
            raise ProviderError("unavailable", str(error)) from error
        generation = LocalGeneration(self._client, model.tokenizer, request, len(prompt), events)
        try:
            await generation.admitted()
        except BaseException:
            await generation.aclose()
            raise
        return generation

    async def report(self) -> Report:
        try:
            return await self._client.report()
        except EngineGone as error:
            raise ProviderError("unavailable", str(error)) from error

    async def aclose(self) -> None:
        await self._client.aclose()


class LocalGeneration:
    """One request under way in the engine. Implements `providers.base.Generation`."""

    def __init__(
        self,
        client: EngineClient,
        tokenizer: Tokenizer,
        request: GenerateRequest,
        prompt_tokens: int,
        events: asyncio.Queue[RequestEvent | EngineGone],
    ) -> None:
        self.admission = Admission(prompt_tokens)
        self._client = client
        self._tokenizer = tokenizer
        self._request = request
        self._events = events
        self._texts = [
            _ChoiceText(i, tokenizer, request.stop, request.constraint is not None) for i in range(request.n)
        ]
        self._running = request.n
        self._cached = 0
        self._closed = False

    async def admitted(self) -> None:
        """Return once the engine has admitted the request. Raises ProviderError when it refuses."""
        event = await self._next()
        assert isinstance(event, Started), f"the engine began a request with {event}"
        self.admission = Admission(self.admission.prompt_tokens, event.contract, tuple(event.reasons))

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        while self._running:
            event = await self._next()
            match event:
                case Tokens():
                    self._cached += event.cached
                    text = self._texts[event.choice]
                    if text.ended:
                        continue
                    delta = text.take(event)
                    if delta is not None:
                        yield delta
                    if text.stopped:
                        self._client.cancel(self._request.id, event.choice)
                        yield self._end(text, "stop")
                case EngineFinished():
                    text = self._texts[event.choice]
                    if text.ended:
                        continue
                    delta = text.rest()
                    if delta is not None:
                        yield delta
                    yield self._end(text, cast(Literal["stop", "length"], event.reason))
                case Started():
                    pass
        completion = sum(text.tokens for text in self._texts)
        yield Usage(self.admission.prompt_tokens, self._cached, completion)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._running:
            self._client.cancel(self._request.id)
        self._client.forget(self._request.id)

    def _end(self, text: _ChoiceText, reason: Literal["stop", "length"]) -> Finished:
        text.ended = True
        self._running -= 1
        return Finished(text.choice, reason)

    async def _next(self) -> Started | Tokens | EngineFinished:
        event = await self._events.get()
        if isinstance(event, EngineGone):
            self._running = 0
            raise ProviderError("unavailable", str(event))
        if isinstance(event, Failed):
            self._running = 0
            raise ProviderError(cast(ErrorKind, event.kind), event.message, pointer=event.pointer)
        return event


class _ChoiceText:
    """Token ids of one choice into text: characters are never split, stop strings never shown."""

    def __init__(self, choice: int, tokenizer: Tokenizer, stops: tuple[str, ...], constrained: bool) -> None:
        self.choice = choice
        self.tokens = 0
        self.ended = False
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopFinder(stops, constrained)

    @property
    def stopped(self) -> bool:
        return self._stops.stopped

    def take(self, event: Tokens) -> Delta | None:
        """The delta that new tokens make, None if nothing is to be told yet."""
        self.tokens += len(event.ids)
        text = ""
        for i, token in enumerate(event.ids):
            text += self._stops.feed(self._detokenizer.feed((token,)))
            if event.complete is not None:
                self._stops.boundary(event.complete[i])
        scores = tuple(map(self._scored, event.ids, event.logprobs)) if event.logprobs is not None else ()
        return Delta(self.choice, text, scores) if text or scores else None

    def rest(self) -> Delta | None:
        """What was held back until the end."""
        text = self._stops.feed(self._detokenizer.flush()) + self._stops.flush()
        return Delta(self.choice, text) if text else None

    def _scored(self, token: int, scores: TokenLogprobs) -> ScoredToken:
        top = tuple(map(self._candidate, scores.top_ids, scores.top_logprobs))
        return ScoredToken(self._candidate(token, scores.logprob), top)

    def _candidate(self, token: int, logprob: float) -> Candidate:
        data = self._tokenizer.token_bytes(token) if token < self._tokenizer.vocab_size else b""
        if data is None:
            data = self._tokenizer.token_text(token).encode()
        return Candidate(token, data, logprob)


def _open(card: ModelCard) -> _Model:
    files = open_model(card.source)
    return _Model(card, files.tokenizer(), files.chat_template())


def _prompt_tokens(model: _Model, prompt: tuple[Message, ...] | str | list[int]) -> list[int]:
    if isinstance(prompt, list):
        return prompt
    if isinstance(prompt, str):
        return model.tokenizer.encode(prompt, special=False, begin=True)
    if model.template is None:
        raise ProviderError(
            "invalid_request",
            f"The model `{model.card.name}` has no chat template: use /v1/completions.",
            param="messages",
        )
    try:
        return _render(model.tokenizer, model.template, prompt)
    except ChatTemplateError as error:
        raise ProviderError("invalid_request", str(error), param="messages") from error


def _render(tokenizer: Tokenizer, template: ChatTemplate, turns: tuple[Message, ...]) -> list[int]:
    """The rendered turns as ids. Special tokens come from the template alone: a caller who spells one in a message has
    written text, and cannot end a turn or open another one with it."""
    names = tokenizer.special_names
    spelled = {i for i, turn in enumerate(turns) if any(name in turn.content for name in names)}
    if not spelled:
        return tokenizer.encode(template.render([_turn(turn, turn.content) for turn in turns]), special=True)
    mark = uuid4().hex
    marked = [_turn(turn, f"{mark}{i};" if i in spelled else turn.content) for i, turn in enumerate(turns)]
    ids: list[int] = []
    for n, piece in enumerate(re.split(f"{mark}([0-9]+);", template.render(marked))):
        if n % 2:
            ids += tokenizer.encode(turns[int(piece)].content, special=False)
        elif piece:
            ids += tokenizer.encode(piece, special=True)
    return ids


def _turn(turn: Message, content: str) -> dict[str, str]:
    return {"role": turn.role, "content": content} | ({"name": turn.name} if turn.name else {})
