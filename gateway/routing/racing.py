"""Candidates are asked one after another, or a second one beside the first that takes too long: the first to answer
wins.

    fallback   c1 ✗ ─▶ c2 ✗ ─▶ c3 ✓
    hedge      c1 ───────── ✗ cancelled
               └ after_s ─▶ c2 ✓

An answer counts from its first event, since nothing of it has been delivered before. An error that another candidate
would meet too (an invalid schema is invalid everywhere) ends the race.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

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


class Race:
    """``asked`` and ``failures`` grow as candidates are tried, over several runs where there are such."""

    def __init__(self, hedge_after_s: float | None, max_ttft_s: float | None) -> None:
        self.asked: list[Leg] = []
        self.failures: list[tuple[Candidate, ProviderError]] = []
        self._hedge_after_s = hedge_after_s
        self._max_ttft_s = max_ttft_s

    async def run(self, candidates: tuple[Candidate, ...], make: Make) -> Leg:
        """The leg that answered first. Raises `ProviderError`: one that all would meet, or the last; or what the
        ledger refused with."""
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
        """Ask the next candidate, after a failure or beside a slow one. Raises the last failure where nobody is
        left."""
        candidate = next(waiting, None)
        if candidate is not None:
            running.append(self._start(candidate, make))
            return patience
        if not running:
            raise self.failures[-1][1]
        return None

    def _answered(self, leg: Leg) -> bool:
        """Whether ``leg`` has begun to answer, rather than failed. Raises an error that ends the race."""
        error = leg.answered.exception()
        if error is None:
            return True
        if not isinstance(error, ProviderError) or not (error.elsewhere or error.kind in ELSEWHERE):
            raise error
        self.failures.append((leg.candidate, error))
        return False


def _has_answered(leg: Leg) -> bool:
    return leg.answered.done() and leg.answered.exception() is None
