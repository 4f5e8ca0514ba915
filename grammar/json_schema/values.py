"""JSON values as JSON Schema compares them, and the exact evaluator of values against a normal form.

Equality is by value (2020-12 Core §4.2.2): 1 and 1.0 are equal, true and 1 are not, objects have no order. Numbers
are exact: ints, `Decimal`s (what `document.load` decodes) and floats (what other decoders make; read as the shortest
decimal that rounds to them, which is what stood in the text) all become `Fraction`s.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any, Protocol, cast

from grammar.errors import ConstraintError, ConstraintTooLarge
from grammar.json_schema.shapes import (
    ANY,
    ArrayShape,
    BoolShape,
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

MAX_EXPONENT = 400
"""Of a number in a schema: beyond a double's range there is nothing to compare, only memory to fill."""
MAX_DEPTH = 128
"""Nesting of a value that is compared or evaluated."""

Matches = Callable[[str, str], bool]
"""(ECMA-262 pattern, text) → whether the pattern is found in the text."""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def exact(number: int | float | Decimal, pointer: str = "") -> Fraction:
    """The number's exact value. ConstraintError when it is no finite number, or too large or small to compute with."""
    if isinstance(number, int):
        return Fraction(number)
    if isinstance(number, float):
        if not isfinite(number):
            raise ConstraintError(f"{number} is not a JSON number", pointer)
        number = Decimal(repr(number))
    if number and abs(number.adjusted()) > MAX_EXPONENT:
        raise ConstraintError(f"the number {number} is out of every range", pointer)
    return Fraction(number)


def canonical(value: Any, pointer: str = "", depth: int = 0) -> Hashable:
    """A key that two values share exactly if they are equal."""
    if value is None or isinstance(value, bool | str):
        return (type(value).__name__, value)
    if is_number(value):
        return exact(value, pointer)
    if depth == MAX_DEPTH:
        raise ConstraintTooLarge(f"a value is nested more than {MAX_DEPTH} levels deep", pointer)
    if isinstance(value, list):
        return ("list", *(canonical(item, pointer, depth + 1) for item in cast("list[Any]", value)))
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
        return ("dict", frozenset((name, canonical(member, pointer, depth + 1)) for name, member in members))
    raise ConstraintError(f"a {type(value).__name__} is not a JSON value", pointer)


class Shapes(Protocol):
    """The part of `Normal` that evaluation needs."""

    matches: Matches

    def shapes(self, goal: Goal) -> tuple[Shape, ...]: ...


def accepts(normal: Shapes, goal: Goal, value: Any, depth: int = 0) -> bool:
    """Whether a decoded JSON value is valid under the goal. ConstraintTooLarge if it is nested too deeply."""
    if goal == ANY:
        return True
    if depth == MAX_DEPTH:
        raise ConstraintTooLarge(f"the value is nested more than {MAX_DEPTH} levels deep")
    return any(_satisfies(normal, shape, value, depth + 1) for shape in normal.shapes(goal))


def _satisfies(normal: Shapes, shape: Shape, value: Any, depth: int) -> bool:
    match shape:
        case NullShape():
            return value is None
        case BoolShape():
            return isinstance(value, bool) and value in shape.values
        case NumberShape() | NumberEnum():
            return is_number(value) and number_satisfies(shape, exact(value))
        case StringShape() | StringEnum():
            return isinstance(value, str) and string_satisfies(shape, value, normal.matches)
        case ArrayShape():
            return isinstance(value, list) and _array_satisfies(normal, shape, cast("list[Any]", value), depth)
        case ObjectShape():
            return isinstance(value, dict) and _object_satisfies(normal, shape, cast("dict[str, Any]", value), depth)


def number_satisfies(shape: NumberShape | NumberEnum, number: Fraction) -> bool:
    if isinstance(shape, NumberEnum):
        return number in shape.values
    if shape.integer and number.denominator != 1:
        return False
    if shape.lo is not None and (number < shape.lo or (shape.lo_open and number == shape.lo)):
        return False
    if shape.hi is not None and (number > shape.hi or (shape.hi_open and number == shape.hi)):
        return False
    if any((number / factor).denominator == 1 for factor in shape.not_multiple_of):
        return False
    return all((number / factor).denominator == 1 for factor in shape.multiple_of)


def string_satisfies(shape: StringShape | StringEnum, text: str, matches: Matches) -> bool:
    if isinstance(shape, StringEnum):
        return text in shape.values
    if len(text) < shape.min_length or (shape.max_length is not None and len(text) > shape.max_length):
        return False
    if any(matches(pattern, text) for pattern in shape.excluded):
        return False
    return all(matches(pattern, text) for pattern in shape.patterns)


def _array_satisfies(normal: Shapes, shape: ArrayShape, items: list[Any], depth: int) -> bool:
    if len(items) < shape.min_items or (shape.max_items is not None and len(items) > shape.max_items):
        return False
    for i, item in enumerate(items):
        goal = shape.prefix[i] if i < len(shape.prefix) else shape.rest
        if goal is None or not accepts(normal, goal, item, depth):
            return False
    if shape.unique and len({canonical(item) for item in items}) < len(items):
        return False
    for asked in shape.contains:
        count = sum(accepts(normal, asked.goal, item, depth) for item in items[asked.skip :])
        if count < asked.least or (asked.most is not None and count > asked.most):
            return False
    return True


def _object_satisfies(normal: Shapes, shape: ObjectShape, members: dict[str, Any], depth: int) -> bool:
    if not shape.required <= members.keys() or not shape.forbidden.isdisjoint(members):
        return False
    if len(members) < shape.min_properties or (
        shape.max_properties is not None and len(members) > shape.max_properties
    ):
        return False
    goals = dict(shape.properties)

    def in_class(names: KeyClass, name: str) -> bool:
        return name not in goals and string_satisfies(names, name, normal.matches)

    for name, member in members.items():
        goal = goals[name] if name in goals else next((g for k, g in shape.additional if in_class(k, name)), None)
        if goal is None or not accepts(normal, goal, member, depth):
            return False
    return all(
        any(in_class(names, name) and accepts(normal, goal, member, depth) for name, member in members.items())
        for names, goal in shape.some
    )
