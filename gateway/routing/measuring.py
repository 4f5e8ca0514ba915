"""How quickly candidates have answered so far, as moving averages. Only this process's own measurements count."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT = 0.2
"""Of the newest measurement: the average forgets what is some ten answers old."""


@dataclass(slots=True)
class Pace:
    """``ttft_s``: seconds to the first event. ``tokens_per_s``: of one answer after that. None = never measured."""

    ttft_s: float | None = None
    tokens_per_s: float | None = None


class Paces:
    def __init__(self) -> None:
        self._paces: dict[tuple[str, str], Pace] = {}

    def of(self, provider: str, model: str) -> Pace:
        return self._paces.setdefault((provider, model), Pace())

    def began(self, provider: str, model: str, seconds: float) -> None:
        pace = self.of(provider, model)
        pace.ttft_s = _moved(pace.ttft_s, seconds)

    def ended(self, provider: str, model: str, tokens: int, seconds: float) -> None:
        """``seconds`` since the first of ``tokens``."""
        if tokens > 1 and seconds > 0:
            pace = self.of(provider, model)
            pace.tokens_per_s = _moved(pace.tokens_per_s, tokens / seconds)


def _moved(average: float | None, value: float) -> float:
    return value if average is None else average + WEIGHT * (value - average)
