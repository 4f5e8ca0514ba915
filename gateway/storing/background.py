"""Responses that are made while nobody waits for them.

    POST ─▶ admitted ─▶ kept, in_progress ─▶ answered at once
                            └─ a task: generates ─▶ kept, completed | incomplete | failed | cancelled

A process that dies leaves its responses in progress; whoever asks for one then learns that it failed, since the dead
beat no more (`gateway.ledger.lease`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from gateway.errors import ApiError, unexpected
from gateway.storing.journal import Journal
from gateway.storing.response_store import ResponseStore
from schemas.openai.response_events import Response

STOPPED = "The server was stopped before the answer was finished."

log = structlog.get_logger()


class Background:
    """The responses that this process makes."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store
        self.journals: dict[str, Journal] = {}
        """Of those that are streamed, by id."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    async def start(
        self, response: Response, tenant: str, work: Coroutine[Any, Any, object], journal: Journal | None = None
    ) -> None:
        """``work`` generates and keeps the answer, and fills ``response``, which is kept already. ``journal``: that it
        writes."""
        if journal is not None:
            self.journals[response.id] = journal
        self._tasks[response.id] = asyncio.create_task(self._run(response, tenant, work))
        # A task that is cancelled before its first step never learns of it.
        await asyncio.sleep(0)

    async def cancel(self, id: str, tenant: str) -> None:
        """Wherever it is made. What has ended stays as it is."""
        if task := self._tasks.get(id):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            await self._store.give_up(id, tenant, "cancelled")

    async def aclose(self) -> None:
        """What is not finished has failed."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, response: Response, tenant: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            if self._closing:
                await self._store.give_up(response.id, tenant, "failed", STOPPED)
            else:
                await self._store.give_up(response.id, tenant, "cancelled")
        except ApiError as error:
            await self._store.give_up(response.id, tenant, "failed", error.message)
        except Exception as error:
            log.exception("a background response failed", exc_info=error)
            await self._store.give_up(response.id, tenant, "failed", unexpected().message)
        finally:
            del self._tasks[response.id]
            self.journals.pop(response.id, None)
