"""Finite languages for exact mask tests: every sentence of a schema, found with `jsonschema` and without the compiler
under test.

Candidates come from the schema's own parts (its items, its properties in every order, its branches, and some scalars);
which of them are valid is the validator's word alone. A mask is right exactly when token t is allowed after text p <=>
some sentence begins with p + t. The schemas of these tests are closed, so the candidates cover all their values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations, permutations, product
from typing import Any

from jsonschema import Draft202012Validator

SCALARS: list[Any] = [None, True, False, *range(-2, 13), "", "a", "b", "aa", "ab", "ba", "bb", 'q"', "é"]


NAMES = ["a", "b", "ab", "ba", "aa", "bb"]


def _candidates(schema: Any) -> Iterator[Any]:
    if schema is False:
        return
    yield from SCALARS
    yield from schema.get("enum", ())
    for branch in schema.get("anyOf", ()):
        yield from values(branch)
    if "maxItems" in schema:
        first = [values(part) for part in schema.get("prefixItems", ())]
        rest = values(schema.get("items", False))
        for n in range(schema["maxItems"] + 1):
            yield from map(list, product(*first[:n], *[rest] * (n - len(first))))
    properties = {name: values(part) for name, part in schema.get("properties", {}).items()}
    for pattern, part in schema.get("patternProperties", {}).items():
        for name in filter(re.compile(pattern).search, NAMES):
            properties[name] = properties.get(name, []) + values(part)
    for n in range(min(len(properties), schema.get("maxProperties", 9)) + 1):
        for names in combinations(properties, n):
            for parts in product(*(properties[name] for name in names)):
                for order in permutations(zip(names, parts, strict=True)):
                    yield dict(order)


def values(schema: Any) -> list[Any]:
    """All valid values of a closed schema, each property order a value of its own."""
    validator = Draft202012Validator(schema)
    found: dict[str, Any] = {json.dumps(value): value for value in _candidates(schema)}
    return [value for value in found.values() if validator.is_valid(value) and _no_item_twice(value, schema)]


def _no_item_twice(value: Any, schema: Any) -> bool:
    """jsonschema compares neighbours of the sorted items, among which [1] may stand between [true] and [true]."""
    if not (isinstance(value, list) and schema.get("uniqueItems")):
        return True
    return len({json.dumps(item, sort_keys=True) for item in value}) == len(value)


def language(schema: Any, property_order: str) -> set[bytes]:
    """Compact sentences of all valid values; under "schema" order those whose properties come in declared order."""
    return {
        json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        for value in values(schema)
        if property_order == "any" or in_declared_order(value, schema)
    }


def in_declared_order(value: Any, schema: Any) -> bool:
    """Whether properties come as declared, throughout; for schemas without alternatives."""
    if isinstance(value, list):
        return all(in_declared_order(item, schema.get("items", {})) for item in value)
    if not isinstance(value, dict) or "properties" not in schema:
        return True
    declared = list(schema["properties"])
    places = [declared.index(key) if key in declared else len(declared) for key in value]
    parts = schema["properties"]
    return places == sorted(places) and all(k not in parts or in_declared_order(v, parts[k]) for k, v in value.items())


def viable(sentences: set[bytes]) -> set[bytes]:
    """All prefixes of all sentences."""
    return {sentence[:n] for sentence in sentences for n in range(len(sentence) + 1)}
