"""One object shape: declared keys in a trie that is built once, the keys that may still come in a register.

    { ──PUSH(ext = keys that may come first)──▶ Open ─┬─ "}" CLOSE (no required key may still come)
                                                      └─ '"' ▶ Key ... ─ '"' DECLARED / ADDED ▶ Colon ─ ":" ▶ value
                                   Next ◀─ "," ─ Behind ◀──────────────────────────────────────────────────────┘

Declared keys are numbered by their spelled form, so that a trie node is an interval of numbers. What differs between
the two orders is only which keys remain after one: under "any" the set less that key, under "schema" the later keys up
to the next required one (so that none is skipped); additional keys then come when no required key remains, and end the
declared ones.

Additional keys are read by the automata of their classes, which go on where the text leaves the declared keys. Where a
class has few texts that begin so, those seen are counted (FEWKEY): a key that could only repeat another is never begun.

Keys have one spelling each, which makes equal keys equal bytes: no duplicates, ever.

The registers count properties too, but not which of them are needed: `counted_in_registers` says for which shapes that
is enough. The others are tracked in the static state, by `alternatives.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from grammar.json_schema.conjunction import ANY_STRING
from grammar.json_schema.lexicon import BETWEEN
from grammar.json_schema.shapes import Goal, ObjectShape
from grammar.json_schema.strings import QUOTE, UNLIMITED, ClassThreads, together
from grammar.literals import LiteralTrie, Node
from grammar.tables import (
    ADDED,
    CLOSE,
    DECLARED,
    END_REJECT,
    FEWKEY,
    GOTO,
    KEY,
    MAYFEW,
    MAYKEY,
    NONE,
    PUSH,
    XKEY,
    Edge,
)  # fmt: skip

if TYPE_CHECKING:
    from grammar.json_schema.machine import Edges, JsonMachine


class ObjectPlan:
    """What the locations of one object shape share. Compared by identity: there is one a shape and machine."""

    def __init__(self, m: JsonMachine, shape: ObjectShape, verdict: int) -> None:
        self.shape = shape
        self.verdict = verdict
        self.tables = m.tables
        self.strings = m.strings
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
        self.classes = [m.strings.automaton(names) for names, _ in shape.additional]
        self._shadowed = [
            0 if names == ANY_STRING else sum(1 << k for k, key in enumerate(self.keys) if m.strings.has(names, key))
            for names, _ in shape.additional
        ]
        """By class, the declared and forbidden keys that are texts of it; of no use where there is no end of texts."""
        self._moves: dict[ClassThreads, list[tuple[ClassThreads, Edge]]] = {}

    @property
    def start(self) -> ClassThreads:
        return tuple((i, automaton.start) for i, automaton in enumerate(self.classes))

    def remaining(self, threads: ClassThreads, lo: int, hi: int) -> int:
        """How many additional keys go on from here, keys [lo, hi) being those that do so too."""
        interval = (1 << hi) - (1 << lo)
        total = 0
        for i, state in threads:
            total += self.strings.remaining(self.shape.additional[i][0], state)
            if total >= UNLIMITED:
                return UNLIMITED
            total -= (self._shadowed[i] & interval).bit_count()
        return total

    def moves(self, m: JsonMachine, threads: ClassThreads) -> list[tuple[ClassThreads, Edge]]:
        """Where the bytes of a key lead that is none of the declared ones: the classes it may still be of, and the
        edge. Most keys of an object share them."""
        known = self._moves.get(threads)
        if known is None:
            known = self._moves[threads] = []
            for lo, hi, after in together([(i, self.classes[i], at) for i, at in threads]):
                target = m.state(Key(self, None, after))
                known.append((after, self.towards(lo, hi, target, after, 0, 0, (XKEY, FEWKEY))))
        return known

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
        return self.towards(byte, byte, target, self.start, 0, len(self.keys), (MAYKEY, MAYFEW))

    def towards(
        self, first: int, last: int, target: int, threads: ClassThreads, lo: int, hi: int, ops: tuple[int, int]
    ) -> Edge:
        """The edge on bytes after which one of the declared keys [lo, hi) or a key of the classes' threads must
        follow. ``ops``: how it is guarded where additional keys are unlimited, and where they are few."""
        count = self.remaining(threads, lo, hi)
        if count <= 0:
            return first, last, KEY, target, lo, hi, 0
        if count == UNLIMITED:
            return first, last, ops[0], target, lo, hi, self.before_added
        declared = self.tables.key_set((1 << hi) - (1 << lo), len(self.keys)) if lo < hi else NONE
        return first, last, ops[1], target, declared, count, self.before_added


def counted_in_registers(shape: ObjectShape, declared_order: bool, unlimited: bool) -> bool:
    """Whether every count that the registers allow can be completed. ``unlimited``: a class has no end of names.

    With a limit, an optional key must not take the place of a required one: there is none of either kind, or the
    required ones come first. With a minimum, later keys must suffice, so that none that counts is passed by.
    """
    if shape.some:
        return False
    only_required = len(shape.properties) == len(shape.required)
    room = shape.max_properties is None or not shape.required or (declared_order and only_required)
    return room and (not shape.min_properties or unlimited or not declared_order)


def open_object(m: JsonMachine, shape: ObjectShape, verdict: int, ret: int) -> Edge:
    """The edge on the opening brace."""
    plan = m.object_plan(shape, verdict)
    hi = NONE if shape.max_properties is None else shape.max_properties
    registers = m.tables.registers(hi, shape.min_properties, plan.first)
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
        if self.plan.order or self.plan.classes:
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
    return Key(plan, plan.trie.root if plan.keys else None, plan.start)


@dataclass(frozen=True, slots=True)
class Key:
    """Inside a key, at a node of the declared keys' trie, or None where the text has left them. ``threads``: the
    classes of additional keys that the text may still be of."""

    plan: ObjectPlan
    node: Node | None
    threads: ClassThreads

    def edges(self, m: JsonMachine) -> Edges:
        plan = self.plan
        branches = dict(plan.trie.children(self.node)) if self.node else {}
        terminal = plan.trie.terminal(self.node) if self.node else -1
        moves = plan.moves(m, self.threads) if self.threads else []
        edges: list[Edge] = []
        if any(plan.classes[i] is plan.strings.key and at == BETWEEN for i, at in self.threads):
            plan.tables.mark_keyed(m.state(self))
        for byte, node in branches.items():
            threads = next((after for after, edge in moves if edge[0] <= byte <= edge[1]), ())
            if plan.remaining(threads, node[0], node[1]) <= 0:
                threads = ()
            below = m.state(Key(plan, node, threads))
            edges.append(plan.towards(byte, byte, below, threads, node[0], node[1], (XKEY, FEWKEY)))
        for _, edge in moves:
            edges += [(first, last, *edge[2:]) for first, last in gaps(edge[0], edge[1], branches.keys())]
        if terminal >= 0:
            if terminal in plan.goals:
                colon = m.flexible(Colon(plan.goals[terminal], plan))
                edges.append((QUOTE, QUOTE, DECLARED, colon, terminal, plan.after_declared(terminal), 0))
            return edges, END_REJECT
        for i, at in self.threads:
            if plan.classes[i].accepting(at):
                colon = m.flexible(Colon(plan.shape.additional[i][1], plan))
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


def gaps(lo: int, hi: int, taken: Collection[int]) -> list[tuple[int, int]]:
    """[lo, hi] without ``taken``, as ranges."""
    inside = [byte for byte in taken if lo <= byte <= hi]
    if not inside:
        return [(lo, hi)]
    gaps: list[tuple[int, int]] = []
    start = lo
    for byte in sorted(inside):
        if start < byte:
            gaps.append((start, byte - 1))
        start = byte + 1
    if start <= hi:
        gaps.append((start, hi))
    return gaps
