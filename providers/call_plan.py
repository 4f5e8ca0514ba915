"""How a request with tools is put to an engine that knows text and constraints only.

    one function must be called   the prompt ends with the beginning of the call; the answer is its arguments
    some function must be         calls
    one may be                    text, in which no call can begin; then calls, or none
    one may be, or else JSON      calls | the JSON

All but the first are structural tags (grammar/structural): a tag for each function, whose content is its arguments; so
is the first where the argument is a text of a grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from providers.base import ProviderError, Tool, Tools
from providers.custom_tools import input_format
from providers.tool_formats import HERMES, ToolFormat
from schemas.constraint import (
    ChoiceSpec,
    ConstraintSpec,
    JsonObjectSpec,
    JsonSchemaSpec,
    LarkSpec,
    RegexSpec,
    StructuralTagSpec,
)

_IN_A_TAG = re.compile(
    r"/format(?:/elements/1|/content)*/tags/(?P<tag>\d+)/content"
    r"(?:/json_schema|/elements/1/content/(?:pattern|grammar))(?P<rest>.*)",
    re.DOTALL,
)
_IN_THE_ANSWER = re.compile(r"/format/elements/0(?:/json_schema|/pattern)?(?P<rest>.*)", re.DOTALL)
_FAULTS = frozenset(
    {"invalid_constraint", "unsupported_constraint", "unsatisfiable_constraint", "constraint_too_large"}
)


@dataclass(frozen=True, slots=True)
class Plan:
    """``format``: how calls are spelled. ``begun``: what the prompt ends with, the beginning of a call of ``call``.
    ``numbers``: of the callable tools, in `Tools.offered`. ``beside``: another constraint stands beside the calls."""

    format: ToolFormat
    constraint: ConstraintSpec
    numbers: tuple[int, ...]
    beside: bool = False
    begun: str = ""
    call: str | None = None

    def blame(self, error: ProviderError) -> ProviderError:
        """The engine's refusal of the constraint, told of what the caller wrote: a tool's schema, or the constraint
        beside the tools."""
        if error.kind not in _FAULTS:
            return error
        if self.call is not None:
            # The pointer leads into the schema; into a grammar the message has line and column.
            pointer = error.pointer if isinstance(self.constraint, JsonSchemaSpec) else ""
            return ProviderError(error.kind, error.message, pointer=pointer, tool=self.numbers[0])
        if found := _IN_A_TAG.fullmatch(error.pointer):
            number = self.numbers[int(found["tag"])]
            return ProviderError(error.kind, error.message, pointer=found["rest"], tool=number)
        if found := _IN_THE_ANSWER.fullmatch(error.pointer):
            return ProviderError(error.kind, error.message, pointer=found["rest"])
        return ProviderError(error.kind, error.message, tool=None if self.beside else self.numbers[0])


def plan_calls(
    tools: Tools, format: ToolFormat, constraint: ConstraintSpec | None, *, begin_in_prompt: bool = True
) -> Plan:
    """``constraint``: of an answer that is no call. ``begin_in_prompt``: the prompt may hold the beginning of the call
    that must come, since nothing comes before it. Raises `ProviderError`."""
    callable = [(i, tool) for i, tool in enumerate(tools.offered) if tool.name in tools.callable]
    numbers = tuple(i for i, _ in callable)
    several = tools.parallel and format.several
    if begin_in_prompt and tools.required and len(callable) == 1 and not several:
        tool = callable[0][1]
        schema = JsonSchemaSpec(tool.enforced or tool.parameters)
        arguments = schema if tool.grammar is None else _structural(_arguments(tool))
        return Plan(format, arguments, numbers, begun=format.open(tool.name), call=tool.name)
    if constraint is not None and not tools.required and format.trigger.startswith("{"):
        # JSON and calls that are JSON could not be told apart.
        format = HERMES
    beside = constraint is not None and not tools.required
    must = tools.required or beside
    calls = _calls([_tag(tool, format) for _, tool in callable], format, must, tools.parallel and format.several)
    if tools.required:
        form: Any = calls
    elif constraint is None:
        text = {"type": "any_text", "excludes": [format.trigger]}
        form = {"type": "sequence", "elements": [text, calls]}
    else:
        form = {"type": "or", "elements": [form_of(constraint), calls]}
    return Plan(format, _structural(form), numbers, beside)


def _calls(tags: list[dict[str, Any]], format: ToolFormat, must: bool, several: bool) -> dict[str, Any]:
    """``must``: at least one; ``several``: more than one."""
    bare = format.openings == ("",)
    calls = {
        "type": "tags_with_separator",
        "tags": tags,
        "separator": format.separator,
        "at_least_one": must or not bare,
        "stop_after_first": not several,
    }
    if bare:
        return calls
    openings = [{"type": "const_string", "value": opening} for opening in format.openings]
    closing = {"type": "const_string", "value": format.closing}
    enclosed = {"type": "sequence", "elements": [{"type": "or", "elements": openings}, calls, closing]}
    return enclosed if must else {"type": "optional", "content": enclosed}


def _structural(form: Any) -> StructuralTagSpec:
    return StructuralTagSpec(msgspec.json.encode({"type": "structural_tag", "format": form}).decode())


def _tag(tool: Tool, format: ToolFormat) -> dict[str, Any]:
    return {"type": "tag", "begin": format.begin(tool.name), "content": _arguments(tool), "end": format.tail}


def _arguments(tool: Tool) -> dict[str, Any]:
    if tool.grammar is not None:
        return input_format(tool.grammar)
    return {"type": "json_schema", "json_schema": Raw((tool.enforced or tool.parameters).encode())}


def form_of(constraint: ConstraintSpec) -> Any:
    """A constraint as a format of structural tags. Raises `ProviderError` where it has none."""
    match constraint:
        case JsonSchemaSpec() | JsonObjectSpec() if constraint.whitespace != "bounded":
            raise ProviderError("invalid_request", "JSON without white space cannot be asked for beside tools.")
        case JsonSchemaSpec(schema):
            return {"type": "json_schema", "json_schema": Raw(schema.encode())}
        case JsonObjectSpec():
            return {"type": "json_schema", "json_schema": {"type": "object"}}
        case RegexSpec(pattern):
            return {"type": "regex", "pattern": pattern}
        case ChoiceSpec(choices):
            return {"type": "or", "elements": [{"type": "const_string", "value": choice} for choice in choices]}
        case LarkSpec():
            raise ProviderError("invalid_request", "A grammar cannot be asked for beside tools.")
        case StructuralTagSpec(document):
            found = msgspec.json.decode(document, type=dict[str, Raw])
            if "format" not in found:
                message = "A structural tag beside tools needs a 'format'; its older form cannot be combined."
                raise ProviderError("invalid_request", message)
            return found["format"]
