"""``POST /v1/messages`` and ``/v1/messages/count_tokens``: Anthropic's API in front of the same providers.

``max_tokens`` beyond the context is no error here: the answer then ends with `model_context_window_exceeded`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
from litestar import Request

from gateway.answer import Asked
from gateway.asking import request_of
from gateway.body import read_fields
from gateway.constraint import Constraint
from gateway.conversation import PART_SEPARATOR
from gateway.errors import from_provider, invalid
from gateway.extension import extending
from gateway.message_shape import MessageShape
from gateway.models import find_model
from gateway.offer import Choosing, Place, arguments_schema, tools_of
from providers.base import Call, Message, Provider, ProviderError, Tool, Tools
from schemas.anthropic.answer import TokenCount
from schemas.anthropic.messages import (
    AnyChoice,
    AssistantMessage,
    CountRequest,
    MessageRequest,
    NoChoice,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from schemas.constraint import JsonSchemaSpec
from schemas.openai.generation import SamplingFields

TOOL_FIELD = "tools[{}].input_schema"

_messages = msgspec.json.Decoder(MessageRequest)
_counts = msgspec.json.Decoder(CountRequest)
_encode = msgspec.json.Encoder().encode


async def read_message(
    request: Request[Any, Any, Any], provider: Provider, *, tenant: str, id: str, created: int
) -> Asked:
    """Understand a request. Raises `ApiError`."""
    fields = await read_fields(request, _messages, "messages")
    card = find_model(provider, fields.model)
    constraint = _constraint(fields)
    sampling = SamplingFields(
        model=fields.model,
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=fields.top_k,
        stop=fields.stop_sequences,
        sluice=fields.sluice,
    )
    turns = tuple(_turns(fields))
    asked = request_of(sampling, card, constraint, turns, fields.max_tokens, None, id=id, tenant=tenant)
    asked = replace(asked, tools=_tools(fields), clip=True, thinking=False if fields.thinking else None)
    shape = MessageShape(fields.model, id, fields.max_tokens)
    places = tuple(Place("schema", TOOL_FIELD.format(i)) for i in range(len(fields.tools or ())))
    extend = extending(fields.sluice, constraint, scored=False)
    return Asked([asked], "messages", constraint, shape, bool(fields.stream), places, extend)


async def count_tokens(request: Request[Any, Any, Any], provider: Provider) -> bytes:
    """How long the prompt of a request is. Raises `ApiError`."""
    fields = await read_fields(request, _counts, "count_tokens")
    find_model(provider, fields.model)
    tools = _tools(fields)
    try:
        ids = provider.tokenize(fields.model, tuple(_turns(fields)), tools.offered if tools else ())
    except ProviderError as error:
        raise from_provider(error, None, "messages") from error
    return _encode(TokenCount(len(ids)))


def _constraint(fields: CountRequest) -> Constraint | None:
    newer = fields.output_config.format if fields.output_config else None
    if newer is not None and fields.output_format is not None:
        raise invalid("'output_format' and 'output_config.format' are two names of one thing.", "output_format")
    asked = newer or fields.output_format
    if asked is None:
        return None
    param = "output_config.format.schema" if newer else "output_format.schema"
    return Constraint(JsonSchemaSpec(bytes(asked.schema).decode()), param, "schema", deprecated=newer is None)


def _tools(fields: CountRequest) -> Tools | None:
    offered = [
        Tool(
            tool.name,
            arguments_schema(tool.input_schema, TOOL_FIELD.format(i)),
            tool.description,
            degrades=not tool.strict,
        )
        for i, tool in enumerate(fields.tools or ())
    ]
    choice = fields.tool_choice
    match choice:
        case ToolChoice(name):
            choosing = Choosing("one", [name], "tool_choice.name")
        case AnyChoice():
            choosing = Choosing("required")
        case NoChoice():
            return tools_of(offered, Choosing("none"), True)
        case _:
            choosing = Choosing("auto")
    return tools_of(offered, choosing, not (choice and choice.disable_parallel_tool_use))


def _turns(fields: CountRequest) -> Iterator[Message]:
    if fields.system:
        yield Message("system", _text(fields.system))
    if isinstance(fields.messages[-1], AssistantMessage):
        place = f"messages[{len(fields.messages) - 1}]"
        raise invalid(f"'{place}' is the assistant's: an answer cannot be begun for the model.", place)
    called: dict[str, str] = {}
    for i, message in enumerate(fields.messages):
        match message:
            case SystemMessage(content):
                yield Message("system", _text(content))
            case AssistantMessage(content):
                yield _assistant(content, called)
            case UserMessage(content):
                yield from _user(content, f"messages[{i}].content", called)


def _assistant(content: str | list[Any], called: dict[str, str]) -> Message:
    if isinstance(content, str):
        return Message("assistant", content)
    texts = [block for block in content if isinstance(block, TextBlock)]
    calls = tuple(Call(block.id, block.name, block.input) for block in content if isinstance(block, ToolUseBlock))
    called.update({call.id: call.name for call in calls})
    thoughts = PART_SEPARATOR.join(block.thinking for block in content if isinstance(block, ThinkingBlock))
    return Message("assistant", _text(texts), calls=calls, thoughts=thoughts)


def _user(content: str | list[TextBlock | ToolResultBlock], place: str, called: dict[str, str]) -> Iterator[Message]:
    """The results of calls, each a turn of its tool, then what the user says beside them."""
    if isinstance(content, str):
        yield Message("user", content)
        return
    for i, block in enumerate(content):
        if not isinstance(block, ToolResultBlock):
            continue
        if block.tool_use_id not in called:
            param = f"{place}[{i}].tool_use_id"
            raise invalid(f"'{param}' is '{block.tool_use_id}', and no message before it has such a call.", param)
        # Chat templates have no place for a failure but the words.
        told = ("Error: " if block.is_error else "") + _text(block.content or "")
        yield Message("tool", told, called[block.tool_use_id], call_id=block.tool_use_id)
    texts = [block for block in content if isinstance(block, TextBlock)]
    if texts or not content:
        yield Message("user", _text(texts))


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else PART_SEPARATOR.join(block.text for block in content)
