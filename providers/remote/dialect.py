"""What an API's dialect is: how a call is put in its words, and how its answers are read.

A dialect is a table of functions without state; a `Reader` reads one answer, whole or as a stream of events, into the
events of `providers.base`. Whatever is not the API's form raises `BrokenAnswer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import msgspec

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
from providers.remote.shaping import Shaping
from schemas.providers import Capabilities

T = TypeVar("T")
ANSWER = "answer"
"""What the schema of an answer is called where it needs a name."""


class BrokenAnswer(Exception):
    """What came is no answer in the API's form. The message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One call. ``model``: the upstream name. ``messages``: the conversation, grown by repairs. ``n`` choices of at
    most ``max_tokens`` each."""

    model: str
    request: GenerateRequest
    messages: tuple[Message, ...]
    shaping: Shaping
    can: Capabilities
    n: int = 1
    max_tokens: int | None = None
    stream: bool = True

    def parameters(self) -> dict[str, Any]:
        """Sampling parameters by their names in `schemas.engine.Sampling`, those that must be sent."""
        sampling = self.request.sampling
        neutral = type(sampling)()
        names = [name for name in self.can.parameters if name in _SAMPLED]
        found = {name: getattr(sampling, name) for name in names}
        sent = {
            name: value
            for name, value in found.items()
            if value != getattr(neutral, name) or (self.can.explicit and name in ("temperature", "top_p"))
        }
        if sampling.top_k == 1 and greedy_by_temperature(self.can):
            sent["temperature"] = 0.0
        return sent


_SAMPLED = frozenset(
    "temperature top_p top_k min_p seed presence_penalty frequency_penalty repetition_penalty logit_bias".split()
)


def greedy_by_temperature(can: Capabilities) -> bool:
    """Whether ``top_k: 1`` has to be said as a temperature of 0, which is the same: the most likely token."""
    return "top_k" not in can.parameters and "temperature" in can.parameters


class Reader(Protocol):
    """Reads one answer. Raises `BrokenAnswer`, or `ProviderError` for what the API itself says went wrong."""

    @property
    def usage(self) -> Usage | None:
        """What the API has counted; final once the answer has ended."""
        ...

    @property
    def done(self) -> bool:
        """The API has said that nothing comes any more."""
        ...

    def event(self, data: bytes) -> Iterator[GenerationEvent]:
        """The data of one server-sent event. Deltas, calls, Finished."""
        ...

    def whole(self, body: bytes) -> Iterator[GenerationEvent]:
        """An answer that is no stream."""
        ...

    def end(self) -> None:
        """The stream has ended. Raises `BrokenAnswer` if the answer had not."""
        ...


class Dialect(Protocol):
    def path(self, ask: Ask) -> str:
        """Below the provider's URL."""
        ...

    def headers(self, key: str | None) -> dict[str, str]: ...

    def body(self, ask: Ask) -> dict[str, Any]: ...

    def reader(self, ask: Ask) -> Reader: ...


@dataclass(slots=True)
class Choices:
    """What has been read of each choice, and that it comes in order."""

    n: int
    finished: set[int] = field(default_factory=set)
    calls: dict[int, int] = field(default_factory=dict)
    refusal: ProviderError | None = None

    def text(self, choice: int, text: str | None) -> Iterator[GenerationEvent]:
        if text:
            self._open(choice)
            yield Delta(choice, text)

    def begin(self, choice: int, name: str | None) -> Iterator[GenerationEvent]:
        self._open(choice)
        if not name:
            raise BrokenAnswer("a call has no name")
        number = self.calls.get(choice, 0)
        self.calls[choice] = number + 1
        yield CallBegun(choice, number, name)

    def arguments(self, choice: int, number: int, text: str | None) -> Iterator[GenerationEvent]:
        if text:
            self._open(choice)
            yield CallDelta(choice, number, text)

    def finish(
        self, choice: int, reason: Literal["stop", "length"], stop: str | None = None
    ) -> Iterator[GenerationEvent]:
        self._open(choice)
        self.finished.add(choice)
        yield Finished(choice, reason, stop)

    def decline(self, choice: int, why: str = "") -> None:
        """The API's own content rules, or the model's, ended a choice. The rest is read on, for its usage."""
        self._open(choice)
        self.finished.add(choice)
        said = f": {why[:300]}" if why else ""
        self.refusal = ProviderError("declined", f"The provider declined to answer{said}.", elsewhere=True)

    def end(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        if len(self.finished) < self.n:
            raise BrokenAnswer("the answer ended before it was complete")

    def _open(self, choice: int) -> None:
        if not 0 <= choice < self.n:
            raise BrokenAnswer("the answer has more choices than were asked for")
        if choice in self.finished:
            raise BrokenAnswer("a choice went on after its end")


def decoded(data: bytes, type: type[T]) -> T:
    """Raises `BrokenAnswer`."""
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BrokenAnswer("the answer is not what the API is documented to send") from None


def named(message: Message) -> str:
    """The text of a turn in dialects that have no names for speakers."""
    return f"{message.name}: {message.content}" if message.name and message.role == "user" else message.content


def instructions(ask: Ask) -> list[str]:
    """The system's words, and what the model must be told of the constraint."""
    texts = [message.content for message in ask.messages if message.role == "system"]
    return [text for text in (*texts, ask.shaping.instruction) if text]
