"""Tools as chat completions have them: what is offered, what must be chosen, and the calls of an answer.

The schema of a function's arguments stays raw JSON text on its way to the compiler, as in `schemas.openai.constraints`.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, field

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


class CustomTool(msgspec.Struct, tag_field="type", tag="custom", forbid_unknown_fields=True):
    custom: object


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


class CustomCall(msgspec.Struct, tag_field="type", tag="custom", forbid_unknown_fields=True):
    id: str
    custom: object


class AnsweredFunction(msgspec.Struct):
    name: str
    arguments: str


class AnsweredCall(msgspec.Struct):
    id: str
    function: AnsweredFunction
    type: Literal["function"] = "function"


class FunctionDelta(msgspec.Struct, omit_defaults=True):
    arguments: str
    name: str | None = None


class CallDelta(msgspec.Struct, omit_defaults=True):
    """The first delta of a call has everything and empty arguments, the others have ``index`` and arguments."""

    index: int
    function: FunctionDelta
    id: str | None = None
    type: str | None = None
