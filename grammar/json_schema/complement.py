"""What a shape leaves out: the complement, a type at a time (the not-elimination of Attouche et al., PVLDB 2022).

strings     shorter, longer, a pattern that is not found, an excluded one that is
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from grammar.errors import UnsupportedConstraint
from grammar.json_schema.conjunction import ANY_STRING, Conjunction, array_shape, number_shape, object_shape
from grammar.json_schema.formats import NARROWED
from grammar.json_schema.shapes import (
    ANY,
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
)

_SYNTAX = re.compile(r"[\\^$.*+?()[\]{}|/]")


def literals(texts: Sequence[str]) -> str:
    """An ECMA-262 pattern that matches just these texts."""
    return "^(?:" + "|".join(_SYNTAX.sub(r"\\\g<0>", text) for text in texts) + ")$"


def outside(shape: KeyClass, pointer: str) -> list[StringShape]:
    """Disjoint classes of all strings that do not satisfy a string shape. UnsupportedConstraint for a narrowed format,
    whose complement would have to leave out what the format's does."""
    if isinstance(shape, StringEnum):
        return [StringShape(excluded=(literals(shape.values),))]
    low, high = shape.min_length, shape.max_length
    cells: list[StringShape] = []
    if low > 0:
        cells.append(StringShape(0, low - 1))
    if high is not None:
        cells.append(StringShape(high + 1))
    for i, pattern in enumerate(shape.patterns):
        if pattern in NARROWED:
            raise UnsupportedConstraint("a format that is written only in part cannot be negated", pointer)
        cells.append(StringShape(low, high, shape.patterns[:i], (pattern,)))
    for i, pattern in enumerate(shape.excluded):
        cells.append(StringShape(low, high, (*shape.patterns, pattern), shape.excluded[:i]))
    return cells


class Complement:
    """The complements of shapes, as shapes. ``negate`` gives the goal of what does not satisfy another."""

    def __init__(self, conjunction: Conjunction, negate: Callable[[Goal], Goal]) -> None:
        self._conjunction = conjunction
        self._negate = negate

    def of(self, shape: Shape, pointer: str) -> list[Shape]:
        """What is of a shape's type and does not satisfy it. ``pointer``: where to point when that cannot be said."""
        match shape:
            case NullShape():
                return []
            case BoolShape():
                others = tuple(value for value in (False, True) if value not in shape.values)
                return [BoolShape(others)] if others else []
            case NumberEnum():
                return list(_between(sorted(shape.values)))
            case NumberShape():
                return list(_numbers_outside(shape))
            case StringShape() | StringEnum():
                return list(outside(shape, pointer))
            case ArrayShape():
                if shape.unique:
                    raise UnsupportedConstraint("negating uniqueItems is not enforced yet", pointer)
                return [found for found in self._arrays(shape) if found is not None]
            case ObjectShape():
                return [found for found in self._objects(shape, pointer) if found is not None]

    def _arrays(self, shape: ArrayShape) -> Iterator[Shape | None]:
        if shape.min_items:
            yield array_shape((), ANY, 0, shape.min_items - 1)
        if shape.max_items is not None:
            yield array_shape((), ANY, shape.max_items + 1, None)
        for i, goal in enumerate(shape.prefix):
            if goal != ANY:
                yield array_shape([ANY] * i + [self._negate(goal)], ANY, i + 1, None)
        if shape.rest is not None and shape.rest != ANY:
            yield array_shape((), ANY, 0, None, [Contains(self._negate(shape.rest), 1, None, len(shape.prefix))])
        for asked in shape.contains:
            if asked.least:
                yield array_shape((), ANY, 0, None, [Contains(asked.goal, 0, asked.least - 1, asked.skip)])
            if asked.most is not None:
                yield array_shape((), ANY, 0, None, [Contains(asked.goal, asked.most + 1, None, asked.skip)])

    def _objects(self, shape: ObjectShape, pointer: str) -> Iterator[Shape | None]:
        anything = ((ANY_STRING, ANY),)
        for name in sorted(shape.required):
            yield object_shape({}, frozenset(), anything, (name,))
        for name in sorted(shape.forbidden):
            yield object_shape({name: ANY}, frozenset((name,)), anything)
        for name, goal in shape.properties:
            if goal != ANY:
                yield object_shape({name: self._negate(goal)}, frozenset((name,)), anything)
        known = sorted({*shape.forbidden, *(name for name, _ in shape.properties)})
        others = StringShape(excluded=(literals(known),)) if known else ANY_STRING
        unnamed: list[KeyClass] = [others]
        for names, goal in shape.additional:
            unnamed = [
                both
                for rest in unnamed
                for cell in ([] if names == ANY_STRING else outside(names, pointer))
                if (both := self._conjunction.strings(rest, cell)) is not None
            ]
            theirs = self._conjunction.strings(names, others)
            if goal != ANY and theirs is not None:
                yield object_shape({}, frozenset(), anything, some=[(theirs, self._negate(goal))])
        for names in unnamed:
            yield object_shape({}, frozenset(), anything, some=[(names, ANY)])
        if shape.min_properties:
            yield object_shape({}, frozenset(), anything, max_properties=shape.min_properties - 1)
        if shape.max_properties is not None:
            yield object_shape({}, frozenset(), anything, min_properties=shape.max_properties + 1)
        for names, goal in shape.some:
            cells = [] if names == ANY_STRING else outside(names, pointer)
            yield object_shape({}, frozenset(), [(names, self._negate(goal)), *((cell, ANY) for cell in cells)])


def _between(values: Sequence[Fraction]) -> Iterator[NumberShape]:
    """The open intervals that ascending values leave."""
    for low, high in pairwise([None, *values, None]):
        yield NumberShape(lo=low, lo_open=low is not None, hi=high, hi_open=high is not None)


def _numbers_outside(shape: NumberShape) -> Iterator[NumberShape]:
    if shape.lo is not None:
        yield NumberShape(hi=shape.lo, hi_open=not shape.lo_open)
    if shape.hi is not None:
        yield NumberShape(lo=shape.hi, lo_open=not shape.hi_open)
    for factor in (*shape.multiple_of, *([Fraction(1)] if shape.integer else [])):
        yield NumberShape(not_multiple_of=(factor,))
    for factor in shape.not_multiple_of:
        found = number_shape(False, None, False, None, False, [factor])
        assert isinstance(found, NumberShape), "a factor has multiples"
        yield found
