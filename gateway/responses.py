"""``POST /v1/responses``: from the request to what a provider is asked.

What is stored is the conversation: the items of a request, those of all requests and answers that it goes on from, and
those of the answer (`gateway.storing.keeping`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from litestar import Request
from msgspec import Raw

from gateway.access import record_of
from gateway.answer import Asked
from gateway.asking import request_of, thinks
from gateway.body import read_fields
from gateway.constraint import Constraint
from gateway.conversation import PART_SEPARATOR, decoded_arguments
from gateway.errors import ApiError, invalid
from gateway.extension import extending
from gateway.items import read_item
from gateway.models import find_model
from gateway.offer import Choosing, Place, arguments_schema, custom_tool, tools_of
from gateway.policy.asking import sent_by
from gateway.policy.lasting import lasting
from gateway.policy.merging import merged
from gateway.response_shape import ResponseShape
from gateway.storing.background import Background
from gateway.storing.conversation_store import MAX_ITEMS, ConversationStore, full, no_conversation
from gateway.storing.keeping import Keeping
from gateway.storing.kept_items import Said, identified, resolved, rules_of
from gateway.storing.response_store import ResponseStore
from providers.base import ANYBODY, Call, GenerateRequest, Message, Provider, Tool, Tools
from schemas.constraint import JsonObjectSpec, JsonSchemaSpec
from schemas.openai.messages import RefusalPart
from schemas.openai.responses import (
    INPUT_ITEMS,
    LOGPROBS,
    AllowedTools,
    CustomCallItem,
    CustomOutputItem,
    CustomTool,
    FunctionCallItem,
    FunctionOutputItem,
    FunctionTool,
    GrammarInput,
    InputText,
    JsonObjectFormat,
    JsonSchemaFormat,
    MessageItem,
    NamedCustom,
    NamedFunction,
    OutputText,
    ReasoningItem,
    ResponseRequest,
    ToolChoice,
)
from schemas.policy import Policy

NEUTRAL_INCLUDES = frozenset({"reasoning.encrypted_content"})
"""What there is nothing of."""

_decoder = msgspec.json.Decoder(ResponseRequest)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ResponseReader:
    """Reads requests; without a ``store`` nothing is kept, or made in the background. ``effective``: all policies that
    hold for a request, as one."""

    store: ResponseStore | None
    conversations: ConversationStore | None
    background: Background | None
    effective: Callable[[GenerateRequest], Policy]

    async def __call__(
        self, request: Request[Any, Any, Any], provider: Provider, *, tenant: str, id: str, created: int
    ) -> Asked:
        """Understand a request. Raises `ApiError`."""
        fields = await read_fields(request, _decoder, "responses")
        if fields.store and self.store is None:
            raise invalid("Unsupported parameter: 'store': nothing is stored here.", "store", "unsupported_parameter")
        if fields.background and (self.store is None or fields.store is False):
            reason = "it is stored" if self.store else "nothing is stored here"
            raise invalid(f"Unsupported parameter: 'background': {reason}.", "background", "unsupported_parameter")
        kept = self.store if fields.store is not False else None
        database = self.store.database if self.store else None
        own = await resolved(_items(fields.input), database, tenant, "input")
        earlier = await self._earlier(fields, tenant, len(own.items))
        shape = ResponseShape(fields, id, created, stored=kept is not None)
        asked = _asked(fields, provider, shape, earlier.items, own.items, id=id, tenant=tenant)
        rules = [earlier.rules, own.rules]
        asked = replace(asked, requests=[replace(one, policy=merged([one.policy, *rules])) for one in asked.requests])
        conversation = fields.conversation_ref.id if fields.conversation_ref else None
        if kept is None and conversation is None:
            return asked
        mine = sent_by(asked.requests[0], record_of(request.scope).caller, request.headers)
        return Keeping(
            shape,
            tenant,
            earlier.items,
            [identified(item, f"input[{i}]") for i, item in enumerate(own.items)],
            lasting(self.effective(mine)),
            kept,
            self.conversations,
            conversation,
            self.background if fields.background else None,
        ).laid_over(asked)

    async def _earlier(self, fields: ResponseRequest, tenant: str, own: int) -> Said:
        """What a request goes on from. ``own``: how many items it brings."""
        if fields.conversation_ref is not None:
            if fields.previous_response_id is not None:
                message = "'conversation' and 'previous_response_id' are two ways to go on: give one of them."
                raise invalid(message, "previous_response_id")
            return await self._conversation(fields.conversation_ref.id, tenant, own)
        id = fields.previous_response_id
        if id is None:
            return Said([], ANYBODY)
        found = await self.store.find(id, tenant) if self.store else None
        if found is None:
            message = f"Previous response with id '{id}' not found."
            raise ApiError(404, message, param="previous_response_id", code="previous_response_not_found")
        return Said(msgspec.json.decode(found.context, type=list[Raw]), rules_of([found.rules]))

    async def _conversation(self, id: str, tenant: str, own: int) -> Said:
        """What is in a conversation, which has room for ``own`` items more."""
        if self.conversations is None or await self.conversations.find(id, tenant) is None:
            raise no_conversation(id, "conversation")
        said = await self.conversations.said(id)
        if len(said.items) + own > MAX_ITEMS:
            raise full()
        return said


def _items(given: str | list[Raw]) -> list[Raw]:
    """A text is a message of the user."""
    return given if isinstance(given, list) else [Raw(_encode({"type": "message", "role": "user", "content": given}))]


def _asked(
    fields: ResponseRequest,
    provider: Provider,
    shape: ResponseShape,
    earlier: list[Raw],
    own: list[Raw],
    *,
    id: str,
    tenant: str,
) -> Asked:
    card = find_model(provider, fields.model)
    constraint = _constraint(fields)
    logprobs = _logprobs(fields)
    going_on = "conversation" if fields.conversation_ref else "previous_response_id"
    turns = _turns(fields.instructions, earlier, own, going_on)
    asked = request_of(fields, card, constraint, turns, fields.max_output_tokens, logprobs, id=id, tenant=tenant)
    asked = replace(asked, tools=_tools(fields), thinking=thinks(fields.reasoning.effort) if fields.reasoning else None)
    extend = extending(fields.sluice, constraint, scored=logprobs is not None)
    return Asked([asked], "input", constraint, shape, bool(fields.stream), _places(fields), extend)


def _constraint(fields: ResponseRequest) -> Constraint | None:
    match fields.text and fields.text.format:
        case JsonObjectFormat():
            return Constraint(JsonObjectSpec(), "text.format", "schema")
        case JsonSchemaFormat(schema=schema, strict=strict):
            spec = JsonSchemaSpec(bytes(schema).decode())
            return Constraint(spec, "text.format", "schema", degrades=strict is False)
        case _:
            return None


def _logprobs(fields: ResponseRequest) -> int | None:
    """How many candidates a token; None = no log-probabilities."""
    include = fields.include or []
    for i, name in enumerate(include):
        if name != LOGPROBS and name not in NEUTRAL_INCLUDES:
            raise invalid(f"Unsupported value of 'include[{i}]': '{name}'.", f"include[{i}]", "unsupported_parameter")
    if LOGPROBS in include:
        return fields.top_logprobs or 0
    if fields.top_logprobs:
        raise invalid(f"'top_logprobs' is allowed only together with '{LOGPROBS}' in 'include'.", "top_logprobs")
    return None


def _tools(fields: ResponseRequest) -> Tools | None:
    offered = [_tool(tool, place) for tool, place in zip(fields.tools or (), _places(fields), strict=True)]
    return tools_of(offered, _choosing(fields.tool_choice), fields.parallel_tool_calls is not False)


def _tool(tool: FunctionTool | CustomTool, place: Place) -> Tool:
    if isinstance(tool, CustomTool):
        grammar = tool.format if isinstance(tool.format, GrammarInput) else None
        return custom_tool(tool.name, tool.description, grammar, place)
    schema = arguments_schema(tool.parameters, place.param)
    return Tool(tool.name, schema, tool.description, degrades=tool.strict is False)


def _places(fields: ResponseRequest) -> tuple[Place, ...]:
    """Where the schema or the grammar of each tool comes in."""
    return tuple(_place(tool, f"tools[{i}]") for i, tool in enumerate(fields.tools or ()))


def _place(tool: FunctionTool | CustomTool, param: str) -> Place:
    if isinstance(tool, FunctionTool):
        return Place("schema", f"{param}.parameters")
    regex = isinstance(tool.format, GrammarInput) and tool.format.syntax == "regex"
    return Place("regex" if regex else "grammar", f"{param}.format.definition")


def _choosing(choice: ToolChoice | None) -> Choosing:
    match choice:
        case None:
            return Choosing("auto")
        case NamedFunction(name) | NamedCustom(name):
            return Choosing("one", [name], "tool_choice.name")
        case AllowedTools(mode, tools):
            return Choosing(mode, [tool.name for tool in tools], "tool_choice.tools")
        case mode:
            return Choosing(mode)


def _turns(instructions: str | None, earlier: list[Raw], own: list[Raw], going_on: str) -> tuple[Message, ...]:
    """The instructions of earlier requests are not among their items: each request has its own. ``going_on``: where the
    earlier items come from."""
    turns = [Message("system", instructions)] if instructions else []
    called: dict[str, str] = {}
    for i, raw in enumerate((*earlier, *own)):
        place = f"input[{i - len(earlier)}]" if i >= len(earlier) else going_on
        match read_item(raw, place, INPUT_ITEMS):
            case MessageItem("assistant", content):
                turns.append(replace(_thinking(turns), content=_text(content)))
            case MessageItem(role, content):
                turns.append(Message("system" if role == "developer" else role, _text(content)))
            case ReasoningItem(content=content):
                thoughts = PART_SEPARATOR.join(part.text for part in content or ())
                turns.append(Message("assistant", "", thoughts=thoughts))
            case FunctionCallItem() as item:
                called[item.call_id] = item.name
                arguments = decoded_arguments(item.arguments, f"{place}.arguments")
                _append_call(turns, Call(item.call_id, item.name, arguments))
            case CustomCallItem() as item:
                called[item.call_id] = item.name
                _append_call(turns, Call(item.call_id, item.name, {"input": item.input}))
            case FunctionOutputItem() | CustomOutputItem() as item:
                if item.call_id not in called:
                    param = f"{place}.call_id"
                    raise invalid(f"'{param}' is '{item.call_id}', and no item before it has that call_id.", param)
                turns.append(Message("tool", _text(item.output), called[item.call_id], call_id=item.call_id))
    return tuple(turns)


def _thinking(turns: list[Message]) -> Message:
    """The turn that has only been thought about so far, taken from ``turns``; else a new one."""
    begun = turns and turns[-1].role == "assistant" and turns[-1].thoughts
    return turns.pop() if begun and not (turns[-1].content or turns[-1].calls) else Message("assistant", "")


def _append_call(turns: list[Message], call: Call) -> None:
    """What one answer said and called is one turn."""
    said = turns.pop() if turns and turns[-1].role == "assistant" else Message("assistant", "")
    turns.append(replace(said, calls=(*said.calls, call)))


def _text(content: str | list[InputText | OutputText | RefusalPart] | list[InputText]) -> str:
    if isinstance(content, str):
        return content
    return PART_SEPARATOR.join(part.refusal if isinstance(part, RefusalPart) else part.text for part in content)
