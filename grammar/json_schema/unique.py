"""Arrays of unique items: each item is read as a key that must not come twice.

    [ ──PUSH──▶ First ──▶ Item ──ITEM──▶ After ──▶ "]" POP (lo = 0)
                           ▲               │
                           └── Next ◀─ "," ┘ MAYKEY: some value was not seen yet

The frame of such an array keeps the texts of its items as that of an object keeps its keys: ``text`` is the item that
has begun, ``seen`` those that have ended, and an item that could only become one of those is never begun. Strings alone
(`UniqueStrings`) are read by the automata of their classes, from quote to quote as keys are; other items by `Spelled`,
in one spelling a value, with frames of their own for what is open-ended (operations RECORD and KEEP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grammar.errors import UnsupportedConstraint
from grammar.json_schema.arrays import CloseArray
from grammar.json_schema.conjunction import TYPE_NAMES
from grammar.json_schema.shapes import ArrayShape, Goal
from grammar.json_schema.spelled import State
from grammar.json_schema.strings import QUOTE, UNLIMITED, ClassThreads, together
from grammar.tables import (
    ADDED,
    END_REJECT,
    FEWKEY,
    GOTO,
    ITEM,
    KEEP,
    MAYFEW,
    MAYKEY,
    NONE,
    PUSH,
    RECORD,
    XKEY,
    Edge,
)  # fmt: skip

if TYPE_CHECKING:
    from grammar.json_schema.machine import Edges, JsonMachine

_AFTER_AN_ITEM = b"\t\n\r ,]"


def open_unique(m: JsonMachine, shape: ArrayShape, verdict: int, ret: int) -> Edge:
    """The edge on the opening bracket."""
    hi = NONE if shape.max_items is None else shape.max_items
    registers = m.tables.registers(hi, shape.min_items)
    if shape.texts:
        first = m.spaced(FirstString(m.unique_strings(shape, verdict)))
    else:
        first = m.spaced(First(m.unique_items(shape, verdict)))
    return ord("["), ord("["), PUSH, first, ret, registers, 0


# -- any items ---------------------------------------------------------------------------------------------------------


class UniqueItems:
    """What the locations of one array of unique items share. Compared by identity: there is one a shape and machine.

    UnsupportedConstraint where positions allow so few values that the items before may leave none."""

    def __init__(self, m: JsonMachine, shape: ArrayShape, verdict: int) -> None:
        self.verdict = verdict
        self.spelled = m.spelled
        self.goals: list[Goal] = [*shape.prefix, *([] if shape.rest is None else [shape.rest])]
        """By position; those behind the last are like the last where ``endless``."""
        self.endless = shape.rest is not None
        for goal in dict.fromkeys(self.goals):
            m.spelled.survey(goal)
        for position in range(shape.min_items if shape.prefix else 0):
            goal = self.goals[min(position, len(self.goals) - 1)]
            if m.spelled.count(goal) <= position:
                reason = "uniqueItems beside positions with few values is not enforced yet"
                raise UnsupportedConstraint(reason, m.normal.pointer(goal))
        for position, goal in enumerate(self.goals):
            mine = m.normal.shapes(goal)
            types = {TYPE_NAMES[type(shape)] for shape in mine}
            others = {other for before in self.goals[:position] for other in m.normal.shapes(before)}
            if any(other not in mine and TYPE_NAMES[type(other)] in types for other in others):
                where = m.normal.pointer(goal)
                m.normal.narrow(f"{where}: items of unique values may be held back by those of other positions")

    def start(self, position: int) -> State | None:
        """Before the item at a position, None if there is none."""
        if position >= len(self.goals) and not self.endless:
            return None
        return self.spelled.start(self.goals[min(position, len(self.goals) - 1)])

    def towards(self, first: int, last: int, target: int, state: State, ops: tuple[int, int]) -> Edge:
        """The edge on bytes that lead to ``state``. ``ops``: how it is guarded where there is no end of values, and
        where there are few."""
        count = self.spelled.remaining(state)
        if count == UNLIMITED:
            return first, last, ops[0], target, 0, 0, NONE
        return first, last, ops[1], target, NONE, count, NONE


@dataclass(frozen=True, slots=True)
class First:
    """After the opening bracket."""

    plan: UniqueItems

    def edges(self, m: JsonMachine) -> Edges:
        edges = CloseArray(self.plan.verdict).edges(m)[0]
        start = self.plan.start(0)
        if start is not None:
            edges += Item(self.plan, 0, start).edges(m)[0]
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class Item:
    """Inside the item at ``position``, or before or behind it."""

    plan: UniqueItems
    position: int
    state: State

    def edges(self, m: JsonMachine) -> Edges:
        plan, spelled = self.plan, self.plan.spelled
        edges: list[Edge] = [
            plan.towards(lo, hi, m.state(Item(plan, self.position, to)), to, (XKEY, FEWKEY))
            for lo, hi, to in spelled.edges(self.state)
        ]
        for hole, after in spelled.holes(self.state):
            ret = m.state(Kept(plan, self.position, after))
            for lo, hi, _, target, resumed, registers, c in m.either(hole.shapes, ret).edges(m)[0]:
                edges.append((lo, hi, RECORD, target, resumed, registers, c))
        if spelled.accepting(self.state):
            after = m.flexible(After(plan, self.position))
            edges += [(b, b, ITEM, after, 0, NONE, NONE) for b in _AFTER_AN_ITEM]
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class Kept:
    """After an open-ended part of the item, which `Item` goes on from."""

    plan: UniqueItems
    position: int
    state: State

    def edges(self, m: JsonMachine) -> Edges:
        target = m.state(Item(self.plan, self.position, self.state))
        return [(-1, -1, KEEP, target, self.plan.spelled.remaining(self.state), 0, 0)], END_REJECT


@dataclass(frozen=True, slots=True)
class After:
    """After the item at ``position``."""

    plan: UniqueItems
    position: int

    def edges(self, m: JsonMachine) -> Edges:
        close = CloseArray(self.plan.verdict)
        edges = [*close.edges(m)[0], *m.before_close(close, NONE)]
        position = min(self.position + 1, len(self.plan.goals))
        start = self.plan.start(position)
        if start is not None:
            target = m.spaced(Item(self.plan, position, start))
            edges.append(self.plan.towards(ord(","), ord(","), target, start, (MAYKEY, MAYFEW)))
        return edges, END_REJECT


# -- strings -----------------------------------------------------------------------------------------------------------


class UniqueStrings:
    """What the locations of one array of unique strings share. Compared by identity: there is one a shape and machine.

    Such an array is read as an object that has only keys: its frame keeps the texts that were seen.
    """

    def __init__(self, m: JsonMachine, shape: ArrayShape, verdict: int) -> None:
        self.verdict = verdict
        self.texts = shape.texts
        self.strings = m.strings
        self.automata = [m.strings.automaton(names) for names in shape.texts]

    @property
    def start(self) -> ClassThreads:
        return tuple((i, automaton.start) for i, automaton in enumerate(self.automata))

    def towards(self, first: int, last: int, target: int, threads: ClassThreads, ops: tuple[int, int]) -> Edge:
        """The edge on bytes after which a string of the classes' threads must follow. ``ops``: how it is guarded where
        there is no end of strings, and where there are few."""
        count = 0
        for i, state in threads:
            count = min(count + self.strings.remaining(self.texts[i], state), UNLIMITED)
        if count == UNLIMITED:
            return first, last, ops[0], target, 0, 0, NONE
        return first, last, ops[1], target, NONE, count, NONE

    def quote(self, m: JsonMachine) -> Edge:
        return self.towards(QUOTE, QUOTE, m.state(StringItem(self, self.start)), self.start, (MAYKEY, MAYFEW))


@dataclass(frozen=True, slots=True)
class FirstString:
    """After the opening bracket of an array of unique strings."""

    plan: UniqueStrings

    def edges(self, m: JsonMachine) -> Edges:
        return [*CloseArray(self.plan.verdict).edges(m)[0], self.plan.quote(m)], END_REJECT


@dataclass(frozen=True, slots=True)
class StringItem:
    """Inside one of the strings."""

    plan: UniqueStrings
    threads: ClassThreads

    def edges(self, m: JsonMachine) -> Edges:
        plan = self.plan
        edges = [
            plan.towards(lo, hi, m.state(StringItem(plan, threads)), threads, (XKEY, FEWKEY))
            for lo, hi, threads in together([(i, plan.automata[i], at) for i, at in self.threads])
        ]
        if any(plan.automata[i].accepting(at) for i, at in self.threads):
            edges.append((QUOTE, QUOTE, ADDED, m.flexible(AfterString(plan)), 0, NONE, NONE))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class AfterString:
    """After one of the strings."""

    plan: UniqueStrings

    def edges(self, m: JsonMachine) -> Edges:
        close = CloseArray(self.plan.verdict)
        comma = self.plan.towards(
            ord(","), ord(","), m.spaced(NextString(self.plan)), self.plan.start, (MAYKEY, MAYFEW)
        )
        return [*close.edges(m)[0], *m.before_close(close, NONE), comma], END_REJECT


@dataclass(frozen=True, slots=True)
class NextString:
    """After a comma."""

    plan: UniqueStrings

    def edges(self, m: JsonMachine) -> Edges:
        return [(QUOTE, QUOTE, GOTO, m.state(StringItem(self.plan, self.plan.start)), 0, 0, 0)], END_REJECT
