"""Decoding a schema's JSON text without loss, and the steps of JSON pointers into it.

`load` keeps numbers exact and refuses duplicate keys, whose meaning RFC 8259 §4 leaves open.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn, cast

from grammar.errors import ConstraintError, ConstraintTooLarge

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def load(text: str | bytes) -> Any:
    """Decode a schema's JSON text: objects keep their order, numbers with fraction or exponent become `Decimal`.

    ConstraintError names line and column of a syntax error, or the JSON pointer of an object with a duplicate key.
    """
    repeated: list[tuple[dict[str, Any], str]] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            repeated.append((found, next(name for i, name in enumerate(names) if name in names[:i])))
        return found

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        schema = json.loads(text, parse_float=_decimal, parse_constant=_refuse_constant, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        raise ConstraintError(f"the schema is not JSON: {error.msg}", f"{error.lineno}:{error.colno}") from error
    except UnicodeDecodeError as error:
        raise ConstraintError(f"the schema is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise ConstraintTooLarge("the schema is nested too deeply to be decoded") from error
    if repeated:
        broken, name = repeated[0]
        raise ConstraintError(f"the key {name!r} occurs twice in one object", _find(schema, broken))
    if r"\ud" in text or r"\uD" in text:
        _refuse_lone_surrogates(schema)
    return schema


def _decimal(text: str) -> Decimal:
    exponent = text.lower().partition("e")[2]
    if len(exponent) > 6 or len(text) > 4300:
        raise ConstraintError(f"the number {text[:40]}... is out of every range")
    return Decimal(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ConstraintError(f"{name} is not JSON")


def _refuse_lone_surrogates(schema: Any) -> None:
    stack: list[tuple[Any, str]] = [(schema, "")]
    while stack:
        value, pointer = stack.pop()
        if isinstance(value, str) and _LONE_SURROGATE.search(value):
            raise ConstraintError("a string holds half of a surrogate pair, which UTF-8 cannot spell", pointer)
        for step, child in children(value):
            stack += ((step, pointer), (child, f"{pointer}/{escape(step)}"))


def _find(schema: Any, wanted: object) -> str:
    stack: list[tuple[Any, str]] = [(schema, "")]
    while stack:
        value, pointer = stack.pop()
        if value is wanted:
            return pointer
        stack += ((child, f"{pointer}/{escape(step)}") for step, child in children(value))
    return ""  # the object was itself overwritten by a later duplicate


def children(value: Any) -> list[tuple[str, Any]]:
    """The steps (RFC 6901, not escaped) to the values right below one, and those values."""
    if isinstance(value, dict):
        return list(cast("dict[str, Any]", value).items())
    if isinstance(value, list):
        return [(str(i), child) for i, child in enumerate(cast("list[Any]", value))]
    return []


def escape(step: str) -> str:
    """One step of a JSON pointer (RFC 6901 §3)."""
    return step.replace("~", "~0").replace("/", "~1")
