"""Conjunction and union of shapes: the algebra below the normal form.

The conjunction of two shapes of one JSON type is again one shape or nothing; of different types it is nothing. That
is what makes a disjunctive normal form of schemas small: types split every union into parts that never meet.

Shapes here are *raw*: goals of their parts may turn out empty, and an object's ``required`` may name what
``properties`` does not declare (then its goal is ``additional``). `Normal` proves parts and completes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from math import ceil, floor, lcm
from typing import cast

from grammar.json_schema.shapes import (
    ANY,
    NEVER,
    ArrayShape,
    BoolShape,
    Goal,
    NullShape,
    NumberEnum,
    NumberShape,
    ObjectShape,
    Shape,
    StringEnum,
    StringShape,
)
from grammar.json_schema.values import Matches, number_satisfies, string_satisfies

ANY_NUMBER = NumberShape()
ANY_STRING = StringShape()
ANY_ARRAY = ArrayShape((), ANY)
ANY_OBJECT = ObjectShape((), frozenset(), ANY)
ANY_SHAPES: tuple[Shape, ...] = (
    NullShape(),
    BoolShape((False, True)),
    ANY_NUMBER,
    ANY_STRING,
    ANY_ARRAY,
    ANY_OBJECT,
)
"""The disjuncts of `true`, one a type."""

TYPE_NAMES: dict[type, str] = {
    NullShape: "null",
    BoolShape: "boolean",
    NumberShape: "number",
    NumberEnum: "number",
    StringShape: "string",
    StringEnum: "string",
    ArrayShape: "array",
    ObjectShape: "object",
}


def number_shape(
    integer: bool,
    lo: Fraction | None,
    lo_open: bool,
    hi: Fraction | None,
    hi_open: bool,
    multiple_of: Iterable[Fraction],
) -> NumberShape | NumberEnum | None:
    """The canonical shape of an interval with divisors; None when no number is left."""
    factors = set(multiple_of)
    integer = integer or any(factor.denominator == 1 for factor in factors)
    if integer:
        factors.add(Fraction(1))
    factors = {f for f in factors if not any(g != f and (g / f).denominator == 1 for g in factors)}
    if integer:
        factors.discard(Fraction(1))
        if lo is not None:
            lo, lo_open = Fraction(floor(lo) + 1 if lo_open else ceil(lo)), False
        if hi is not None:
            hi, hi_open = Fraction(ceil(hi) - 1 if hi_open else floor(hi)), False
    shape = NumberShape(integer, lo, lo_open, hi, hi_open, tuple(sorted(factors)))
    if lo is None or hi is None:
        return shape
    if lo > hi or (lo == hi and (lo_open or hi_open)):
        return None
    if lo == hi:
        return NumberEnum((lo,)) if number_satisfies(shape, lo) else None
    if not factors:
        return shape
    step = common_multiple(shape)
    first = floor(lo / step) + 1 if lo_open else ceil(lo / step)
    last = ceil(hi / step) - 1 if hi_open else floor(hi / step)
    if first > last:
        return None
    return NumberEnum((first * step,)) if first == last else shape


def common_multiple(shape: NumberShape) -> Fraction:
    """The least positive number that is a multiple of all that the shape asks; there must be something that it asks."""
    factors = [*shape.multiple_of, Fraction(1)] if shape.integer else list(shape.multiple_of)
    step = factors[0]
    for factor in factors[1:]:
        below = step.denominator * factor.denominator
        step = Fraction(lcm(step.numerator * factor.denominator, factor.numerator * step.denominator), below)
    return step


def array_shape(prefix: Iterable[Goal], rest: Goal | None, min_items: int, max_items: int | None) -> ArrayShape | None:
    """The canonical shape; goals that are NEVER cut it. None when too few items are left."""
    goals = list(prefix)
    if max_items is not None and max_items <= len(goals):
        del goals[max_items:]
        rest = None
    if NEVER in goals:
        del goals[goals.index(NEVER) :]
        rest = None
    if rest is None or rest == NEVER:
        rest, max_items = None, len(goals)
    else:
        while goals and goals[-1] == rest:
            goals.pop()
    if max_items is not None and max_items < min_items:
        return None
    return ArrayShape(tuple(goals), rest, min_items, max_items)


def member_goal(shape: ObjectShape, goals: dict[str, Goal], name: str) -> Goal:
    """What a property must satisfy; ``goals`` is ``dict(shape.properties)``."""
    if name in goals:
        return goals[name]
    if shape.additional is None or name in shape.forbidden:
        return NEVER
    return shape.additional


def union(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """The disjuncts without those that others cover; finite sets of scalars of one kind become one."""
    distinct = dict.fromkeys(shapes)
    if len(distinct) < 2:
        return tuple(distinct)
    whole = {type(shape) for shape in (ANY_NUMBER, ANY_STRING, ANY_ARRAY, ANY_OBJECT) if shape in distinct}
    booleans: dict[bool, None] = {}
    numbers: dict[Fraction, None] = {}
    strings: dict[str, None] = {}
    kept: list[Shape] = []
    for shape in distinct:
        match shape:
            case BoolShape():
                booleans |= dict.fromkeys(shape.values)
            case NumberEnum():
                numbers |= dict.fromkeys(shape.values)
            case StringEnum():
                strings |= dict.fromkeys(shape.values)
            case _:
                if type(shape) not in whole or shape in ANY_SHAPES:
                    kept.append(shape)
    if booleans:
        kept.append(BoolShape(tuple(sorted(booleans))))
    if numbers and NumberShape not in whole:
        kept.append(NumberEnum(tuple(numbers)))
    if strings and StringShape not in whole:
        kept.append(StringEnum(tuple(strings)))
    return tuple(kept)


class Conjunction:
    """Conjoins shapes. ``goals`` conjoins two goals, ``matches`` searches a string for a pattern."""

    def __init__(self, goals: Callable[[Goal, Goal], Goal], matches: Matches) -> None:
        self._goals = goals
        self._matches = matches

    def of(self, a: Shape, b: Shape) -> Shape | None:
        """What satisfies both, or None when nothing does. Declared order is that of ``a``, then of ``b``."""
        if a == b:
            return a
        match a:
            case NumberShape() | NumberEnum():
                return _numbers(a, b) if isinstance(b, NumberShape | NumberEnum) else None
            case StringShape() | StringEnum():
                return self._strings(a, b) if isinstance(b, StringShape | StringEnum) else None
            case ArrayShape():
                return self._arrays(a, b) if isinstance(b, ArrayShape) else None
            case ObjectShape():
                return self._objects(a, b) if isinstance(b, ObjectShape) else None
            case BoolShape():
                both = tuple(v for v in a.values if v in b.values) if isinstance(b, BoolShape) else ()
                return BoolShape(both) if both else None
            case NullShape():
                return None  # equal shapes were handled above

    def _strings(self, a: StringShape | StringEnum, b: StringShape | StringEnum) -> Shape | None:
        if isinstance(a, StringShape) and isinstance(b, StringShape):
            limits = [limit for limit in (a.max_length, b.max_length) if limit is not None]
            low, high = max(a.min_length, b.min_length), min(limits, default=None)
            if high is not None and low > high:
                return None
            return StringShape(low, high, tuple(dict.fromkeys(a.patterns + b.patterns)))
        if isinstance(a, StringShape):
            a, b = cast("StringEnum", b), a
        values = a.values
        if b != ANY_STRING:
            values = tuple(text for text in values if string_satisfies(b, text, self._matches))
        return StringEnum(values) if values else None

    def _arrays(self, a: ArrayShape, b: ArrayShape) -> Shape | None:
        limits = [limit for limit in (a.max_items, b.max_items) if limit is not None]
        most = min(limits, default=None)
        length = max(len(a.prefix), len(b.prefix))
        prefix = [self._goals(_item_goal(a, i), _item_goal(b, i)) for i in range(length)]
        rest = None if a.rest is None or b.rest is None else self._goals(a.rest, b.rest)
        return array_shape(prefix, rest, max(a.min_items, b.min_items), most)

    def _objects(self, a: ObjectShape, b: ObjectShape) -> Shape | None:
        if b == ANY_OBJECT or a == ANY_OBJECT:
            return a if b == ANY_OBJECT else b
        required = a.required | b.required
        mine, theirs = dict(a.properties), dict(b.properties)
        properties: dict[str, Goal] = {}
        forbidden = a.forbidden | b.forbidden
        dropped: set[str] = set()
        for name in (*mine, *(name for name in theirs if name not in mine)):
            goal = self._goals(member_goal(a, mine, name), member_goal(b, theirs, name))
            if goal == NEVER:
                dropped.add(name)
            else:
                properties[name] = goal
        additional = None
        if a.additional is not None and b.additional is not None:
            additional = self._goals(a.additional, b.additional)
        if additional is None or additional == NEVER:
            return object_shape(properties, required, None, frozenset())
        return object_shape(properties, required, additional, (forbidden | dropped).difference(properties))


def object_shape(
    properties: dict[str, Goal], required: frozenset[str], additional: Goal | None, forbidden: frozenset[str]
) -> ObjectShape | None:
    """A raw shape without NEVER among its goals; None when a required name cannot occur."""
    if not required.isdisjoint(forbidden) or (additional is None and not required <= properties.keys()):
        return None
    return ObjectShape(tuple(properties.items()), required, additional, forbidden)


def _item_goal(shape: ArrayShape, i: int) -> Goal:
    if i < len(shape.prefix):
        return shape.prefix[i]
    return NEVER if shape.rest is None else shape.rest


def _numbers(a: NumberShape | NumberEnum, b: NumberShape | NumberEnum) -> Shape | None:
    if isinstance(a, NumberShape) and isinstance(b, NumberShape):
        lo, lo_open = max((_floor(a), _floor(b)))
        hi, hi_open = min((_ceiling(a), _ceiling(b)))
        return number_shape(
            a.integer or b.integer,
            lo if isinstance(lo, Fraction) else None,
            lo_open,
            hi if isinstance(hi, Fraction) else None,
            not hi_open,
            a.multiple_of + b.multiple_of,
        )
    if isinstance(a, NumberShape):
        a, b = cast("NumberEnum", b), a
    values = tuple(number for number in a.values if number_satisfies(b, number))
    return NumberEnum(values) if values else None


def _floor(shape: NumberShape) -> tuple[Fraction | float, bool]:
    """The lower bound, ordered so that the greater is the stricter."""
    return (float("-inf"), False) if shape.lo is None else (shape.lo, shape.lo_open)


def _ceiling(shape: NumberShape) -> tuple[Fraction | float, bool]:
    """The upper bound and whether it is included, ordered so that the lesser is the stricter."""
    return (float("inf"), True) if shape.hi is None else (shape.hi, not shape.hi_open)
