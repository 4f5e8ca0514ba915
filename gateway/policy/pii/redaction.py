"""Personal data in a request, and what a policy makes of it: refuse it, keep it here, or hide it from others.

    block        400 that names the place, never the value
    route_local  only the engine of this server is asked
    redact       others see placeholders; their answer has them put back before it is validated and delivered

Hiding is possible in what people and models say: texts, and strings among the arguments of earlier calls. Where it is
not (token ids, names, schemas, stop strings), and where an answer could not be put back together (log-probabilities,
custom tools, constraints other than JSON), the request stays here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import SystemRandom
from typing import Any, cast

import msgspec

from gateway.policy.pii.checking import checked, checks_of
from gateway.policy.pii.finding import BuiltIn, Finder, Found
from gateway.policy.pii.placeholders import CannotHide, Mint
from gateway.policy.pii.restoring import Restorer
from gateway.policy.selection import Candidate
from providers.base import (
    CallDelta,
    Delta,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Message,
    ProviderError,
    Thought,
    Usage,
)
from schemas.policy import Pii

BUILT_IN = BuiltIn()

_THOUGHTS, _TEXT = -2, -1
"""Beside the numbers of calls, what a choice is made of."""

Restore = Callable[[AsyncIterator[GenerationEvent]], AsyncIterator[GenerationEvent]]


@dataclass(frozen=True, slots=True)
class Place:
    """A text of a request. ``name``: where it is, as the client knows it. ``open``: it can be rewritten."""

    name: str
    text: str
    open: bool


@dataclass(frozen=True, slots=True)
class Redaction:
    """``hidden``: the request as others see it; None where they may not see it at all. ``originals``: placeholder →
    what it stands for. ``reason``: why others may not see it."""

    request: GenerateRequest
    hidden: GenerateRequest | None
    originals: dict[str, str] = field(default_factory=dict[str, str])
    reason: str = ""

    def keeps_from(self, candidate: Candidate) -> bool:
        """``candidate`` may not be asked."""
        return self.hidden is None and candidate.endpoint.hosting != "local"

    def outgoing(self, candidate: Candidate) -> tuple[GenerateRequest, Restore | None]:
        """What to send to ``candidate``, and what to do with its answer."""
        if candidate.endpoint.hosting == "local":
            return self.request, None
        assert self.hidden is not None, "a candidate that may not be asked is asked"
        return self.hidden, self._restored if self.originals else None

    def _restored(self, events: AsyncIterator[GenerationEvent]) -> AsyncIterator[GenerationEvent]:
        plain = self._put_back(events)
        if self.request.constraint is None and self.request.tools is None:
            return plain
        checks = checks_of(self.request)
        assert checks is not None, "an answer that cannot be judged is put back together"
        return checked(plain, checks)

    async def _put_back(self, events: AsyncIterator[GenerationEvent]) -> AsyncIterator[GenerationEvent]:
        texts: dict[tuple[int, int], Restorer] = {}
        async for event in events:
            if not isinstance(event, Thought | Usage) and (held := texts.pop((event.choice, _THOUGHTS), None)):
                yield Thought(event.choice, held.rest())
            match event:
                case Thought(choice, text):
                    restorer = texts.setdefault((choice, _THOUGHTS), Restorer(self.originals))
                    yield Thought(choice, restorer.take(text))
                case Delta(choice, text):
                    restorer = texts.setdefault((choice, _TEXT), Restorer(self.originals))
                    yield replace(event, text=restorer.take(text))
                case CallDelta(choice, number, arguments):
                    restorer = texts.setdefault((choice, number), Restorer(self.originals))
                    yield CallDelta(choice, number, restorer.take(arguments))
                case Finished(choice):
                    for place in sorted(place for place in texts if place[0] == choice):
                        if rest := texts.pop(place).rest():
                            number = place[1]
                            yield Delta(choice, rest) if number == _TEXT else CallDelta(choice, number, rest)
                    yield event
                case _:
                    yield event


async def guard(
    request: GenerateRequest, pii: Pii, candidates: Iterable[Candidate], finder: Finder = BUILT_IN
) -> Redaction:
    """What ``pii`` asks for. Raises `ProviderError` "policy" where it refuses the request."""
    elsewhere = any(candidate.endpoint.hosting != "local" for candidate in candidates)
    if pii == "allow" or (pii != "block" and not elsewhere):
        return Redaction(request, request)
    # Megabytes of text take a while to look through, in which others want to be served.
    return await asyncio.to_thread(examine, request, pii, finder)


def examine(request: GenerateRequest, pii: Pii, finder: Finder = BUILT_IN) -> Redaction:
    """`guard`, with ``pii`` other than "allow"."""
    if isinstance(request.prompt, list):
        return _unread(request, pii, "token ids cannot be looked through for personal data")
    places = list(_places(request))
    if too_long := _too_long(places, finder):
        return _unread(request, pii, too_long)
    held = _held(places, finder)
    if not held:
        return Redaction(request, request)
    if pii == "block":
        raise _blocked(held[0])
    place, every = held[0]
    where = f"{every[0].kind.name} in '{place.name}'"
    if pii == "route_local":
        return Redaction(request, None, reason=f"there is a {where}")
    closed = next((place for place, _ in held if not place.open), None)
    if closed is not None:
        return Redaction(request, None, reason=f"there is personal data in '{closed.name}', where it cannot be hidden")
    if request.sampling.logprobs is not None:
        return Redaction(request, None, reason="hidden personal data has no log-probabilities")
    if checks_of(request) is None:
        return Redaction(request, None, reason="an answer under this constraint cannot be judged again")
    return _hidden(request, [place.text for place in places], finder)


def refuse(places: Sequence[Place], finder: Finder = BUILT_IN) -> None:
    """What "block" asks for. Raises `ProviderError` "policy" where there is personal data."""
    if too_long := _too_long(places, finder):
        raise _unreadable(too_long, places[0].name)
    if held := _held(places, finder):
        raise _blocked(held[0])


def _too_long(places: Iterable[Place], finder: Finder) -> str:
    """Why they are not looked through; "" where they are."""
    most = finder.max_characters
    if sum(len(place.text) for place in places) <= most:
        return ""
    return f"more than {most} characters are not looked through for personal data"


def _held(places: Iterable[Place], finder: Finder) -> list[tuple[Place, list[Found]]]:
    """The places with personal data, and what there is in each."""
    found = [(place, finder.find(place.text)) for place in places]
    return [(place, every) for place, every in found if every]


def _blocked(held: tuple[Place, list[Found]]) -> ProviderError:
    place, every = held
    message = f"The policy takes no personal data: there is a {every[0].kind.name} in '{place.name}'."
    return ProviderError("policy", message, param=place.name)


def _unreadable(why: str, param: str) -> ProviderError:
    return ProviderError("policy", f"The policy takes no personal data, and {why}.", param=param)


def _unread(request: GenerateRequest, pii: Pii, why: str) -> Redaction:
    if pii == "block":
        raise _unreadable(why, "prompt")
    return Redaction(request, None, reason=why)


def _hidden(request: GenerateRequest, texts: list[str], finder: Finder) -> Redaction:
    hiding = _Hiding(finder, Mint(texts, SystemRandom()))
    try:
        if isinstance(request.prompt, str):
            hidden = replace(request, prompt=hiding.text(request.prompt))
        else:
            turns = cast(tuple[Message, ...], request.prompt)
            hidden = replace(request, prompt=tuple(map(hiding.turn, turns)))
    except CannotHide as reason:
        return Redaction(request, None, reason=str(reason))
    return Redaction(request, hidden, hiding.mint.originals)


@dataclass(frozen=True, slots=True)
class _Hiding:
    """Rewrites what is open. Raises `CannotHide`."""

    finder: Finder
    mint: Mint

    def text(self, text: str) -> str:
        said, at = "", 0
        for found in self.finder.find(text):
            said += text[at : found.begin] + self.mint.placeholder(text[found.begin : found.end], found.kind)
            at = found.end
        return said + text[at:]

    def turn(self, turn: Message) -> Message:
        calls = tuple(replace(call, arguments=self.value(call.arguments)) for call in turn.calls)
        return replace(turn, content=self.text(turn.content), thoughts=self.text(turn.thoughts), calls=calls)

    def value(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.value(item) for item in cast(list[Any], value)]
            case dict():
                return {key: self.value(item) for key, item in cast(dict[str, Any], value).items()}
            case _:
                return value


def _places(request: GenerateRequest) -> Iterator[Place]:
    """Every text of the request that a provider would see."""
    if isinstance(request.prompt, str):
        yield Place("prompt", request.prompt, True)
    else:
        for i, turn in enumerate(cast(tuple[Message, ...], request.prompt)):
            yield from _places_of_turn(turn, f"messages[{i}]")
    if request.tools is not None:
        for i, tool in enumerate(request.tools.offered):
            texts = (tool.name, tool.description or "", tool.parameters, msgspec.json.encode(tool.grammar).decode())
            yield Place(f"tools[{i}]", " ".join(texts), False)
    if request.constraint is not None:
        yield Place("the constraint", msgspec.json.encode(request.constraint).decode(), False)
    for text in request.stop:
        yield Place("stop", text, False)


def _places_of_turn(turn: Message, name: str) -> Iterator[Place]:
    yield Place(f"{name}.content", turn.content, True)
    yield Place(f"{name}.reasoning_content", turn.thoughts, True)
    yield Place(f"{name}.name", turn.name or "", False)
    for i, call in enumerate(turn.calls):
        place = f"{name}.tool_calls[{i}]"
        yield Place(place, f"{call.id} {call.name}", False)
        yield from _places_of_value(call.arguments, f"{place}.function.arguments")
    yield Place(f"{name}.tool_call_id", turn.call_id, False)


def _places_of_value(value: Any, name: str) -> Iterator[Place]:
    match value:
        case str():
            yield Place(name, value, True)
        case list():
            for item in cast(list[Any], value):
                yield from _places_of_value(item, name)
        case dict():
            for key, item in cast(dict[str, Any], value).items():
                yield Place(name, key, False)
                yield from _places_of_value(item, name)
        case _:
            yield Place(name, str(value), False)
