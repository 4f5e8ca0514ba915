"""The local engine as a provider: chat templates, tokens and text on this side of the pipe, the engine process on the
other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, cast
from uuid import uuid4

from engine.client import EngineClient, EngineGone, RequestEvent
from engine.model.files import open_model
from engine.model.tokenizer import Tokenizer
from providers.base import (
    Admission,
    CacheHits,
    ErrorKind,
    Finished,
    GenerateRequest,
    Generation,
    GenerationEvent,
    Prompt,
    ProviderError,
    Tool,
    Tools,
    Usage,
    Weighed,
    WeighRequest,
)
from providers.call_plan import Plan
from providers.choice_text import ChoiceText
from providers.degrading import CheckedGeneration, Checks
from providers.pinning import pinned_tokens
from providers.preparing import Preparer
from providers.prompting import Prompter
from providers.questions import lay_out
from providers.tool_calls import CallReader
from providers.weighing import weigh
from schemas.config import Settings
from schemas.constraint import ConstraintSpec
from schemas.engine import Failed, Inspect, Inspected, ModelCard, Pin, Report, Score, Scored, Started, Submit, Tokens
from schemas.engine import Finished as EngineFinished
from schemas.tenants import PinnedPrefix

SCORES_AT_ONCE = 32
"""Prompts that are scored at a time: a request may ask for thousands, and the engine's queue is everybody's."""


@dataclass(frozen=True, slots=True)
class _Model:
    card: ModelCard
    tokenizer: Tokenizer
    prompter: Prompter | None

    @property
    def preparer(self) -> Preparer:
        return Preparer(self.card.name, self.tokenizer, self.prompter)


class LocalProvider:
    """Answers with Sluice's own engine: constraints are masked, so what comes back cannot be wrong."""

    def __init__(self, settings: Settings) -> None:
        self._client = EngineClient(settings)
        self._models: dict[str, _Model] = {}
        self._pins = settings.pins
        self._scoring = asyncio.Semaphore(SCORES_AT_ONCE)

    @property
    def ready(self) -> bool:
        return bool(self._models) and self._client.alive

    def models(self) -> list[ModelCard]:
        return [model.card for model in self._models.values()]

    def launch(self) -> None:
        """Let the engine load its models already; `start` waits for it."""
        self._client.launch()

    def kill(self) -> None:
        """End an engine that `aclose` has not ended."""
        self._client.kill()

    async def start(self) -> None:
        try:
            await self._client.start()
        except EngineGone as error:
            raise ProviderError("unavailable", str(error)) from error
        opened = [await asyncio.to_thread(_open, card) for card in self._client.models]
        self._models = {model.card.name: model for model in opened}
        for number, pin in enumerate(self._pins):
            await self._pin(f"pins[{number}]", pin)

    async def _pin(self, place: str, pin: PinnedPrefix) -> None:
        """Raises ProviderError, naming ``place``."""
        model = self._model(pin.model)
        prefix = await asyncio.to_thread(pinned_tokens, pin, model.preparer, place)
        try:
            answer = await self._client.pin(Pin(f"pin-{uuid4().hex}", pin.model, prefix, pin.tenant or ""))
        except EngineGone as error:
            raise ProviderError("unavailable", str(error)) from error
        if isinstance(answer, Failed):
            raise ProviderError(cast(ErrorKind, answer.kind), f"{place}: {answer.message}")
        model.card.kv_tokens -= answer.tokens

    async def generate(self, request: GenerateRequest) -> Generation:
        checks = Checks()
        while True:
            try:
                generation = await self._admit(request)
            except ProviderError as error:
                request = checks.weaken(request, error)
            else:
                return CheckedGeneration(generation, checks) if checks.reasons else generation

    async def _admit(self, request: GenerateRequest) -> LocalGeneration:
        model = self._model(request.model)
        prepared = model.preparer.prepare(request)
        plan, constraint, prompt = prepared.plan, prepared.constraint, prepared.prompt
        if request.close:
            _check_closing(request, constraint)
        room = model.card.context_length - len(prompt)
        if room < 1 or ((request.max_tokens or 0) > room and not request.clip):
            asked = f" and {request.max_tokens} for the answer" if request.max_tokens else ""
            # Clients know this error by these words of OpenAI's, whatever its code says.
            raise ProviderError(
                "context_length",
                f"This model's maximum context length is {model.card.context_length} tokens; the request needs "
                f"{len(prompt)} for the prompt{asked}.",
            )
        submit = Submit(
            id=request.id,
            model=request.model,
            prompt=prompt,
            max_tokens=_limit(request, min(room, model.card.kv_tokens - len(prompt))),
            n=request.n,
            sampling=request.sampling,
            constraint=constraint,
            stop_token_ids=list(request.stop_token_ids),
            ignore_eos=request.ignore_eos,
            tenant=request.tenant,
            priority=request.priority,
            track_complete=bool(request.stop) and constraint is not None,
            close=request.close,
        )
        try:
            events = self._client.submit(submit)
        except EngineGone as error:
            raise ProviderError("unavailable", str(error)) from error
        readers = [_reader(request.tools, plan) if plan and request.tools else None for _ in range(request.n)]
        texts = [
            ChoiceText(i, model.tokenizer, request.stop, constraint is not None, reader, prepared.stage)
            for i, reader in enumerate(readers)
        ]
        generation = LocalGeneration(self._client, request.id, len(prompt), events, texts)
        try:
            await generation.admitted()
        except ProviderError as error:
            await generation.aclose()
            if request.close and error.kind == "invalid_request":
                error.param = "max_tokens"
            raise prepared.blame(error) from error
        except BaseException:
            await generation.aclose()
            raise
        return generation

    def tokenize(self, model: str, prompt: Prompt, tools: tuple[Tool, ...] = ()) -> list[int]:
        return self._model(model).preparer.tokens(prompt, tools)

    def detokenize(self, model: str, ids: list[int]) -> str:
        tokenizer = self._model(model).tokenizer
        return tokenizer.decode(i for i in ids if i < tokenizer.vocab_size)

    def _model(self, name: str) -> _Model:
        if name not in self._models:
            raise ProviderError("unknown_model", f"The model `{name}` does not exist.", param="model")
        return self._models[name]

    async def inspect(self, model: str, constraint: ConstraintSpec) -> Inspected:
        self._model(model)
        try:
            answer = await self._client.inspect(Inspect(f"inspect-{uuid4().hex}", model, constraint))
        except EngineGone as error:
            raise ProviderError("unavailable", str(error)) from error
        if isinstance(answer, Failed):
            raise ProviderError(cast(ErrorKind, answer.kind), answer.message, pointer=answer.pointer)
        return answer

    async def weigh(self, request: WeighRequest) -> Weighed:
        model = self._model(request.model)
        # Tokenising all questions may take longer than others want to wait.
        room = min(model.card.context_length, model.card.kv_tokens) - 1
        asked = await asyncio.to_thread(lay_out, request, model.preparer, room)

        async def score(id: str, prompt: list[int], candidates: list[int]) -> Scored:
            one = Score(f"{request.id}-{id}", request.model, prompt, candidates, request.tenant, request.priority)
            async with self._scoring:
                return await self._score(one)

        probabilities, cached = await weigh(score, asked.prompts, asked.options, model.card.eos_ids)
        return Weighed(probabilities, Usage(asked.tokens, cached, 0))

    async def _score(self, asked: Score) -> Scored:
        try:
            answer = await self._client.score(asked)
        except EngineGone as error:
            raise ProviderError("unavailable", str(error)) from error
        if isinstance(answer, Failed):
            raise ProviderError(cast(ErrorKind, answer.kind), answer.message, pointer=answer.pointer)
        return answer

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
        id: str,
        prompt_tokens: int,
        events: asyncio.Queue[RequestEvent | EngineGone],
        texts: list[ChoiceText],
    ) -> None:
        self.admission = Admission(prompt_tokens)
        self._client = client
        self._id = id
        self._events = events
        self._texts = texts
        self._running = len(texts)
        self._cached = 0
        self._restored = 0
        self._closed = False

    async def admitted(self) -> None:
        """Return once the engine has admitted the request. Raises ProviderError when it refuses."""
        event = await self._next()
        assert isinstance(event, Started), f"the engine began a request with {event}"
        held = "engine" if event.contract else None
        self.admission = Admission(self.admission.prompt_tokens, held, event.contract, tuple(event.reasons))

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        while self._running:
            event = await self._next()
            match event:
                case Tokens():
                    self._cached += event.cached
                    self._restored += event.restored
                    text = self._texts[event.choice]
                    if text.ended:
                        continue
                    for spoken in text.take(event):
                        yield spoken
                    if text.stop is not None or text.full:
                        self._client.cancel(self._id, event.choice)
                        yield self._end(text, "stop")
                case EngineFinished():
                    text = self._texts[event.choice]
                    if text.ended:
                        continue
                    for spoken in text.rest(cut=event.reason == "length"):
                        yield spoken
                    yield self._end(text, cast(Literal["stop", "length"], event.reason))
                case Started():
                    pass
        completion = sum(text.tokens for text in self._texts)
        thoughts = sum(text.thought_tokens for text in self._texts)
        hits = CacheHits(self._cached - self._restored, self._restored)
        yield Usage(self.admission.prompt_tokens, self._cached, completion, reasoning=thoughts, hits=hits)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._running:
            self._client.cancel(self._id)
        self._client.forget(self._id)

    def _end(self, text: ChoiceText, reason: Literal["stop", "length"]) -> Finished:
        text.ended = True
        self._running -= 1
        return Finished(text.choice, reason, text.stop)

    async def _next(self) -> Started | Tokens | EngineFinished:
        event = await self._events.get()
        if isinstance(event, EngineGone):
            self._running = 0
            raise ProviderError("unavailable", str(event))
        if isinstance(event, Failed):
            self._running = 0
            raise ProviderError(cast(ErrorKind, event.kind), event.message, pointer=event.pointer)
        return event


def _open(card: ModelCard) -> _Model:
    files = open_model(card.source)
    tokenizer, template = files.tokenizer(), files.chat_template()
    return _Model(card, tokenizer, Prompter(tokenizer, template) if template else None)


def _reader(tools: Tools, plan: Plan) -> CallReader:
    custom = frozenset(tool.name for tool in tools.offered if tool.custom)
    return CallReader(plan.format, plan.call, custom, required=tools.required)


def _check_closing(request: GenerateRequest, constraint: ConstraintSpec | None) -> None:
    if constraint is None:
        message = "'sluice.close' needs a constraint: only that says when an answer is complete."
        raise ProviderError("invalid_request", message, param="sluice.close")
    if request.sampling.logprobs is not None:
        message = "'sluice.close' has no log-probabilities: it may choose tokens that bring the answer to its end."
        raise ProviderError("invalid_request", message, param="sluice.close")


def _limit(request: GenerateRequest, room: int) -> int:
    """Tokens that a choice may have. Without a wish, or where it may be cut, as far as ``room`` goes."""
    if request.max_tokens is None or request.clip:
        return max(1, min(request.max_tokens or room, room))
    return request.max_tokens
