"""Several array or object shapes alive at once (anyOf): tracked in the static state until the text tells them apart.

A *thread* is one shape and how far the text has come in it. All threads share the text and so the stack; a location holds the threads
that are still alive, and drops those that the next byte, key or finished value rules out. Each thread is productive by itself, so
what any of them allows leads to a valid end. A value inside is asked of all threads at once: the union of the shapes they want there, and
the verdict says which threads go on (docs/architecture.md §3).

With one thread left nothing is tracked that the registers of `objects.py` and `arrays.py` would not track better, but the
frame was opened for many: it stays here until it closes. The texts of all keys are kept as seen keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grammar.json_schema.arrays import CloseArray, item_goal, open_array
from grammar.json_schema.objects import QUOTE, CloseObject, gaps, open_object
from grammar.json_schema.shapes import ArrayShape, Goal, ObjectShape, Shape
from grammar.literals import LiteralTrie, Node
from grammar.tables import ADDED, END_REJECT, GOTO, NONE, PUSH, XKEY, Edge

if TYPE_CHECKING:
    from grammar.json_schema.machine import Edges, JsonMachine, Location
    from grammar.json_schema.value import Value


# -- values asked by several threads -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """What several threads want of one value: the union of their shapes, and for each thread the bits of its own."""

    shapes: tuple[Shape, ...]
    bits: tuple[int, ...]


def want(m: JsonMachine, goals: list[Goal]) -> Wanted:
    """The value that must satisfy goals[i] for thread i to go on."""
    union: dict[Shape, int] = {}
    bits: list[int] = []
    for goal in goals:
        mine = 0
        for shape in m.normal.shapes(goal):
            mine |= 1 << union.setdefault(shape, len(union))
        bits.append(mine)
    return Wanted(tuple(union), tuple(bits))


# -- arrays ------------------------------------------------------------------------------------------------------------

ArrayThreads = tuple[tuple[ArrayShape, int], ...]
"""(shape, bit of its verdict)"""


def open_arrays(m: JsonMachine, threads: ArrayThreads, ret: int) -> Edge:
    """The edge on the opening bracket of one of several arrays."""
    if len(threads) == 1:
        return open_array(m, threads[0][0], m.verdict(threads[0][1]), ret)
    return ord("["), ord("["), PUSH, m.spaced(Items(threads, 0)), ret, m.tables.registers(), 0


@dataclass(frozen=True, slots=True)
class Items:
    """After the opening bracket (count 0), or after ``count`` items (saturated where no thread counts any further)."""

    threads: ArrayThreads
    count: int

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = []
        satisfied = [bit for shape, bit in self.threads if self.count >= shape.min_items]
        if satisfied:
            close = CloseArray(m.verdict(_union(satisfied)))
            edges += close.edges(m)[0]
            if self.count:
                edges += m.before_close(close, NONE)
        item = self._item(m)
        if item is not None:
            if self.count == 0:
                edges += item.edges(m)[0]
            else:
                edges.append((ord(","), ord(","), GOTO, m.spaced(item), 0, 0, 0))
        return edges, END_REJECT

    def _item(self, m: JsonMachine) -> Value | None:
        """The next item, None when no thread takes one."""
        alive: list[tuple[ArrayShape, int]] = []
        goals: list[Goal] = []
        for shape, bit in self.threads:
            goal = item_goal(shape, self.count)
            if goal is not None:
                alive.append((shape, bit))
                goals.append(goal)
        if not alive:
            return None
        wanted = want(m, goals)
        horizon = max(max(len(s.prefix), s.min_items, s.max_items or 0) for s, _ in alive)
        ret = m.state(ItemsDecided(tuple(alive), min(self.count + 1, horizon + 1), wanted.bits))
        return m.choice(wanted.shapes, ret)


@dataclass(frozen=True, slots=True)
class ItemsDecided:
    """After an item, once its verdict is known."""

    threads: ArrayThreads
    count: int
    wanted: tuple[int, ...]

    def edges(self, m: JsonMachine) -> Edges:
        return [], END_REJECT  # never entered: every value before it returns a verdict

    def decided(self, m: JsonMachine, satisfied: int) -> Location:
        alive = tuple(t for t, bits in zip(self.threads, self.wanted, strict=True) if bits & satisfied)
        return m.with_flexible_space(Items(alive, self.count))


# -- objects -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObjectThread:
    """One object shape. ``used``: bit i set <=> its i-th declared property has come or, under declared order, been passed.
    ``closed``: under declared order, an additional property has come, so no declared one may."""

    shape: ObjectShape
    bit: int
    used: int = 0
    closed: bool = False

    def complete(self) -> bool:
        return all(self.used >> i & 1 or name not in self.shape.required for i, (name, _) in enumerate(self.shape.properties))

    def may_add(self, declared_order: bool) -> bool:
        """Whether an additional property may come next."""
        return self.shape.additional is not None and (not declared_order or self.complete())

    def next_names(self, declared_order: bool) -> list[tuple[int, str]]:
        """(index, name) of the declared properties that may come next."""
        names: list[tuple[int, str]] = []
        for i, (name, _) in enumerate(self.shape.properties):
            if self.closed or self.used >> i & 1:
                continue
            names.append((i, name))
            if declared_order and name in self.shape.required:
                break
        return names

    def after_declared(self, index: int, declared_order: bool) -> ObjectThread:
        used = (1 << (index + 1)) - 1 if declared_order else self.used | 1 << index
        return ObjectThread(self.shape, self.bit, used, self.closed)

    def after_added(self, declared_order: bool) -> ObjectThread:
        return ObjectThread(self.shape, self.bit, self.used, self.closed or declared_order)

    def knows(self, name: str) -> bool:
        """Whether ``name`` is no additional property of this shape."""
        return name in self.shape.forbidden or any(name == known for known, _ in self.shape.properties)


ObjectThreads = tuple[ObjectThread, ...]


def open_objects(m: JsonMachine, shapes: tuple[tuple[ObjectShape, int], ...], ret: int) -> Edge:
    """The edge on the opening brace of one of several objects."""
    if len(shapes) == 1:
        return open_object(m, shapes[0][0], m.verdict(shapes[0][1]), ret)
    threads = tuple(ObjectThread(shape, bit) for shape, bit in shapes)
    return ord("{"), ord("{"), PUSH, m.spaced(Properties(threads, True)), ret, m.tables.registers(), 0


@dataclass(frozen=True, slots=True)
class Properties:
    """After the opening brace (``first``) or after a property."""

    threads: ObjectThreads
    first: bool

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = []
        satisfied = [t.bit for t in self.threads if t.complete()]
        if satisfied:
            close = CloseObject(m.verdict(_union(satisfied)), NONE)
            edges += close.edges(m)[0]
            if not self.first:
                edges += m.before_close(close, NONE)
        order = m.declared_order
        going = tuple(t for t in self.threads if t.may_add(order) or t.next_names(order))
        if going:
            start = m.state(Name.start(m, going))
            if self.first:
                edges.append((QUOTE, QUOTE, GOTO, start, 0, 0, 0))
            else:
                edges.append((ord(","), ord(","), GOTO, m.spaced(NameQuote(start)), 0, 0, 0))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class NameQuote:
    """After a comma: the quote before a key."""

    start: int

    def edges(self, m: JsonMachine) -> Edges:
        return [(QUOTE, QUOTE, GOTO, self.start, 0, 0, 0)], END_REJECT


@dataclass(frozen=True, slots=True)
class Name:
    """Inside a key. ``names``: every name that some thread knows, spelled and sorted, with ``texts`` unspelled; ``node`` of their trie,
    None where the text has left them. ``live``: the names that some thread can take now. ``at``: as in `objects.Key`."""

    threads: ObjectThreads
    names: tuple[bytes, ...]
    texts: tuple[str, ...]
    live: int
    node: Node | None
    at: int

    @staticmethod
    def start(m: JsonMachine, threads: ObjectThreads) -> Name:
        order = m.declared_order
        known = {name for t in threads for name, _ in t.shape.properties} | {n for t in threads for n in t.shape.forbidden}
        spelled = sorted((m.strings.spell(name), name) for name in known)
        wanted = {name for t in threads for _, name in t.next_names(order)}
        # A name that one thread knows may be additional for another.
        wanted |= {name for name in known for t in threads if t.may_add(order) and not t.knows(name)}
        live = sum(1 << i for i, (_, name) in enumerate(spelled) if name in wanted)
        keys, texts = tuple(k for k, _ in spelled), tuple(t for _, t in spelled)
        return Name(threads, keys, texts, live, LiteralTrie(keys).root if keys else None, m.strings.key.start)

    def edges(self, m: JsonMachine) -> Edges:
        order, any_key = m.declared_order, m.strings.key
        adding = tuple(t for t in self.threads if t.may_add(order))
        trie = LiteralTrie(self.names)
        branches = trie.children(self.node) if self.node else []
        terminal = trie.terminal(self.node) if self.node else -1
        edges: list[Edge] = []
        for byte, node in branches:
            lo, hi, _ = node
            if adding or self.live >> lo & ((1 << (hi - lo)) - 1):
                below = Name(self.threads, self.names, self.texts, self.live, node, any_key.after(self.at, byte))
                edges.append((byte, byte, XKEY, m.state(below), 0, 0, NONE))
        if adding:
            for lo, hi, at in any_key.edges(self.at):
                free = m.state(Name(adding, (), (), 0, None, at))
                for first, last in gaps(lo, hi, {byte for byte, _ in branches}):
                    edges.append((first, last, XKEY, free, 0, 0, NONE))
        if terminal >= 0 or (adding and any_key.accepting(self.at)):
            colon = self._colon(m, self.texts[terminal] if terminal >= 0 else None)
            if colon is not None:
                edges.append((QUOTE, QUOTE, ADDED, m.flexible(colon), 0, NONE, NONE))
        return edges, END_REJECT

    def _colon(self, m: JsonMachine, name: str | None) -> ThreadsColon | None:
        """After this key, None if no thread takes it; ``name`` None: a name that no thread knows."""
        order = m.declared_order
        alive: list[ObjectThread] = []
        goals: list[Goal] = []
        for t in self.threads:
            own = [i for i, known in t.next_names(order) if known == name]
            if own:
                alive.append(t.after_declared(own[0], order))
                goals.append(t.shape.properties[own[0]][1])
            elif t.may_add(order) and (name is None or not t.knows(name)):
                assert t.shape.additional is not None
                alive.append(t.after_added(order))
                goals.append(t.shape.additional)
        if not alive:
            return None
        return ThreadsColon(tuple(alive), want(m, goals))


@dataclass(frozen=True, slots=True)
class ThreadsColon:
    """After a key: the colon, then a value for all threads."""

    threads: ObjectThreads
    wanted: Wanted

    def edges(self, m: JsonMachine) -> Edges:
        ret = m.state(PropertyDecided(self.threads, self.wanted.bits))
        return [(ord(":"), ord(":"), GOTO, m.spaced(m.choice(self.wanted.shapes, ret)), 0, 0, 0)], END_REJECT


@dataclass(frozen=True, slots=True)
class PropertyDecided:
    """After a property's value, once its verdict is known."""

    threads: ObjectThreads
    wanted: tuple[int, ...]

    def edges(self, m: JsonMachine) -> Edges:
        return [], END_REJECT  # never entered: every value before it returns a verdict

    def decided(self, m: JsonMachine, satisfied: int) -> Location:
        alive = tuple(t for t, bits in zip(self.threads, self.wanted, strict=True) if bits & satisfied)
        return m.with_flexible_space(Properties(alive, False))


def _union(bits: list[int]) -> int:
    union = 0
    for bit in bits:
        union |= bit
    return union
