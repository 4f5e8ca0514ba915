"""``contextual``: Lark's LALR(1) parser with its contextual lexer, table for table.

The parser's table is the one that Lark computes, conflicts settled as Lark settles them. In each state Lark's lexer
tries the terminals that the state has an action for, and those to be ignored, in an order of its own; a string that a
regular expression matches too is no competitor but a word that the expression's token may turn out to be.

Lark's Indenter, where a grammar has one, is lines.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from lark.common import ParserConf
from lark.exceptions import GrammarError
from lark.lexer import TerminalDef, _create_unless
from lark.parsers.lalr_analysis import LALR_Analyzer, Shift

from grammar.errors import ConstraintError, UnsupportedConstraint
from grammar.fuel import Fuel
from grammar.lark.corners import Item, viable_symbols
from grammar.lark.lexemes import IGNORED, NO_SHADOW, Lexeme, Lexemes, Scanner, Shadow
from grammar.lark.lines import MAX_BLOCKS, MAX_COLUMNS, UNCOUNTED, Layout, Line
from grammar.lark.machine import END, END_TOKEN, Between, Inside, LarkMachine, Turning
from grammar.lark.operators import marked
from grammar.lark.source import Source, place_of
from grammar.tables import Edge

MAX_EXPLORED = 400
"""States of a table that is searched for corners before it is used; the lexers of larger ones are made as they are
met."""


class ContextualTable:
    """A grammar's LALR(1) table. States are Lark's numbers."""

    def __init__(self, source: Source) -> None:
        _check(source)
        conf = ParserConf(list(source.rules), {}, [source.start])
        # Lark keeps the items of its states only where it is asked to debug.
        analyzer = LALR_Analyzer(conf, debug=True)
        try:
            analyzer.compute_lalr()
        except GrammarError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = f"the grammar is not LALR(1), as `contextual` needs it: {' '.join(lines)}"
            raise ConstraintError(reason, "1:1") from None
        self.settled = any(
            len(rules) > 1 or terminal in itemset.transitions
            for itemset in analyzer.lr0_itemsets
            for terminal, rules in itemset.lookaheads.items()
        )
        """There were conflicts, and Lark has settled them."""
        table: Any = analyzer.parse_table
        numbers = {closure: number for number, closure in enumerate(table.states)}
        self.start = numbers[table.start_states[source.start]]
        self.end = numbers[table.end_states[source.start]]
        self.items: dict[int, list[Item]] = {number: _items(closure) for closure, number in numbers.items()}
        self._source = source
        self._rules = {rule: number for number, rule in enumerate(source.rules)}
        self._actions: dict[int, dict[str, tuple[Any, Any]]] = {
            numbers[closure]: {
                symbol: (action, numbers[target] if action is Shift else target)
                for symbol, (action, target) in actions.items()
            }
            for closure, actions in table.states.items()
        }
        self._targets: dict[str, set[int]] = {}
        for actions in self._actions.values():
            for symbol, (action, target) in actions.items():
                if action is Shift:
                    self._targets.setdefault(symbol, set()).add(target)
        self._scanners: dict[int, Scanner] = {}
        self._by_terminals: dict[frozenset[str], Scanner] = {}

    def shift(self, state: int, symbol: str) -> int | None:
        """The state after a terminal or rule, None where there is no such action."""
        action, target = self._actions[state].get(symbol, (None, None))
        return target if action is Shift else None

    def reduction(self, state: int, terminal: str) -> int | None:
        """The rule (index in `Source.rules`) to reduce when ``terminal`` comes next, or None."""
        action, rule = self._actions[state].get(terminal, (None, None))
        return None if action is None or action is Shift else self._rules[rule]

    def behind(self, state: int, terminal: str) -> Collection[int]:
        """The states after a terminal, after reductions or without, whatever lies below a state."""
        target = self.shift(state, terminal)
        if target is not None:
            return (target,)
        return self._targets.get(terminal, ()) if self.reduction(state, terminal) is not None else ()

    def expects(self, state: int) -> frozenset[str]:
        """The terminals that the parser has a use for."""
        return frozenset(self._actions[state])

    def terminals(self, state: int) -> frozenset[str]:
        """Those of `expects` that a lexer reads."""
        return self.expects(state) & self._source.terminals.keys()

    def scanner(self, state: int) -> Scanner:
        """What Lark's lexer tries in a state."""
        found = self._scanners.get(state)
        if found is None:
            defined = self._source.terminals
            always = (*self._source.ignored, *self._source.newlines)
            names = frozenset(name for name in (*self._actions[state], *always) if name in defined)
            found = self._by_terminals.get(names)
            if found is None:
                found = self._by_terminals[names] = _scanner([defined[n] for n in names], self._source.ignored)
            self._scanners[state] = found
        return found


