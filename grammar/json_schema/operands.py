"""The values of keywords: what a draft allows there, or a ConstraintError with the place."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NoReturn, cast

from grammar.errors import ConstraintError
from grammar.json_schema.document import Location
from grammar.json_schema.values import exact, is_number

NULL, BOOLEAN, NUMBER, STRING, ARRAY, OBJECT = 1, 2, 4, 8, 16, 32
EVERY_TYPE = 63
TYPES: dict[str, int] = {
    "null": NULL,
    "boolean": BOOLEAN,
    "number": NUMBER,
    "integer": NUMBER,
    "string": STRING,
    "array": ARRAY,
    "object": OBJECT,
}


def types_of(place: Location, value: Any) -> tuple[int, bool]:
    """Bits of the types, and whether numbers must be integers."""
    names = [value] if isinstance(value, str) else list_of(place, "type", value)
    types = 0
    for name in names:
        if not isinstance(name, str) or name not in TYPES:
            malformed(place, "type", name, "one of " + ", ".join(TYPES))
        types |= TYPES[name]
    return types, "integer" in names and "number" not in names


def members_of(place: Location, keyword: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The members of an object."""
    value = schema[keyword]
    if not isinstance(value, dict):
        malformed(place, keyword, value, "an object of schemas")
    return cast("dict[str, Any]", value)


def required_names(place: Location, schema: dict[str, Any]) -> list[str]:
    """The names of `required`; none where it is missing."""
    return strings_of(place, "required", list_of(place, "required", schema.get("required", [])))


def strings_of(place: Location, keyword: str, names: list[Any]) -> list[str]:
    """The items of a list of names."""
    for name in names:
        if not isinstance(name, str):
            malformed(place, keyword, name, "a list of property names")
    return names


def bound_of(
    place: Location, schema: dict[str, Any], keyword: str, exclusive: str, sign: int
) -> tuple[Fraction | None, bool]:
    """The stricter of a bound and its exclusive form (a flag in draft 4). ``sign`` 1: lower bounds, where greater is
    stricter."""
    bound = number_of(place, keyword, schema[keyword]) if keyword in schema else None
    if exclusive not in schema:
        return bound, False
    value, dialect = schema[exclusive], place.resource.dialect
    if isinstance(value, bool) and dialect.boolean_exclusive:
        return bound, value and bound is not None
    if not dialect.numeric_exclusive:
        malformed(place, exclusive, value, f"true or false in {dialect.name}")
    other = number_of(place, exclusive, value)
    if bound is None or sign * other >= sign * bound:
        return other, True
    return bound, False


def number_of(place: Location, keyword: str, value: Any) -> Fraction:
    """A number, exactly."""
    if not is_number(value):
        malformed(place, keyword, value, "a number")
    return exact(value, f"{place.pointer}/{keyword}")


def count_of(place: Location, schema: dict[str, Any], keyword: str) -> int | None:
    """A non-negative integer, which may be written 1.0; None where the keyword is missing."""
    if keyword not in schema:
        return None
    value = schema[keyword]
    if type(value) is int and value >= 0:
        return value
    number = number_of(place, keyword, value) if is_number(value) else None
    if number is None or number < 0 or number.denominator != 1:
        malformed(place, keyword, value, "a non-negative integer")
    return int(number)


def list_of(place: Location, keyword: str, value: Any) -> list[Any]:
    """A list of whatever."""
    if not isinstance(value, list):
        malformed(place, keyword, value, "a list")
    return cast("list[Any]", value)


def malformed(place: Location, keyword: str, value: Any, expected: str) -> NoReturn:
    """Refuse a value, naming what is ``expected`` in its stead."""
    shown = repr(value) if len(repr(value)) <= 60 else f"a {type(value).__name__}"
    raise ConstraintError(f"{keyword} must be {expected}, not {shown}", f"{place.pointer}/{keyword}")
