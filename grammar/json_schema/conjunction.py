"""Conjunction and union of shapes: the algebra below the normal form.

The conjunction of two shapes of one JSON type is again one shape or nothing; of different types it is nothing. That
is what makes a disjunctive normal form of schemas small: types split every union into parts that never meet.

Shapes here are *raw*: goals of their parts may turn out empty, and so may classes of names; an object's ``required``
may name what ``properties`` does not declare (then its goal is that of its class), and ``some`` may be about any
property. `Normal` proves parts and completes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from math import ceil, floor, lcm
from typing import cast

from grammar.json_schema.shapes import (
    ANY,
    NEVER,
    ArrayShape,
    BoolShape,
    Contains,
    EvaluatedItems,
    EvaluatedNames,
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

FEW_MULTIPLES = 256
"""So many multiples in a row have one that is no multiple of any other given number, unless all are: the numbers that a
schema gives are few, and the longest run without one grows hardly faster than their count (Jacobsthal's function)."""

ANY_NUMBER = NumberShape()
ANY_STRING = StringShape()
ANY_ARRAY = ArrayShape((), ANY)
ANY_OBJECT = ObjectShape((), frozenset(), ((ANY_STRING, ANY),))
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
    not_multiple_of: Iterable[Fraction] = (),
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
    apart = tuple(sorted(set(not_multiple_of)))
    shape = NumberShape(integer, lo, lo_open, hi, hi_open, tuple(sorted(factors)), apart)
    if (integer or factors) and any((common_multiple(shape) / factor).denominator == 1 for factor in apart):
        return None
    if lo is None or hi is None:
        return shape
    if lo > hi or (lo == hi and (lo_open or hi_open)):
        return None
    if lo == hi:
        return NumberEnum((lo,)) if number_satisfies(shape, lo) else None
    if not factors and not (integer and apart):
        return shape
    step = common_multiple(shape)
    first = floor(lo / step) + 1 if lo_open else ceil(lo / step)
    last = ceil(hi / step) - 1 if hi_open else floor(hi / step)
    if first > last:
        return None
    if first == last or (apart and last - first < FEW_MULTIPLES):
        values = tuple(n * step for n in range(first, last + 1) if number_satisfies(shape, n * step))
        return NumberEnum(values) if values else None
    return shape


def common_multiple(shape: NumberShape) -> Fraction:
    """The least positive number that is a multiple of all that the shape asks; there must be something that it asks."""
    factors = [*shape.multiple_of, Fraction(1)] if shape.integer else list(shape.multiple_of)
    step = factors[0]
    for factor in factors[1:]:
        below = step.denominator * factor.denominator
        step = Fraction(lcm(step.numerator * factor.denominator, factor.numerator * step.denominator), below)
    return step


def array_shape(
    prefix: Iterable[Goal],
    rest: Goal | None,
    min_items: int,
    max_items: int | None,
    contains: Iterable[Contains] = (),
    unique: bool = False,
    texts: tuple[KeyClass, ...] = (),
    ways: tuple[Way, ...] = (),
    evaluated: EvaluatedItems | None = None,
) -> ArrayShape | None:
    """The canonical shape; goals that are NEVER cut it. None when too few items are left."""
    goals = list(prefix)
    counts: dict[Contains, None] = {}
    for asked in contains:
        if (asked.goal == NEVER and asked.least) or (asked.most is not None and asked.most < asked.least):
            return None
        if asked.least and max_items is not None and max_items < asked.skip + asked.least:
            return None
        if asked.goal == ANY:  # what counts all items is about their number
            min_items = max(min_items, asked.skip + asked.least) if asked.least else min_items
            if asked.most is not None:
                max_items = asked.skip + asked.most if max_items is None else min(max_items, asked.skip + asked.most)
        elif asked.goal != NEVER and (asked.least or asked.most is not None):
            counts[asked] = None
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
    unique = unique and (max_items is None or max_items > 1)
    texts = texts if unique else ()
    return ArrayShape(tuple(goals), rest, min_items, max_items, tuple(counts), unique, texts, ways, evaluated)


def object_shape(
    properties: Mapping[str, Goal],
    required: frozenset[str],
    additional: Iterable[tuple[KeyClass, Goal]],
    forbidden: Iterable[str] = (),
    min_properties: int = 0,
    max_properties: int | None = None,
    some: Iterable[tuple[KeyClass, Goal]] = (),
    evaluated: EvaluatedNames | None = None,
) -> ObjectShape | None:
    """The canonical raw shape; names and classes whose goal is NEVER may not occur. None when a required name may not,
    or the counts of properties contradict each other."""
    classes = tuple((names, goal) for names, goal in additional if goal != NEVER)
    some = tuple(dict.fromkeys(some))
    banned = {*forbidden}
    if NEVER in properties.values():
        banned.update(name for name, goal in properties.items() if goal == NEVER)
    declared = tuple(properties.items())
    if not banned.isdisjoint(properties):
        declared = tuple((name, goal) for name, goal in declared if name not in banned)
    if not required.isdisjoint(banned) or (not classes and not required <= properties.keys()):
        return None
    if max_properties is not None:
        if max_properties < max(len(required), min_properties):
            return None
        if max_properties == len(required) and not some:
            declared = tuple((name, goal) for name, goal in declared if name in required)
            if len(declared) == len(required):
                classes = ()
    if not classes:
        banned.clear()
        if len(declared) < min_properties or (some and not declared):
            return None
        if len(declared) == min_properties:
            required = frozenset(name for name, _ in declared)
        if max_properties is not None and max_properties >= len(declared):
            max_properties = None
    if min_properties <= len(required):
        min_properties = 0
    return ObjectShape(declared, required, classes, frozenset(banned), min_properties, max_properties, some, evaluated)


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
            case ArrayShape() | ObjectShape() if shape.evaluated is not None:
                kept.append(shape)
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
                return self.strings(a, b) if isinstance(b, StringShape | StringEnum) else None
            case ArrayShape():
                return self._arrays(a, b) if isinstance(b, ArrayShape) else None
            case ObjectShape():
                return self._objects(a, b) if isinstance(b, ObjectShape) else None
            case BoolShape():
                both = tuple(v for v in a.values if v in b.values) if isinstance(b, BoolShape) else ()
                return BoolShape(both) if both else None
            case NullShape():
                return None  # equal shapes were handled above

    def strings(self, a: KeyClass, b: KeyClass) -> KeyClass | None:
        """The strings of both; the conjunction of patterns may be empty."""
        if a == ANY_STRING or b == ANY_STRING:
            return b if a == ANY_STRING else a
        if isinstance(a, StringShape) and isinstance(b, StringShape):
            limits = [limit for limit in (a.max_length, b.max_length) if limit is not None]
            low, high = max(a.min_length, b.min_length), min(limits, default=None)
            if high is not None and low > high:
                return None
            patterns, excluded = dict.fromkeys(a.patterns + b.patterns), dict.fromkeys(a.excluded + b.excluded)
            if not patterns.keys().isdisjoint(excluded):
                return None
            return StringShape(low, high, tuple(patterns), tuple(excluded))
        if isinstance(a, StringShape):
            a, b = cast("StringEnum", b), a
        values = tuple(text for text in a.values if string_satisfies(b, text, self._matches))
        return StringEnum(values) if values else None

    def _arrays(self, a: ArrayShape, b: ArrayShape) -> Shape | None:
        limits = [limit for limit in (a.max_items, b.max_items) if limit is not None]
        most = min(limits, default=None)
        length = max(len(a.prefix), len(b.prefix))
        prefix = [self._goals(_item_goal(a, i), _item_goal(b, i)) for i in range(length)]
        rest = None if a.rest is None or b.rest is None else self._goals(a.rest, b.rest)
        return array_shape(
            prefix, rest, max(a.min_items, b.min_items), most, a.contains + b.contains, a.unique or b.unique,
            evaluated=a.evaluated | b.evaluated if a.evaluated and b.evaluated else a.evaluated or b.evaluated,
        )  # fmt: skip

    def member_goal(self, shape: ObjectShape, goals: Mapping[str, Goal], name: str) -> Goal:
        """What a property must satisfy; ``goals`` is ``dict(shape.properties)``."""
        if name in goals:
            return goals[name]
        if name in shape.forbidden:
            return NEVER
        for names, goal in shape.additional:
            if names == ANY_STRING or string_satisfies(names, name, self._matches):
                return goal
        return NEVER

    def _objects(self, a: ObjectShape, b: ObjectShape) -> Shape | None:
        if b == ANY_OBJECT or a == ANY_OBJECT:
            return a if b == ANY_OBJECT else b
        mine, theirs = dict(a.properties), dict(b.properties)
        properties: dict[str, Goal] = {}
        for name, goal in a.properties:
            properties[name] = self._goals(goal, self.member_goal(b, theirs, name))
        for name, goal in b.properties:
            if name not in mine:
                properties[name] = self._goals(self.member_goal(a, mine, name), goal)
        additional: list[tuple[KeyClass, Goal]] = []
        for left, left_goal in a.additional:
            for right, right_goal in b.additional:
                names = self.strings(left, right)
                if names is not None:
                    additional.append((names, self._goals(left_goal, right_goal)))
        limits = [limit for limit in (a.max_properties, b.max_properties) if limit is not None]
        return object_shape(
            properties, a.required | b.required, additional, (a.forbidden | b.forbidden).difference(properties),
            max(a.min_properties, b.min_properties), min(limits, default=None), a.some + b.some,
            a.evaluated | b.evaluated if a.evaluated and b.evaluated else a.evaluated or b.evaluated,
        )  # fmt: skip


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
            a.not_multiple_of + b.not_multiple_of,
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
