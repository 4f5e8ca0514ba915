"""Tool calls out of a model's text, as the text grows.

    text ─ opening, head ─▶ name ─ middle ─▶ arguments ─ brackets closed ─▶ tail ─▶ text …
                              ▲                                              │ where calls are enclosed
                              └────────────── separator, head ─────────── between ─ closing ─▶ text …

What could still become a call is held back, and so is white space that may stand beside one. Arguments are given out as
they come: JSON objects tell by themselves where they end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from providers.custom_tools import InputReader
from providers.tool_formats import ToolFormat

_BRACKETS = re.compile(r'["\\{}\[\]]')


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A call begins, of the function ``name``; ``custom``: of a custom tool."""

    name: str
    custom: bool = False


@dataclass(frozen=True, slots=True)
class Arguments:
    """More of the arguments of the call that began last, or of its input if the tool is a custom one."""

    text: str


Piece = Text | Begun | Arguments


class CallReader:
    """Reads one choice. ``begun``: the prompt already holds the beginning of a call of that function, and the choice is
    its arguments. ``custom``: the names of custom tools. ``required``: there is nothing but calls."""

    def __init__(
        self,
        format: ToolFormat,
        begun: str | None = None,
        custom: frozenset[str] = frozenset(),
        *,
        required: bool = False,
    ) -> None:
        self._format = format
        self._heads = tuple(opening + format.head for opening in format.openings)
        self._custom = custom
        self._required = required
        self._input: InputReader | None = None
        self._held = ""
        self._pending: list[Piece] = []
        self._state: Literal["text", "name", "arguments", "tail", "between"] = "text"
        self.begun = 0
        if begun is not None:
            self._begin(begun)

    @property
    def in_text(self) -> bool:
        """What comes next is text, not a part of a call."""
        return self._state == "text"

    def feed(self, text: str) -> list[Piece]:
        """What the text that is now known gives."""
        self._held += text
        while self._step():
            pass
        return self._take()

    def flush(self, *, cut: bool = False) -> list[Piece]:
        """What was held back, when the choice has ended. White space beside calls belongs to nobody, and neither does
        what can only be the beginning of a call, where the choice was ``cut`` in it."""
        if self.in_text:
            held = self._held.rstrip() if self.begun else self._held
            place = len(held) - self._possible_head(held)
            begins = cut and (self.begun or self._required or self._format.trigger in held[place:])
            self._give(len(held[:place].rstrip()) if begins else len(held))
        return self._take()

    def _step(self) -> bool:
        """Go from one state to the next; False when that needs more text."""
        match self._state:
            case "text":
                return self._read_text()
            case "name":
                place = self._held.find(self._format.middle)
                if place < 0:
                    return False
                self._begin(self._held[:place])
                self._held = self._held[place + len(self._format.middle) :]
                return True
            case "arguments":
                return self._read_arguments()
            case "tail":
                if len(self._held) < len(self._format.tail):
                    return False
                self._held = self._held[len(self._format.tail) :]
                self._state = "between" if self._format.closing else "text"
                return bool(self._held)
            case "between":
                return self._read_between()

    def _read_text(self) -> bool:
        places = [(place, head) for head in self._heads if (place := self._held.find(head)) >= 0]
        if not places:
            self._give(len(self._held[: len(self._held) - self._possible_head(self._held)].rstrip()))
            return False
        place, head = min(places)
        self._give(len(self._held[:place].rstrip()))
        self._held = self._held.lstrip()[len(head) :]
        self._state = "name"
        return True

    def _read_between(self) -> bool:
        another = self._format.separator + self._format.head
        if self._held.startswith(another):
            self._held = self._held[len(another) :]
            self._state = "name"
            return True
        if self._held.startswith(self._format.closing):
            self._held = self._held[len(self._format.closing) :]
            self._state = "text"
            return bool(self._held)
        return False

    def _possible_head(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins a head."""
        longest = min(max(map(len, self._heads)) - 1, len(text))
        ends = (n for n in range(longest, 0, -1) if any(head.startswith(text[-n:]) for head in self._heads))
        return next(ends, 0)

    def _begin(self, name: str) -> None:
        self.begun += 1
        self._state = "arguments"
        self._depth = 0
        self._in_string = self._escaped = False
        self._input = InputReader() if name in self._custom else None
        self._pending.append(Begun(name, self._input is not None))

    def _read_arguments(self) -> bool:
        end = self._end_of_arguments()
        given = len(self._held) if end is None else end
        if given:
            new, self._held = self._held[:given], self._held[given:]
            if text := new if self._input is None else self._input.feed(new):
                self._pending.append(Arguments(text))
        if end is not None:
            self._state = "tail"
        return end is not None

    def _end_of_arguments(self) -> int | None:
        """Where the object ends in the held text, None if it goes on."""
        skip = 0
        if self._escaped and self._held:
            self._escaped, skip = False, 1
        while found := _BRACKETS.search(self._held, skip):
            mark, skip = found[0], found.end()
            if self._in_string:
                if mark == "\\":
                    if skip == len(self._held):
                        self._escaped = True
                    skip += 1
                elif mark == '"':
                    self._in_string = False
            elif mark == '"':
                self._in_string = True
            elif mark in "{[":
                self._depth += 1
            elif mark in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return skip
        return None

    def _give(self, n: int) -> None:
        if n:
            self._pending.append(Text(self._held[:n]))
            self._held = self._held[n:]

    def _take(self) -> list[Piece]:
        pending, self._pending = self._pending, []
        return pending
