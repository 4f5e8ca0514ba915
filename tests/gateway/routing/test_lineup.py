"""Providers come and go with the settings, and nobody who is still asked is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.strategies import data, integers, sets

from gateway.routing.directory import Directory
from gateway.routing.lineup import Lineup
from gateway.routing.opening import open_router, succeeding
from gateway.routing.policies import Policies
from providers.base import Delta, Generation, ProviderError
from providers.remote.recognition import Recogniser
from schemas.config import Settings
from schemas.policy import Policy
from schemas.providers import ProviderSettings, RemoteModel
from schemas.routing import Route, Target
from tests.gateway.routing.fakes import MODEL, Behaviour, Fake, MemoryLedger, ask, house, member


def directory_of(fakes: Iterable[Fake]) -> Directory:
    members = [member(Fake("local", "local")), *map(member, fakes)]
    targets = tuple(Target(provider=one.name, model=MODEL) for one in members)
    return Directory(members, [Route(name="all", targets=targets)], [], [])


async def test_an_answer_that_has_begun_outlives_its_provider_and_its_policy() -> None:
    slow = Fake("slow", "self_hosted", [Behaviour(between_s=0.01)])
    told = house(slow)
    generation = await told.router.generate(ask())
    await told.router.take(directory_of([]), Policies(Policy(deny_providers=frozenset({"slow"}))))
    text = ""
    async for event in generation:
        text += event.text if isinstance(event, Delta) else ""
        assert slow.ready
    assert text == "four little words"
    await generation.aclose()
    await generation.aclose()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not slow.ready
    served = await told.router.generate(ask())
    assert served.admission.served is not None and served.admission.served.provider == "local"
    await served.aclose()


async def test_a_provider_that_does_not_start_leaves_all_as_it_was() -> None:
    told = house(Fake("old", "self_hosted"))

    class Stillborn(Fake):
        async def start(self) -> None:
            raise ProviderError("unavailable", "no")

    before, started = told.router.directory, Fake("new", "self_hosted")
    with pytest.raises(ProviderError):
        await told.router.take(directory_of([started, Stillborn("bad", "self_hosted")]), Policies())
    assert told.router.directory is before and told.fakes["old"].ready and not started.ready


async def test_a_request_that_is_refused_holds_nothing() -> None:
    old = Fake("old", "self_hosted")
    told = house(old)
    with pytest.raises(ProviderError):
        await told.router.generate(ask(Policy(deny_providers=frozenset({"old"}))))
    await told.router.take(directory_of([]), Policies())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not old.ready


def provider(name: str, port: int) -> ProviderSettings:
    url = f"http://127.0.0.1:{port}/v1"
    models = (RemoteModel(name="m"),)
    return ProviderSettings(name=name, kind="openai-compatible", base_url=url, hosting="self_hosted", models=models)


async def test_what_is_told_the_same_of_stays_the_same_provider() -> None:
    recogniser = Recogniser()
    before = Settings(providers=(provider("kept", 1), provider("moved", 2), provider("gone", 3)))
    router = open_router(Fake("local", "local"), before, MemoryLedger(), recogniser)
    router.directory.paces.began("kept", "m", 0.5)
    old = router.directory.members
    after = Settings(providers=(provider("moved", 4), provider("kept", 1), provider("new", 5)))
    await router.take(*succeeding(router.directory, after, recogniser))
    new = router.directory.members
    assert list(new) == ["local", "moved", "kept", "new"]
    assert new["kept"].provider is old["kept"].provider and new["local"].provider is old["local"].provider
    assert new["moved"].provider is not old["moved"].provider
    assert router.directory.paces.of("kept", "m").ttft_s == 0.5
    await asyncio.sleep(0.01)
    assert [old[name].provider.ready for name in ("kept", "moved", "gone")] == [True, False, False]
    await router.aclose()
    assert not any(one.provider.ready for one in new.values())


class Successions(RuleBasedStateMachine):
    """Any order of new lineups, requests and their ends: a provider is open while a lineup that has it is in force or
    is still gone by, and closed when none is."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.fakes = [Fake(str(number), "self_hosted", ready=False) for number in range(4)]
        self.told = house()
        self.used: list[tuple[frozenset[str], Generation]] = []
        self.now: frozenset[str] = frozenset()
        self.ever: set[str] = set()

    @rule(names=sets(integers(0, 3)))
    def take(self, names: set[int]) -> None:
        self.loop.run_until_complete(
            self.told.router.take(directory_of(self.fakes[i] for i in sorted(names)), Policies())
        )
        self.now = frozenset(map(str, names))
        self.ever |= self.now

    @rule()
    def begin(self) -> None:
        self.used.append((self.now, self.loop.run_until_complete(self.told.router.generate(ask()))))

    @rule(data=data())
    def end(self, data: data) -> None:  # type: ignore[valid-type]
        if self.used:
            _, generation = self.used.pop(data.draw(integers(0, len(self.used) - 1)))
            self.loop.run_until_complete(generation.aclose())

    @invariant()
    def open_while_needed(self) -> None:
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))
        needed = self.now.union(*(names for names, _ in self.used))
        assert {fake.name for fake in self.fakes if fake.ready} == needed

    def teardown(self) -> None:
        for _, generation in self.used:
            self.loop.run_until_complete(generation.aclose())
        self.loop.run_until_complete(self.told.router.aclose())
        assert not any(fake.ready for fake in self.fakes)
        self.loop.close()


TestSuccessions = Successions.TestCase
TestSuccessions.settings = settings(max_examples=30, stateful_step_count=20)


async def test_a_lineup_is_idle_when_the_last_has_left() -> None:
    lineup = Lineup(directory_of([]), Policies())
    lineup.enter()
    lineup.enter()
    lineup.leave()
    assert not lineup.idle.is_set()
    lineup.leave()
    assert lineup.idle.is_set()
