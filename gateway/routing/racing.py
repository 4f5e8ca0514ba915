"""Candidates are asked one after another, or a second one beside the first that takes too long: the first to answer
wins.

    fallback   c1 ✗ ─▶ c2 ✗ ─▶ c3 ✓
    hedge      c1 ───────── ✗ cancelled
               └ after_s ─▶ c2 ✓

An answer counts from its first event, since nothing of it has been delivered before. An error that another candidate
would meet too (an invalid schema is invalid everywhere) ends the race. Where a budget in dollars is too small for one
candidate it may do for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeGuard

from gateway.ledger.refusals import Refused
from gateway.policy.selection import Candidate
from gateway.routing.leg import Leg
from providers.base import ErrorKind, ProviderError

ELSEWHERE: frozenset[ErrorKind] = frozenset(
    {
        "unsupported_constraint",
        "constraint_too_large",
        "context_length",
        "overloaded",
        "unavailable",
        "internal",
        "invalid_answer",
        "deadline",
    }
)
"""Errors that another candidate need not have, whoever raises them. Of others the provider says so itself."""

MAX_AT_ONCE = 2
"""Legs of one request that run at a time."""

Make = Callable[[Candidate], Leg]
Failure = ProviderError | Refused


class Race:
    """``asked`` and ``failures`` grow as candidates are tried, over several runs where there are such."""

    def __init__(self, hedge_after_s: float | None, max_ttft_s: float | None) -> None:
        self.asked: list[Leg] = []
        self.failures: list[tuple[Candidate, Failure]] = []
        self._hedge_after_s = hedge_after_s
        self._max_ttft_s = max_ttft_s

    async def run(self, candidates: tuple[Candidate, ...], make: Make) -> Leg:
        """The leg that answered first. Raises what all would meet, or the last `Failure`: a `Refused` only where there
        was no other."""
        waiting = iter(candidates)
        running = [self._start(next(waiting), make)]
        patience = self._hedge_after_s
        winner: Leg | None = None
        try:
            while True:
                alone = len(running) < MAX_AT_ONCE
                answers = [leg.answered for leg in running]
                await asyncio.wait(answers, timeout=patience if alone else None, return_when=asyncio.FIRST_COMPLETED)
                failed = [leg for leg in running if leg.answered.done() and not self._answered(leg)]
                for leg in failed:
                    running.remove(leg)
                    await leg.close()
                # Another may have failed while those were closed: it is looked at in the next round.
                winner = next((leg for leg in running if _has_answered(leg)), None)
                if winner is not None:
                    return winner
                if len(running) < MAX_AT_ONCE and (not running or not failed):
                    patience = self._another(waiting, running, make, patience)
        finally:
            try:
                await asyncio.gather(*(leg.close() for leg in running if leg is not winner))
            except asyncio.CancelledError:
                if winner is not None:
                    await winner.close()
                raise

    def _start(self, candidate: Candidate, make: Make) -> Leg:
        leg = make(candidate)
        self.asked.append(leg)
        leg.start(self._max_ttft_s)
        return leg

    def _another(
        self, waiting: Iterator[Candidate], running: list[Leg], make: Make, patience: float | None
    ) -> float | None:
        """Ask the next candidate, after a failure or beside a slow one. Raises a failure where nobody is left."""
        candidate = next(waiting, None)
        if candidate is not None:
            running.append(self._start(candidate, make))
            return patience
        if not running:
            failures = [error for _, error in self.failures]
            raise next((error for error in reversed(failures) if isinstance(error, ProviderError)), failures[-1])
        return None

    def _answered(self, leg: Leg) -> bool:
        """Whether ``leg`` has begun to answer, rather than failed. Raises an error that ends the race."""
        error = leg.answered.exception()
        if error is None:
            return True
        if not _is_this_ones(error):
            raise error
        self.failures.append((leg.candidate, error))
        return False


def _is_this_ones(error: BaseException) -> TypeGuard[Failure]:
    """Whether another candidate may do better."""
    if isinstance(error, ProviderError):
        return error.elsewhere or error.kind in ELSEWHERE
    return isinstance(error, Refused) and error.elsewhere


def named(error: Failure) -> str:
    """What went wrong, in a word."""
    return error.kind if isinstance(error, ProviderError) else str(error.code)


def _has_answered(leg: Leg) -> bool:
    return leg.answered.done() and leg.answered.exception() is None
