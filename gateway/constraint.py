"""Which constraint a request asks for: OpenAI's `response_format`, vLLM's `structured_outputs`, or its old `guided_*`.

At most one may be asked for: two constraints have no agreed meaning, and to pick one would drop the other silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import Raw

from gateway.errors import invalid
from schemas.constraint import (
    ChoiceSpec,
    ConstraintSpec,
    JsonObjectSpec,
    JsonSchemaSpec,
    LarkSpec,
    RegexSpec,
    StructuralTagSpec,
)
from schemas.openai.constraints import GrammarReading, JsonObjectFormat, JsonSchemaFormat, StructuralTagFormat
from schemas.openai.generation import GenerationFields


@dataclass(frozen=True, slots=True)
class Constraint:
    """``param``: the field that asked. ``noun``: what the client would call it, in messages and error codes.
    ``degrades``: where it cannot be enforced, the answer may be checked after the fact."""

    spec: ConstraintSpec
    param: str
    noun: Literal["schema", "regex", "choice", "structural_tag", "grammar"]
    deprecated: bool = False
    degrades: bool = False


def constraint_of(fields: GenerationFields) -> Constraint | None:
    """The constraint asked for, or None. Raises `ApiError`."""
    asked = [*_response_format(fields), *_structured(fields), *_guided(fields)]
    if len(asked) > 1:
        names = " and ".join(f"'{constraint.param}'" for constraint in asked)
        raise invalid(f"Only one constraint can be asked for, not {names} together.", asked[1].param)
    return asked[0] if asked else None


def _response_format(fields: GenerationFields) -> list[Constraint]:
    match fields.response_format:
        case JsonObjectFormat():
            return [Constraint(JsonObjectSpec(), "response_format", "schema")]
        case JsonSchemaFormat(json_schema):
            if not _given(json_schema.schema):
                place = "response_format.json_schema.schema"
                raise invalid(f"Missing required parameter: '{place}'.", place, "missing_required_parameter")
            spec = JsonSchemaSpec(_text(json_schema.schema))
            return [Constraint(spec, "response_format", "schema", degrades=not json_schema.strict)]
        case StructuralTagFormat() as asked:
            given = {name: getattr(asked, name) for name in ("format", "structures", "triggers")}
            document = {"type": "structural_tag", **{name: raw for name, raw in given.items() if _given(raw)}}
            spec = StructuralTagSpec(msgspec.json.encode(document).decode())
            return [Constraint(spec, "response_format", "structural_tag")]
        case _:
            return []


def _structured(fields: GenerationFields) -> list[Constraint]:
    asked = fields.structured_outputs
    if asked is None:
        return []
    for name in _UNSUPPORTED:
        if getattr(asked, name) not in (None, False):
            param = f"structured_outputs.{name}"
            raise invalid(f"'{param}' is not supported.", param, "unsupported_parameter")
    whitespace = "compact" if asked.disable_any_whitespace else "bounded"
    kinds: list[Constraint] = []
    if _given(asked.json):
        spec = JsonSchemaSpec(_schema_text(asked.json, "structured_outputs.json"), whitespace=whitespace)
        kinds.append(Constraint(spec, "structured_outputs.json", "schema"))
    if asked.regex is not None:
        kinds.append(Constraint(RegexSpec(asked.regex), "structured_outputs.regex", "regex"))
    if asked.choice is not None:
        kinds.append(Constraint(ChoiceSpec(asked.choice), "structured_outputs.choice", "choice"))
    if asked.json_object:
        kinds.append(Constraint(JsonObjectSpec(whitespace), "structured_outputs.json_object", "schema"))
    if _given(asked.structural_tag):
        param = "structured_outputs.structural_tag"
        spec = StructuralTagSpec(_schema_text(asked.structural_tag, param))
        kinds.append(Constraint(spec, param, "structural_tag"))
    if asked.grammar is not None:
        spec = (asked.sluice or GrammarReading()).spec(asked.grammar)
        kinds.append(Constraint(spec, "structured_outputs.grammar", "grammar"))
    elif asked.sluice is not None:
        param = "structured_outputs.sluice"
        raise invalid(f"'{param}' says how a 'grammar' is read, and there is none.", param)
    if len(kinds) != 1:
        named = "json, regex, choice, json_object, structural_tag and grammar"
        message = f"'structured_outputs' takes exactly one of {named}"
        raise invalid(f"{message}; it has {len(kinds)}.", "structured_outputs")
    if asked.disable_any_whitespace and kinds[0].noun != "schema":
        param = "structured_outputs.disable_any_whitespace"
        raise invalid(f"'{param}' applies to JSON only.", param)
    return kinds


_UNSUPPORTED = ("whitespace_pattern", "disable_fallback", "disable_additional_properties")


def _guided(fields: GenerationFields) -> list[Constraint]:
    asked: list[Constraint] = []
    if _given(fields.guided_json):
        spec = JsonSchemaSpec(_schema_text(fields.guided_json, "guided_json"))
        asked.append(Constraint(spec, "guided_json", "schema", deprecated=True))
    if fields.guided_regex is not None:
        asked.append(Constraint(RegexSpec(fields.guided_regex), "guided_regex", "regex", deprecated=True))
    if fields.guided_choice is not None:
        asked.append(Constraint(ChoiceSpec(fields.guided_choice), "guided_choice", "choice", deprecated=True))
    if fields.guided_grammar is not None:
        asked.append(Constraint(LarkSpec(fields.guided_grammar), "guided_grammar", "grammar", deprecated=True))
    return asked


def _given(raw: Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


def _text(raw: Raw) -> str:
    return bytes(raw).decode()


def _schema_text(raw: Raw, param: str) -> str:
    """vLLM takes a schema as an object or as its text in a string."""
    if not bytes(raw).startswith(b'"'):
        return _text(raw)
    text = msgspec.json.decode(raw, type=str)
    if not text.strip():
        raise invalid(f"'{param}' is an empty string.", param)
    return text
