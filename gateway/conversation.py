"""Chat messages as turns for a provider."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.errors import invalid
from providers.base import Call, Message
from schemas.openai.messages import AssistantMessage, ChatMessage, RefusalPart, TextPart, ToolMessage, UserMessage
from schemas.openai.tools import CustomCall, FunctionCall

PART_SEPARATOR = "\n"
"""Between the text parts of a message, as vLLM joins them for templates that take strings."""


def turns_of(messages: list[ChatMessage], param: str = "messages") -> tuple[Message, ...]:
    """Raises `ApiError`. ``param``: the field they came in."""
    called: dict[str, str] = {}
    return tuple(_turn(message, f"{param}[{i}]", called) for i, message in enumerate(messages))


def decoded_arguments(text: str, param: str) -> dict[str, Any]:
    """The arguments of an earlier call. Raises `ApiError` where they are no JSON object."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise invalid(f"'{param}' is not the text of a JSON object.", param) from None


def _turn(message: ChatMessage, place: str, called: dict[str, str]) -> Message:
    """``called``: id → function of the calls so far."""
    match message:
        case AssistantMessage():
            return _assistant(message, place, called)
        case ToolMessage(content, call_id, name):
            if call_id not in called:
                param = f"{place}.tool_call_id"
                raise invalid(f"'{param}' is '{call_id}', and no message before it has a call of that id.", param)
            return Message("tool", _text(content), name or called[call_id], call_id=call_id)
        case UserMessage(content, name):
            return Message("user", _text(content), name)
        case _:
            return Message("system", _text(message.content), message.name)


def _assistant(message: AssistantMessage, place: str, called: dict[str, str]) -> Message:
    for name in ("function_call", "audio", "annotations"):
        if getattr(message, name) not in (None, []):
            param = f"{place}.{name}"
            raise invalid(f"Unsupported parameter: '{param}'.", param, "unsupported_parameter")
    calls = tuple(_call(call, f"{place}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ()))
    called.update({call.id: call.name for call in calls})
    content = message.content if message.content is not None else message.refusal
    if content is None and not calls:
        raise invalid(f"'{place}' has no content.", f"{place}.content")
    thoughts = message.reasoning_content or message.reasoning or ""
    return Message("assistant", _text(content or ""), message.name, calls, thoughts=thoughts)


def _call(call: FunctionCall | CustomCall, place: str) -> Call:
    if isinstance(call, CustomCall):
        return Call(call.id, call.custom.name, {"input": call.custom.input})
    arguments = decoded_arguments(call.function.arguments, f"{place}.function.arguments")
    return Call(call.id, call.function.name, arguments)


def _text(content: str | list[TextPart] | list[TextPart | RefusalPart]) -> str:
    if isinstance(content, str):
        return content
    return PART_SEPARATOR.join(part.text if isinstance(part, TextPart) else part.refusal for part in content)
