"""What is done with an answer of ``/v1/responses`` beside sending it: kept whole before its end is told, added to its
conversation, made in the background, or followed event by event while it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import Raw

from gateway.answer import Asked
from gateway.response_shape import ResponseShape
from gateway.storing.background import Background
from gateway.storing.conversation_store import ConversationStore
from gateway.storing.journal import Journal
from gateway.storing.kept_items import Said
from gateway.storing.response_store import ResponseStore, split
from schemas.policy import Policy

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Keeping:
    """One request. ``store``: None where its answer is not kept. ``conversation``: that it is part of. ``earlier``: the
    items that it goes on from, ``own``: those that it brought. ``rules``: hold for whoever goes on from it."""

    shape: ResponseShape
    tenant: str
    earlier: list[Raw]
    own: list[Raw]
    rules: Policy
    store: ResponseStore | None
    conversations: ConversationStore | None
    conversation: str | None
    background: Background | None

    def laid_over(self, asked: Asked) -> Asked:
        """``asked`` with all of that."""
        if self.store is None and self.conversation is None:
            return asked
        if asked.stream:
            through = self._recorded if self.background is None else self._streamed_apart
            return replace(asked, through=through, detached=self.background is not None)
        return replace(asked, keep=self._keep, apart=self._apart if self.background else None)

    async def _keep(self, events: Sequence[bytes] | None = None, last: int = -1) -> None:
        """``events``: as of `ResponseStore.keep`, or `ResponseStore.end` with ``last``."""
        response = self.shape.response
        said = [Raw(_encode(item)) for item in response.output if item.status == "completed"]
        context, own = [*self.earlier, *self.own, *said], [*self.own, *said]
        if self.conversation is not None and response.status != "failed":
            assert self.conversations is not None, "it was found there"
            await self.conversations.add(self.conversation, self.tenant, Said(own, self.rules), most=None)
        if self.store is None:
            return
        id, body = response.id, _encode(response)
        if self.background is None:
            await self.store.keep(id, self.tenant, context, body, rules=self.rules, own=own, events=events)
        else:
            await self.store.end(id, context, body, own=own, events=events or (), last=last)

    async def _begin(self, events: Sequence[bytes] | None) -> bytes:
        """Keep what is going to be made; the body that says so."""
        assert self.store is not None, "what is made in the background is kept"
        begun, context = _encode(self.shape.response), [*self.earlier, *self.own]
        id, own = self.shape.response.id, self.own
        await self.store.keep(id, self.tenant, context, begun, rules=self.rules, own=own, begun=True, events=events)
        return begun

    async def _apart(self, work: Coroutine[Any, Any, bytes]) -> bytes:
        assert self.background is not None
        begun = await self._begin(None)
        await self.background.start(self.shape.response, self.tenant, work)
        return begun

    async def _recorded(self, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        return self._record(events)

    async def _record(self, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """``events``, kept before the last of them is told, if they come that far."""
        told: list[bytes] = []
        async with aclosing(events):
            async for some in events:
                told += split(some)
                if self.shape.ended and self.shape.response.status != "failed":
                    await self._keep(told)
                yield some

    async def _streamed_apart(self, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        assert self.background is not None and self.store is not None
        journal = Journal(self.store, self.shape.response.id)
        await self._begin([])
        await self.background.start(self.shape.response, self.tenant, self._write(events, journal), journal)
        return journal.follow(-1)

    async def _write(self, events: AsyncGenerator[bytes, None], journal: Journal) -> None:
        writing = asyncio.create_task(journal.write_on())
        try:
            async with aclosing(events):
                async for some in events:
                    if self.shape.ended:
                        # The end is told when it is kept.
                        journal.stop_writing()
                        await writing
                        rest = [*journal.unwritten(), *split(some)]
                        await self._keep(rest, journal.last + len(split(some)))
                    journal.add(some)
        finally:
            journal.stop_writing()
            await writing
            journal.end()
