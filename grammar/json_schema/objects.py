"""One object shape: declared keys in a trie that is built once, the keys that may still come in a register.

    { ──PUSH(ext = keys that may come first)──▶ Open ─┬─ "}" CLOSE (no required key may still come)
                                                      └─ '"' ▶ Key ... ─ '"' DECLARED / ADDED ▶ Colon ─ ":" ▶ value
                                   Next ◀─ "," ─ Behind ◀──────────────────────────────────────────────────────┘

Declared keys are numbered by their spelled form, so that a trie node is an interval of numbers. What differs between the two orders
is only which keys remain after one: under "any" the set less that key, under "schema" the later keys up to the next required one (so that
none is skipped); additional keys then come when no required key remains, and end the declared ones.

Keys have one spelling each, which makes equal keys equal bytes: no duplicates, ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from grammar.json_schema.shapes import Goal, ObjectShape
from grammar.literals import LiteralTrie, Node
from grammar.tables import ADDED, CLOSE, DECLARED, END_REJECT, GOTO, KEY, MAYKEY, NONE, PUSH, XKEY, Edge

if TYPE_CHECKING:
    from grammar.json_schema.machine import Edges, JsonMachine

QUOTE = ord('"')


class ObjectPlan:
    """What the locations of one object shape share. Compared by identity: there is one a shape and machine."""

    def __init__(self, m: JsonMachine, shape: ObjectShape, verdict: int) -> None:
        self.shape = shape
        self.verdict = verdict
        self.tables = m.tables
        self.declared_order = m.declared_order
        spelled = {m.strings.spell(name): name for name, _ in shape.properties}
        spelled |= {m.strings.spell(name): name for name in shape.forbidden}
        self.keys = sorted(spelled)
        self.trie = LiteralTrie(self.keys)
        number = {spelled[key]: k for k, key in enumerate(self.keys)}
        self.order = [number[name] for name, _ in shape.properties]
        """Key numbers in declared order; forbidden names have a number and no place in it."""
        self.position = {k: i for i, k in enumerate(self.order)}
        self.goals: dict[int, Goal] = {number[name]: goal for name, goal in shape.properties}
        self._required = sum(1 << number[name] for name in shape.required)

    @cached_property
    def may_come(self) -> list[int]:
        """Under declared order, the keys (as bits) that may come from each position on; the last entry is 0."""
        sets = [0]
        for k in reversed(self.order):
            sets.append(1 << k | (0 if self._required >> k & 1 else sets[-1]))
        return sets[::-1]

    @cached_property
    def first(self) -> int:
        """Key set before the first key."""
        if not self.order:
            return NONE
        bits = self.may_come[0] if self.declared_order else sum(1 << k for k in self.order)
        return self.tables.key_set(bits, len(self.keys))

    def after_declared(self, key: int) -> int:
        """Key set after a declared key; NONE: the set less the key."""
        if not self.declared_order:
            return NONE
        return self.tables.key_set(self.may_come[self.position[key] + 1], len(self.keys))

    @cached_property
    def after_added(self) -> int:
        """Key set after an additional key; NONE: unchanged."""
        return self.tables.key_set(0, len(self.keys)) if self.declared_order and self.order else NONE

    @cached_property
    def required(self) -> int:
        """The set of required keys, NONE if there are none."""
        return self.tables.key_set(self._required, len(self.keys)) if self._required else NONE

    @property
    def before_added(self) -> int:
        """Keys that must not be able to come any more when an additional key does."""
        return self.required if self.declared_order else NONE

    def guard(self, byte: int, target: int) -> Edge:
        """The edge on a byte after which a key must follow."""
        if self.shape.additional is None:
            return byte, byte, KEY, target, 0, len(self.keys), 0
        return byte, byte, MAYKEY, target, 0, len(self.keys), self.before_added


def open_object(m: JsonMachine, shape: ObjectShape, verdict: int, ret: int) -> Edge:
    """The edge on the opening brace."""
    plan = m.object_plan(shape, verdict)
    registers = m.tables.registers(ext=plan.first)
    return ord("{"), ord("{"), PUSH, m.spaced(Open(plan)), ret, registers, 0


@dataclass(frozen=True, slots=True)
class CloseObject:
    """Only the closing brace may come: not while a key of ``required`` (a static set) may still come."""

    verdict: int
    required: int

    def edges(self, m: JsonMachine) -> Edges:
        return [(ord("}"), ord("}"), CLOSE, 0, self.verdict, self.required, 0)], END_REJECT


@dataclass(frozen=True, slots=True)
class Open:
    """After the opening brace."""

    plan: ObjectPlan

    def edges(self, m: JsonMachine) -> Edges:
        edges = CloseObject(self.plan.verdict, self.plan.required).edges(m)[0]
        if self.plan.order or self.plan.shape.additional is not None:
            edges.append(self.plan.guard(QUOTE, m.state(key_start(m, self.plan))))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class Behind:
    """After a property's value."""

    plan: ObjectPlan

    def edges(self, m: JsonMachine) -> Edges:
        close = CloseObject(self.plan.verdict, self.plan.required)
        comma = self.plan.guard(ord(","), m.spaced(Next(self.plan)))
        return [*close.edges(m)[0], *m.before_close(close, self.plan.required), comma], END_REJECT


