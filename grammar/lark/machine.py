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
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from grammar.fuel import Fuel
from grammar.lark.lexemes import IGNORED, NO_SHADOW, Lexeme, Lexemes, Scanner, Shadow
from grammar.lark.lines import FLAT, Layout, Line
from grammar.states import Edges, States
from grammar.tables import END_ASK, END_OF_TEXT, END_REJECT, GOTO, PUSH, REDO, REDUCE, SHIFT, Edge

END_TOKEN = "$END"
"""The end of the text, as a terminal."""

END = (END_OF_TEXT, END_OF_TEXT)
"""The text ends behind a sentence."""


MAX_SHADED = 500
"""Places under a shadow that are searched for one where it is gone; beyond them it is taken for granted."""


@dataclass(frozen=True, slots=True)
class Between:
    """Before a token. ``reader``: the parser state whose lexer reads it, -1 where there is no lexer; ``wanted``: the
    tokens that called for the reductions since the last one, None when there were none; ``shadow``: what the text must
    not become."""

    state: int
    reader: int
    wanted: frozenset[str] | None = None
    shadow: Shadow = NO_SHADOW
    layout: Layout = FLAT


@dataclass(frozen=True, slots=True)
class Turning:
    """Before a newline token that the parser has been given already, and some of what an Indenter makes of it. Behind
    it the blocks of ``layout`` are open. ``reader``: as in `Between`, -1 where the text ends instead; ``owed``: what
    called for the reductions since, or nothing; ``turned``: the Indenter's tokens have begun."""

    state: int
    reader: int
    shadow: Shadow
    layout: Layout
    owed: str = ""
    turned: str = ""


@dataclass(frozen=True, slots=True)
class Inside:
    """Inside a token, one of ``wanted``. ``line``: of a newline token that the parser needs not be given any more."""

    state: int
    lexeme: Lexeme
    wanted: frozenset[str]
    shadow: Shadow
    layout: Layout = FLAT
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Below:
    """A parser state in the stack; only returned to."""

    state: int


Location = Between | Turning | Inside | Below


class _Reduction(NamedTuple):
    """What a verdict says: which rule has ended, and before what (the parser state aside)."""

    origin: str
    before: Between | Turning


class _Shaded(NamedTuple):
    """Behind a token that a shadow follows. ``inside``: parentheses."""

    state: int
    shadow: Shadow
    inside: bool


