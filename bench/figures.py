"""Figures that outlive what produces them: each is written as soon as it is known, one JSON line each.

A device is lent for minutes, and one case that fails, or runs into the limit, must not cost the figures of all others:
it becomes a line that says so, and the run goes on. Where a figure has a target, its line says both.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure of a line must reach: ``least``, or ``most``."""

    figure: str
    least: float | None = None
    most: float | None = None

    def of(self, value: float) -> dict[str, Any]:
        met = (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
        bound = {"at_least": self.least} if self.most is None else {"at_most": self.most}
        return {"figure": self.figure, "value": value, **bound, "met": met}


class Figures:
    """``path``: None to print only. ``seconds``: no further case begins after that many."""

    def __init__(self, path: str | None, seconds: float) -> None:
        self._file = Path(path).open("w") if path else None
        self._end = time.monotonic() + seconds
        self.failed = 0

    def write(self, line: dict[str, Any], target: Target | None = None) -> None:
        if target is not None:
            line = {**line, "target": target.of(line[target.figure])}
        text = json.dumps(line)
        print(text, flush=True)
        if self._file is not None:
            self._file.write(text + "\n")
            self._file.flush()

    def each(self, about: dict[str, Any], cases: Callable[[], Iterator[T]], measure: Callable[[T], None]) -> None:
        """Measure case after case while there is time. ``about``: what a line about a failure says beside it; after one
        in ``cases`` there are no more of these, after one in ``measure`` the next is tried."""
        try:
            for case in cases():
                if time.monotonic() > self._end:
                    self.write({**about, "left_out": "the time is over"})
                    return
                try:
                    measure(case)
                except Exception as error:
                    self._fail(about | {"case": str(getattr(case, "name", case))}, error)
        except Exception as error:
            self._fail(about, error)

    def _fail(self, about: dict[str, Any], error: Exception) -> None:
        self.failed += 1
        traceback.print_exc()
        self.write({**about, "error": f"{type(error).__name__}: {error}"[:2000]})
