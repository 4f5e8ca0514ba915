"""Several array or object shapes alive at once (anyOf): tracked in the static state until the text tells them apart.

A *thread* is one shape and how far the text has come in it. All threads share the text and so the stack; a location
holds the threads that are still alive, and drops those that the next byte, key or finished value rules out. Each thread
can be completed by itself, so what any of them allows leads to a valid end. A value inside is asked of all threads at
once: the union of the shapes they want there, and the verdict says which threads go on (docs/architecture.md §3).

A thread may also split: a property that could satisfy one of its shape's ``some`` is asked both ways, and an item that
its ``contains`` could count is asked in each of the shape's ways; of these only the best is kept (`counting.py`).

With one thread left nothing is tracked that the registers of `objects.py` and `arrays.py` would not track better, but
the frame was opened for many: it stays here until it closes. The texts of all keys are kept as seen keys.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grammar.json_schema.arrays import CloseArray, item_goal, open_array
from grammar.json_schema.conjunction import array_shape
from grammar.json_schema.counting import Tally
from grammar.json_schema.lexicon import BETWEEN
from grammar.json_schema.members import Members
from grammar.json_schema.objects import CloseObject, counted_in_registers, gaps, open_object
from grammar.json_schema.shapes import ArrayShape, Goal, ObjectShape, Shape
from grammar.json_schema.strings import QUOTE, UNLIMITED, TextAutomaton, together
from grammar.json_schema.unique import open_unique
from grammar.literals import LiteralTrie, Node
from grammar.tables import ADDED, END_REJECT, FEWKEY, GOTO, MAYFEW, NONE, PUSH, XKEY, Edge

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


@dataclass(frozen=True, slots=True)
class ArrayThread:
    """One array shape, what its ``contains`` have counted so far, and the bit of its verdict."""

    shape: ArrayShape
    tally: Tally
    bit: int

    def complete(self, m: JsonMachine, count: int) -> bool:
        if self.shape.ways:
            return m.counting(self.shape).complete(count, self.tally)
        return count >= self.shape.min_items

    def horizon(self, m: JsonMachine) -> int:
        """Numbers of items beyond are all alike."""
        if self.shape.ways:
            return m.counting(self.shape).horizon
        return max(len(self.shape.prefix), self.shape.min_items, self.shape.max_items or 0)

    def next(self, m: JsonMachine, count: int) -> Iterator[tuple[Goal, ArrayThread]]:
        """What the next item may satisfy, and the thread after it."""
        if self.shape.ways:
            for goal, tally in m.counting(self.shape).following(count, self.tally):
                yield goal, ArrayThread(self.shape, tally, self.bit)
            return
        goal = item_goal(self.shape, count)
        if goal is not None:
            yield goal, self


ArrayThreads = tuple[ArrayThread, ...]


def open_arrays(m: JsonMachine, shapes: tuple[tuple[ArrayShape, int], ...], ret: int) -> Edge:
    """The edge on the opening bracket of one of several arrays."""
    if len(shapes) > 1:
        shapes = _without_unique(shapes)
    if len(shapes) == 1 and not shapes[0][0].ways:
        shape, bit = shapes[0]
        return (open_unique if shape.unique else open_array)(m, shape, m.verdict(bit), ret)
    threads = tuple(ArrayThread(shape, (0,) * len(shape.contains), bit) for shape, bit in shapes)
    return ord("["), ord("["), PUSH, m.spaced(Items(threads, 0)), ret, m.tables.registers(), 0


def _without_unique(shapes: tuple[tuple[ArrayShape, int], ...]) -> tuple[tuple[ArrayShape, int], ...]:
    """Shapes that no item need be compared for: those of unique items have at most one. Where none could then be
    completed, the first goes on alone. `Normal.reasons` says so."""
    kept: list[tuple[ArrayShape, int]] = []
    for shape, bit in shapes:
        single = array_shape(shape.prefix, shape.rest, shape.min_items, 1) if shape.unique else shape
        if single is not None:
            kept.append((single, bit))
    return tuple(kept) if kept else shapes[:1]


@dataclass(frozen=True, slots=True)
class Items:
    """After the opening bracket (count 0), or after ``count`` items (saturated where no thread counts any further)."""

    threads: ArrayThreads
    count: int

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = []
        satisfied = [thread.bit for thread in self.threads if thread.complete(m, self.count)]
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
        ways = [way for thread in self.threads for way in thread.next(m, self.count)]
        if not ways:
            return None
        wanted = want(m, [goal for goal, _ in ways])
        after = tuple(thread for _, thread in ways)
        count = min(self.count + 1, max(thread.horizon(m) for thread in after) + 1)
        return m.choice(wanted.shapes, m.state(ItemsDecided(after, count, wanted.bits)))


@dataclass(frozen=True, slots=True)
class ItemsDecided:
    """After an item, once its verdict is known."""

    threads: ArrayThreads
    count: int
    wanted: tuple[int, ...]

    def edges(self, m: JsonMachine) -> Edges:
        return [], END_REJECT  # never entered: every value before it returns a verdict

    def decided(self, m: JsonMachine, satisfied: int) -> Location:
        tallies: dict[tuple[ArrayShape, int], list[Tally]] = {}
        for thread, bits in zip(self.threads, self.wanted, strict=True):
            if bits & satisfied:
                tallies.setdefault((thread.shape, thread.bit), []).append(thread.tally)
        alive = (
            ArrayThread(shape, m.counting(shape).best(readings) if shape.ways else (), bit)
            for (shape, bit), readings in tallies.items()
        )
        return m.with_flexible_space(Items(tuple(alive), self.count))


# -- objects -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObjectThread:
    """How far one object shape has come, and the bit of its verdict."""

    members: Members
    bit: int


ObjectThreads = tuple[ObjectThread, ...]
Range = tuple[int, int]

Which = tuple[tuple[int, int], ...]
"""Classes of additional keys that have one automaton: (index of an object thread, index of one of its classes)."""

ClassThread = tuple[Which, Hashable]
"""(classes, state of their automaton): what is alike in many threads is followed once."""


def open_objects(m: JsonMachine, shapes: tuple[tuple[ObjectShape, int], ...], ret: int) -> Edge:
    """The edge on the opening brace of one of several objects."""
    if len(shapes) == 1:
        ((shape, bit),) = shapes
        unlimited = any(m.strings.unlimited(names) for names, _ in shape.additional)
        if counted_in_registers(shape, m.declared_order, unlimited):
            return open_object(m, shape, m.verdict(bit), ret)
    threads = tuple(ObjectThread(m.members_plan(shape).start, bit) for shape, bit in shapes)
    return ord("{"), ord("{"), PUSH, m.spaced(Properties(threads, True)), ret, m.tables.registers(), 0


@dataclass(frozen=True, slots=True)
class Properties:
    """After the opening brace (``first``) or after a property."""

    threads: ObjectThreads
    first: bool

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = []
        satisfied = [t.bit for t in self.threads if t.members.complete()]
        if satisfied:
            close = CloseObject(m.verdict(_union(satisfied)), NONE)
            edges += close.edges(m)[0]
            if not self.first:
                edges += m.before_close(close, NONE)
        name = Name.start(m, self.threads)
        if name.live or name.classes:
            few = MAYFEW if not name.live and name.unseen(m) < UNLIMITED else GOTO
            byte, target = (QUOTE, m.state(name)) if self.first else (ord(","), m.spaced(NameQuote(m.state(name))))
            edges.append((byte, byte, few, target, NONE, name.unseen(m), NONE))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class NameQuote:
    """After a comma: the quote before a key."""

    start: int

    def edges(self, m: JsonMachine) -> Edges:
        return [(QUOTE, QUOTE, GOTO, self.start, 0, 0, 0)], END_REJECT


@dataclass(frozen=True, slots=True)
class Name:
    """Inside a key. ``names``: every name that some thread knows, spelled and sorted, with ``texts`` unspelled;
    ``node`` of their trie, None where the text has left them. ``live``: the names that some thread has declared and
    that may come now. ``classes``: the classes of additional keys that the text may still be of."""

    threads: ObjectThreads
    names: tuple[bytes, ...]
    texts: tuple[str, ...]
    live: int
    node: Node | None
    classes: tuple[ClassThread, ...]

    @staticmethod
    def start(m: JsonMachine, threads: ObjectThreads) -> Name:
        spelled = sorted((m.strings.spell(name), name) for name in {n for t in threads for n in t.members.plan.known})
        wanted = {name for t in threads for name, _ in t.members.next_declared()}
        live = sum(1 << i for i, (_, name) in enumerate(spelled) if name in wanted)
        alike: dict[int, tuple[TextAutomaton, list[tuple[int, int]]]] = {}
        for i, t in enumerate(threads):
            if t.members.after_added() is not None:
                for k, automaton in enumerate(t.members.plan.automata):
                    alike.setdefault(id(automaton), (automaton, []))[1].append((i, k))
        classes = tuple((tuple(which), automaton.start) for automaton, which in alike.values())
        keys, texts = tuple(k for k, _ in spelled), tuple(t for _, t in spelled)
        start = Name(threads, keys, texts, live, LiteralTrie(keys).root if keys else None, classes)
        return start.without_exhausted(m)

    def edges(self, m: JsonMachine) -> Edges:
        trie = LiteralTrie(self.names)
        branches = dict(trie.children(self.node)) if self.node else {}
        terminal = trie.terminal(self.node) if self.node else -1
        moves = together([(which, self._automaton(which), at) for which, at in self.classes]) if self.classes else []
        edges: list[Edge] = []
        if any(self._automaton(which) is m.strings.key and at == BETWEEN for which, at in self.classes):
            m.tables.mark_keyed(m.state(self))
        for byte, node in branches.items():
            classes = next((after for lo, hi, after in moves if lo <= byte <= hi), ())
            live = self.live & ((1 << node[1]) - (1 << node[0]))
            below = Name(self.threads, self.names, self.texts, live, node, classes).without_exhausted(m)
            if below.live or below.classes:
                edges.append(below.entered(m, byte, byte))
        for classes, ranges in _by_classes(moves).items():
            free = [gap for lo, hi in ranges for gap in gaps(lo, hi, branches.keys())]
            if free:
                edge = Name(self.threads, (), (), 0, None, classes).without_idle_threads().entered(m, *free[0])
                edges += [(first, last, *edge[2:]) for first, last in free]
        colon = self._colon(m, self.texts[terminal] if terminal >= 0 else None)
        if colon is not None:
            edges.append((QUOTE, QUOTE, ADDED, m.flexible(colon), 0, NONE, NONE))
        return edges, END_REJECT

    def entered(self, m: JsonMachine, first: int, last: int) -> Edge:
        """The edge on the bytes that lead here."""
        unseen = UNLIMITED if self.live else self.unseen(m)
        if unseen == UNLIMITED:
            return first, last, XKEY, m.state(self), 0, 0, NONE
        return first, last, FEWKEY, m.state(self), NONE, unseen, NONE

    def unseen(self, m: JsonMachine) -> int:
        """How many seen keys that begin so leave no additional key to any thread."""
        most = 0
        for i, additional in self._additional(m).items():
            if additional == UNLIMITED:
                return UNLIMITED
            members = self.threads[i].members
            came = {name for n, name in enumerate(members.plan.names) if members.came >> n & 1}
            # The declared names that have come are seen keys too.
            most = max(most, additional + len(self._below(came)))
        return most

    def without_exhausted(self, m: JsonMachine) -> Name:
        """Without the threads whose classes have no text here beside the known ones."""
        ended = {i for i, additional in self._additional(m).items() if additional <= 0}
        if not ended:
            return self
        left = ((tuple(c for c in which if c[0] not in ended), at) for which, at in self.classes)
        classes = tuple((which, at) for which, at in left if which)
        return Name(self.threads, self.names, self.texts, self.live, self.node, classes)

    def without_idle_threads(self) -> Name:
        """Only the threads that the text is still of, where it has left all known names."""
        alive = sorted({i for which, _ in self.classes for i, _ in which})
        if len(alive) == len(self.threads):
            return self
        renumbered = {i: new for new, i in enumerate(alive)}
        classes = tuple((tuple((renumbered[i], k) for i, k in which), at) for which, at in self.classes)
        return Name(tuple(self.threads[i] for i in alive), (), (), 0, None, classes)

    def _automaton(self, which: Which) -> TextAutomaton:
        i, k = which[0]
        return self.threads[i].members.plan.automata[k]

    def _below(self, known: Iterable[str]) -> list[int]:
        """Which of the names below the node are ``known``."""
        if self.node is None:
            return []
        return [i for i in range(self.node[0], self.node[1]) if self.texts[i] in known]

    def _additional(self, m: JsonMachine) -> dict[int, int]:
        """By thread that the text is still of, how many additional names it has below."""
        found: dict[int, int] = {}
        for which, at in self.classes:
            i, k = which[0]
            names = self.threads[i].members.plan.classes[k][0]
            remaining = m.strings.remaining(names, at)
            for i, k in which:
                plan = self.threads[i].members.plan
                sofar = found.setdefault(i, 0)
                if k >= len(plan.shape.additional) or sofar == UNLIMITED:
                    continue
                if remaining == UNLIMITED:
                    found[i] = UNLIMITED
                else:
                    shadowed = sum(m.strings.has(names, self.names[n]) for n in self._below(plan.known))
                    found[i] = sofar + remaining - shadowed
        return found

    def _colon(self, m: JsonMachine, name: str | None) -> ThreadsColon | None:
        """After this key, None if no thread takes it; ``name`` None: a name that no thread knows."""
        alive: list[ObjectThread] = []
        goals: list[Goal] = []
        accepted: dict[int, list[int]] = {}
        for which, at in self.classes:
            if self._automaton(which).accepting(at):
                for i, k in which:
                    accepted.setdefault(i, []).append(k)
        for i, thread in enumerate(self.threads):
            members = thread.members
            if name is not None and name in members.plan.known:
                for declared, after in members.next_declared():
                    if declared == name:
                        alive.append(ObjectThread(after, thread.bit))
                        goals.append(members.plan.goals[name])
                continue
            for after, goal in members.added(m, tuple(sorted(accepted.get(i, ())))):
                alive.append(ObjectThread(after, thread.bit))
                goals.append(goal)
        return ThreadsColon(tuple(alive), want(m, goals)) if alive else None


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
        alive = dict.fromkeys(t for t, bits in zip(self.threads, self.wanted, strict=True) if bits & satisfied)
        return m.with_flexible_space(Properties(tuple(alive), False))


def _by_classes(moves: list[tuple[int, int, tuple[ClassThread, ...]]]) -> dict[tuple[ClassThread, ...], list[Range]]:
    """The byte ranges that lead to the same classes."""
    found: dict[tuple[ClassThread, ...], list[Range]] = {}
    for lo, hi, classes in moves:
        found.setdefault(classes, []).append((lo, hi))
    return found


def _union(bits: list[int]) -> int:
    union = 0
    for bit in bits:
        union |= bit
    return union
