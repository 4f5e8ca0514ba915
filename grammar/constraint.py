"""What can be asked: constraints as values, before they meet a vocabulary.

JsonSchema(schema)    any JSON value that validates          Regex(pattern)    text that matches as a whole
JsonObject()          any JSON object                        Choice(options)   one of some strings
Lark(grammar)         a sentence of a Lark grammar        StructuralTag(document)   text around constrained regions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal


class Contract(Enum):
    """What a compiled constraint promises. Never a superset of what was asked: that would be refused."""

    EXACT = "exact"
    """Every valid value is reachable by some spelling, nothing else is (up to `Program.limits`)."""
    SOUND_SUBSET = "sound_subset"
    """Nothing invalid is reachable; some valid values are not, for the reasons given."""


@dataclass(frozen=True)
class JsonSchema:
    """JSON values that validate against ``schema``: a decoded schema (dict or bool), or its JSON text, which keeps
    number spellings.

    property_order  "schema": declared order, additional properties last; "any": every order.
    whitespace      "compact": none; "bounded": what models like to write, at most one space or one newline and
                    indentation after brackets, commas and colons and before closing brackets; "flexible": all of RFC
                    8259.
    number          "canonical": integers without fraction or exponent; "free": 1.0 and 1e2 are integers too (where
                    draft 4 says integer, which they are not there, the schema's numbers stay canonical).
    formats         "assert" or "annotate": what `format` does.
    registry        documents that $ref may name, by URI.
    """

    schema: Any
    property_order: Literal["schema", "any"] = "schema"
    whitespace: Literal["compact", "bounded", "flexible"] = "bounded"
    number: Literal["canonical", "free"] = "canonical"
    formats: Literal["assert", "annotate"] = "assert"
    registry: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JsonObject:
    """Any JSON object: what OpenAI calls JSON mode."""

    whitespace: Literal["compact", "bounded", "flexible"] = "bounded"


@dataclass(frozen=True)
class Regex:
    """Text that matches ``pattern`` from its first to its last character, in Python's `re` dialect or ECMA-262's."""

    pattern: str
    dialect: Literal["python", "ecma"] = "python"


@dataclass(frozen=True)
class Choice:
    """One of ``options``, up to 100,000 strings."""

    options: tuple[str, ...]

    def __init__(self, options: Any) -> None:
        object.__setattr__(self, "options", tuple(options))


@dataclass(frozen=True)
class Indenter:
    """What Lark's Indenter is told: the terminals whose tokens say how far the next line is indented, those that it
    makes of it, those between which lines do not count, and how many spaces a tab is worth. The defaults are
    Lark's PythonIndenter."""

    newline: str = "_NEWLINE"
    indent: str = "_INDENT"
    dedent: str = "_DEDENT"
    open_parens: tuple[str, ...] = ("LPAR", "LSQB", "LBRACE")
    close_parens: tuple[str, ...] = ("RPAR", "RSQB", "RBRACE")
    tab_len: int = 8


@dataclass(frozen=True)
class Lark:
    """A sentence of a Lark grammar, as Lark reads it (docs/lark.md).

    semantics   "dynamic_complete": what Lark's Earley parser with that lexer accepts, every way to cut a text into
                tokens; ambiguity is no matter. "contextual": what its LALR(1) parser with that lexer accepts, which
                takes the longest token, by priority; grammars that are not LALR(1) are refused.
    indenter    what turns indentation into tokens, under "contextual". None: PythonIndenter's names, where the grammar
                declares `_INDENT` and `_DEDENT`.
    imports     grammars that `%import name.rule` may name, beside Lark's own.
    """

    grammar: str
    start: str = "start"
    semantics: Literal["dynamic_complete", "contextual"] = "dynamic_complete"
    indenter: Indenter | None = None
    imports: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StructuralTag:
    """Free text in which triggers start constrained regions, and formats made of such parts: a decoded structural tag
    as xgrammar, vLLM and SGLang take it, ``{"type": "structural_tag", "format": {...}}`` (grammar/structural)."""

    document: Any


Constraint = JsonSchema | JsonObject | Regex | Choice | Lark | StructuralTag