class ContextualMachine(LarkMachine):
    """A grammar read by its LALR(1) table.

    A token is not begun before it is known that the parser can use it: where a rule must be reduced first, the
    reduction comes before the token's first byte, and what is read then are the tokens that called for it.
    """

    def __init__(
        self, source: Source, lexemes: Lexemes, table: ContextualTable, fuel: Fuel, follow: tuple[int, int] = END
    ) -> None:
        super().__init__(lexemes, Between(table.start, table.start), fuel, follow)
        self._source = source
        self._indenter = source.indenter
        self._table = table
        self._viable: set[tuple[int, str]] | None = None
        if self._indenter is not None:
            self.limits = {"indented_blocks": MAX_BLOCKS, "indentation_columns": MAX_COLUMNS}
        if len(self._table.items) <= MAX_EXPLORED:
            rules = {rule.origin.name for rule in source.rules}
            self._viable = viable_symbols(self._table.items, self._table.shift, self._readable, rules.__contains__)
            if (self._table.start, source.start) not in self._viable:
                raise source.endless(source.start)
            self.forget_corners()

    def may_go(self, state: int, symbol: str) -> bool:
        return self._table.shift(state, symbol) is not None

    def goto(self, state: int, symbol: str) -> int:
        target = self._table.shift(state, symbol)
        assert target is not None, f"state {state} cannot go on with {symbol}"
        return target

    def _readable(self, state: int, terminal: str) -> bool:
        """Whether the lexer can come upon a terminal in a parser state, and something can follow it."""
        if terminal in self._source.declared:
            return True
        first = self._lexemes.start((self._table.scanner(state),))
        wanted = frozenset((terminal,))
        if not self._lexemes.live(first) & wanted:
            return False
        if terminal in self._source.newlines:
            return self._line_readable(self.goto(state, terminal), first, wanted)
        return self.may_end(Inside(state, first, wanted, NO_SHADOW))

    def _line_readable(self, state: int, first: Lexeme, wanted: frozenset[str]) -> bool:
        """`_readable` of a newline token that the parser has been given, whatever the Indenter makes of it."""
        behind = [state] if self._goes_on(state, 2) else list[int]()
        for terminal in self._source.declared:
            if self._table.reduction(state, terminal) is not None:
                return True
            given = self._table.shift(state, terminal)
            behind += [] if given is None else [given]
        return any(self.may_end(Inside(there, first, wanted, NO_SHADOW, line=UNCOUNTED)) for there in behind)

    def reader(self, state: int) -> int:
        return state

    def upcoming(self, state: int) -> tuple[tuple[Scanner, ...], bool]:
        ends = state == self._table.end or bool(self._table.expects(state) & {END_TOKEN, *self._dedents})
        return (self._table.scanner(state),), ends

    def usable(self, state: int, terminals: frozenset[str], inside: bool) -> bool:
        useful = self._table.expects(state) | {IGNORED}
        return bool(terminals & (useful.union(self._source.newlines) if inside else useful))

    def behind(self, state: int, terminal: str) -> Collection[int] | None:
        return None if self._indenter is not None else self._table.behind(state, terminal)

    def opens(self, state: int, shadow: Shadow) -> bool:
        return False

    def layout_behind(self, terminal: str, layout: Layout) -> Layout:
        indenter = self._indenter
        if indenter is None or terminal not in (*indenter.open_parens, *indenter.close_parens):
            return layout
        return layout._replace(parens=layout.parens + (1 if terminal in indenter.open_parens else -1))

    @property
    def _dedents(self) -> tuple[str, ...]:
        return () if self._indenter is None else (self._indenter.dedent,)

    def before_token(self, here: Between | Turning) -> Iterator[Edge]:
        return self._turn(here) if isinstance(here, Turning) else self._read(here)

    def _read(self, here: Between) -> Iterator[Edge]:
        table, state, wanted = self._table, here.state, here.wanted
        for lo, hi, lexeme, shadow in self._begun(here.reader, here.shadow):
            live = self._lexemes.live(lexeme)
            if wanted is not None:
                live &= wanted
            if here.layout.parens and wanted is None:
                for newline in live.intersection(self._source.newlines):
                    inside = Inside(state, lexeme, frozenset((newline,)), shadow, here.layout, UNCOUNTED)
                    yield from self.enter(lo, hi, inside)
            live -= self._forbidden(here.layout)
            taken = frozenset(t for t in live if table.shift(state, t) is not None and self._leads_on(state, t))
            for newline in taken.intersection(self._source.newlines):
                behind = Turning(self.goto(state, newline), here.reader, here.shadow, here.layout)
                yield self.shift(lo, hi, state, self.state(behind))
            begun = taken.difference(self._source.newlines)
            if wanted is None:
                begun |= live & {IGNORED}
            if begun:
                yield from self.enter(lo, hi, Inside(state, lexeme, begun, shadow, here.layout))
            calling: dict[int, list[str]] = {}
            for terminal in sorted(live - taken - begun):
                rule = table.reduction(state, terminal)
                if rule is not None:
                    calling.setdefault(rule, []).append(terminal)
            for rule in sorted(calling):
                yield self._reduced(lo, hi, state, rule, replace(here, wanted=frozenset(calling[rule])))
        if (wanted is None or END_TOKEN in wanted) and self._lexemes.may_end_text(here.shadow):
            yield from self._end(here)

    def _end(self, here: Between) -> Iterator[Edge]:
        """What the end of the text does."""
        if len(here.layout.columns) > 1:
            yield from self.moves(Turning(here.state, -1, here.shadow, here.layout))
            return
        rule = self._table.reduction(here.state, END_TOKEN)
        if here.state == self._table.end:
            yield self.accepted()
        elif rule is not None:
            ended = replace(here, wanted=frozenset((END_TOKEN,)))
            yield self._reduced(*self.follow, here.state, rule, ended)

    def _begun(self, reader: int, shadow: Shadow) -> Iterator[tuple[int, int, Lexeme, Shadow]]:
        """`reading`, for the first byte of a token. No token begins where the text ends."""
        if reader >= 0:
            yield from self._lexemes.reading(self._lexemes.start((self._table.scanner(reader),)), shadow)

    def _forbidden(self, layout: Layout) -> frozenset[str]:
        """What the parser does not get to see, or the Indenter cannot bear."""
        indenter = self._indenter
        if indenter is None:
            return frozenset()
        return frozenset((indenter.newline,) if layout.parens else indenter.close_parens)

    def _leads_on(self, state: int, terminal: str) -> bool:
        return self._viable is None or (state, terminal) in self._viable

    def _reduced(self, lo: int, hi: int, state: int, number: int, before: Between | Turning) -> Edge:
        rule = self._source.rules[number]
        return self.reduction(lo, hi, state, rule.origin.name, len(rule.expansion), before)

    # -- lines (lines.py) ----------------------------------------------------------------------------------------------

    def _turn(self, here: Turning) -> Iterator[Edge]:
        """Read the newline token, or give the parser one more token of the Indenter's."""
        assert self._indenter is not None
        ends, columns = here.reader < 0, here.layout.columns
        taking = [self.follow] if ends else [(lo, hi) for lo, hi, _, _ in self._newline_begun(here)]
        if not here.owed and (not ends or len(columns) == 1):
            yield from self._turned(here)
        for terminal in (self._indenter.indent, self._indenter.dedent):
            if not self._may_give(here, terminal):
                continue
            behind = columns[:-1] if terminal == self._indenter.dedent else columns
            after = self._table.shift(here.state, terminal)
            rule = self._table.reduction(here.state, terminal)
            for lo, hi in taking:
                if after is not None:
                    given = replace(here, state=after, layout=Layout(behind), owed="", turned=terminal)
                    yield self.shift(lo, hi, here.state, self.state(given))
                elif rule is not None:
                    yield self._reduced(lo, hi, here.state, rule, replace(here, owed=terminal))

    def _may_give(self, here: Turning, terminal: str) -> bool:
        assert self._indenter is not None
        if here.owed:
            return here.owed == terminal
        if terminal == self._indenter.dedent:
            return len(here.layout.columns) > 1 and here.turned != self._indenter.indent
        return here.reader >= 0 and not here.turned and len(here.layout.columns) <= MAX_BLOCKS

    def _turned(self, here: Turning) -> Iterator[Edge]:
        """The Indenter has no more to say: the newline token itself, or the end of the text."""
        assert self._indenter is not None
        if here.reader < 0:
            yield from self._end(Between(here.state, here.reader, frozenset((END_TOKEN,)), here.shadow))
            return
        column, opens = here.layout.columns[-1], here.turned == self._indenter.indent
        if not self._goes_on(here.state, len(here.layout.columns) + opens):
            return
        least, most = (column + 1, MAX_COLUMNS) if opens else (column, column)
        line = Line(least, most, opens, self._indenter.tab_len, quoted=self.follow != END)
        wanted = frozenset((self._indenter.newline,))
        for lo, hi, lexeme, shadow in self._newline_begun(here):
            for first, last, begun in line.reads(lo, hi):
                yield from self.enter(first, last, Inside(here.state, lexeme, wanted, shadow, here.layout, begun))

    def _newline_begun(self, here: Turning) -> list[tuple[int, int, Lexeme, Shadow]]:
        begun = self._begun(here.reader, here.shadow)
        return [one for one in begun if self._lexemes.live(one[2]).intersection(self._source.newlines)]

    def _goes_on(self, state: int, blocks: int) -> bool:
        """Whether a line may go on in a parser state, or the text end there."""
        assert self._indenter is not None
        useful = self._table.expects(state) - {self._indenter.indent}
        return bool(useful if blocks > 1 else useful - {self._indenter.dedent}) or state == self._table.end


