"""A constraint as it travels: what is asked, with its options, before any compiler sees it."""

from __future__ import annotations

import msgspec


class JsonSchemaSpec(msgspec.Struct, tag="json_schema", frozen=True):
    """``schema`` is the schema's JSON text (bytes as the client sent them decoded to str), so that key order
    survives."""

    schema: str
    property_order: str = "schema"
    whitespace: str = "bounded"
    number: str = "canonical"
    formats: str = "assert"


class JsonObjectSpec(msgspec.Struct, tag="json_object", frozen=True):
    """Any JSON object (OpenAI's JSON mode)."""

    whitespace: str = "bounded"


class RegexSpec(msgspec.Struct, tag="regex", frozen=True):
    """The whole text matches ``pattern``; ``dialect`` is "python" or "ecma"."""

    pattern: str
    dialect: str = "python"


class ChoiceSpec(msgspec.Struct, tag="choice", frozen=True):
    choices: list[str]


class StructuralTagSpec(msgspec.Struct, tag="structural_tag", frozen=True):
    """``document``: the structural tag's JSON text."""

    document: str


class LarkSpec(msgspec.Struct, tag="lark", frozen=True):
    """``semantics`` is "dynamic_complete" or "contextual" (docs/lark.md)."""

    grammar: str
    start: str = "start"
    semantics: str = "dynamic_complete"


ConstraintSpec = JsonSchemaSpec | JsonObjectSpec | RegexSpec | ChoiceSpec | StructuralTagSpec | LarkSpec
