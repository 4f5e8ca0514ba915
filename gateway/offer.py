"""Which tools a request offers and which of them may be called, whatever API it came by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET, Raw

from gateway.errors import invalid
from providers.base import Tool, Tools
from providers.custom_tools import PARAMETERS
from schemas.constraint import LarkSpec, RegexSpec
from schemas.openai.constraints import GrammarReading
from schemas.openai.responses import GrammarInput
from schemas.openai.tools import Definition

NO_ARGUMENTS = '{"type":"object","properties":{},"additionalProperties":false}'
_REF_STANDS_ALONE = ("draft-03", "draft-04", "draft-06", "draft-07")


class _Root(msgspec.Struct):
    """What is looked at of a schema before the compiler reads it."""

    type: object = UNSET
    ref: object = msgspec.field(default=UNSET, name="$ref")
    dialect: object = msgspec.field(default=UNSET, name="$schema")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the schema or the grammar of a tool came in (``param``), and what clients call it."""

    noun: str
    param: str


@dataclass(frozen=True, slots=True)
class Choosing:
    """Which of the offered tools may be called. ``names``: None = all of them. ``mode`` "one": exactly one call."""

    mode: Literal["none", "auto", "required", "one"]
    names: Sequence[str] | None = None
    param: str = "tool_choice"


def tools_of(offered: Sequence[Tool], choosing: Choosing, parallel: bool) -> Tools | None:
    """None where nothing can be called: the model is not told of tools then. Raises `ApiError`."""
    known = [tool.name for tool in offered]
    for i, name in enumerate(known):
        if name in known[:i]:
            raise invalid(f"Two tools have the name '{name}'.", "tools")
    for name in choosing.names or ():
        if name not in known:
            raise invalid(f"'{choosing.param}' names '{name}', which is not in 'tools'.", choosing.param)
    if choosing.mode in ("required", "one") and not offered:
        raise invalid(f"'{choosing.param}' wants a call, and there are no 'tools'.", choosing.param)
    if choosing.mode == "none" or not offered:
        return None
    one = choosing.mode == "one"
    callable = tuple(known if choosing.names is None else dict.fromkeys(choosing.names))
    return Tools(tuple(offered), callable, required=choosing.mode != "auto", parallel=parallel and not one)


def custom_tool(name: str, description: str | None, grammar: Definition | GrammarInput | None, place: Place) -> Tool:
    """A tool whose argument is a text, of a grammar or any. Raises `ApiError`."""
    asked: RegexSpec | LarkSpec | None = None
    if grammar is not None and grammar.syntax == "lark":
        asked = (grammar.sluice or GrammarReading()).spec(grammar.definition)
    elif grammar is not None:
        if grammar.sluice is not None:
            param = f"{place.param.removesuffix('definition')}sluice"
            raise invalid(f"'{param}' says how a Lark grammar is read, not a regular expression.", param)
        asked = RegexSpec(grammar.definition)
    return Tool(name, PARAMETERS, description, custom=True, grammar=asked)


def arguments_schema(parameters: Raw, param: str) -> str:
    """The schema of a function's arguments as text, which admits objects only. Raises `ApiError`."""
    text = bytes(parameters).decode()
    if text in ("", "null"):
        return NO_ARGUMENTS
    if not text.startswith("{"):
        raise invalid(f"'{param}' is not a JSON object.", param, "invalid_schema")
    schema = msgspec.json.decode(parameters, type=_Root)
    if schema.type == "object":
        return text
    if schema.type is not UNSET:
        raise invalid(f'\'{param}\' must have "type": "object", as arguments are an object.', param, "invalid_schema")
    if schema.ref is not UNSET and any(draft in str(schema.dialect) for draft in _REF_STANDS_ALONE):
        message = f'\'{param}\' is a $ref, beside which its draft knows no "type": put the $ref into an "allOf"'
        raise invalid(f'{message}, beside "type": "object".', param, "invalid_schema")
    rest = text[1:].lstrip()
    return '{"type":"object"' + ("" if rest == "}" else ",") + rest
