"""``dynamic_complete``: Lark's Earley parser with its dynamic lexer, every way to cut a text into tokens.

There is no lexer before the parser: where the parser can use a terminal, the terminal's pattern is tried, and any
beginning of what it matches that matches by itself is a token too. Priorities choose between trees, not between texts,
so they say nothing here.

Earley's items carry the place where they began, which no two places of a text share; LR states do not (Tomita 1985). So
the grammar is read by all alternatives of its LR(0) automaton at once, after rules without text have been removed (with
them, one could go on reducing without end). States are made when they are first reached.

Two things go beyond Lark, as llguidance has them: a terminal may match the empty text, and a JSON Schema's values may
stand where a terminal may (`%json`); they are read by the schema's own machine, on the same stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

from grammar.fuel import Fuel
from grammar.json_schema.machine import JsonMachine
from grammar.lark.corners import viable_symbols
from grammar.lark.lexemes import NO_SHADOW, Lexeme, Lexemes, Scanner, Shadow
from grammar.lark.machine import END, END_TOKEN, Between, Inside, LarkMachine, Turning, covered
from grammar.lark.source import Source
from grammar.states import States
from grammar.tables import MAX_HEADS, Edge

_ROOT = "$root"
_REDUCED: frozenset[str] = frozenset()
"""`Between.wanted` after a reduction: no token is asked for, but none may be ignored there; it was before. And before
the first token, where the grammar says so."""

Rule = tuple[str, tuple[str, ...]]
"""(origin, symbols)"""

Item = tuple[int, int]
"""(rule, symbols read of it)"""


class Automaton:
    """The LR(0) automaton of some rules without empty ones, built as it is walked. State 0 is the first one."""

    def __init__(self, rules: Sequence[Rule], start: str, fuel: Fuel) -> None:
        self._rules: list[Rule] = [(_ROOT, (start,)), *rules]
        self._of: dict[str, list[int]] = {}
        for number, (origin, _) in enumerate(self._rules):
            self._of.setdefault(origin, []).append(number)
        self._fuel = fuel
        self._kernels: list[tuple[Item, ...]] = []
        self._ids: dict[tuple[Item, ...], int] = {}
        self._ways: dict[int, dict[str, int]] = {}
        self._state(((0, 0),))
        self.follow = self._follow_sets()

    def ways(self, state: int) -> dict[str, int]:
        """The states after each symbol that can come."""
        found = self._ways.get(state)
        if found is None:
            advanced: dict[str, list[Item]] = {}
            for rule, dot in self._closure(state):
                symbols = self._rules[rule][1]
                if dot < len(symbols):
                    advanced.setdefault(symbols[dot], []).append((rule, dot + 1))
            found = self._ways[state] = {
                symbol: self._state(tuple(sorted(items))) for symbol, items in sorted(advanced.items())
            }
        return found

    def ended(self, state: int) -> list[tuple[str, int]]:
        """(origin, length) of the rules that may have ended, the text's own aside."""
        ended = [self._rules[rule] for rule, dot in self._kernels[state] if dot == len(self._rules[rule][1])]
        return sorted({(origin, len(symbols)) for origin, symbols in ended if origin != _ROOT})

    def final(self, state: int) -> bool:
        """Whether the whole text may have ended."""
        return (0, 1) in self._kernels[state]

    def explored(self) -> dict[int, list[tuple[str, tuple[str, ...], int]]]:
        """All states, each with its items as (origin, symbols, symbols read)."""
        found: dict[int, list[tuple[str, tuple[str, ...], int]]] = {}
        queue = [0]
        for state in queue:
            if state not in found:
                found[state] = [(*self._rules[rule], dot) for rule, dot in self._closure(state)]
                queue += self.ways(state).values()
        return found

    def _state(self, kernel: tuple[Item, ...]) -> int:
        found = self._ids.get(kernel)
        if found is None:
            self._fuel.spend()
            found = self._ids[kernel] = len(self._kernels)
            self._kernels.append(kernel)
        return found

    def _closure(self, state: int) -> list[Item]:
        items = dict.fromkeys(self._kernels[state])
        queue = list(items)
        for rule, dot in queue:
            symbols = self._rules[rule][1]
            for other in self._of.get(symbols[dot], ()) if dot < len(symbols) else ():
                if (other, 0) not in items:
                    items[other, 0] = None
                    queue.append((other, 0))
        self._fuel.spend(len(queue) // 16)
        return queue

    def _follow_sets(self) -> dict[str, frozenset[str]]:
        """For each rule's name the terminals that may come after it, `END_TOKEN` included."""
        first: dict[str, set[str]] = {origin: set() for origin in self._of}
        follow: dict[str, set[str]] = {origin: set() for origin in self._of}
        follow[_ROOT].add(END_TOKEN)

        def beginning(symbol: str) -> set[str]:
            return first[symbol] if symbol in first else {symbol}

        grown = True
        while grown:
            grown = False
            for origin, symbols in self._rules:
                sets = [(first[origin], beginning(symbols[0]))]
                for symbol, after in zip(symbols, (*symbols[1:], None), strict=True):
                    if symbol in follow:
                        sets.append((follow[symbol], follow[origin] if after is None else beginning(after)))
                for target, added in sets:
                    if not added <= target:
                        target |= added
                        grown = True
        return {origin: frozenset(terminals) for origin, terminals in follow.items()}


class DynamicMachine(LarkMachine):
    """A grammar read in every way at once. ``looks``: terminals with a lookahead, which are not split; ``schemas``: the
    machines of those that stand for JSON."""

    def __init__(
        self,
        source: Source,
        lexemes: Lexemes,
        states: States,
        fuel: Fuel,
        looks: set[str],
        schemas: Mapping[str, JsonMachine],
        follow: tuple[int, int] = END,
    ) -> None:
        super().__init__(lexemes, Between(0, -1, None if source.skips_first else _REDUCED), fuel, follow)
        self._looks = looks
        self._terminals = source.terminals.keys() | source.controls.keys()
        self._lazy = source.lazy
        self._schemas = schemas
        inside = {name: value for machine in schemas.values() for name, value in machine.limits.items()}
        self.limits = {"alternatives_at_once": MAX_HEADS} | inside
        self._ignored = tuple(Scanner((name,), ignored=frozenset((name,))) for name in source.ignored)
        rules, self._nullable = _without_empty_rules(*_productive(source, lexemes), source.start, fuel)
        self._automaton = Automaton(rules, source.start, fuel)
        self._viable: set[tuple[int, str]] | None = None
        if self._looks & self._terminals:
            origins = {origin for origin, _ in rules}
            items = self._automaton.explored()
            ways = self._automaton.ways
            self._viable = viable_symbols(items, lambda q, s: ways(q).get(s), self._readable, origins.__contains__)
            if (0, source.start) not in self._viable and not self._nullable:
                raise source.endless(source.start)
            self.forget_corners()
        self.begin(states)

    def goto(self, state: int, symbol: str) -> int:
        return self._automaton.ways(state)[symbol]

    def may_go(self, state: int, symbol: str) -> bool:
        return symbol in self._automaton.ways(state)

    def reader(self, state: int) -> int:
        return -1

    def upcoming(self, state: int) -> tuple[tuple[Scanner, ...], bool]:
        names = self._next(state)
        ends = END_TOKEN in names or self._final(state)
        return (*self._scanners(names & self._terminals), *self._ignored), ends

    def usable(self, state: int, terminals: frozenset[str], inside: bool) -> bool:
        return bool(terminals)

    def behind(self, state: int, terminal: str) -> None:
        return None

    def before_token(self, here: Between | Turning) -> Iterator[Edge]:
        assert isinstance(here, Between)
        automaton, state = self._automaton, here.state
        scanners = self._scanners(self._shifted(state))
        if here.wanted is None:
            scanners += self._ignored
        for lo, hi, lexeme, shadow in self._begun(scanners, here):
            yield from self.enter(lo, hi, Inside(state, lexeme, self._lexemes.live(lexeme), shadow))
        for name in sorted(self._schemas.keys() & automaton.ways(state).keys()):
            value = self._value(name, automaton.ways(state)[name])
            for lo, hi in self._opening(name, here.shadow):
                yield self.shift(lo, hi, state, value)
        for origin, length in automaton.ended(state):
            following = automaton.follow[origin]
            bytes_taken = [(lo, hi, 0, 0, 0, 0, 0) for lo, hi, _, _ in self._begun(self._scanners(following), here)]
            for name in self._schemas.keys() & following:
                bytes_taken += [(lo, hi, 0, 0, 0, 0, 0) for lo, hi in self._opening(name, here.shadow)]
            if END_TOKEN in following and self._lexemes.may_end_text(here.shadow):
                bytes_taken.append((*self.follow, 0, 0, 0, 0, 0))
            for lo, hi in covered(bytes_taken):
                yield self.reduction(lo, hi, state, origin, length, replace(here, wanted=_REDUCED))
        if self._final(state) and self._lexemes.may_end_text(here.shadow):
            yield self.accepted()

    def opens(self, state: int, shadow: Shadow) -> bool:
        return any(self._opening(name, shadow) for name in self._schemas.keys() & self._next(state))

    def _readable(self, state: int, terminal: str) -> bool:
        """Whether a terminal can be read in a parser state, and something can follow it."""
        if terminal in self._schemas:
            return True
        first = self._lexemes.start(self._scanners((terminal,)))
        return self.may_end(Inside(state, first, frozenset((terminal,)), NO_SHADOW))

    def _next(self, state: int) -> set[str]:
        """The terminals that may come next, after reductions or without."""
        names = set(self._automaton.ways(state))
        for origin, _ in self._automaton.ended(state):
            names |= self._automaton.follow[origin]
        return names

    def _value(self, name: str, after: int) -> int:
        """The state before a value of a schema, behind which the parser is in state ``after``."""
        machine = self._schemas[name]
        return machine.state(machine.value_before(self.state(Between(after, -1))))

    def _opening(self, name: str, shadow: Shadow) -> list[tuple[int, int]]:
        """The bytes that a value of a schema may begin with, where they get rid of a shadow."""
        machine = self._schemas[name]
        edges, _ = machine.edges_of(machine.value_before(self.start))
        clear = [(lo, hi) for lo, hi, after in self._lexemes.step_shadow(shadow) if after == NO_SHADOW]
        taken = [(max(lo, first), min(hi, last)) for lo, hi in covered(edges) for first, last in clear]
        return [(lo, hi) for lo, hi in taken if lo <= hi]

    def _shifted(self, state: int) -> set[str]:
        """The terminals that the parser can go on with."""
        found = {symbol for symbol in self._automaton.ways(state) if symbol in self._terminals}
        return found if self._viable is None else {symbol for symbol in found if (state, symbol) in self._viable}

    def _final(self, state: int) -> bool:
        return self._automaton.final(state) or (state == 0 and self._nullable)

    def _begun(self, scanners: tuple[Scanner, ...], here: Between) -> Iterator[tuple[int, int, Lexeme, Shadow]]:
        """`reading`, for the first byte of a token."""
        if scanners:
            yield from self._lexemes.reading(self._lexemes.start(scanners), here.shadow)

    def _scanners(self, names: Iterable[str]) -> tuple[Scanner, ...]:
        return tuple(
            Scanner((name,), splits=name not in self._looks, lazy=name in self._lazy)
            for name in sorted(self._terminals.intersection(names))
        )


def _productive(source: Source, lexemes: Lexemes) -> tuple[list[Rule], set[str], set[str]]:
    """The rules that some text comes of; the terminals that match some text, and those that match the empty one.
    UnsatisfiableConstraint when the start is in no such rule."""
    matching = {name for name in source.terminals if name in lexemes.live(lexemes.start((Scanner((name,)),)))}
    matching |= source.schemas.keys() | source.controls.keys()
    empty = {name for name in source.terminals if lexemes.ends(lexemes.start((Scanner((name,)),)))}
    can_end = source.coming_to_an_end(matching | empty)
    rules = [(rule.origin.name, tuple(symbol.name for symbol in rule.expansion)) for rule in source.rules]
    if source.start not in can_end:
        raise source.endless(source.start)
    return [(origin, symbols) for origin, symbols in rules if can_end.issuperset(symbols)], matching, empty


def _without_empty_rules(
    rules: Sequence[Rule], matching: set[str], empty: set[str], start: str, fuel: Fuel
) -> tuple[list[Rule], bool]:
    """The same sentences from rules and terminals none of which is empty; and whether the empty text is one of
    them."""
    nullable = set(empty)
    grown = True
    while grown:
        grown = False
        for origin, symbols in rules:
            if origin not in nullable and nullable.issuperset(symbols):
                nullable.add(origin)
                grown = True
    found: dict[Rule, None] = {}
    for origin, symbols in rules:
        choices = [((symbol,), ()) if symbol in nullable else ((symbol,),) for symbol in symbols]
        for chosen in product(*choices):
            left_over = tuple(symbol for part in chosen for symbol in part)
            fuel.spend()
            if left_over and left_over != (origin,):
                found[origin, left_over] = None
    # What is nothing but the empty text is gone; what mentions it goes too.
    kept = dict.fromkeys(found)
    while True:
        filled = {origin for origin, _ in kept} | matching
        left = {rule: None for rule in kept if filled.issuperset(rule[1])}
        if len(left) == len(kept):
            return list(kept), start in nullable
        kept = left
