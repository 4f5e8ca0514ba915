"""The ledger: nothing is sent to anybody before the most that it can cost is reserved.

    leg = await ledger.reserve(Reservation(...))     OverBudget, RateLimited
    await leg.settle(usage, nano_usd)                or estimate, release, unknown: one of them, once

One small transaction at either end. Limits hold across all processes of a database, since reserving is "add, unless it
becomes too much" in the database itself (`gateway.ledger.statements`); what a process had reserved when it was killed
is found by the others, or by the next one (`gateway.ledger.lease`).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway.database.database import Database
from gateway.ledger.figures import LedgerFigures
from gateway.ledger.ids import new_id
from gateway.ledger.lease import Lease
from gateway.ledger.leg import Leg
from gateway.ledger.limiting import MICROSECONDS, UNLIMITED, Amounts, LimitBook
from gateway.ledger.refusals import Exceeded, allowances, refusal, unpriced
from gateway.ledger.reservation import Reservation
from gateway.ledger.statements import reserve

BEAT_SECONDS = 5.0


class Ledger:
    """Open from `open` to `aclose`, inside the database's own time. ``clock``: seconds since 1970."""

    def __init__(
        self,
        database: Database,
        limits: LimitBook,
        *,
        beat_seconds: float = BEAT_SECONDS,
        clock: Callable[[], float] = time.time,
        figures: LedgerFigures | None = None,
    ) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock
        self._figures = figures or LedgerFigures()
        self._worker = f"worker_{secrets.token_hex(8)}"
        self._lease = Lease(database, self._worker, beat_seconds, self._figures.orphaned)
        self._releasing: set[asyncio.Task[None]] = set()

    @property
    def worker(self) -> str:
        """This process, among all that live on the database."""
        return self._worker

    async def open(self) -> None:
        await self._lease.open()

    async def aclose(self) -> None:
        """What is still reserved then is in doubt."""
        await asyncio.gather(*self._releasing, return_exceptions=True)
        await self._lease.aclose()

    async def reserve(self, reservation: Reservation) -> Leg:
        """Raises `OverBudget` or `RateLimited`; a caller cancelled in here leaves nothing reserved."""
        now = self._clock()
        meters = self._limits.meters(reservation.tenant, reservation.key, now)
        if reservation.max_nano_usd is None:
            for meter in meters:
                if meter.ceiling.nano != UNLIMITED:
                    self._figures.refused("price", meter)
                    raise unpriced(meter, reservation.model)
        asked = Amounts(int(reservation.number == 0), reservation.max_tokens, reservation.max_nano_usd or 0)
        ids = [meter.id for meter in meters]
        leg = Leg(new_id(int(now * MICROSECONDS)), reservation, ids, self._database, self._figures)
        work = partial(reserve, row=self._row(leg, ids, now), meters=meters, asked=asked)
        writing = self._database.write(work)
        try:
            levels = await asyncio.shield(writing)
        except asyncio.CancelledError:
            self._keep(_release(writing, leg))
            raise
        except Exceeded as exceeded:
            self._figures.refused(exceeded.what, exceeded.meter)
            raise refusal(exceeded, now) from None
        leg.begun()
        leg.allowances = allowances(meters, levels, now)
        return leg

    def _row(self, leg: Leg, meters: list[str], now: float) -> dict[str, Any]:
        reservation = leg.reservation
        return {
            "id": leg.id,
            "request": reservation.request_id,
            "number": reservation.number,
            "worker": self._worker,
            "tenant": reservation.tenant,
            "key": reservation.key,
            "provider": reservation.provider,
            "model": reservation.model,
            "state": "reserved",
            "reserved_nano": reservation.max_nano_usd,
            "reserved_tokens": reservation.max_tokens,
            "charged_nano": reservation.max_nano_usd,
            "charged_tokens": reservation.max_tokens,
            "prompt_tokens": 0,
            "cached_tokens": 0,
            "completion_tokens": 0,
            "enforcement": "",
            "decision": reservation.decision,
            "meters": json.dumps(meters),
            "day": f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}",
            "reserved_at": int(now * MICROSECONDS),
        }

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)


async def _release(writing: asyncio.Future[list[Amounts]], leg: Leg) -> None:
    """Give a reservation back that nobody waits for any more, if it is made."""
    try:
        await writing
    except Exceeded:
        return
    leg.begun()
    await leg.release()
