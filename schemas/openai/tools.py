"""Tools as chat completions have them: what is offered, what must be chosen, and the calls of an answer.

The schema of a function's arguments stays raw JSON text on its way to the compiler, as in `schemas.openai.constraints`.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, field

from schemas.openai.constraints import GrammarReading

MAX_TOOLS = 128

ToolName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Function(msgspec.Struct, forbid_unknown_fields=True):
    """Without ``parameters`` the function takes none. ``strict`` says what becomes of a schema that cannot be enforced;
    what can be is enforced in either case."""

    name: ToolName
    description: str | None = None
    parameters: Raw = field(default_factory=partial(Raw, b"null"))
    strict: bool | None = None


class FunctionTool(msgspec.Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    function: Function


class TextInput(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Any text."""


class Definition(msgspec.Struct, forbid_unknown_fields=True):
    """``syntax`` "lark" is read as docs/lark.md and ``sluice`` say, "regex" as Python's `re`, over the whole input."""

    syntax: Literal["lark", "regex"]
    definition: str
    sluice: GrammarReading | None = None


class GrammarInput(msgspec.Struct, tag_field="type", tag="grammar", forbid_unknown_fields=True):
    grammar: Definition


class Custom(msgspec.Struct, forbid_unknown_fields=True):
    """A tool whose argument is a text."""

    name: ToolName
    description: str | None = None
    format: TextInput | GrammarInput | None = None


class CustomTool(msgspec.Struct, tag_field="type", tag="custom", forbid_unknown_fields=True):
    custom: Custom


ChatTool = FunctionTool | CustomTool
ChatTools = Annotated[list[ChatTool], Meta(max_length=MAX_TOOLS)]


class Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class NamedFunction(msgspec.Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    function: Named


class NamedCustom(msgspec.Struct, tag_field="type", tag="custom", forbid_unknown_fields=True):
    custom: Named


class AllowedTools(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction | NamedCustom], Meta(min_length=1)]


class AllowedChoice(msgspec.Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | NamedFunction | NamedCustom | AllowedChoice


class CalledFunction(msgspec.Struct, forbid_unknown_fields=True):
    """``arguments``: JSON text. ``parsed_arguments`` is what OpenAI's SDK adds when it parses; it says nothing new."""

    name: str
    arguments: str
    parsed_arguments: object = None


class FunctionCall(msgspec.Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A call, in an answer or in a message that was an answer. ``index`` is what streams have and clients send back."""

    id: str
    function: CalledFunction
    index: int | None = None


class CalledCustom(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    input: str


class CustomCall(msgspec.Struct, tag_field="type", tag="custom", forbid_unknown_fields=True):
    id: str
    custom: CalledCustom
    index: int | None = None


class AnsweredFunction(msgspec.Struct):
    name: str
    arguments: str


class AnsweredCall(msgspec.Struct, tag_field="type", tag="function"):
    id: str
    function: AnsweredFunction


class AnsweredCustomCall(msgspec.Struct, tag_field="type", tag="custom"):
    id: str
    custom: CalledCustom


class FunctionDelta(msgspec.Struct, omit_defaults=True):
    arguments: str
    name: str | None = None


class CustomDelta(msgspec.Struct, omit_defaults=True):
    input: str
    name: str | None = None


class CallDelta(msgspec.Struct, omit_defaults=True):
    """The first delta of a call has everything and empty arguments, the others have ``index`` and arguments; of a
    custom tool ``custom`` stands for ``function``."""

    index: int
    function: FunctionDelta | None = None
    id: str | None = None
    type: str | None = None
    custom: CustomDelta | None = None
