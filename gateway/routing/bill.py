"""What one request costs, with all calls that are made for it: each is reserved before it is sent, and none that could
exceed the policy's ``max_usd`` is made.

A provider that calls an API is handed a `CandidateMeter`, which it tells of every call, its own retries and repairs
too; the local engine is one call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.ledger.refusals import Refused
from gateway.ledger.reservation import Reservation
from gateway.policy.prices import Tokens
from gateway.policy.selection import Candidate
from gateway.routing.ledger import Ledger, OpenLeg
from providers.base import Allowance, GenerateRequest, ProviderError, Usage

Cost = Callable[[Candidate, Tokens], int | None]


class Call:
    """One call, as `providers.base.Leg`. ``charged``: nano-dollars, at first what is reserved; None = not known."""

    def __init__(self, opened: OpenLeg, candidate: Candidate, cost: Cost) -> None:
        self.charged = candidate.max_nano_usd
        self.opened = opened
        self._candidate = candidate
        self._cost = cost

    async def settle(self, usage: Usage) -> None:
        self.charged = self._cost(self._candidate, tokens_of(usage))
        await self.opened.settle(usage, self.charged)

    async def estimate(self, usage: Usage) -> None:
        self.charged = self._cost(self._candidate, tokens_of(usage))
        await self.opened.estimate(usage, self.charged)

    async def release(self) -> None:
        self.charged = 0
        await self.opened.release()

    async def unknown(self) -> None:
        await self.opened.unknown()


class Bill:
    """``bound``: nano-dollars that all calls together may be charged; None = no bound."""

    def __init__(self, ledger: Ledger, request: GenerateRequest, cost: Cost, bound: int | None) -> None:
        self.calls: list[Call] = []
        self._ledger = ledger
        self._request = request
        self._cost = cost
        self._bound = bound
        self._number = 0
        # Reserved one after another: the first that is not refused counts as the request, and each sees what those
        # before it may cost.
        self._reserving = asyncio.Lock()

    @property
    def nano_usd(self) -> int | None:
        """What has been charged so far; None where the price of a call is not known."""
        total = 0
        for call in self.calls:
            if call.charged is None:
                return None
            total += call.charged
        return total

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """What the caller's limits had left after the last call was reserved."""
        return self.calls[-1].opened.allowances if self.calls else ()

    async def call(self, candidate: Candidate, most: Tokens, decision: str) -> Call:
        """Reserve a call of at most ``most`` tokens. Raises `ProviderError` "policy" where it could cost too much, and
        what the ledger refuses with."""
        async with self._reserving:
            if self._bound is not None and (self.nano_usd or 0) + (candidate.max_nano_usd or 0) > self._bound:
                message = f"{candidate.name}: after the calls before it, one more could exceed the policy's max_usd."
                raise ProviderError("policy", message, param="sluice.policy.max_usd", elsewhere=True)
            call = Call(await self._reserved(candidate, most, decision), candidate, self._cost)
            self.calls.append(call)
            return call

    async def _reserved(self, candidate: Candidate, most: Tokens, decision: str) -> OpenLeg:
        reservation = Reservation(
            request_id=self._request.id,
            tenant=self._request.tenant,
            key=self._request.key,
            provider=candidate.endpoint.name,
            model=candidate.model,
            max_nano_usd=candidate.max_nano_usd,
            max_tokens=most.prompt + most.completion,
            number=self._number,
            decision=decision,
        )
        self._number += 1
        try:
            return await self._ledger.reserve(reservation)
        except Refused:
            self._number -= 1
            raise


@dataclass(frozen=True, slots=True)
class CandidateMeter:
    """`providers.base.Meter` of the calls to one candidate, each of at most ``most`` tokens."""

    bill: Bill
    candidate: Candidate
    most: Tokens
    decision: str

    async def leg(self) -> Call:
        return await self.bill.call(self.candidate, self.most, self.decision)


def tokens_of(usage: Usage) -> Tokens:
    return Tokens(usage.prompt, usage.cached, usage.completion, usage.written)
