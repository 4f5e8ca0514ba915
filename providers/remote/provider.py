"""A remote API as a provider.

For who chooses among providers: `hosting`, `capabilities`, `supports` (why a request cannot be put to it, before
anything is sent) and `enforcement` (how its answer would be held). Of a `ProviderError`, ``elsewhere`` says whether
another one may do better; the request's `Meter` is told of every call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Literal
from uuid import uuid4

from msgspec.structs import fields

from providers.base import (
    Admission,
    GenerateRequest,
    GenerationEvent,
    Prompt,
    ProviderError,
    Tool,
)
from providers.remote.answering import Answers
from providers.remote.anthropic import Anthropic
from providers.remote.breaker import State
from providers.remote.calling import Caller
from providers.remote.capabilities import capabilities_of
from providers.remote.dialect import Ask, Dialect, greedy_by_temperature
from providers.remote.gemini import Gemini
from providers.remote.openai_chat import OpenAIChat
from providers.remote.openai_responses import OpenAIResponses
from providers.remote.recognition import Recogniser
from providers.remote.shaping import shape
from schemas.constraint import ConstraintSpec
from schemas.engine import Inspected, ModelCard, Report, Sampling
from schemas.policy import Enforcement
from schemas.providers import Capabilities, Kind, ProviderSettings, RemoteModel

_DIALECTS: dict[Kind, type[Dialect]] = {
    "openai": OpenAIChat,
    "openai-compatible": OpenAIChat,
    "openai-responses": OpenAIResponses,
    "anthropic": Anthropic,
    "gemini": Gemini,
}


_FIELDS = {"close": "sluice.close"}
"""Parameters that requests call otherwise."""


class RemoteProvider:
    """Implements `providers.base.Provider`. ``recogniser``: shared by all providers of a server, which closes it."""

    def __init__(self, settings: ProviderSettings, recogniser: Recogniser) -> None:
        self._settings = settings
        self._models = {model.name: model for model in settings.models}
        self._capabilities = {name: capabilities_of(settings, model) for name, model in self._models.items()}
        self._dialect = _DIALECTS[settings.kind]()
        self._caller = Caller(settings, self._dialect)
        self._recogniser = recogniser
        self._open = True

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def hosting(self) -> Literal["managed", "self_hosted"]:
        return self._settings.hosting

    @property
    def settings(self) -> ProviderSettings:
        """What it was made from."""
        return self._settings

    @property
    def breaker(self) -> State:
        """The state of its circuit breaker."""
        return self._caller.breaker.state

    @property
    def ready(self) -> bool:
        return self._open and self.breaker != "open"

    def models(self) -> list[ModelCard]:
        return [_card(model) for model in self._models.values()]

    def capabilities(self, model: str) -> Capabilities:
        """Raises `ProviderError` for a model that it does not have."""
        self._model(model)
        return self._capabilities[model]

    async def start(self) -> None:
        """Nothing is asked of the provider before somebody asks for an answer."""

    def unfit(self, request: GenerateRequest) -> list[ProviderError]:
        """Why a request cannot be put to this provider, each reason with the field that is at fault."""
        model = self._model(request.model)
        return list(_unfit(self.name, request, model, self._capabilities[model.name]))

    def supports(self, request: GenerateRequest) -> tuple[str, ...]:
        """The reasons of `unfit` as sentences; none: it fits."""
        return tuple(error.message for error in self.unfit(request))

    async def enforcement(self, request: GenerateRequest) -> Enforcement | None:
        """How an answer would be held, None where there is nothing to hold it to. Raises `ProviderError`, as
        `generate`, for a constraint that cannot be judged."""
        return (await shape(request, self.capabilities(request.model), self._recogniser)).held

    async def generate(self, request: GenerateRequest) -> RemoteGeneration:
        """Returns once there is something to give out: a held answer is valid then. Raises `ProviderError`."""
        ask = await self._ask(request)
        events = Answers(self._caller, ask, self._settings.retries.repairs).events()
        try:
            first = await anext(events)
        except BaseException:
            await events.aclose()
            raise
        held, reasons = ask.shaping.held, tuple[str, ...]()
        if held == "validated":
            reasons = (f"`{self.name}` does not promise all of what was asked for: it is checked after the fact",)
        return RemoteGeneration(Admission(0, held, reasons=reasons), first, events)

    async def _ask(self, request: GenerateRequest) -> Ask:
        for reason in self.unfit(request):
            raise reason
        assert isinstance(request.prompt, tuple)
        model, can = self._model(request.model), self._capabilities[request.model]
        shaping = await shape(request, can, self._recogniser)
        if shaping.check is not None and shaping.check.rewrites and request.sampling.logprobs is not None:
            message = f"Provider `{self.name}` has no log-probabilities under this constraint."
            raise ProviderError("invalid_request", message, param="logprobs", elsewhere=True)
        return Ask(
            model=model.upstream or model.name,
            request=request,
            messages=request.prompt,
            shaping=shaping,
            can=can,
            n=request.n,
            max_tokens=_max_tokens(request, model),
            stream=model.stream,
        )

    def tokenize(self, model: str, prompt: Prompt, tools: tuple[Tool, ...] = ()) -> list[int]:
        raise self._elsewhere(model, "Its tokens are")

    def detokenize(self, model: str, ids: list[int]) -> str:
        raise self._elsewhere(model, "Its tokens are")

    async def inspect(self, model: str, constraint: ConstraintSpec) -> Inspected:
        raise self._elsewhere(model, "What it makes of a constraint is")

    async def report(self) -> Report:
        return Report(uuid4().hex, {}, {}, {})

    async def aclose(self) -> None:
        self._open = False
        await self._caller.aclose()

    def _model(self, name: str) -> RemoteModel:
        if name not in self._models:
            raise ProviderError("unknown_model", f"The model `{name}` does not exist.", param="model")
        return self._models[name]

    def _elsewhere(self, model: str, what: str) -> ProviderError:
        message = f"The model `{self._model(model).name}` is served by `{self.name}`. {what} not known here."
        return ProviderError("invalid_request", message, param="model")


class RemoteGeneration:
    """An answer under way. Implements `providers.base.Generation`."""

    def __init__(
        self, admission: Admission, first: GenerationEvent, events: AsyncGenerator[GenerationEvent, None]
    ) -> None:
        self.admission = admission
        self._first = first
        self._events = events

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        yield self._first
        async for event in self._events:
            yield event

    async def aclose(self) -> None:
        await self._events.aclose()


def _card(model: RemoteModel) -> ModelCard:
    return ModelCard(model.name, "", model.context_length, model.context_length, 0, [], "")


def _max_tokens(request: GenerateRequest, model: RemoteModel) -> int | None:
    if request.max_tokens is None or model.max_output is None:
        return request.max_tokens or model.max_output
    return min(request.max_tokens, model.max_output)


def _unfit(name: str, request: GenerateRequest, model: RemoteModel, can: Capabilities) -> Iterator[ProviderError]:
    def reason(what: str, param: str) -> ProviderError:
        return ProviderError("invalid_request", f"Provider `{name}` {what}.", param=param, elsewhere=True)

    if not isinstance(request.prompt, tuple):
        yield reason("answers chats, not bare prompts", "prompt")
    for parameter in _asked(request):
        greedy = parameter == "top_k" and request.sampling.top_k == 1 and greedy_by_temperature(can)
        if parameter not in can.parameters and not greedy:
            field = _FIELDS.get(parameter, parameter)
            yield reason(f"has no '{field}'", field)
    if len(request.stop) > can.max_stops and "stop" in can.parameters:
        yield reason(f"takes {can.max_stops} stop strings at most", "stop")
    if request.sampling.temperature > can.max_temperature:
        yield reason(f"takes a temperature of {can.max_temperature:g} at most", "temperature")
    if request.sampling.seed is not None and request.sampling.seed >= 2**can.seed_bits:
        yield reason(f"takes seeds below 2^{can.seed_bits}", "seed")
    if (request.sampling.logprobs or 0) > can.max_logprobs:
        yield reason(f"gives {can.max_logprobs} candidates a token at most", "top_logprobs")
    if request.thinking:
        yield reason("cannot be told to think first", "reasoning_effort")
    if request.tools is not None and not can.tools:
        yield reason("calls no functions", "tools")
    limit = model.max_output or model.context_length
    if (request.max_tokens or 0) > limit and not request.clip:
        message = f"The model `{model.name}` writes {limit} tokens at most; {request.max_tokens} were asked for."
        yield ProviderError("context_length", message, elsewhere=True)


def _asked(request: GenerateRequest) -> Iterator[str]:
    """The parameters that a request sets to something else than their neutral value."""
    neutral = Sampling()
    for field in fields(Sampling):
        if getattr(request.sampling, field.name) != getattr(neutral, field.name):
            yield field.name
    for parameter in ("stop", "stop_token_ids", "ignore_eos", "close"):
        if getattr(request, parameter):
            yield parameter
