"""An attempt that the ledger has reserved, as whoever makes it sees it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from gateway.ledger.figures import LedgerFigures
from gateway.ledger.reservation import Reservation
from gateway.ledger.statements import Ending, State, doubt, end
from providers.base import Allowance, Enforcement, Usage

if TYPE_CHECKING:
    from gateway.database.database import Database

NOTHING = Usage(0, 0, 0)


class Leg:
    """Exactly one of `settle`, `estimate`, `release` and `unknown` is called, once. What they write is written although
    the caller is cancelled. ``allowances``: what the caller's limits have left after this reservation."""

    def __init__(
        self, id: str, reservation: Reservation, meters: list[str], database: Database, figures: LedgerFigures
    ) -> None:
        self.id = id
        self.reservation = reservation
        self.allowances: tuple[Allowance, ...] = ()
        self._meters = meters
        self._database = database
        self._figures = figures
        self._began = time.perf_counter()
        self._first_token_us: int | None = None
        self._enforcement = ""
        self._ended = False

    def begun(self) -> None:
        """It is written down."""
        self._figures.reserved(self.reservation)

    def admitted(self, enforcement: Enforcement | None) -> None:
        """Say how the constraint is held."""
        self._enforcement = enforcement or ""

    def spoken(self) -> None:
        """Say that something of the answer has come. Later calls change nothing."""
        if self._first_token_us is None:
            self._first_token_us = self._elapsed_us()

    async def settle(self, usage: Usage, nano_usd: int | None) -> None:
        """The provider said what it used. ``nano_usd``: None where the price is not known."""
        await self._end("settled", usage, nano_usd)

    async def estimate(self, usage: Usage, nano_usd: int | None) -> None:
        """It was cut short, and what was used can be counted."""
        await self._end("estimated", usage, nano_usd)

    async def release(self) -> None:
        """Nothing was sent, or it was turned away unexecuted."""
        await self._end("released", NOTHING, 0)

    async def unknown(self) -> None:
        """It may have been executed: the reserved maximum stays charged until it is reconciled."""
        self._end_once()
        self._figures.ended(self.reservation, "unknown", NOTHING, self.reservation.max_nano_usd)
        await self._database.write(partial(doubt, leg=self.id))

    async def _end(self, state: State, usage: Usage, nano_usd: int | None) -> None:
        self._end_once()
        tokens = usage.prompt + usage.completion
        row = {
            "leg": self.id,
            "state": state,
            "charged_nano": nano_usd,
            "charged_tokens": tokens,
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "completion_tokens": usage.completion,
            "enforcement": self._enforcement,
            "first_token_us": self._first_token_us,
            "total_us": self._elapsed_us(),
        }
        reserved = self.reservation
        self._figures.ended(reserved, state, usage, nano_usd)
        change = (nano_usd or 0) - (reserved.max_nano_usd or 0)
        await self._database.write(partial(end, ending=Ending(row, self._meters, tokens - reserved.max_tokens, change)))

    def _end_once(self) -> None:
        if self._ended:
            raise RuntimeError(f"the leg {self.id} was ended twice")
        self._ended = True

    def _elapsed_us(self) -> int:
        return round((time.perf_counter() - self._began) * 1e6)
