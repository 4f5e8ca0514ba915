"""The tools of a chat completion, and its choice among them."""

from __future__ import annotations

from gateway.offer import Choosing, Place, arguments_schema, custom_tool, tools_of
from providers.base import Tool, Tools
from schemas.openai.chat import ChatRequest
from schemas.openai.tools import (
    AllowedChoice,
    ChatTool,
    CustomTool,
    GrammarInput,
    NamedCustom,
    NamedFunction,
    ToolChoice,
)


def chat_tools(fields: ChatRequest) -> Tools | None:
    """Raises `ApiError`."""
    return tools_of(
        offered_tools(fields.tools or []), _choosing(fields.tool_choice), fields.parallel_tool_calls is not False
    )


def offered_tools(tools: list[ChatTool]) -> list[Tool]:
    """Raises `ApiError`."""
    return [_tool(tool, place) for tool, place in zip(tools, tool_places(tools), strict=True)]


def tool_places(tools: list[ChatTool]) -> tuple[Place, ...]:
    """Where the schema or the grammar of each comes in."""
    return tuple(
        Place(_syntax(tool), f"tools[{i}].custom.format.grammar.definition")
        if isinstance(tool, CustomTool)
        else Place("schema", f"tools[{i}].function.parameters")
        for i, tool in enumerate(tools)
    )


def _tool(tool: ChatTool, place: Place) -> Tool:
    if isinstance(tool, CustomTool):
        custom = tool.custom
        format = custom.format.grammar if isinstance(custom.format, GrammarInput) else None
        return custom_tool(custom.name, custom.description, format, place)
    function = tool.function
    schema = arguments_schema(function.parameters, place.param)
    return Tool(function.name, schema, function.description, degrades=not function.strict)


def _syntax(tool: CustomTool) -> str:
    format = tool.custom.format
    return "regex" if isinstance(format, GrammarInput) and format.grammar.syntax == "regex" else "grammar"


def _choosing(choice: ToolChoice | None) -> Choosing:
    match choice:
        case None:
            return Choosing("auto")
        case NamedFunction(named):
            return Choosing("one", [named.name], "tool_choice.function.name")
        case NamedCustom(named):
            return Choosing("one", [named.name], "tool_choice.custom.name")
        case AllowedChoice(allowed):
            return Choosing(allowed.mode, [_name(named) for named in allowed.tools], "tool_choice.allowed_tools.tools")
        case mode:
            return Choosing(mode)


def _name(named: NamedFunction | NamedCustom) -> str:
    return named.custom.name if isinstance(named, NamedCustom) else named.function.name
