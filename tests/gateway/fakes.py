"""A provider whose answers are scripted, and a real server around it on a loopback port of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import msgspec

from gateway.server import server
from gateway.tracing import Tracing
from providers.base import (
    Admission,
    Candidate,
    Delta,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Prompt,
    ProviderError,
    ScoredToken,
    Tool,
    Usage,
    Weighed,
    WeighRequest,
)
from schemas.config import Settings
from schemas.constraint import ConstraintSpec
from schemas.engine import Inspected, ModelCard, Report

MODEL = "tiny"
VOCAB = 1000
TEXT = "Grüße aus Köln 🦆"

Script = Callable[[GenerateRequest], AsyncIterator[GenerationEvent]]


async def speak(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    """`TEXT`, character by character, with the choices interleaved. Every character is a token of its own."""
    for character in TEXT:
        for choice in range(request.n):
            yield Delta(choice, character, scored(character.encode(), request.sampling.logprobs))
    for choice in range(request.n):
        yield Finished(choice, "stop")
    yield Usage(prompt=7, cached=4, completion=len(TEXT) * request.n)


async def forever(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    """Never ends by itself."""
    while True:
        yield Delta(0, "x")
        await asyncio.sleep(0.005)


async def silence(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    """Never says anything."""
    await asyncio.Event().wait()
    yield Finished(0, "stop")


def scored(data: bytes, k: int | None) -> tuple[ScoredToken, ...]:
    """A token whose runners-up are impossible, and no UTF-8."""
    if k is None:
        return ()
    runners_up = tuple(Candidate(i, b"\xf0\x9f", float("-inf")) for i in range(1, k))
    token = Candidate(0, data, -0.5)
    return (ScoredToken(token, (token, *runners_up) if k else ()),)


class FakeGeneration:
    def __init__(self, provider: FakeProvider, request: GenerateRequest) -> None:
        self.admission = provider.admission
        self._provider = provider
        self._request = request

    def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        return self._provider.script(self._request)

    async def aclose(self) -> None:
        self._provider.open.discard(self._request.id)


class FakeProvider:
    """``refusal`` is raised by the next request; with ``stall`` none is ever admitted; ``open`` holds the ids of
    generations that are not closed."""

    def __init__(self) -> None:
        self.ready = False
        self.reset()

    def reset(self) -> None:
        self.script: Script = speak
        self.admission = Admission(prompt_tokens=7)
        self.refusal: ProviderError | None = None
        self.requests: list[GenerateRequest] = []
        self.weighed: list[WeighRequest] = []
        self.open: set[str] = set()
        self.observations = [0.25]
        self.stall = False
        self.inspected: ConstraintSpec | None = None

    @property
    def last(self) -> GenerateRequest:
        return self.requests[-1]

    def models(self) -> list[ModelCard]:
        names = (MODEL, "org/other")
        return [ModelCard(name, "", 2048, 65536, VOCAB, [0], "reference") for name in names]

    async def start(self) -> None:
        self.ready = True

    async def generate(self, request: GenerateRequest) -> FakeGeneration:
        self.requests.append(request)
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal
        self.open.add(request.id)
        if self.stall:
            try:
                await asyncio.Event().wait()
            finally:
                self.open.discard(request.id)
        return FakeGeneration(self, request)

    async def weigh(self, request: WeighRequest) -> Weighed:
        """The first option is as likely as all others together, which are alike."""
        self.weighed.append(request)
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal
        each = tuple((0.5, *[0.5 / (len(q.options) - 1)] * (len(q.options) - 1)) for q in request.questions)
        return Weighed(each, Usage(prompt=11, cached=3, completion=0))

    def tokenize(self, model: str, prompt: Prompt, tools: tuple[Tool, ...] = ()) -> list[int]:
        """A token a character of everything."""
        if isinstance(prompt, list):
            return prompt
        texts = [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]
        return [ord(c) % VOCAB for text in (*texts, *(tool.parameters for tool in tools)) for c in text]

    def detokenize(self, model: str, ids: list[int]) -> str:
        return "".join(map(chr, ids))

    async def inspect(self, model: str, constraint: ConstraintSpec) -> Inspected:
        self.inspected = constraint
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal
        return Inspected("i", "sound_subset", ["because"], {"digits": 19, "depth": "none"}, 0.0123)

    async def report(self) -> Report:
        if not self.ready:
            raise ProviderError("unavailable", "The engine is gone.")
        observations, self.observations = self.observations, []
        return Report("r", {"running": 2.0}, {"mask_misses": 3.0}, {"ttft": observations})

    async def aclose(self) -> None:
        self.ready = False


@contextmanager
def serving(provider: FakeProvider, settings: Settings, tracing: Tracing | None = None) -> Iterator[str]:
    """The base URL of a server over ``provider``, in a thread."""
    anywhere = msgspec.structs.replace(settings.server, port=0, drain_seconds=1.0)
    running = server(msgspec.structs.replace(settings, server=anywhere), provider, tracing)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        wait_until(lambda: running.started or not thread.is_alive())
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Fail unless ``condition`` holds soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