def _items(closure: Any) -> list[Item]:
    """A state's items, in an order that does not depend on how Python hashes."""
    return sorted(
        (item.rule.origin.name, tuple(symbol.name for symbol in item.rule.expansion), item.index) for item in closure
    )


def _check(source: Source) -> None:
    """Refuse what Lark's LALR parser has no notion of."""
    for written, place in (*(("%json", place) for _, place in source.schemas.values()), *source.controls.values()):
        raise UnsupportedConstraint(f"`{written}` is read under `dynamic_complete` only", place)
    if not source.skips_first:
        raise UnsupportedConstraint("`allow_initial_skip` is read under `dynamic_complete` only", "1:1")
    for name in sorted(source.lazy):
        reason = "rules with `lazy` or `suffix` are read under `dynamic_complete` only"
        raise UnsupportedConstraint(reason, place_of(source.text, name))
    for name, terminal in source.terminals.items():
        if marked(terminal.pattern.to_regexp()):
            reason = f"terminal {name}: `&` and `~` are read under `dynamic_complete` only"
            raise UnsupportedConstraint(reason, place_of(source.text, name))
    ending = source.coming_to_an_end(source.terminals.keys() | source.declared)
    for rule in source.rules:
        if rule.origin.name not in ending:
            raise source.endless(rule.origin.name)
    for name in source.terminals:
        if source.may_be_empty(name):
            reason = f"terminal {name} matches the empty text, which Lark's lexers refuse"
            raise ConstraintError(reason, place_of(source.text, name))


def _scanner(terminals: list[TerminalDef], ignored: tuple[str, ...]) -> Scanner:
    terminals.sort(key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name))
    tried, callbacks = _create_unless(terminals, 0, re, False)
    words = tuple(
        (name, tuple(word.name for word in callback.scanner.terminals))
        for name, callback in callbacks.items()
        if name not in ignored
    )
    return Scanner(tuple(terminal.name for terminal in tried), words, frozenset(ignored))