class LarkMachine(ABC):
    """`grammar.tables.Machine` over a grammar. ``follow``: the bytes (lo, hi) that may come behind a sentence.

    A sentence inside another text is read on a frame of its own, pushed by whoever goes to `start`: its end pops that
    frame, and what follows is read where the frame returns to.
    """

    start: int
    limits: Mapping[str, int | str]

    def __init__(self, lexemes: Lexemes, first: Between, fuel: Fuel, follow: tuple[int, int]) -> None:
        """``first``: where a sentence begins."""
        self._fuel = fuel
        self.follow = follow
        self.limits = {}
        self._lexemes = lexemes
        self._first = first
        self._ids: dict[Location, int] = {}
        self._verdicts: list[_Reduction] = []
        self._verdict_ids: dict[_Reduction, int] = {}
        self._moves: dict[Between | Turning | Inside, list[Edge]] = {}
        self._followed: dict[_Shaded, bool] = {}
        self._ending: dict[Inside, bool] = {}

    def admitted(self) -> None:
        self._fuel.admit()

    def state(self, location: Location) -> int:
        """The state of a location."""
        found = self._ids.get(location)
        if found is None:
            found = self._ids[location] = self._all.new(self, location)
        return found

    def begin(self, states: States) -> None:
        """The machine's states are some of ``states``; nothing runs before."""
        self._all = states
        self.tables = states.tables
        self.tables.parses = True
        self.expand, self.resume, self.admit = states.expand, states.resume, states.admit
        states.join(self)
        self.start = self.state(self._first)

    def begins(self) -> list[tuple[int, int]]:
        """The bytes that a sentence may begin with, or that come behind an empty one."""
        return covered(self.moves(self._first))

    # -- what the parser says ------------------------------------------------------------------------------------------

    @abstractmethod
    def goto(self, state: int, symbol: str) -> int:
        """The parser state after a symbol that it can go on with."""

    @abstractmethod
    def may_go(self, state: int, symbol: str) -> bool:
        """Whether the parser can go on with a symbol."""

    @abstractmethod
    def reader(self, state: int) -> int:
        """`Between.reader` behind a token."""

    @abstractmethod
    def before_token(self, here: Between | Turning) -> Iterator[Edge]:
        """What a byte, or the end of the text, does before a token."""

    @abstractmethod
    def upcoming(self, state: int) -> tuple[tuple[Scanner, ...], bool]:
        """What may read the next token in a parser state, whatever lies below it; and whether the text may end."""

    @abstractmethod
    def usable(self, state: int, terminals: frozenset[str], inside: bool) -> bool:
        """Whether one of some terminals may come in a parser state, whatever lies below it. ``inside``: parentheses."""

    @abstractmethod
    def behind(self, state: int, terminal: str) -> Collection[int] | None:
        """The parser states that a token may lead to from a parser state, whatever lies below it; None: not known."""

    @abstractmethod
    def opens(self, state: int, shadow: Shadow) -> bool:
        """Whether something that is no token may begin in a parser state, and gets rid of a shadow."""

    def layout_behind(self, terminal: str, layout: Layout) -> Layout:
        """What a token makes of a layout, newline tokens aside."""
        return layout

    # -- the owner of its locations (grammar.states) -------------------------------------------------------------------

    def edges_of(self, location: Location) -> Edges:
        if isinstance(location, Below):
            if self.follow == END or location.state != self._first.state:
                return [], END_REJECT
            # The bottom of the parser's stack has been popped: the sentence's own frame is next.
            return [(*self.follow, REDO, 0, 0, 0, 0)], END_REJECT
        edges = self.moves(location)
        return edges, END_ASK if any(hi == END_OF_TEXT for _, hi, *_ in edges) else END_REJECT

    def comes_back(self, ret: int, verdict: int) -> bool:
        """Whether a rule may end behind the parser state that a frame returns to."""
        return self.may_go(self._all.location(ret).state, self._verdicts[verdict - 1].origin)

    def decided(self, location: Below, verdict: int) -> int:
        origin, before = self._verdicts[verdict - 1]
        return self.state(replace(before, state=self.goto(location.state, origin)))

    def accepted(self) -> Edge:
        """The text is a sentence, and ends."""
        return *self.follow, GOTO if self.follow == END else REDO, 0, 0, 0, 0

    # -- moves ---------------------------------------------------------------------------------------------------------

    def moves(self, location: Between | Turning | Inside) -> list[Edge]:
        found = self._moves.get(location)
        if found is None:
            edges = self._in_token(location) if isinstance(location, Inside) else self.before_token(location)
            found = self._moves[location] = list(edges)
        return found

    def enter(self, lo: int, hi: int, here: Inside) -> Iterator[Edge]:
        """On into a token, if it can still end well; past it where it can only end at once."""
        if not self.may_end(here):
            return
        ends = list(self._ends_of(here, here.lexeme, here.shadow, here.line))
        if len(ends) == 1 and not self._lexemes.step(here.lexeme):
            pushes, after = ends[0]
            if pushes:
                yield lo, hi, PUSH, self.state(after), self.state(Below(here.state)), self.tables.registers(), 0
            else:
                yield lo, hi, GOTO, self.state(after), 0, 0, 0
        else:
            yield lo, hi, GOTO, self.state(here), 0, 0, 0

    def reduction(self, lo: int, hi: int, state: int, origin: str, length: int, before: Between | Turning) -> Edge:
        """A rule of ``length`` symbols ends before this byte, in a parser state; ``before`` is where that leads (its
        own parser state aside)."""
        if length == 0:
            return self.shift(lo, hi, state, self.state(replace(before, state=self.goto(state, origin))))
        key = _Reduction(origin, replace(before, state=0))
        verdict = self._verdict_ids.get(key)
        if verdict is None:
            self._verdicts.append(key)
            verdict = self._verdict_ids[key] = len(self._verdicts)
        return lo, hi, REDUCE, 0, verdict, length - 1, 0

    def shift(self, lo: int, hi: int, state: int, after: int) -> Edge:
        """The parser goes on before this byte, from a parser state to a state of the machine."""
        return lo, hi, SHIFT, after, self.state(Below(state)), self.tables.registers(), 0

    def _in_token(self, here: Inside) -> Iterator[Edge]:
        for lo, hi, lexeme, shadow in self._lexemes.reading(here.lexeme, here.shadow):
            live = self._lexemes.live(lexeme) & here.wanted
            for first, last, line in _read(here.line, lo, hi) if live else ():
                yield from self.enter(first, last, replace(here, lexeme=lexeme, wanted=live, shadow=shadow, line=line))
        for pushes, after in self._ends_of(here, here.lexeme, here.shadow, here.line):
            if not pushes:
                yield from self.moves(after)
                continue
            for lo, hi in covered(self.moves(after)):
                yield self.shift(lo, hi, here.state, self.state(after))

    def _ends_of(
        self, here: Inside, lexeme: Lexeme, shadow: Shadow, line: Line | None
    ) -> Iterator[tuple[bool, Between]]:
        """What lies behind the tokens that may end with a lexeme, and whether the parser's state is pushed there."""
        if line is not None and not line.fits:
            return
        for end in self._lexemes.ends(lexeme):
            if end.terminal not in here.wanted:
                continue
            layout, pushes = here.layout, line is None and end.terminal != IGNORED
            if line is not None and line.opens:
                layout = layout._replace(columns=(*layout.columns, line.column))
            elif pushes:
                layout = self.layout_behind(end.terminal, layout)
            state = self.goto(here.state, end.terminal) if pushes else here.state
            yield pushes, Between(state, self.reader(state), None, shadow | end.shadow, layout)

    def forget_corners(self) -> None:
        """The parser has become another one."""
        self._followed.clear()
        self._ending.clear()

    # -- corners -------------------------------------------------------------------------------------------------------

    def may_end(self, here: Inside) -> bool:
        """Whether the token can end so that something may follow it."""
        found = self._ending.get(here)
        if found is None:
            found = self._ending[here] = self._comes_to_an_end(here)
        return found

    def _comes_to_an_end(self, here: Inside) -> bool:
        start = (here.lexeme, here.shadow, here.line)
        seen, queue = {start}, [start]
        for lexeme, shadow, line in queue:
            if any(self._may_follow(behind) for _, behind in self._ends_of(here, lexeme, shadow, line)):
                return True
            for lo, hi, following, after in self._lexemes.reading(lexeme, shadow):
                for _, _, reached in _read(line, lo, hi):
                    there = (following, after, reached)
                    if there not in seen:
                        seen.add(there)
                        queue.append(there)
        return False

    def _may_follow(self, here: Between) -> bool:
        """Whether some text gets rid of a shadow. What the stack allows is not asked: a parser state may be followed
        by any that its tokens lead to on some stack."""
        if here.shadow == NO_SHADOW:
            return True
        first = _Shaded(here.state, here.shadow, here.layout.parens > 0)
        found = self._followed.get(first)
        if found is None:
            met = {first: None}
            found = self._followed[first] = self._gets_rid(met)
            if not found:
                self._followed |= dict.fromkeys(met, False)
        return found

    def _gets_rid(self, met: dict[_Shaded, None]) -> bool:
        """`_may_follow` of the one in ``met``, where what is met on the way is added to."""
        queue = list(met)
        for here in queue:
            known = self._followed.get(here)
            if known or len(met) > MAX_SHADED or (known is None and self._ends_shadow(here)):
                return True
            for behind in self._shaded_behind(here) if known is None else ():
                if behind is None:
                    return True
                if behind not in met:
                    met[behind] = None
                    queue.append(behind)
        return False

    def _ends_shadow(self, here: _Shaded) -> bool:
        _, may_end = self.upcoming(here.state)
        return (may_end and self._lexemes.may_end_text(here.shadow)) or self.opens(here.state, here.shadow)

    def _shaded_behind(self, here: _Shaded) -> Iterator[_Shaded | None]:
        """What may come behind the next token and under the shadow still; None: the shadow is gone."""
        scanners, _ = self.upcoming(here.state)
        start = (self._lexemes.start(scanners), here.shadow)
        seen, queue = {start}, [start] if scanners else []
        for lexeme, cast in queue:
            for _, _, following, after in self._lexemes.reading(lexeme, cast):
                if not self.usable(here.state, self._lexemes.live(following), here.inside):
                    continue
                if after == NO_SHADOW:
                    yield None
                for end in self._lexemes.ends(following):
                    states = (here.state,) if end.terminal == IGNORED else self.behind(here.state, end.terminal)
                    yield from (here._replace(state=state, shadow=after | end.shadow) for state in states or ())
                    if states is None:
                        yield None
                if (following, after) not in seen:
                    seen.add((following, after))
                    queue.append((following, after))


def _read(line: Line | None, lo: int, hi: int) -> list[tuple[int, int, Line | None]]:
    return [(lo, hi, None)] if line is None else list(line.reads(lo, hi))


def covered(edges: list[Edge]) -> list[tuple[int, int]]:
    """The bytes that some edge takes, as disjoint ranges."""
    merged: list[tuple[int, int]] = []
    for lo, hi in sorted((edge[0], edge[1]) for edge in edges):
        if merged and lo <= merged[-1][1] + 1 and (lo != END_OF_TEXT or merged[-1][1] == END_OF_TEXT):
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    return merged