@dataclass(frozen=True, slots=True)
class Next:
    """After a comma."""

    plan: ObjectPlan

    def edges(self, m: JsonMachine) -> Edges:
        return [(QUOTE, QUOTE, GOTO, m.state(key_start(m, self.plan)), 0, 0, 0)], END_REJECT


def key_start(m: JsonMachine, plan: ObjectPlan) -> Key:
    return Key(plan, plan.trie.root if plan.keys else None, m.strings.key.start)


@dataclass(frozen=True, slots=True)
class Key:
    """Inside a key, at a node of the declared keys' trie, or None where the text has left them.

    ``at``: state of the automaton of all spelled keys, which goes on where the text leaves the declared ones.
    """

    plan: ObjectPlan
    node: Node | None
    at: int

    def edges(self, m: JsonMachine) -> Edges:
        plan, any_key = self.plan, m.strings.key
        more = plan.shape.additional is not None
        branches = plan.trie.children(self.node) if self.node else []
        terminal = plan.trie.terminal(self.node) if self.node else -1
        edges: list[Edge] = []
        for byte, node in branches:
            below = m.state(Key(plan, node, any_key.after(self.at, byte)))
            op, c = (XKEY, plan.before_added) if more else (KEY, 0)
            edges.append((byte, byte, op, below, node[0], node[1], c))
        if more:
            taken = {byte for byte, _ in branches}
            for lo, hi, at in any_key.edges(self.at):
                target = m.state(Key(plan, None, at))
                for first, last in gaps(lo, hi, taken):
                    edges.append((first, last, XKEY, target, 0, 0, plan.before_added))
        if terminal >= 0:
            if terminal in plan.goals:
                colon = m.flexible(Colon(plan.goals[terminal], plan))
                edges.append((QUOTE, QUOTE, DECLARED, colon, terminal, plan.after_declared(terminal), 0))
        elif more and any_key.accepting(self.at):
            assert plan.shape.additional is not None
            colon = m.flexible(Colon(plan.shape.additional, plan))
            edges.append((QUOTE, QUOTE, ADDED, colon, 0, plan.after_added, plan.before_added))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class Colon:
    """After a key whose value must satisfy ``goal``."""

    goal: Goal
    plan: ObjectPlan

    def edges(self, m: JsonMachine) -> Edges:
        value = m.spaced(m.value(self.goal, m.flexible(Behind(self.plan))))
        return [(ord(":"), ord(":"), GOTO, value, 0, 0, 0)], END_REJECT


def gaps(lo: int, hi: int, taken: set[int]) -> list[tuple[int, int]]:
    """[lo, hi] without ``taken``, as ranges."""
    gaps: list[tuple[int, int]] = []
    start = lo
    for byte in sorted(b for b in taken if lo <= b <= hi):
        if start < byte:
            gaps.append((start, byte - 1))
        start = byte + 1
    if start <= hi:
        gaps.append((start, hi))
    return gaps
