"""Preparing shapes: what is raw is spread out until every part has a goal of its own, and is cut once goals are proved.

    objects     required names are declared; classes without names go; ``some`` is served by a declared property, by one
                of few names, or stays to be served by a property of any name
    arrays      items are written in one of several ways where ``contains`` count them; unique items are strings of
                disjoint classes, or there is one at most

Between the two steps stands the proof (`productivity.py`); `enough` says whether what was proved suffices for a count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from grammar.errors import ConstraintTooLarge, UnsupportedConstraint
from grammar.json_schema.complement import outside
from grammar.json_schema.conjunction import ANY_STRING, Conjunction, array_shape, object_shape
from grammar.json_schema.counting import Counting
from grammar.json_schema.productivity import parts
from grammar.json_schema.shapes import (
    NEVER,
    ArrayShape,
    BoolShape,
    Contains,
    Goal,
    KeyClass,
    NullShape,
    NumberEnum,
    NumberShape,
    ObjectShape,
    Shape,
    StringEnum,
    StringShape,
    Way,
)
from grammar.json_schema.values import Matches, number_satisfies, string_satisfies

MAX_DISJUNCTS = 4096
"""Of one goal."""
FEW_NAMES = 64
"""A class of so many names is spread out where one of them must break a rule."""
MAX_TALLIES = 50_000
"""Numbers of items with the counts of each schema that counts them, of one array."""
MAX_COUNTS = 5
"""Schemas that count the items of one array: an item is written in one of two ways for each."""
MAX_PENDING = 4
"""Properties of one object that must break rules, whatever their names."""

Few = Callable[[KeyClass, int], "Sequence[str] | None"]
"""(class, n) → its strings if there are at most n, else None."""


def few_texts(names: KeyClass, most: int) -> Sequence[str] | None:
    """The strings of a class without a regex engine: right for classes without patterns."""
    if isinstance(names, StringEnum):
        return names.values if len(names.values) <= most else None
    return ("",) if names.max_length == 0 and most else None


class Place(Protocol):
    """Where to point."""

    @property
    def pointer(self) -> str: ...


class Algebra(Protocol):
    """What preparation needs of `Normal`."""

    matches: Matches

    def narrow(self, reason: str) -> None: ...

    def raw(self, goal: Goal) -> tuple[Shape, ...]: ...

    def conjoin(self, a: Goal, b: Goal) -> Goal: ...

    def negate(self, goal: Goal) -> Goal: ...

    def has_text(self, shape: KeyClass, place: Place) -> bool: ...

    def spend(self, units: int, place: Place) -> None: ...

    def name_order(self, name: str) -> int: ...


@dataclass(frozen=True, slots=True)
class _Served:
    """One way to have what an object's ``some`` asks for."""

    declared: dict[str, Goal]
    required: frozenset[str]
    pending: tuple[tuple[KeyClass, Goal], ...]

    def declaring(self, name: str, goal: Goal) -> _Served:
        return _Served({**self.declared, name: goal}, self.required | {name}, self.pending)


