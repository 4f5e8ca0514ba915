"""The fields of a JSON text, told as each is complete, while the text still grows.

    {"name": "Ann", "tags": ["a", "b"]}      /name "Ann" · /tags/0 "a" · /tags/1 "b" · /tags · (the whole)

A field's log-probability is the sum over the tokens in which its value is spelled. The text is trusted to be JSON: it
was written under a constraint.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from providers.base import ScoredToken

_SPACE = " \t\n\r"


@dataclass(frozen=True, slots=True)
class Field:
    """``pointer``: RFC 6901. ``value``: JSON text; None for objects and arrays, whose parts were told. ``logprob``:
    natural logarithm, None where nothing was scored."""

    pointer: str
    value: str | None
    logprob: float | None


@dataclass(slots=True)
class _Open:
    """An object or an array: where it begins, and what of it is under way."""

    start: int
    key: str | int | None


@dataclass(slots=True)
class FieldReader:
    """Reads one text. Places are byte offsets, since tokens are bytes."""

    _at: int = 0
    _open: list[_Open] = field(default_factory=list)
    _scalar: list[str] = field(default_factory=list)
    _begun: int = 0
    _escaped: bool = False
    _ends: list[int] = field(default_factory=list)
    _sums: list[float] = field(default_factory=lambda: [0.0])

    def score(self, tokens: Sequence[ScoredToken]) -> None:
        """The tokens of text that is fed next, or later where it is held back."""
        for token in tokens:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(token.sampled.data))
            self._sums.append(self._sums[-1] + token.sampled.logprob)

    def feed(self, text: str) -> list[Field]:
        """The fields that ``text`` completes."""
        found: list[Field] = []
        for char in text:
            self._take(char, found)
            self._at += len(char.encode())
        return found

    def flush(self) -> list[Field]:
        """The text has ended: so has a number that nothing stands around."""
        found: list[Field] = []
        if self._scalar and self._scalar[0] != '"' and not self._open:
            self._end_scalar(found, self._at)
        return found

    def _take(self, char: str, found: list[Field]) -> None:
        if self._scalar and self._scalar[0] == '"':
            self._scalar.append(char)
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                self._end_scalar(found, self._at + 1)
            return
        if self._scalar and char in f",]}}{_SPACE}":
            self._end_scalar(found, self._at)
        match char:
            case "{" | "[":
                self._open.append(_Open(self._at, None if char == "{" else 0))
            case "}" | "]":
                start = self._open.pop().start
                self._tell(found, None, start, self._at + 1)
            case ",":
                place = self._open[-1]
                place.key = place.key + 1 if isinstance(place.key, int) else None
            case ":" | " " | "\t" | "\n" | "\r":
                pass
            case _:
                if not self._scalar:
                    self._begun = self._at
                self._scalar.append(char)

    def _end_scalar(self, found: list[Field], end: int) -> None:
        text = "".join(self._scalar)
        self._scalar.clear()
        if self._open and self._open[-1].key is None:
            self._open[-1].key = json.loads(text)
        else:
            self._tell(found, text, self._begun, end)

    def _tell(self, found: list[Field], value: str | None, start: int, end: int) -> None:
        path = (str(place.key).replace("~", "~0").replace("/", "~1") for place in self._open)
        found.append(Field("".join(f"/{step}" for step in path), value, self._logprob(start, end)))

    def _logprob(self, start: int, end: int) -> float | None:
        """Of the tokens with a byte in [start, end)."""
        if not self._ends:
            return None
        first = bisect_right(self._ends, start)
        last = min(bisect_right(self._ends, end - 1) + 1, len(self._ends))
        return self._sums[last] - self._sums[first]
