"""docs/schema-support.md, and its proof: each row of the table is compiled, and the page says what came of it.

python -m tests.grammar.json_schema.test_support     writes the page anew
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grammar.compile import compile_machine
from grammar.constraint import Contract, JsonSchema
from grammar.errors import UnsupportedConstraint
from grammar.json_schema.dialect import BY_URI
from grammar.json_schema.formats import FORMATS

PAGE = Path(__file__).parents[3] / "docs" / "schema-support.md"

_TWO = {"properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "type": "object"}
_STRINGS = {"type": "array", "items": {"type": "string"}}
_ANCHORED = {"a": {"$dynamicAnchor": "a", "type": "null"}}
ROWS: list[tuple[str, Any, str]] = [
    ("type", {"type": ["integer", "null"]}, ""),
    ("enum, const", {"enum": [1, "a", {"b": []}]}, "Compared by value: 1.0 is 1, true is not."),
    ("properties, required", {**_TWO, "required": ["b"]}, "In declared order by default, or in any."),
    ("additionalProperties", {**_TWO, "additionalProperties": {"type": "null"}}, "No key comes twice, ever."),
    ("patternProperties", {"type": "object", "patternProperties": {"^x-": {"type": "null"}}}, ""),
    ("propertyNames", {"type": "object", "propertyNames": {"maxLength": 3}}, ""),
    ("minProperties, maxProperties", {**_TWO, "minProperties": 1, "maxProperties": 2}, ""),
    ("dependentRequired", {**_TWO, "dependentRequired": {"a": ["b"]}}, "Also `dependencies` of the older drafts."),
    ("dependentSchemas", {**_TWO, "dependentSchemas": {"a": {"minProperties": 2}}}, ""),
    ("items, prefixItems", {"prefixItems": [{"type": "null"}], "items": False}, "All forms, `additionalItems` too."),
    ("minItems, maxItems", {"type": "array", "minItems": 2, "maxItems": 9}, ""),
    (
        "uniqueItems",
        {"type": "array", "uniqueItems": True},
        "By value. Closed objects in declared order.",
    ),
    ("uniqueItems among other arrays", {"anyOf": [_STRINGS, {**_STRINGS, "uniqueItems": True}]}, "At most one item."),
    ("uniqueItems beside contains", {"contains": {"const": 1}, "uniqueItems": True}, "At most one item."),
    ("contains, minContains, maxContains", {"contains": {"type": "null"}, "maxContains": 2}, ""),
    ("minLength, maxLength", {"type": "string", "minLength": 2, "maxLength": 100_000}, "Unicode code points."),
    ("pattern", {"type": "string", "pattern": "^a+$"}, "ECMA-262, found anywhere in the text."),
    ("minimum, maximum, exclusive…", {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, ""),
    ("multipleOf", {"type": "number", "multipleOf": 0.25}, "Exact decimals."),
    ("allOf, anyOf", {"anyOf": [{"type": "null"}, {"allOf": [{"minimum": 0}, {"type": "number"}]}]}, ""),
    ("oneOf", {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 2}]}, "Overlapping branches too."),
    ("not", {"not": {"type": "integer"}}, "Refused around `uniqueItems` and narrowed formats."),
    ("if, then, else", {"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"type": "null"}}, ""),
    (
        "$ref, $id, $anchor, $defs",
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}},
        "Recursive ones too; the metaschemas are at hand.",
    ),
    ("$dynamicRef, $recursiveRef", {"$dynamicRef": "#a", "$defs": _ANCHORED}, "Resolved in each dynamic scope."),
    (
        "$schema of one's own",
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        "From the registry; its `$vocabulary` says which keywords are in force.",
    ),
    ("unevaluatedProperties", {**_TWO, "unevaluatedProperties": False}, "What branches evaluate adds up."),
    ("unevaluatedItems", {"type": "array", "unevaluatedItems": False}, "From 2020-12 on past `contains`, too."),
]
"""(keywords, a schema that uses them, what a user should know)"""


def outcome(schema: Any) -> tuple[str, str]:
    """The contract of a schema as the page has it, and its first reason."""
    try:
        compiled = compile_machine(JsonSchema(schema), [True] * 256, ahead=0)
    except UnsupportedConstraint as error:
        return "refused", error.reason
    if compiled.contract is Contract.EXACT:
        return "exact", ""
    return "narrowed", compiled.reasons[0]


def page() -> str:
    lines = [
        "# JSON Schema: what is enforced",
        "",
        "Each keyword has one of three contracts. *Exact*: every valid value can be written, and nothing else.",
        "*Narrowed*: nothing invalid can be written, but some valid values cannot be either; the program lists why.",
        "*Refused*: the schema is rejected with the JSON pointer of the keyword. Nothing is ever ignored in silence.",
        "",
        f"Drafts: {', '.join(dialect.name for dialect in list(BY_URI.values())[1:])}; without `$schema` the last.",
        "",
        "| Keywords | Contract | Notes |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {keywords} | {outcome(schema)[0]} | {note} |" for keywords, schema, note in ROWS]
    lines += [
        "",
        '## Formats (`formats="assert"`, the default)',
        "",
        'Formats that are not listed are annotations, as all are under `formats="annotate"`.',
        "",
        "| Format | Contract | Valid texts that are not written |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {name} | {'narrowed' if f.narrowed else 'exact'} | {f.narrowed} |" for name, f in FORMATS.items()]
    return "\n".join(lines) + "\n"


def test_the_page_is_what_the_compiler_does() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.grammar.json_schema.test_support"


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_says_how_it_is_narrowed(name: str) -> None:
    contract, reason = outcome({"type": "string", "format": name})
    assert contract == ("narrowed" if FORMATS[name].narrowed else "exact")
    assert FORMATS[name].narrowed in reason


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
