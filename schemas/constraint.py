"""A constraint as it travels: what is asked, with its options, before any compiler sees it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


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


class IndenterSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lark's Indenter: the terminals it looks at and makes, and how many columns a tab is worth; by default those of
    Lark's PythonIndenter (docs/lark.md)."""

    newline: str = "_NEWLINE"
    indent: str = "_INDENT"
    dedent: str = "_DEDENT"
    open_parens: tuple[str, ...] = ("LPAR", "LSQB", "LBRACE")
    close_parens: tuple[str, ...] = ("RPAR", "RSQB", "RBRACE")
    tab_len: Annotated[int, Meta(ge=1, le=128)] = 8


class LarkSpec(msgspec.Struct, tag="lark", frozen=True):
    """``semantics`` is "dynamic_complete" or "contextual" (docs/lark.md). ``imports``: names and texts of the grammars
    that it may import."""

    grammar: str
    start: str = "start"
    semantics: str = "dynamic_complete"
    indenter: IndenterSpec | None = None
    imports: tuple[tuple[str, str], ...] = ()


ConstraintSpec = JsonSchemaSpec | JsonObjectSpec | RegexSpec | ChoiceSpec | StructuralTagSpec | LarkSpec
