"""Providers that are told what to do, a ledger in memory, and a router over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from gateway.ledger.reservation import Reservation
from gateway.policy.facts import LOCAL_ENDPOINT, Endpoint
from gateway.routing.directory import Directory, EngineJudge, Member
from gateway.routing.policies import Policies
from gateway.routing.router import Router
from providers.base import (
    Admission,
    Allowance,
    Candidate,
    Delta,
    Enforcement,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Leg,
    Message,
    Prompt,
    ProviderError,
    ScoredToken,
    Served,
    Tool,
    Usage,
    Weighed,
    WeighRequest,
)
from schemas.constraint import ConstraintSpec
from schemas.engine import Inspected, ModelCard, Report
from schemas.policy import Policy
from schemas.routing import Fact, Price, Route, ScopedPolicy, Target

MODEL = "m"
USAGE = Usage(prompt=10, cached=0, completion=4)
PRICED = "1"
"""Dollars a million tokens, of all managed fakes."""


@dataclass
class Entry:
    """A leg as the ledger saw it end. ``state`` is "reserved" until then."""

    reservation: Reservation
    state: str = "reserved"
    usage: Usage | None = None
    nano_usd: int | None = None
    allowances: tuple[Allowance, ...] = ()

    def admitted(self, enforcement: Enforcement | None) -> None:
        pass

    def spoken(self) -> None:
        pass

    async def settle(self, usage: Usage, nano_usd: int | None) -> None:
        self._end("settled", usage, nano_usd)

    async def estimate(self, usage: Usage, nano_usd: int | None) -> None:
        self._end("estimated", usage, nano_usd)

    async def unknown(self) -> None:
        self._end("unknown", None, self.reservation.max_nano_usd)

    async def release(self) -> None:
        self._end("released", None, 0)

    def _end(self, state: str, usage: Usage | None, nano_usd: int | None) -> None:
        assert self.state == "reserved", f"ended as {state} after {self.state}"
        self.state, self.usage, self.nano_usd = state, usage, nano_usd


class MemoryLedger:
    """``refusals``: raised by reservations, in order, after the first ``unrefused`` ones."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.refusals: list[Exception] = []
        self.unrefused = 0

    async def reserve(self, reservation: Reservation) -> Entry:
        if self.refusals and len(self.entries) >= self.unrefused:
            raise self.refusals.pop(0)
        entry = Entry(reservation)
        self.entries.append(entry)
        return entry

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(entry.reservation.provider, entry.state) for entry in self.entries]


@dataclass
class Behaviour:
    """Waits ``before_s``; refuses with ``refusal``; says ``text`` in pieces, ``between_s`` apart, and fails after
    ``breaks_after`` of them. ``logprob``: of each piece, if scores were asked for. ``calls``: to its API, for one
    answer."""

    text: tuple[str, ...] = ("four", " ", "little", " words")
    before_s: float = 0.0
    between_s: float = 0.0
    refusal: ProviderError | None = None
    breaks_after: int | None = None
    logprob: float | None = -0.1
    calls: int = 1
    reason: Any = "stop"


@dataclass
class Fake:
    """A provider that sees (`seen`) whatever is sent to it. One that is not local tells its meter of every call."""

    name: str
    hosting: Any = "managed"
    behaviours: list[Behaviour] = field(default_factory=list[Behaviour])
    seen: list[GenerateRequest] = field(default_factory=list[GenerateRequest])
    open: int = 0
    closing_s: float = 0.0
    held: Enforcement = "engine"
    ready: bool = True

    def models(self) -> list[ModelCard]:
        return [ModelCard(MODEL, "", 4096, 65536, 1000, [0], "reference")]

    async def start(self) -> None:
        self.ready = True

    async def generate(self, request: GenerateRequest) -> FakeAnswer:
        behaviour = self.behaviours.pop(0) if self.behaviours else Behaviour()
        self.seen.append(request)
        leg = await self._metered(request, behaviour)
        try:
            await asyncio.sleep(behaviour.before_s)
        except asyncio.CancelledError:
            if leg is not None:
                await leg.unknown()
            raise
        if behaviour.refusal is not None:
            if leg is not None:
                await leg.release()
            raise behaviour.refusal
        self.open += 1
        return FakeAnswer(self, request, behaviour, leg)

    async def _metered(self, request: GenerateRequest, behaviour: Behaviour) -> Leg | None:
        if self.hosting == "local":
            assert request.meter is None
            return None
        assert request.meter is not None
        for _ in range(behaviour.calls - 1):
            await (await request.meter.leg()).settle(USAGE)
        return await request.meter.leg()

    def tokenize(self, model: str, prompt: Prompt, tools: tuple[Tool, ...] = ()) -> list[int]:
        return [1]

    def detokenize(self, model: str, ids: list[int]) -> str:
        return self.name

    async def inspect(self, model: str, constraint: ConstraintSpec) -> Inspected:
        return Inspected("i", "exact", [], {}, 0.0)

    async def report(self) -> Report:
        return Report("r", {}, {}, {})

    async def aclose(self) -> None:
        self.ready = False


