"""Values in one spelling each, as an automaton that knows how many there are: how the items of a unique array are read.

An item must not equal one before it, so nothing may be begun that could only become one of those. That takes counts: a
beginning that n values share may go on while fewer than n of them were seen. `Spelled` reads a value as text in which
equal values are equal bytes, and counts the values below every beginning:

    words, strings, numbers      in their canonical spelling
    closed objects               properties in declared order
    arrays of bounded length     (in both, one space after a colon or comma, unless all whitespace is off)
    everything open-ended        not as text: a *hole* that a frame of its own reads, in any spelling (fsm/values.py)

A value is open-ended when it can always still grow, by another additional property or another item: whatever was seen,
it can become something else, so nothing inside it needs to be counted. What follows a hole is counted again.

    {"id": string, "on": bool}      {"id":" ... ∞ ... " ──2──▶ ,"on": ──2──▶ t ──1──▶ rue}

A state is the set of the alternatives that are alive, each a stack of what is still to come.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from grammar.errors import UnsupportedConstraint
from grammar.fuel import Fuel, Supply
from grammar.json_schema.arrays import item_goal
from grammar.json_schema.conjunction import object_shape
from grammar.json_schema.members import Members, MembersPlan
from grammar.json_schema.numbers import NumberAutomaton
from grammar.json_schema.productivity import parts
from grammar.json_schema.shapes import (
    NEVER,
    ArrayShape,
    BoolShape,
    Goal,
    KeyClass,
    NullShape,
    NumberEnum,
    NumberShape,
    ObjectShape,
    StringEnum,
    StringShape,
)
from grammar.json_schema.strings import UNLIMITED, count_ends, together

if TYPE_CHECKING:
    from grammar.json_schema.machine import JsonMachine


MAX_NUMBER_STATES = 20_000
"""Of the automaton of one item's numbers: all are visited to count."""


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes that must come; there are some."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Chars:
    """Inside a string of one of ``classes``; ``threads``: (index of a class, state of its automaton)."""

    classes: tuple[KeyClass, ...]
    threads: tuple[tuple[int, Hashable], ...]


@dataclass(frozen=True, slots=True)
class Digits:
    """Inside a number; ``at``: the state of its `Numbers`."""

    shapes: tuple[NumberShape | NumberEnum, ...]
    at: tuple[str, bool]


@dataclass(frozen=True, slots=True)
class OneOf:
    """Any value of a goal."""

    goal: Goal


@dataclass(frozen=True, slots=True)
class Properties:
    """The rest of a closed object, after its brace (``first``) or a property."""

    members: Members
    first: bool


@dataclass(frozen=True, slots=True)
class Elements:
    """The rest of an array of bounded length, after ``count`` items."""

    shape: ArrayShape
    count: int


@dataclass(frozen=True, slots=True)
class Hole:
    """An open-ended array or object of one of these shapes."""

    shapes: tuple[ArrayShape, ...] | tuple[ObjectShape, ...]


Thread = tuple[Literal | Chars | Digits | OneOf | Properties | Elements | Hole, ...]
"""What is still to come, the next first."""
State = tuple[Thread, ...]
"""The threads alive, distinct."""


