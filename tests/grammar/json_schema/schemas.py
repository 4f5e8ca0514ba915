"""Schemas and values for the tests of this folder, drawn small so that they meet: few names, few numbers, few
strings.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from grammar.json_schema.normal import Normal

NAMES = st.sampled_from(["a", "b", "c"])
TEXTS = st.sampled_from(["", "a", "b", "ab", "aab", "ééé"])
NUMBERS = st.sampled_from([-2, -1, 0, 1, 2, 3, 0.5, 1.0, 2.5, -0.5])
PATTERNS = st.sampled_from(["^a", "b$", "a", "^$"])
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])

values = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)

_CHAPTERS: dict[str, st.SearchStrategy[Any]] = {
    "minimum": NUMBERS,
    "maximum": NUMBERS,
    "exclusiveMinimum": NUMBERS,
    "exclusiveMaximum": NUMBERS,
    "multipleOf": st.sampled_from([1, 2, 0.5, 3]),
    "minLength": st.integers(0, 3),
    "maxLength": st.integers(0, 3),
    "minItems": st.integers(0, 3),
    "maxItems": st.integers(0, 3),
    "pattern": PATTERNS,
    "minContains": st.integers(0, 2),
    "maxContains": st.integers(0, 2),
    "minProperties": st.integers(0, 3),
    "maxProperties": st.integers(0, 3),
    "propertyNames": st.fixed_dictionaries({"pattern": PATTERNS}) | st.fixed_dictionaries({"maxLength": st.just(1)}),
    "required": st.lists(NAMES, max_size=2, unique=True),
    "enum": st.lists(values, min_size=1, max_size=4),
    "const": values,
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    "$ref": st.sampled_from(["#", "#/$defs/one", "#/$defs/two"]),
}


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    nested: dict[str, st.SearchStrategy[Any]] = {
        "properties": st.dictionaries(NAMES, inner, max_size=3),
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        "additionalProperties": inner,
        "items": inner,
        "contains": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "anyOf": st.lists(inner, min_size=1, max_size=3),
        "oneOf": st.lists(inner, min_size=1, max_size=3),
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "dependentSchemas": st.dictionaries(NAMES, inner, max_size=2),
        "unevaluatedProperties": inner,
        "unevaluatedItems": inner,
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
    }
    keywords = {**_CHAPTERS, **nested}
    return st.lists(st.sampled_from(sorted(keywords)), min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: keywords[name] for name in names})
    )


_schemas = st.recursive(st.booleans() | st.just({}), _objects, max_leaves=6)


@st.composite
def schemas(draw: st.DrawFn) -> Any:
    """A schema of the supported keywords in draft 2020-12, with definitions to refer to."""
    schema = draw(_objects(_schemas))
    return {**schema, "$defs": {"one": draw(_schemas), "two": draw(_schemas)}}


def normal(schema: Any, **options: Any) -> Normal:
    """The normal form with Python's `re` as the regex engine, which reads the patterns of these tests as ECMA-262
    does."""
    return Normal(schema, matches=lambda pattern, text: re.search(pattern, text) is not None, **options)