@dataclass
class FakeEngine(Fake):
    """The local provider, which also weighs: all options alike, after ``weighs_s`` seconds."""

    weighed: list[WeighRequest] = field(default_factory=list[WeighRequest])
    weighs_s: float = 0.0
    weigh_refusal: ProviderError | None = None

    async def weigh(self, request: WeighRequest) -> Weighed:
        self.weighed.append(request)
        await asyncio.sleep(self.weighs_s)
        if self.weigh_refusal is not None:
            raise self.weigh_refusal
        return Weighed(tuple((1 / len(q.options),) * len(q.options) for q in request.questions), USAGE)


class FakeAnswer:
    def __init__(self, fake: Fake, request: GenerateRequest, behaviour: Behaviour, leg: Leg | None) -> None:
        held: Enforcement = fake.held if fake.hosting == "local" else "validated"
        self.admission = Admission(10, held if request.constraint is not None else None)
        self._fake = fake
        self._request = request
        self._behaviour = behaviour
        self._leg = leg
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        does = self._behaviour
        for number, piece in enumerate(does.text):
            if number == does.breaks_after:
                await self._end()
                raise ProviderError("unavailable", "It broke off.", elsewhere=True)
            for choice in range(self._request.n):
                yield Delta(choice, piece, self._scored(piece))
            await asyncio.sleep(does.between_s)
        for choice in range(self._request.n):
            yield Finished(choice, does.reason)
        if self._leg is not None:
            leg, self._leg = self._leg, None
            await leg.settle(USAGE)
        yield USAGE

    def _scored(self, piece: str) -> tuple[ScoredToken, ...]:
        if self._request.sampling.logprobs is None or self._behaviour.logprob is None:
            return ()
        return (ScoredToken(Candidate(0, piece.encode(), self._behaviour.logprob)),)

    async def _end(self) -> None:
        if self._leg is not None:
            leg, self._leg = self._leg, None
            await leg.unknown()

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.sleep(self._fake.closing_s)
            self._fake.open -= 1
            await self._end()


def member(fake: Fake) -> Member:
    if fake.hosting == "local":
        return Member(LOCAL_ENDPOINT, fake)
    return Member(Endpoint(fake.name, fake.hosting, f"https://{fake.name}.example"), fake, Claims())


class Claims(EngineJudge):
    """Of a remote fake: checks afterwards."""

    async def enforcement(self, request: GenerateRequest) -> Enforcement | None:
        return "validated" if request.constraint is not None or request.tools is not None else None


@dataclass
class House:
    """A router over ``fakes``, which all stand behind the public name "all"."""

    fakes: dict[str, Fake]
    ledger: MemoryLedger
    router: Router
    engine: FakeEngine


def house(
    *fakes: Fake,
    facts: Iterable[Fact] = (),
    server: Policy | None = None,
    scoped: Iterable[ScopedPolicy] = (),
    tiers: dict[str, int] | None = None,
    local_usd_per_mtok: str | None = None,
) -> House:
    engine = FakeEngine("local", "local")
    everybody: dict[str, Fake] = {"local": engine} | {fake.name: fake for fake in fakes}
    targets = tuple(Target(provider=fake.name, model=MODEL, tier=(tiers or {}).get(fake.name)) for fake in fakes) or (
        Target(provider="local", model=MODEL),
    )
    prices = [
        Price(provider=fake.name, prompt_usd_per_mtok=PRICED, completion_usd_per_mtok=PRICED)
        for fake in fakes
        if fake.hosting == "managed"
    ]
    if local_usd_per_mtok is not None:
        own = local_usd_per_mtok
        prices.append(Price(provider="local", prompt_usd_per_mtok=own, completion_usd_per_mtok=own))
    directory = Directory(map(member, everybody.values()), [Route(name="all", targets=targets)], facts, prices)
    ledger = MemoryLedger()
    return House(everybody, ledger, Router(directory, ledger, Policies(server or Policy(), scoped)), engine)


def ask(policy: Policy | None = None, text: str = "Hello", **fields: Any) -> GenerateRequest:
    prompt: Prompt = fields.pop("prompt", (Message("user", text),))
    given = {"id": "r", "model": "all", "max_tokens": 20, "policy": policy or Policy()} | fields
    return GenerateRequest(prompt=prompt, **given)


async def read(router: Router, request: GenerateRequest) -> tuple[str, Served, Admission]:
    """(the whole text, who served it, its admission); the generation is closed."""
    generation = await router.generate(request)
    try:
        text = ""
        async for event in generation:
            if isinstance(event, Delta):
                text += event.text
        assert generation.admission.served is not None
        return text, generation.admission.served, generation.admission
    finally:
        await generation.aclose()


def private(name: str) -> Fact:
    """The best that can be known of a provider."""
    regions = frozenset({"eu"})
    return Fact(provider=name, source="test", date=date(2026, 1, 1), trains=False, retention_days=0, regions=regions)