class Spelled:
    """The values of the goals of one machine. Automata over their texts: `edges`, `holes`, `accepting`, `remaining`."""

    def __init__(self, m: JsonMachine, fuel: int) -> None:
        self._m = m
        self.fuel = Supply(fuel)
        self._space = b"" if m.whitespace == "compact" else b" "
        """After every colon and comma."""
        self._plans: dict[ObjectShape, MembersPlan | None] = {}
        self._values: dict[Goal, int | None] = {}
        self._below: dict[Hashable, int] = {}
        self._alternatives: dict[Goal, tuple[Thread, ...]] = {}

    def start(self, goal: Goal) -> State:
        """Before a value of ``goal``."""
        return self._settled([(OneOf(goal),)])

    def survey(self, goal: Goal) -> None:
        """Read all that is spelled below a goal, so that `Normal.reasons` says what is left out; UnsupportedConstraint
        where nothing is left."""
        reached, stack = {goal}, [goal]
        while stack:
            current = stack.pop()
            starts = self._starts_of(current)
            if not starts:
                reason = "its values cannot be told apart as items of an array of unique items yet"
                raise UnsupportedConstraint(reason, self._m.normal.pointer(current))
            for part in (part for thread in starts for part in thread):
                below: list[Goal] = []
                if isinstance(part, Properties):
                    below = list(part.members.plan.goals.values())
                elif isinstance(part, Elements):
                    below = [*part.shape.prefix, *([] if part.shape.rest is None else [part.shape.rest])]
                stack += [part for part in below if part not in reached]
                reached.update(below)

    def edges(self, state: State) -> list[tuple[int, int, State]]:
        """Disjoint byte ranges, ascending, with the state each leads to."""
        moves = [move for thread in state for move in self._moves(thread)]
        cuts = sorted({cut for lo, hi, _ in moves for cut in (lo, hi + 1)})
        found: list[tuple[int, int, State]] = []
        for lo, end in pairwise(cuts):
            alive = [thread for first, last, thread in moves if first <= lo <= last]
            if alive:
                found.append((lo, end - 1, self._settled(alive)))
        return found

    def holes(self, state: State) -> list[tuple[Hole, State]]:
        """The holes that may begin here, and what follows each."""
        return [(thread[0], self._settled([thread[1:]])) for thread in state if thread and isinstance(thread[0], Hole)]

    def accepting(self, state: State) -> bool:
        return () in state

    def remaining(self, state: State) -> int:
        """How many values go on from here; `UNLIMITED` where there are more than any text can hold."""
        if any(self._count(thread) == UNLIMITED for thread in state):
            return UNLIMITED
        if len(state) == 1:
            return self._count(state[0])
        if state not in self._below:
            count_ends(self, state, self._below, self.fuel.new())
        return self._below[state]

    # -- threads -------------------------------------------------------------------------------------------------------

    def _settled(self, threads: list[Thread]) -> State:
        """The state of threads, with what comes next unfolded until it is a byte, a hole or the end."""
        settled: dict[Thread, None] = {}
        stack = threads[::-1]
        while stack:
            thread = stack.pop()
            if not thread or isinstance(thread[0], Literal | Chars | Hole):
                settled[thread] = None
                continue
            first, rest = thread[0], thread[1:]
            match first:
                case Digits():
                    numbers = numbers_of(first.shapes)
                    if numbers.edges(first.at):
                        settled[thread] = None
                    if numbers.accepting(first.at):
                        stack.append(rest)
                case OneOf():
                    stack += [(*start, *rest) for start in self._starts_of(first.goal)[::-1]]
                case Properties():
                    stack += [(*part, *rest) for part in self._next_properties(first)[::-1]]
                case Elements():
                    stack += [(*part, *rest) for part in self._next_elements(first)[::-1]]
        return tuple(settled)

    def _moves(self, thread: Thread) -> list[tuple[int, int, Thread]]:
        if not thread:
            return []
        first, rest = thread[0], thread[1:]
        match first:
            case Literal(text):
                after = (Literal(text[1:]), *rest) if len(text) > 1 else rest
                return [(text[0], text[0], after)]
            case Chars(classes, threads):
                automata = [(i, self._m.strings.automaton(classes[i]), at) for i, at in threads]
                moves: list[tuple[int, int, Thread]] = [
                    (lo, hi, (Chars(classes, alive), *rest)) for lo, hi, alive in together(automata)
                ]
                if any(automaton.accepting(at) for _, automaton, at in automata):
                    moves.append((0x22, 0x22, rest))
                return moves
            case Digits(shapes, at):
                return [(lo, hi, (Digits(shapes, to), *rest)) for lo, hi, to in numbers_of(shapes).edges(at)]
            case _:
                return []

    def _starts_of(self, goal: Goal) -> tuple[Thread, ...]:
        """How the values of a goal begin, a thread each."""
        known = self._alternatives.get(goal)
        if known is None:
            known = self._alternatives[goal] = self._read(goal)
        return known

    def _read(self, goal: Goal) -> tuple[Thread, ...]:
        threads: list[Thread] = []
        strings: list[KeyClass] = []
        numbers: list[NumberShape | NumberEnum] = []
        arrays: list[ArrayShape] = []
        objects: list[ObjectShape] = []
        for shape in self._m.normal.shapes(goal):
            match shape:
                case NullShape():
                    threads.append((Literal(b"null"),))
                case BoolShape():
                    threads += [(Literal(b"true" if value else b"false"),) for value in shape.values]
                case StringShape() | StringEnum():
                    strings.append(shape)
                case NumberShape() | NumberEnum():
                    numbers.append(shape)
                case ArrayShape():
                    arrays.append(shape)
                case ObjectShape():
                    objects.append(shape)
        if strings:
            inside = tuple((i, self._m.strings.automaton(names).start) for i, names in enumerate(strings))
            threads.append((Literal(b'"'), Chars(tuple(strings), inside)))
        if numbers:
            shapes = tuple(numbers)
            threads.append((Digits(shapes, numbers_of(shapes).start),))
        return (*threads, *self._read_arrays(goal, arrays), *self._read_objects(goal, objects))

    def _read_arrays(self, goal: Goal, shapes: list[ArrayShape]) -> list[Thread]:
        open_ended = tuple(shape for shape in shapes if self._array_is_open(shape))
        if open_ended:
            if len(open_ended) < len(shapes):
                self._narrow(goal, "arrays of bounded length beside others are not written")
            return [(Hole(open_ended),)]
        bounded = [shape for shape in shapes if not shape.ways and not shape.unique]
        if len(bounded) < len(shapes):
            self._narrow(goal, "bounded arrays with contains or uniqueItems are not written")
        return self._alone(goal, [(Literal(b"["), Elements(shape, 0)) for shape in bounded])

    def _read_objects(self, goal: Goal, shapes: list[ObjectShape]) -> list[Thread]:
        open_ended = tuple(shape for shape in shapes if self._object_is_open(shape))
        if open_ended:
            if len(open_ended) < len(shapes):
                self._narrow(goal, "closed objects beside others are not written")
            return [(Hole(open_ended),)]
        plans = [self._plan(goal, shape) for shape in shapes]
        return self._alone(goal, [(Literal(b"{"), Properties(plan.start, True)) for plan in plans if plan is not None])

    def _alone(self, goal: Goal, threads: list[Thread]) -> list[Thread]:
        """Without all but the first of some threads that could be in different holes at once."""
        if len(threads) > 1 and self._opens(goal):
            self._narrow(goal, "of several closed forms with open-ended parts the first is written")
            return threads[:1]
        return threads

    def _narrow(self, goal: Goal, what: str) -> None:
        self._m.normal.narrow(f"{self._m.normal.pointer(goal)}: among the items of an array of unique items, {what}")

    # -- arrays and objects --------------------------------------------------------------------------------------------

    def _array_is_open(self, shape: ArrayShape) -> bool:
        if shape.max_items is not None or shape.rest is None:
            return False
        if shape.unique:
            return not shape.ways and (
                any(self._m.strings.unlimited(names) for names in shape.texts)
                if shape.texts
                else self.count(shape.rest) == UNLIMITED
            )
        if not shape.ways:
            return True
        limited = sum(1 << i for i, asked in enumerate(shape.contains) if asked.most is not None)
        return any(way.rest != NEVER and not way.counted & limited for way in shape.ways)

    def _object_is_open(self, shape: ObjectShape) -> bool:
        return shape.max_properties is None and any(self._m.strings.unlimited(names) for names, _ in shape.additional)

    def _plan(self, goal: Goal, shape: ObjectShape) -> MembersPlan | None:
        if shape not in self._plans:
            closed: ObjectShape | None = shape
            if shape.additional:
                self._narrow(goal, "additional properties with few names, or few of them, are not written")
                closed = None
                if not shape.some:
                    closed = object_shape(
                        dict(shape.properties), shape.required, (), (), shape.min_properties, shape.max_properties
                    )
            self._plans[shape] = MembersPlan(self._m, closed, declared_order=True) if closed is not None else None
        return self._plans[shape]

    def _next_properties(self, here: Properties) -> list[Thread]:
        threads: list[Thread] = []
        if here.members.complete():
            threads.append((Literal(b"}"),))
        goals = here.members.plan.goals
        for name, after in here.members.next_declared():
            key = b'"' + self._m.strings.spell(name) + b'":' + self._space
            lead = Literal(key if here.first else b"," + self._space + key)
            threads.append((lead, OneOf(goals[name]), Properties(after, False)))
        return threads

    def _next_elements(self, here: Elements) -> list[Thread]:
        threads: list[Thread] = []
        if here.count >= here.shape.min_items:
            threads.append((Literal(b"]"),))
        goal = item_goal(here.shape, here.count)
        if goal is not None:
            item: Thread = (OneOf(goal), Elements(here.shape, here.count + 1))
            threads.append(item if here.count == 0 else (Literal(b"," + self._space), *item))
        return threads

    def _opens(self, goal: Goal) -> bool:
        """Whether some value below a goal is open-ended."""
        reached, stack = {goal}, [goal]
        while stack:
            for shape in self._m.normal.shapes(stack.pop()):
                if isinstance(shape, ArrayShape) and self._array_is_open(shape):
                    return True
                if isinstance(shape, ObjectShape) and self._object_is_open(shape):
                    return True
                for part in parts(shape):
                    if part not in reached:
                        reached.add(part)
                        stack.append(part)
        return False

    # -- counts --------------------------------------------------------------------------------------------------------

    def count(self, goal: Goal) -> int:
        """How many values a goal has."""
        if goal in self._values:
            known = self._values[goal]
            return UNLIMITED if known is None else known  # a goal within itself
        self._values[goal] = None
        found = self._values[goal] = self.remaining(self._starts_of(goal))
        return found

    def _count(self, thread: Thread) -> int:
        """How many texts one thread has, from here."""
        total = 1
        for part in thread:
            match part:
                case Hole():
                    return UNLIMITED
                case Chars(classes, threads):
                    total *= self._texts(classes, threads)
                case Digits(shapes, at):
                    total *= numbers_of(shapes).remaining(at)
                case OneOf(goal):
                    total *= self.count(goal)
                case Properties() | Elements():
                    total *= self._endings(part)
                case Literal():
                    pass
            if total >= UNLIMITED:
                return UNLIMITED
        return total

    def _texts(self, classes: tuple[KeyClass, ...], threads: tuple[tuple[int, Hashable], ...]) -> int:
        counts = [self._m.strings.remaining(classes[i], at) for i, at in threads]
        if UNLIMITED in counts or len(counts) == 1:
            return max(counts)
        state: State = ((Chars(classes, threads),),)
        if state not in self._below:
            count_ends(self, state, self._below, self.fuel.new())
        return self._below[state]

    def _endings(self, part: Properties | Elements) -> int:
        known = self._below.get(part)
        if known is None and isinstance(part, Elements):
            known = self._repeated(part)
        if known is None:
            following = self._next_properties(part) if isinstance(part, Properties) else self._next_elements(part)
            known = self._below[part] = min(sum(map(self._count, following)), UNLIMITED)
        return known

    def _repeated(self, part: Elements) -> int | None:
        """The endings of an array behind its prefix, where they are many or alike; else None."""
        shape, count = part.shape, part.count
        if shape.rest is None or shape.max_items is None or count < max(len(shape.prefix), 1):
            return None
        left = shape.max_items - count
        if self.count(shape.rest) == 1:
            return left + 1 - max(shape.min_items - count, 0)
        return UNLIMITED if left > UNLIMITED.bit_length() else None