class Preparation:
    """Prepares the raw shapes of one `Normal`. ``few`` lists the strings of a class where there are not more than a
    number of them."""

    def __init__(self, algebra: Algebra, conjunction: Conjunction, few: Few) -> None:
        self._algebra = algebra
        self._conjunction = conjunction
        self._few = few

    def of(self, shape: Shape, place: Place) -> list[Shape]:
        """The prepared shapes that a raw one stands for; none where it turns out to have no value."""
        if isinstance(shape, ObjectShape):
            return self._object(shape, place)
        return self._array(shape, place) if isinstance(shape, ArrayShape) else [shape]

    def _object(self, shape: ObjectShape, place: Place) -> list[Shape]:
        declared = dict(shape.properties)
        for name in sorted(shape.required.difference(declared), key=self._algebra.name_order):
            declared[name] = self._conjunction.member_goal(shape, declared, name)
        additional = [(names, part) for names, part in shape.additional if self._has_other_names(shape, names, place)]
        found: list[Shape] = []
        for choice in self._served(replace(shape, additional=tuple(additional)), declared, place):
            whole = object_shape(
                choice.declared, choice.required, additional, shape.forbidden,
                shape.min_properties, shape.max_properties, choice.pending,
            )  # fmt: skip
            if whole is not None:
                found.append(whole)
        return found

    def _array(self, shape: ArrayShape, place: Place) -> list[Shape]:
        barred = self._without_barred(shape)
        if barred is None:
            return []
        shape = barred
        if shape.contains:
            if not shape.unique:
                counted = replace(shape, ways=tuple(self._ways(shape, place)))
                if Counting(counted, bool).places > MAX_TALLIES:
                    raise ConstraintTooLarge("what it counts among so many items multiplies to too much", place.pointer)
                return [counted]
            self._algebra.narrow(f"{place.pointer}: arrays of unique items that are counted have at most one")
            single = array_shape(shape.prefix, shape.rest, shape.min_items, 1, shape.contains)
            return [] if single is None else self._array(single, place)
        if not shape.unique:
            return [shape]
        if not shape.prefix and shape.rest is not None:
            texts = self.disjoint(self._algebra.raw(shape.rest), place)
            if texts is not None:
                found = array_shape(
                    (), shape.rest if texts else None, shape.min_items, shape.max_items, (), True, tuple(texts)
                )
                return [] if found is None else [found]
        return [shape]

    def _without_barred(self, shape: ArrayShape) -> ArrayShape | None:
        """Without a ``contains`` that may count no item: none satisfies it."""
        prefix, rest = list(shape.prefix), shape.rest
        for asked in shape.contains:
            if asked.most == 0:
                other = self._algebra.negate(asked.goal)
                if rest is not None:
                    prefix += [rest] * (asked.skip - len(prefix))
                    rest = self._algebra.conjoin(rest, other)
                prefix[asked.skip :] = [self._algebra.conjoin(goal, other) for goal in prefix[asked.skip :]]
        kept = [asked for asked in shape.contains if asked.most != 0]
        return array_shape(prefix, rest, shape.min_items, shape.max_items, kept, shape.unique)

    def _ways(self, shape: ArrayShape, place: Place) -> Iterator[Way]:
        """The ways to write an item, where ``contains`` count. Nothing is negated where nothing may be too many."""
        if len(shape.contains) > MAX_COUNTS:
            raise UnsupportedConstraint(f"more than {MAX_COUNTS} schemas count the items of one array", place.pointer)
        length = max(len(shape.prefix), *(asked.skip for asked in shape.contains))
        rest = NEVER if shape.rest is None else shape.rest
        goals = [*shape.prefix, *[rest] * (length - len(shape.prefix)), rest]
        self._algebra.spend(len(goals) << len(shape.contains), place)
        for counted in range(1 << len(shape.contains)):
            written = [self._written(goal, i, counted, shape.contains) for i, goal in enumerate(goals)]
            yield Way(counted, tuple(written[:-1]), written[-1])

    def _written(self, goal: Goal, position: int, counted: int, contains: Sequence[Contains]) -> Goal:
        """What an item satisfies that just these ``contains`` (bits) count."""
        for i, asked in enumerate(contains):
            counts = counted >> i & 1
            if position < asked.skip:
                if counts:
                    return NEVER
            elif counts and asked.least:
                goal = self._algebra.conjoin(goal, asked.goal)
            elif not counts and asked.most is not None:
                goal = self._algebra.conjoin(goal, self._algebra.negate(asked.goal))
        return goal

    def disjoint(self, shapes: Iterable[Shape], place: Place) -> list[KeyClass] | None:
        """Disjoint classes that make up some string shapes; None if other shapes are among them."""
        classes: list[KeyClass] = []
        for shape in shapes:
            if not isinstance(shape, StringShape | StringEnum):
                return None
            cells: list[KeyClass] = [shape]
            for other in classes:
                cells = [both for cell in cells for both in self._without(cell, other, place.pointer)]
            classes += [cell for cell in cells if self._algebra.has_text(cell, place)]
        return classes

    def _served(self, shape: ObjectShape, declared: dict[str, Goal], place: Place) -> list[_Served]:
        """The ways to have what ``some`` asks for: by a declared property, which becomes required, by one of few
        additional names, which becomes declared, or by an additional property of any name in a class."""
        ways = [_Served(declared, shape.required, ())]
        for names, asked in shape.some:
            longer: list[_Served] = []
            for way in ways:
                for name, part in way.declared.items():
                    if names == ANY_STRING or string_satisfies(names, name, self._algebra.matches):
                        longer.append(way.declaring(name, self._algebra.conjoin(part, asked)))
                for there, part in shape.additional:
                    both, stricter = self._conjunction.strings(names, there), self._algebra.conjoin(part, asked)
                    if both is None or stricter == NEVER or not self._algebra.has_text(both, place):
                        continue
                    few = self._undeclared(shape, both, FEW_NAMES)
                    if few is None:
                        longer.append(_Served(way.declared, way.required, (*way.pending, (both, stricter))))
                    else:
                        longer += [way.declaring(name, stricter) for name in few if name not in way.declared]
                self._algebra.spend(1 + len(longer), place)
            ways = longer
            if len(ways) > MAX_DISJUNCTS:
                raise ConstraintTooLarge(f"its alternatives multiply to more than {MAX_DISJUNCTS}", place.pointer)
        for way in ways:
            if len(way.pending) > MAX_PENDING or (len(way.pending) > 1 and shape.max_properties is not None):
                reason = "several properties must break rules that any name may break: this is not enforced yet"
                raise UnsupportedConstraint(reason, place.pointer)
        return ways

    def _has_other_names(self, shape: ObjectShape, names: KeyClass, place: Place) -> bool:
        """Whether a class has names beside the declared and forbidden ones."""
        if names == ANY_STRING:
            return True
        if not self._algebra.has_text(names, place):
            return False
        others = self._undeclared(shape, names, 0)
        return others is None or len(others) > 0

    def _undeclared(self, shape: ObjectShape, names: KeyClass, most: int) -> Sequence[str] | None:
        """The names of a class that are neither declared nor forbidden; None when there are more than ``most``."""
        known = {*shape.forbidden, *(name for name, _ in shape.properties)}
        texts = self._few(names, most + len(known))
        if texts is None:
            return None
        others = [text for text in texts if text not in known]
        return others if len(others) <= most else None

    def _without(self, names: KeyClass, other: KeyClass, pointer: str) -> Iterator[KeyClass]:
        """Disjoint classes that make up what is in the one and not in the other."""
        for cell in outside(other, pointer):
            both = self._conjunction.strings(names, cell)
            if both is not None:
                yield both

    def enough(self, shape: Shape, proofs: Collection[Goal]) -> bool:
        """Whether an object can have as many properties as it must, and an array as many different items."""
        if isinstance(shape, ArrayShape) and shape.ways:
            return Counting(shape, proofs.__contains__).shortest() is not None
        if isinstance(shape, ArrayShape) and shape.unique:
            return self._different(shape)
        if not isinstance(shape, ObjectShape) or not shape.min_properties:
            return True
        available = sum(goal in proofs for _, goal in shape.properties)
        for names, goal in shape.additional:
            if available < shape.min_properties and goal in proofs:
                others = self._undeclared(shape, names, shape.min_properties)
                available += shape.min_properties if others is None else len(others)
        return available >= shape.min_properties

    def _different(self, shape: ArrayShape) -> bool:
        """Whether there are as many different items as an array must have, as far as scalars tell."""
        if shape.texts:
            counts = [self._few(names, shape.min_items - 1) for names in shape.texts]
            return None in counts or sum(len(texts) for texts in counts if texts is not None) >= shape.min_items
        values: set[object] = set()
        goals = [*shape.prefix[: shape.min_items]]
        if shape.rest is not None and shape.min_items > len(shape.prefix):
            goals.append(shape.rest)
        for goal in dict.fromkeys(goals):
            for item in self._algebra.raw(goal):
                match item:
                    case NullShape():
                        values.add(None)
                    case BoolShape():
                        values.update((bool, value) for value in item.values)
                    case NumberEnum() | StringEnum():
                        values.update(item.values)
                    case NumberShape(integer=True, lo=Fraction() as lo, hi=Fraction() as hi):
                        if hi - lo >= shape.min_items:
                            return True
                        every = (Fraction(n) for n in range(int(lo), int(hi) + 1))
                        values.update(number for number in every if number_satisfies(item, number))
                    case StringShape():
                        texts = self._few(item, shape.min_items)
                        if texts is None:
                            return True
                        values.update(texts)
                    case _:
                        return True
        return len(values) >= shape.min_items

    def complete(self, shape: Shape, proofs: Collection[Goal]) -> Shape:
        """A productive prepared shape without the parts that are not productive."""
        if not isinstance(shape, ArrayShape | ObjectShape) or all(part in proofs for part in parts(shape)):
            return shape
        if isinstance(shape, ArrayShape) and shape.ways:
            ways = [
                Way(
                    way.counted,
                    tuple(g if g in proofs else NEVER for g in way.prefix),
                    way.rest if way.rest in proofs else NEVER,
                )
                for way in shape.ways
            ]
            return replace(shape, ways=tuple(ways))
        if isinstance(shape, ArrayShape):
            prefix = [goal if goal in proofs else NEVER for goal in shape.prefix]
            rest = shape.rest if shape.rest in proofs else None
            return array_shape(prefix, rest, shape.min_items, shape.max_items, (), shape.unique, shape.texts) or shape
        complete = object_shape(
            {name: goal if goal in proofs else NEVER for name, goal in shape.properties}, shape.required,
            [(names, goal) for names, goal in shape.additional if goal in proofs], shape.forbidden,
            shape.min_properties, shape.max_properties, shape.some,
        )  # fmt: skip
        assert complete is not None, "a productive shape has a value"
        return complete
