"""A Lark grammar as a byte machine: an LR parser whose stack is the machine's stack of frames.

A parser state is a part of the static state, those below it are the frames' returns. What stands between two bytes is
one of these locations:

    Between ──byte──▶ Inside ──byte──▶ Inside ...      a token begins, and goes on
       │ ▲               │
       │ └── SHIFT ──────┘                             it has ended before this byte: push the parser's state
       └──── REDUCE ──▶ Between                        a rule has ended before this byte: drop its states

`contextual.py` and `dynamic.py` say what may come in a parser state; here is what both have in common: how tokens are
read, and that none is begun that could only end in a corner.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from grammar.fuel import Fuel
from grammar.lark.lexemes import IGNORED, NO_SHADOW, Lexeme, Lexemes, Scanner, Shadow
from grammar.states import Edges, States
from grammar.tables import END_ASK, END_OF_TEXT, END_REJECT, GOTO, PUSH, REDUCE, SHIFT, Edge

END_TOKEN = "$END"
"""The end of the text, as a terminal."""


@dataclass(frozen=True, slots=True)
class Between:
    """Before a token. ``reader``: the parser state whose lexer reads it, -1 where there is no lexer; ``wanted``: the
    tokens that called for the reductions since the last one, None when there were none; ``shadow``: what the text must
    not become."""

    state: int
    reader: int
    wanted: frozenset[str] | None = None
    shadow: Shadow = NO_SHADOW


@dataclass(frozen=True, slots=True)
class Inside:
    """Inside a token, one of ``wanted``."""

    state: int
    lexeme: Lexeme
    wanted: frozenset[str]
    shadow: Shadow


@dataclass(frozen=True, slots=True)
class Below:
    """A parser state in the stack; only returned to."""

    state: int


Location = Between | Inside | Below


class _Reduction(NamedTuple):
    """What a verdict says: which rule has ended, and before what (the parser state aside)."""

    origin: str
    before: Between


class LarkMachine(ABC):
    """`grammar.tables.Machine` over a grammar. ``start`` is set by who knows the first parser state."""

    start: int
    limits: Mapping[str, int | str]

    def __init__(self, lexemes: Lexemes, states: States, fuel: Fuel) -> None:
        self._fuel = fuel
        self.limits = {}
        self._lexemes = lexemes
        self._all = states
        self.tables = states.tables
        self.expand, self.resume, self.admit = states.expand, states.resume, states.admit
        states.join(self)
        self._ids: dict[Location, int] = {}
        self._verdicts: list[_Reduction] = []
        self._verdict_ids: dict[_Reduction, int] = {}
        self._moves: dict[Between | Inside, list[Edge]] = {}
        self._followed: dict[tuple[int, Shadow], bool] = {}
        self._ending: dict[Inside, bool] = {}

    def admitted(self) -> None:
        self._fuel.admit()

    def state(self, location: Location) -> int:
        """The state of a location."""
        found = self._ids.get(location)
        if found is None:
            found = self._ids[location] = self._all.new(self, location)
        return found

    # -- what the parser says ------------------------------------------------------------------------------------------

    @abstractmethod
    def goto(self, state: int, symbol: str) -> int:
        """The parser state after a symbol that it can go on with."""

    @abstractmethod
    def reader(self, state: int) -> int:
        """`Between.reader` behind a token."""

    @abstractmethod
    def before_token(self, here: Between) -> Iterator[Edge]:
        """What a byte, or the end of the text, does before a token."""

    @abstractmethod
    def upcoming(self, state: int) -> tuple[tuple[Scanner, ...], bool]:
        """What may read the next token in a parser state, whatever lies below it; and whether the text may end."""

    @abstractmethod
    def opens(self, state: int, shadow: Shadow) -> bool:
        """Whether something that is no token may begin in a parser state, and gets rid of a shadow."""

    # -- the owner of its locations (grammar.states) -------------------------------------------------------------------

    def edges_of(self, location: Location) -> Edges:
        if isinstance(location, Below):
            return [], END_REJECT
        edges = self.moves(location)
        return edges, END_ASK if any(hi == END_OF_TEXT for _, hi, *_ in edges) else END_REJECT

    def decided(self, location: Below, verdict: int) -> int:
        origin, before = self._verdicts[verdict - 1]
        target = self.goto(location.state, origin)
        return self.state(Between(target, before.reader, before.wanted, before.shadow))

    # -- moves ---------------------------------------------------------------------------------------------------------

    def moves(self, location: Between | Inside) -> list[Edge]:
        found = self._moves.get(location)
        if found is None:
            edges = self.before_token(location) if isinstance(location, Between) else self._in_token(location)
            found = self._moves[location] = list(edges)
        return found

    def enter(self, lo: int, hi: int, here: Inside) -> Iterator[Edge]:
        """On into a token, if it can still end well; past it where it can only end at once."""
        if not self.may_end(here):
            return
        ends = [end for end in self._lexemes.ends(here.lexeme) if end.terminal in here.wanted]
        if len(ends) == 1 and not self._lexemes.step(here.lexeme):
            after = self.state(self._after(here.state, ends[0].terminal, here.shadow | ends[0].shadow))
            if ends[0].terminal == IGNORED:
                yield lo, hi, GOTO, after, 0, 0, 0
            else:
                yield lo, hi, PUSH, after, self.state(Below(here.state)), self.tables.registers(), 0
        else:
            yield lo, hi, GOTO, self.state(here), 0, 0, 0

    def reduction(self, lo: int, hi: int, here: Between, origin: str, length: int, wanted: frozenset[str]) -> Edge:
        """A rule of ``length`` symbols ends before this byte."""
        if length == 0:
            after = Between(self.goto(here.state, origin), here.reader, wanted, here.shadow)
            return self.shift(lo, hi, here.state, self.state(after))
        key = _Reduction(origin, Between(0, here.reader, wanted, here.shadow))
        verdict = self._verdict_ids.get(key)
        if verdict is None:
            self._verdicts.append(key)
            verdict = self._verdict_ids[key] = len(self._verdicts)
        return lo, hi, REDUCE, 0, verdict, length - 1, 0

    def shift(self, lo: int, hi: int, state: int, after: int) -> Edge:
        """The parser goes on before this byte, from a parser state to a state of the machine."""
        return lo, hi, SHIFT, after, self.state(Below(state)), self.tables.registers(), 0

    def reading(self, lexeme: Lexeme, shadow: Shadow) -> Iterator[tuple[int, int, Lexeme, Shadow]]:
        """(lo, hi, next lexeme, next shadow) for the bytes that both allow."""
        if shadow == NO_SHADOW:
            for lo, hi, following in self._lexemes.step(lexeme):
                yield lo, hi, following, shadow
            return
        cast = self._lexemes.step_shadow(shadow)
        for lo, hi, following in self._lexemes.step(lexeme):
            for first, last, after in cast:
                if after is not None and first <= hi and last >= lo:
                    yield max(lo, first), min(hi, last), following, after

    def _in_token(self, here: Inside) -> Iterator[Edge]:
        for lo, hi, lexeme, shadow in self.reading(here.lexeme, here.shadow):
            live = self._lexemes.live(lexeme) & here.wanted
            if live:
                yield from self.enter(lo, hi, Inside(here.state, lexeme, live, shadow))
        for end in self._lexemes.ends(here.lexeme):
            if end.terminal in here.wanted:
                after = self._after(here.state, end.terminal, here.shadow | end.shadow)
                if end.terminal == IGNORED:
                    yield from self.moves(after)
                else:
                    for lo, hi in covered(self.moves(after)):
                        yield self.shift(lo, hi, here.state, self.state(after))

    def _after(self, state: int, terminal: str, shadow: Shadow) -> Between:
        """Behind a token."""
        if terminal != IGNORED:
            state = self.goto(state, terminal)
        return Between(state, self.reader(state), None, shadow)

    def forget_corners(self) -> None:
        """The parser has become another one."""
        self._followed.clear()
        self._ending.clear()

    # -- corners -------------------------------------------------------------------------------------------------------

    def may_end(self, here: Inside) -> bool:
        """Whether the token can end so that something may follow it."""
        found = self._ending.get(here)
        if found is not None:
            return found
        found = False
        start = (here.lexeme, here.shadow)
        seen, queue = {start}, [start]
        for lexeme, shadow in queue:
            for end in self._lexemes.ends(lexeme):
                if end.terminal in here.wanted:
                    behind = self._after(here.state, end.terminal, shadow | end.shadow)
                    if self._may_follow(behind.state, behind.shadow):
                        found = True
                        break
            if found:
                break
            for _, _, following, after in self.reading(lexeme, shadow):
                if (following, after) not in seen:
                    seen.add((following, after))
                    queue.append((following, after))
        self._ending[here] = found
        return found

    def _may_follow(self, state: int, shadow: Shadow) -> bool:
        """Whether some token, or the end of the text, gets rid of a shadow. Which tokens the stack allows is not asked:
        `upcoming` knows the parser state alone."""
        if shadow == NO_SHADOW:
            return True
        key = (state, shadow)
        found = self._followed.get(key)
        if found is not None:
            return found
        self._followed[key] = False
        scanners, may_end = self.upcoming(state)
        found = (may_end and self._lexemes.may_end_text(shadow)) or self.opens(state, shadow)
        if not found and scanners:
            start = (self._lexemes.start(scanners), shadow)
            seen, queue = {start}, [start]
            for lexeme, cast in queue:
                if found:
                    break
                for _, _, following, after in self.reading(lexeme, cast):
                    if not self._lexemes.live(following):
                        continue
                    if after == NO_SHADOW or self._ends_under(state, following, after):
                        found = True
                        break
                    if (following, after) not in seen:
                        seen.add((following, after))
                        queue.append((following, after))
        self._followed[key] = found
        return found

    def _ends_under(self, state: int, lexeme: Lexeme, shadow: Shadow) -> bool:
        """Whether a token may end here although what came before it is not decided yet."""
        for end in self._lexemes.ends(lexeme):
            if end.terminal == IGNORED and self._may_follow(state, shadow | end.shadow):
                return True
        return any(end.terminal != IGNORED for end in self._lexemes.ends(lexeme))


def covered(edges: list[Edge]) -> list[tuple[int, int]]:
    """The bytes that some edge takes, as disjoint ranges."""
    merged: list[tuple[int, int]] = []
    for lo, hi in sorted((edge[0], edge[1]) for edge in edges):
        if merged and lo <= merged[-1][1] + 1 and (lo != END_OF_TEXT or merged[-1][1] == END_OF_TEXT):
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    return merged
