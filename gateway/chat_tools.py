"""The tools of a chat completion, and its choice among them."""

from __future__ import annotations

from gateway.errors import ApiError, invalid
from gateway.offer import Choosing, arguments_schema, tools_of
from providers.base import Tool, Tools
from schemas.openai.chat import ChatRequest
from schemas.openai.tools import (
    AllowedChoice,
    ChatTool,
    CustomTool,
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
    return [_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]


def _tool(tool: ChatTool, place: str) -> Tool:
    if isinstance(tool, CustomTool):
        raise unsupported(f"{place}.type", "custom tools are not served yet")
    function = tool.function
    schema = arguments_schema(function.parameters, f"{place}.function.parameters")
    return Tool(function.name, schema, function.description)


def _choosing(choice: ToolChoice | None) -> Choosing:
    match choice:
        case None:
            return Choosing("auto")
        case NamedFunction(function):
            return Choosing("one", [function.name], "tool_choice.function.name")
        case AllowedChoice(allowed):
            param = "tool_choice.allowed_tools.tools"
            names = [_function(named, f"{param}[{i}]") for i, named in enumerate(allowed.tools)]
            return Choosing(allowed.mode, names, param)
        case NamedCustom():
            raise unsupported("tool_choice.type", "custom tools are not served yet")
        case mode:
            return Choosing(mode)


def _function(named: NamedFunction | NamedCustom, place: str) -> str:
    if isinstance(named, NamedCustom):
        raise unsupported(f"{place}.type", "custom tools are not served yet")
    return named.function.name


def unsupported(param: str, why: str) -> ApiError:
    return invalid(f"Unsupported parameter: '{param}': {why}.", param, "unsupported_parameter")
