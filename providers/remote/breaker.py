"""A circuit breaker: a provider that fails again and again is left alone for a while, then probed by one call.

closed ── failures in a row ──▶ open ── open_s seconds ──▶ half-open ── one call ──▶ closed, or open again
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from schemas.providers import Breaker

State = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """Used from one event loop. Every `admit` that returns True is followed by one of `succeeded`, `failed` and
    `withdrawn`."""

    def __init__(self, settings: Breaker, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._opened: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        if self._opened is None:
            return "closed"
        return "open" if self.wait > 0 else "half-open"

    @property
    def wait(self) -> float:
        """Seconds until a call may probe; 0 where one may now."""
        return 0.0 if self._opened is None else max(0.0, self._opened + self._settings.open_s - self._clock())

    def admit(self) -> bool:
        """Whether a call may be made."""
        if self._opened is None:
            return True
        if self.wait > 0 or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The provider answered, be it that the request was at fault."""
        self._failures, self._opened, self._probing = 0, None, False

    def failed(self) -> None:
        self._failures += 1
        if self._probing or self._failures >= self._settings.failures:
            self._opened = self._clock()
        self._probing = False

    def withdrawn(self) -> None:
        """The call was given up by its caller, and says nothing of the provider."""
        self._probing = False
