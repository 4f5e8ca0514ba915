"""What routing asks of a ledger: every attempt is reserved at the most that it can cost, and ended in exactly one way.

reserve ─▶ settle    the provider said what it used
       ├─▶ estimate  cut short, and what was used can be counted
       ├─▶ unknown   it may have been executed: the reservation stays charged until it is reconciled
       └─▶ release   nothing was sent
"""

from __future__ import annotations

from typing import Protocol

from gateway.ledger.reservation import Reservation
from providers.base import Allowance, Enforcement, Usage


class OpenLeg(Protocol):
    """A reserved attempt. Exactly one of the last four is called, once. ``allowances``: what the caller's limits have
    left."""

    allowances: tuple[Allowance, ...]

    def admitted(self, enforcement: Enforcement | None) -> None: ...
    def spoken(self) -> None: ...
    async def settle(self, usage: Usage, nano_usd: int | None) -> None: ...
    async def estimate(self, usage: Usage, nano_usd: int | None) -> None: ...
    async def unknown(self) -> None: ...
    async def release(self) -> None: ...


class Ledger(Protocol):
    async def reserve(self, reservation: Reservation) -> OpenLeg:
        """Raises what a request is answered with that exceeds a budget or a rate."""
        ...