class _AnyDigits:
    """The automaton of `Numbers` with its dead ends."""

    def __init__(self, shapes: tuple[NumberShape | NumberEnum, ...]) -> None:
        self._automaton = NumberAutomaton(shapes)
        self.start = (self._automaton.start, False)

    def edges(self, state: tuple[str, bool]) -> list[tuple[int, int, tuple[str, bool]]]:
        at = state[0]
        edges: list[tuple[int, int, tuple[str, bool]]] = []
        for lo, hi, to in self._automaton.edges(at):
            if lo in b"eE" and self._automaton.has_exponents:
                continue
            if lo == ord("0") and "." in at:
                edges.append((lo, lo, (to, True)))
                lo += 1
            if lo <= hi:
                edges.append((lo, hi, (to, False)))
        return edges

    def accepting(self, state: tuple[str, bool]) -> bool:
        return not state[1] and bool(self._automaton.accepting(state[0]))


class Numbers:
    """Number shapes, each value in one spelling: no exponent beside numbers without one, no 0 that ends a fraction. A
    state is (state of a canonical `NumberAutomaton`, whether the last digit is such a 0)."""

    def __init__(self, shapes: tuple[NumberShape | NumberEnum, ...]) -> None:
        self._all = _AnyDigits(shapes)
        self.start = self._all.start
        self._counts: dict[Hashable, int] = {}

    def edges(self, state: tuple[str, bool]) -> list[tuple[int, int, tuple[str, bool]]]:
        return [(lo, hi, to) for lo, hi, to in self._all.edges(state) if self.remaining(to)]

    def accepting(self, state: tuple[str, bool]) -> bool:
        return self._all.accepting(state)

    def remaining(self, state: tuple[str, bool]) -> int:
        """How many numbers begin so."""
        if state not in self._counts:
            count_ends(self._all, state, self._counts, Fuel(MAX_NUMBER_STATES))
        return self._counts[state]


@lru_cache(maxsize=256)
def numbers_of(shapes: tuple[NumberShape | NumberEnum, ...]) -> Numbers:
    return Numbers(shapes)
