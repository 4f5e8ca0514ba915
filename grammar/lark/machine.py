"""A Lark grammar as a byte machine: an LR parser whose stack is the machine's stack of frames.

A parser state is a part of the static state, those below it are the frames' returns. What stands between two bytes is
one of these locations:

    Between ──byte──▶ Inside ──byte──▶ Inside ...      a token begins, and goes on
       │ ▲               │
       │ └── SHIFT ──────┘                             it has ended before this byte: push the parser's state
       └──── REDUCE ──▶ Between                        a rule has ended before this byte: drop its states

A token is not read before it is known that the parser can use it: where a rule must be reduced first, the reduction
comes before the token's first byte, and what is read then is *wanted*: the tokens that called for this reduction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grammar.constraint import Lark
from grammar.errors import ConstraintError, UnsatisfiableConstraint
from grammar.lark.contextual import END_OF_TEXT as END_TOKEN
from grammar.lark.contextual import ContextualTable
from grammar.lark.lexemes import IGNORED, NO_SHADOW, Lexeme, Lexemes, Shadow
from grammar.lark.programs import Programs
from grammar.lark.source import Source, load, place_of
from grammar.regex.anchors import restrict
from grammar.regex.python import parse_python
from grammar.regex.syntax import EMPTY_SET, Fuel
from grammar.states import Edges, States
from grammar.tables import END_ASK, END_OF_TEXT, END_REJECT, GOTO, PUSH, REDUCE, SHIFT, Edge
from grammar.utf8 import Spelling, raw_spelling


@dataclass(frozen=True, slots=True)
class Between:
    """Before a token. ``scanner``: the parser state whose lexer reads it; ``wanted``: what called for the reductions
    since the last token, None when there were none; ``shadow``: what the text must not become."""

    state: int
    scanner: int
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


class LarkMachine:
    """`grammar.tables.Machine` over a grammar, by an LALR(1) table."""

    def __init__(self, source: Source, table: ContextualTable, lexemes: Lexemes, states: States, fuel: Fuel) -> None:
        self._source = source
        self._table = table
        self._lexemes = lexemes
        self._all = states
        self._fuel = fuel
        self.tables = states.tables
        self.expand, self.resume = states.expand, states.resume
        self._ids: dict[Location, int] = {}
        self._verdicts: list[tuple[str, Between]] = []
        self._verdict_ids: dict[tuple[str, Between], int] = {}
        self._edges: dict[Between | Inside, list[Edge]] = {}
        self.start = self.state(Between(table.start, table.start))

    def admit(self) -> None:
        self._all.admit()
        self._fuel.admit()

    def state(self, location: Location) -> int:
        """The state of a location."""
        found = self._ids.get(location)
        if found is None:
            found = self._ids[location] = self._all.new(self, location)
        return found

    # -- the owner of its locations (grammar.states) -------------------------------------------------------------------

    def edges_of(self, location: Location) -> Edges:
        if isinstance(location, Below):
            return [], END_REJECT
        edges = self._moves(location)
        return edges, END_ASK if any(hi == END_OF_TEXT for _, hi, *_ in edges) else END_REJECT

    def decided(self, location: Below, verdict: int) -> int:
        origin, after = self._verdicts[verdict - 1]
        target = self._table.shift(location.state, origin)
        assert target is not None, f"state {location.state} has no way to go on after {origin}"
        return self.state(Between(target, after.scanner, after.wanted, after.shadow))

    # -- moves ---------------------------------------------------------------------------------------------------------

    def _moves(self, location: Between | Inside) -> list[Edge]:
        found = self._edges.get(location)
        if found is None:
            moves = self._before_token(location) if isinstance(location, Between) else self._in_token(location)
            found = self._edges[location] = list(moves)
        return found

    def _before_token(self, here: Between) -> Iterator[Edge]:
        table, state, wanted = self._table, here.state, here.wanted
        first = self._lexemes.start((table.scanner(here.scanner),))
        for lo, hi, lexeme, shadow in self._reading(first, here.shadow):
            live = self._lexemes.live(lexeme)
            if wanted is not None:
                live &= wanted
            taken = frozenset(t for t in live if table.shift(state, t) is not None)
            if wanted is None:
                taken |= live & {IGNORED}
            if taken:
                yield self._enter(lo, hi, state, lexeme, taken, shadow)
            calling: dict[int, list[str]] = {}
            for terminal in sorted(live - taken):
                rule = table.reduction(state, terminal)
                if rule is not None:
                    calling.setdefault(rule, []).append(terminal)
            for rule in sorted(calling):
                yield self._reduce(lo, hi, here, rule, frozenset(calling[rule]))
        if (wanted is None or END_TOKEN in wanted) and self._lexemes.may_end_text(here.shadow):
            rule = table.reduction(state, END_TOKEN)
            if state == table.end:
                yield END_OF_TEXT, END_OF_TEXT, GOTO, 0, 0, 0, 0
            elif rule is not None:
                yield self._reduce(END_OF_TEXT, END_OF_TEXT, here, rule, frozenset((END_TOKEN,)))

    def _in_token(self, here: Inside) -> Iterator[Edge]:
        for lo, hi, lexeme, shadow in self._reading(here.lexeme, here.shadow):
            live = self._lexemes.live(lexeme) & here.wanted
            if live:
                yield self._enter(lo, hi, here.state, lexeme, live, shadow)
        for end in self._lexemes.ends(here.lexeme):
            if end.terminal in here.wanted:
                after = self._after(here.state, end.terminal, here.shadow | end.shadow)
                if end.terminal == IGNORED:
                    yield from self._moves(after)
                else:
                    for lo, hi in _covered(self._moves(after)):
                        yield lo, hi, SHIFT, self.state(after), self.state(Below(here.state)), 0, 0

    def _enter(self, lo: int, hi: int, state: int, lexeme: Lexeme, wanted: frozenset[str], shadow: Shadow) -> Edge:
        """On into a token; past it where it can only end here."""
        ends = [end for end in self._lexemes.ends(lexeme) if end.terminal in wanted]
        if len(ends) == 1 and not self._lexemes.step(lexeme):
            after = self.state(self._after(state, ends[0].terminal, shadow | ends[0].shadow))
            if ends[0].terminal == IGNORED:
                return lo, hi, GOTO, after, 0, 0, 0
            return lo, hi, PUSH, after, self.state(Below(state)), self.tables.registers(), 0
        return lo, hi, GOTO, self.state(Inside(state, lexeme, wanted, shadow)), 0, 0, 0

    def _after(self, state: int, terminal: str, shadow: Shadow) -> Between:
        """Behind a token."""
        if terminal != IGNORED:
            target = self._table.shift(state, terminal)
            assert target is not None
            state = target
        return Between(state, state, None, shadow)

    def _reduce(self, lo: int, hi: int, here: Between, rule: int, wanted: frozenset[str]) -> Edge:
        origin, length = self._source.rules[rule].origin.name, len(self._source.rules[rule].expansion)
        if length == 0:
            target = self._table.shift(here.state, origin)
            assert target is not None
            after = self.state(Between(target, here.scanner, wanted, here.shadow))
            return lo, hi, SHIFT, after, self.state(Below(here.state)), 0, 0
        key = (origin, Between(0, here.scanner, wanted, here.shadow))
        verdict = self._verdict_ids.get(key)
        if verdict is None:
            self._verdicts.append(key)
            verdict = self._verdict_ids[key] = len(self._verdicts)
        return lo, hi, REDUCE, 0, verdict, length - 1, 0

    def _reading(self, lexeme: Lexeme, shadow: Shadow) -> Iterator[tuple[int, int, Lexeme, Shadow]]:
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


def _covered(edges: list[Edge]) -> list[tuple[int, int]]:
    """The bytes that some edge takes, as disjoint ranges."""
    merged: list[tuple[int, int]] = []
    for lo, hi in sorted((edge[0], edge[1]) for edge in edges):
        if merged and lo <= merged[-1][1] + 1 and (lo != END_OF_TEXT or merged[-1][1] == END_OF_TEXT):
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    return merged


def compile_lark(constraint: Lark, spellable: Sequence[bool], fuel: int) -> LarkMachine:
    """The machine of a grammar. Raises ConstraintError with ``line:column`` for what cannot be enforced."""
    source = load(constraint.grammar, constraint.start)
    shared = Fuel(fuel)
    spelling = raw_spelling(spellable)
    programs = Programs(shared)
    text = constraint.grammar
    starts = {name: _compile_terminal(text, source, name, programs, spelling) for name in source.terminals}
    lexemes = Lexemes(programs, starts, spelling, shared)
    return LarkMachine(source, ContextualTable(source), lexemes, States(fuel), shared)


def _compile_terminal(text: str, source: Source, name: str, programs: Programs, spelling: Spelling) -> int:
    pattern = source.terminals[name].pattern.to_regexp()
    try:
        node = restrict(parse_python(pattern), spelling.alphabet)
        if node is EMPTY_SET:
            raise UnsatisfiableConstraint("no text that can be written matches it")
        return programs.compile(name, node)
    except ConstraintError as error:
        raise type(error)(f"terminal {name}: {error.reason}", place_of(text, name)) from None
