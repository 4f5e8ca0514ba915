"""What tests of remote providers share: settings, a meter that keeps books, and answers put together from events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from providers.base import (
    CallBegun,
    CallDelta,
    Delta,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Message,
    ProviderError,
    Usage,
)
from providers.remote.provider import RemoteProvider
from providers.remote.recognition import Recogniser
from schemas.providers import Breaker, Limits, ProviderSettings, RemoteModel, Retries, Timeouts
from tests.providers.fault_server import KINDS, Api, FaultServer

MODEL = "remote"
APIS: tuple[Api, ...] = ("chat", "responses", "messages", "gemini")


def settings_for(server: FaultServer, api: Api, **changes: Any) -> ProviderSettings:
    given: dict[str, Any] = {
        "name": api,
        "kind": KINDS[api],
        "base_url": server.url(api),
        "hosting": "self_hosted",
        "models": (RemoteModel(name=MODEL, upstream="upstream-1", max_output=1000),),
        "timeouts": Timeouts(connect_s=2, first_byte_s=2, idle_s=2, total_s=5),
        "retries": Retries(attempts=3, base_s=0.001, max_s=0.01, repairs=1),
        "breaker": Breaker(failures=1_000_000, open_s=0.1),
        "limits": Limits(event_bytes=1_000_000),
    }
    return ProviderSettings(**{**given, **changes})


def provider_for(server: FaultServer, api: Api, **changes: Any) -> RemoteProvider:
    return RemoteProvider(settings_for(server, api, **changes), Recogniser())


def asking(text: str = "Hello?", **fields: Any) -> GenerateRequest:
    return GenerateRequest(id="r", model=MODEL, prompt=(Message("user", text),), **fields)


@dataclass
class BookedLeg:
    """``outcome``: "open" until it is told."""

    outcome: str = "open"
    usage: Usage | None = None

    async def settle(self, usage: Usage) -> None:
        self.usage = usage
        self._close("settled")

    async def release(self) -> None:
        self._close("released")

    async def unknown(self) -> None:
        self._close("unknown")

    def _close(self, outcome: str) -> None:
        assert self.outcome == "open", "a leg is told once"
        self.outcome = outcome


@dataclass
class Books:
    """A `Meter`. ``refusal``: what the next leg is refused with."""

    legs: list[BookedLeg] = field(default_factory=list)
    refusal: ProviderError | None = None

    async def leg(self) -> BookedLeg:
        if self.refusal is not None:
            raise self.refusal
        self.legs.append(BookedLeg())
        return self.legs[-1]

    @property
    def outcomes(self) -> list[str]:
        return [leg.outcome for leg in self.legs]


@dataclass
class Spoken:
    """One choice. ``deltas``: how many pieces its text came in."""

    text: str = ""
    deltas: int = 0
    calls: list[list[str]] = field(default_factory=list)
    end: Finished | None = None


@dataclass
class Heard:
    choices: list[Spoken]
    usage: Usage
    enforcement: str | None


async def hear(
    provider: RemoteProvider, request: GenerateRequest, watch: Callable[[GenerationEvent], None] = lambda event: None
) -> Heard:
    """The whole answer, whose events must come in the order that `providers.base` promises."""
    generation = await provider.generate(request)
    choices = [Spoken() for _ in range(request.n)]
    usage: Usage | None = None
    try:
        async for event in generation:
            watch(event)
            assert usage is None, "usage is the last event"
            if isinstance(event, Usage):
                usage = event
                continue
            choice = choices[event.choice]
            assert choice.end is None, "a choice says nothing after its end"
            match event:
                case Delta():
                    choice.text += event.text
                    choice.deltas += 1
                case CallBegun():
                    assert event.number == len(choice.calls)
                    choice.calls.append([event.name, ""])
                case CallDelta():
                    choice.calls[event.number][1] += event.arguments
                case Finished():
                    choice.end = event
    finally:
        await generation.aclose()
    assert usage is not None and all(choice.end is not None for choice in choices)
    return Heard(choices, usage, generation.admission.enforcement)
