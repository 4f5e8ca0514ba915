"""Fields that ask for a constraint: OpenAI's ``response_format`` and vLLM's ``structured_outputs``.

Schemas stay raw JSON text on the way to the compiler: key order is the order of the answer's keys, and numbers are not
rounded by a float.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, field

from schemas.constraint import IndenterSpec, LarkSpec


class TextFormat(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """No constraint."""


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class NamedSchema(msgspec.Struct, forbid_unknown_fields=True):
    """``strict`` says what becomes of a schema that cannot be enforced; what can be is enforced in either case.
    ``name`` and ``description`` only label it."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema: Raw = field(default_factory=Raw)
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    json_schema: NamedSchema


class StructuralTagFormat(msgspec.Struct, tag_field="type", tag="structural_tag", forbid_unknown_fields=True):
    """Free text around constrained regions, as vLLM and SGLang take it: ``format``, or the older ``structures`` and
    ``triggers``. What is inside is read by the compiler (grammar/structural)."""

    format: Raw = field(default_factory=Raw)
    structures: Raw = field(default_factory=Raw)
    triggers: Raw = field(default_factory=Raw)


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat | StructuralTagFormat


class GrammarReading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a Lark grammar is read (docs/lark.md). Sluice's own addition, in the field ``sluice`` beside the grammar."""

    start: str = "start"
    semantics: Literal["dynamic_complete", "contextual"] = "dynamic_complete"
    indenter: IndenterSpec | None = None
    imports: dict[str, str] = field(default_factory=dict)

    def spec(self, grammar: str) -> LarkSpec:
        return LarkSpec(grammar, self.start, self.semantics, self.indenter, tuple(self.imports.items()))


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True):
    """Exactly one kind. ``json``: a schema, or its text in a string. ``structural_tag``:
    its JSON, or that in a string. ``disable_any_whitespace``: compact JSON.

    ``grammar``: a Lark grammar, and ``sluice`` how it is read.

    The last three are known to vLLM and refused by name here unless null or false.
    """

    json: Raw = field(default_factory=Raw)
    regex: str | None = None
    choice: list[str] | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool | None = None
    structural_tag: Raw = field(default_factory=Raw)
    grammar: str | None = None
    sluice: GrammarReading | None = None
    whitespace_pattern: object = None
    disable_fallback: object = None
    disable_additional_properties: object = None
