"""Contextual parsers without corners: no byte is offered after which the stack could not be completed.

A parser state knows what may come on some stack. Where the stack at hand allows only what a lexer cannot give it, the
text has run into a corner, and the byte that led there should not have been offered. So each frame is told, when it is
pushed, what those below it have in store (exits.py): a location of the parser and a context are a location here.

All states of the parser are met beforehand, under fuel. It is done where doubts.py has a doubt, and where Lark
has settled conflicts: then a table may expect what can no more be completed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from grammar.fuel import Fuel
from grammar.lark.exits import AHEAD, ENDED, Exits, Set
from grammar.lark.machine import LarkMachine, covered
from grammar.states import Edges, States
from grammar.tables import END_ASK, END_OF_TEXT, END_REJECT, GOTO, REDO, REDUCE, SHIFT, Edge

MOST = 10_000
"""Fuel for meeting the states of a parser, and for what they have in store: about a second."""


class _Steps:
    """The steps of a parser that has not begun, in states of its own."""

    def __init__(self, machine: LarkMachine, units: int) -> None:
        self._machine = machine
        self._states = States(units)
        machine.begin(self._states)
        self.admit = self._states.admit

    def edges_of(self, state: int) -> list[Edge]:
        return self._states.edges_of(state)[0]

    def behind(self, frame: int, verdict: int) -> int | None:
        return self._states.resume(frame, verdict) if self._machine.comes_back(frame, verdict) else None


class _Place(NamedTuple):
    """A state of the parser on a stack of some context."""

    state: int
    context: int


class CompletingMachine:
    """A contextual parser that offers no byte after which its stack could not be completed."""

    def __init__(self, machine: LarkMachine, states: States, units: int) -> None:
        """``machine``: one that has not begun; ``states``: where the states of this one are. ConstraintTooLarge when
        ``units`` of fuel do not suffice, or `MOST`."""
        self._inner = _Steps(machine, units)
        self._fuel = Fuel(min(units, MOST))
        self._exits = Exits(machine.start, self._inner, self._fuel)
        self._machine = machine
        self._contexts: list[Set] = [ENDED]
        self._numbers: dict[Set, int] = {ENDED: 0}
        self._belows: dict[_Place, int] = {}
        self._ids: dict[_Place, int] = {}
        self._all = states
        self.follow = machine.follow
        self.limits: Mapping[str, int | str] = machine.limits
        self.tables = states.tables
        self.tables.parses = True
        self.expand, self.resume, self.admit = states.expand, states.resume, states.admit
        states.join(self)
        self.start = self._state(_Place(machine.start, 0))

    @property
    def has_sentences(self) -> bool:
        return bool(self._exits.of(self._machine.start) & ENDED)

    def begins(self) -> list[tuple[int, int]]:
        """As `LarkMachine.begins`."""
        return covered(list(self._edges(_Place(self._machine.start, 0))))

    def admitted(self) -> None:
        self._fuel.admit()
        self._inner.admit()

    def edges_of(self, location: _Place) -> Edges:
        edges = list(self._edges(location))
        return edges, END_ASK if any(hi == END_OF_TEXT for _, hi, *_ in edges) else END_REJECT

    def decided(self, location: _Place, verdict: int) -> int:
        target = self._exits.target(location.state, verdict)
        assert target is not None, f"no rule ends so behind state {location.state}"
        return self._state(_Place(target, self._below(location)))

    def _edges(self, here: _Place) -> Iterator[Edge]:
        """The machine's edges, as far as they lead to the end."""
        context = self._contexts[here.context]
        for lo, hi, op, target, a, b, _ in self._inner.edges_of(here.state):
            if op == REDO or (op == GOTO and lo == END_OF_TEXT):
                yield lo, hi, op, 0, 0, 0, 0
            elif op == GOTO:
                if self._exits.of(target) & context:
                    yield lo, hi, op, self._state(_Place(target, here.context)), 0, 0, 0
            elif op == REDUCE:
                sets = [self._exits.bit(a, b, byte) for byte in self._exits.within(lo, hi)]
                for first, last in self._where(lo, hi, sets, context):
                    yield first, last, op, 0, a, b, 0
            else:
                below = _Place(a, here.context)
                after = self._below(below)
                waiting = (byte if op == SHIFT else AHEAD for byte in self._exits.within(lo, hi))
                sets = [self._exits.of(target, byte) for byte in waiting]
                for first, last in self._where(lo, hi, sets, self._contexts[after]):
                    place = self._state(_Place(target, after))
                    yield first, last, op, place, self._state(below), self.tables.registers(), 0

    def _where(self, lo: int, hi: int, sets: list[Set], context: Set) -> Iterator[tuple[int, int]]:
        """The ranges of bytes lo..hi for whose classes a set of exits has one of the context."""
        classes = [self._exits.classes[byte] for byte in self._exits.within(lo, hi)]
        found = [range_ for range_, exits in zip(classes, sets, strict=True) if exits & context]
        while found:
            first, last = found.pop(0)
            while found and found[0][0] == last + 1:
                _, last = found.pop(0)
            yield first, last

    def _below(self, place: _Place) -> int:
        """The context of a stack with a frame on top of one of a context."""
        found = self._belows.get(place)
        if found is None:
            self._fuel.spend()
            context = self._exits.below(place.state, self._contexts[place.context])
            if context not in self._numbers:
                self._numbers[context] = len(self._contexts)
                self._contexts.append(context)
            found = self._belows[place] = self._numbers[context]
        return found

    def _state(self, place: _Place) -> int:
        found = self._ids.get(place)
        if found is None:
            found = self._ids[place] = self._all.new(self, place)
        return found
