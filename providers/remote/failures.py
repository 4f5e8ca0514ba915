"""What goes wrong in a call: a `ProviderError` that also says what that means for retries, the breaker and the bill."""

from __future__ import annotations

from typing import Any, Literal

from providers.base import ErrorKind, ProviderError

Health = Literal["well", "ill", "unknown"]


class Failure(ProviderError):
    """``executed``: the request may have been, wholly or in part. ``again``: the same call may succeed a moment later.
    ``health``: what it says of the provider's."""

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        executed: bool,
        again: bool,
        health: Health,
        elsewhere: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(kind, message, elsewhere=elsewhere, retry_after=retry_after)
        self.executed = executed
        self.again = again
        self.health = health


def failed_midway(error: Any) -> Failure:
    """What an API says instead of going on. Its words are not repeated: they may quote what was sent."""
    code = f"{error.get('type')} {error.get('code')} {error.get('status')}" if isinstance(error, dict) else ""
    busy = any(sign in code.lower() for sign in ("overloaded", "rate_limit", "resource_exhausted"))
    kind: ErrorKind = "overloaded" if busy else "unavailable"
    message = "The provider failed in the middle of its answer."
    return Failure(kind, message, executed=True, again=True, health="ill")
