"""One array shape: the position in the prefix is static, the items still allowed and still needed are registers.

    [ ──PUSH(hi = max - 1, lo = min - 1)──▶ First ── "]" POP (min = 0 only)
                                             │ item 0
                                             ▼
                              Item 1.. ◀─ "," COUNT ── After ── "]" POP (lo = 0)

The registers count commas: the first item is paid for by the bracket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grammar.json_schema.shapes import ArrayShape, Goal
from grammar.json_schema.strings import QUOTE, UNLIMITED, ClassThreads, together
from grammar.tables import (
    ADDED,
    COUNT,
    END_REJECT,
    FEWKEY,
    GOTO,
    MAYFEW,
    MAYKEY,
    NONE,
    POP,
    PUSH,
    XKEY,
    Edge,
)  # fmt: skip

if TYPE_CHECKING:
    from grammar.json_schema.machine import Edges, JsonMachine


def open_array(m: JsonMachine, shape: ArrayShape, verdict: int, ret: int) -> Edge:
    """The edge on the opening bracket."""
    if shape.unique:
        plan = m.array_plan(shape, verdict)
        hi = NONE if shape.max_items is None else shape.max_items
        registers = m.tables.registers(hi, shape.min_items)
        return ord("["), ord("["), PUSH, m.spaced(FirstUnique(plan)), ret, registers, 0
    hi = NONE if shape.max_items is None else max(shape.max_items - 1, 0)
    registers = m.tables.registers(hi, max(shape.min_items - 1, 0))
    return ord("["), ord("["), PUSH, m.spaced(First(shape, verdict)), ret, registers, 0


def item_goal(shape: ArrayShape, position: int) -> Goal | None:
    """What the item at ``position`` must satisfy; None: there can be none."""
    if shape.max_items is not None and position >= shape.max_items:
        return None
    return shape.prefix[position] if position < len(shape.prefix) else shape.rest


@dataclass(frozen=True, slots=True)
class First:
    """After the opening bracket."""

    shape: ArrayShape
    verdict: int

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = []
        if self.shape.min_items == 0:
            edges.append((ord("]"), ord("]"), POP, 0, self.verdict, 0, 0))
        goal = item_goal(self.shape, 0)
        if goal is not None:
            after = m.flexible(After(self.shape, self.verdict, 0))
            edges += m.value(goal, after).edges(m)[0]
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class CloseArray:
    """Only the closing bracket may come."""

    verdict: int

    def edges(self, m: JsonMachine) -> Edges:
        return [(ord("]"), ord("]"), POP, 0, self.verdict, 0, 0)], END_REJECT


@dataclass(frozen=True, slots=True)
class After:
    """After the item at ``position``; positions past the prefix are all alike."""

    shape: ArrayShape
    verdict: int
    position: int

    def edges(self, m: JsonMachine) -> Edges:
        close = CloseArray(self.verdict)
        edges = close.edges(m)[0] + m.before_close(close, NONE)
        shape, position = self.shape, self.position + 1
        # Behind the prefix the position tells nothing that the registers do not; no static bound may cut it either.
        goal = shape.prefix[position] if position < len(shape.prefix) else shape.rest
        if goal is not None:
            after = m.flexible(After(shape, self.verdict, min(position, len(shape.prefix))))
            counted = shape.max_items is not None or shape.min_items > 1
            item = m.spaced(m.value(goal, after))
            edges.append((ord(","), ord(","), COUNT if counted else GOTO, item, 0, 0, 0))
        return edges, END_REJECT


class UniquePlan:
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
        return self.towards(QUOTE, QUOTE, m.state(UniqueText(self, self.start)), self.start, (MAYKEY, MAYFEW))


@dataclass(frozen=True, slots=True)
class FirstUnique:
    """After the opening bracket of an array of unique strings."""

    plan: UniquePlan

    def edges(self, m: JsonMachine) -> Edges:
        return [*CloseArray(self.plan.verdict).edges(m)[0], self.plan.quote(m)], END_REJECT


@dataclass(frozen=True, slots=True)
class UniqueText:
    """Inside one of the strings."""

    plan: UniquePlan
    threads: ClassThreads

    def edges(self, m: JsonMachine) -> Edges:
        plan = self.plan
        edges = [
            plan.towards(lo, hi, m.state(UniqueText(plan, threads)), threads, (XKEY, FEWKEY))
            for lo, hi, threads in together([(i, plan.automata[i], at) for i, at in self.threads])
        ]
        if any(plan.automata[i].accepting(at) for i, at in self.threads):
            edges.append((QUOTE, QUOTE, ADDED, m.flexible(AfterUnique(plan)), 0, NONE, NONE))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class AfterUnique:
    """After one of the strings."""

    plan: UniquePlan

    def edges(self, m: JsonMachine) -> Edges:
        close = CloseArray(self.plan.verdict)
        comma = self.plan.towards(
            ord(","), ord(","), m.spaced(NextUnique(self.plan)), self.plan.start, (MAYKEY, MAYFEW)
        )
        return [*close.edges(m)[0], *m.before_close(close, NONE), comma], END_REJECT


@dataclass(frozen=True, slots=True)
class NextUnique:
    """After a comma."""

    plan: UniquePlan

    def edges(self, m: JsonMachine) -> Edges:
        return [(QUOTE, QUOTE, GOTO, m.state(UniqueText(self.plan, self.plan.start)), 0, 0, 0)], END_REJECT
