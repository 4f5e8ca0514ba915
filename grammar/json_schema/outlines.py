"""What a schema says of a value at a glance, without being rewritten: the types that it may have, and the values that
`const` and `enum` list.

That is enough to see that two alternatives told apart by a property of theirs have nothing in common, which would
otherwise have to be proved of all that lies below them:

    {"kind": {"const": "a"}} and {"kind": {"const": "b"}}               nothing is both
    {"kind": {"const": "a"}} and not {"kind": {"const": "b"}}           the second says nothing beside the first
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from grammar.json_schema.document import Location
from grammar.json_schema.operands import (
    ARRAY,
    BOOLEAN,
    EVERY_TYPE,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    list_of,
    types_of,
)
from grammar.json_schema.values import canonical, is_number

_LISTING = frozenset(("const", "enum"))


@dataclass(frozen=True, slots=True)
class Outline:
    """``types``: bits of those that a value may have. ``listed``: what it must be one of, by `canonical`; None where
    there is no list. ``whole``: nothing else is asked of it."""

    types: int = EVERY_TYPE
    listed: frozenset[object] | None = None
    whole: bool = False


ANYTHING = Outline()
"""That of what says nothing at a glance."""


def of_schema(place: Location) -> Outline:
    """The outline of the schema object at ``place``."""
    schema = cast("dict[str, Any]", place.schema)
    active = place.resource.dialect.keywords & schema.keys()
    types = types_of(place, schema["type"])[0] if "type" in active else EVERY_TYPE
    lists: list[list[Any]] = []
    if "enum" in active:
        lists.append(list_of(place, "enum", schema["enum"]))
    if "const" in active:
        lists.append([schema["const"]])
    if not lists:
        return Outline(types) if types != EVERY_TYPE else ANYTHING
    pointer = "" if all(map(_all_strings, lists)) else place.pointer
    listed = frozenset.intersection(*(frozenset(canonical(v, pointer) for v in values) for values in lists))
    whole = active <= _LISTING or (active <= _LISTING | {"type"} and _all_strings(lists[0]) and bool(types & STRING))
    return Outline(types & _types(lists[0]), listed, whole)


def of_value(value: Any, pointer: str) -> Outline:
    """The outline of what equals ``value``."""
    return Outline(_types([value]), frozenset((canonical(value, pointer),)), True)


def _all_strings(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _types(values: Sequence[Any]) -> int:
    bits = 0
    for value in values:
        if value is None:
            bits |= NULL
        elif isinstance(value, bool):
            bits |= BOOLEAN
        elif isinstance(value, str):
            bits |= STRING
        elif is_number(value):
            bits |= NUMBER
        else:
            bits |= ARRAY if isinstance(value, list) else OBJECT
    return bits


def together(outlines: Sequence[Outline], barred: Sequence[frozenset[object] | None]) -> list[int] | None:
    """Which of some conjoined atoms say something beside the others, ascending; None where nothing satisfies all.
    ``barred``: of each the values that it forbids, where that is all that it says."""
    types = EVERY_TYPE
    listing: list[int] = []
    for i, outline in enumerate(outlines):
        types &= outline.types
        if outline.listed is not None:
            listing.append(i)
    if not types:
        return None
    if not listing:
        return list(range(len(outlines)))
    lists = [cast("frozenset[object]", outlines[i].listed) for i in listing]
    left = allowed = frozenset.intersection(*lists)
    for values in barred:
        if values is not None:
            left -= values
    if not left:
        return None
    shortest = next((i for i, values in zip(listing, lists, strict=True) if values == allowed), None)
    silent = {
        i
        for i, (outline, values) in enumerate(zip(outlines, barred, strict=True))
        if (values is not None and values.isdisjoint(allowed))
        or (shortest is not None and i != shortest and outline.whole and outline.listed is not None)
    }
    return [i for i in range(len(outlines)) if i not in silent]
