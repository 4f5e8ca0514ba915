"""Who answers under which policies, as one reading of the settings has it; and what happens to it when the next comes.

    take(next) ─▶ new requests go by the next lineup; those on their way keep theirs to the end
                     └─ when the last of them has ended: providers that no other lineup has are closed

So settings change without a request noticing, and a provider's connections outlive its place in the settings for
exactly as long as somebody still reads from them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.routing.directory import Directory
from gateway.routing.policies import Policies
from providers.base import Provider


@dataclass(eq=False, slots=True)
class Lineup:
    """``asked``: requests on their way through it."""

    directory: Directory
    policies: Policies
    asked: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self) -> None:
        """A request goes by this lineup until `leave`."""
        self.asked += 1
        self.idle.clear()

    def leave(self) -> None:
        self.asked -= 1
        if not self.asked:
            self.idle.set()

    @property
    def providers(self) -> Iterator[Provider]:
        return (member.provider for member in self.directory.members.values())


class Succession:
    """The lineup of now, and those before it that requests still go by. All methods belong to one event loop."""

    def __init__(self, first: Lineup) -> None:
        self.now = first
        self._before: dict[Lineup, asyncio.Task[None]] = {}

    def take(self, next: Lineup) -> None:
        """From now on ``next``. Its providers have been started."""
        before, self.now = self.now, next
        self._before[before] = asyncio.create_task(self._retire(before))

    async def aclose(self) -> None:
        """Close all providers, also those that are still asked."""
        retiring = list(self._before.values())
        for task in retiring:
            task.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        lineups = [*self._before, self.now]
        providers = {id(provider): provider for lineup in lineups for provider in lineup.providers}
        await asyncio.gather(*(provider.aclose() for provider in providers.values()))

    async def _retire(self, lineup: Lineup) -> None:
        if lineup.asked:
            await lineup.idle.wait()
        del self._before[lineup]
        kept = {id(provider) for other in (*self._before, self.now) for provider in other.providers}
        await asyncio.gather(*(provider.aclose() for provider in lineup.providers if id(provider) not in kept))
