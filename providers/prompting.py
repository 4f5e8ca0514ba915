"""From turns and tools to the token ids of a prompt, by the model's own chat template.

Templates that know tools are given them, calls and results as transformers gives them. For the others they become text:
the tools a part of the system message, calls a part of the assistant's turns, results turns of the user
(`providers.tool_formats`).

Special tokens come from the template alone. A caller who spells one in a message, a tool or an argument has written
text, and cannot end a turn or open another one with it: such names are kept from the template by marks, and encoded as
text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from typing import Any
from uuid import uuid4

from engine.model.chat_template import ChatTemplate
from engine.model.errors import ChatTemplateError
from engine.model.tokenizer import Tokenizer
from providers import custom_tools
from providers.base import Message, Tool
from providers.thinking import AFTER, CLOSE, SWITCH, Stage, stage_of
from providers.tool_formats import HERMES, MISTRAL, MISTRAL_ARGS, RESPONSE, ToolFormat, format_of, preamble

Turn = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt as text. What a caller spelled like a special token is one of ``names``, by the number behind a
    ``mark``. ``stage``: whether the model thinks before it answers."""

    text: str
    mark: str
    names: list[str]
    stage: Stage


class Prompter:
    """Writes one model's prompts. ``format``: how the model spells tool calls."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        with_tools = template.with_tools
        taught = format_of(with_tools.source) if "tools" in with_tools.variables else None
        self.format = taught or HERMES
        self._knows_tools = taught is not None
        self._tokenizer = tokenizer
        self._template = template
        longest_first = sorted(tokenizer.special_names, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def tokens(self, messages: Iterable[Message], tools: Iterable[Tool] = ()) -> list[int]:
        """Ids of the prompt. Raises `ChatTemplateError`."""
        return self.ids(self.draft(messages, tools))

    def beginning(self, first: Message) -> list[int]:
        """Ids with which every prompt begins whose first message this is, whatever is said next. Raises
        `ChatTemplateError`."""
        one, other = (self.tokens((first, Message("user", said))) for said in ("A", "1"))
        return [left for left, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]

    def around(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Ids before and after the end of what the last turn says, for an answer without thoughts. Raises
        `ChatTemplateError`."""
        mark, last = uuid4().hex, messages[-1]
        draft = self.draft((*messages[:-1], replace(last, content=last.content + mark)), thinking=False)
        if draft.text.count(mark) != 1:
            raise ChatTemplateError("the model's chat template does not write the last turn as it is")
        if draft.stage == "begun":
            draft = replace(draft, text=f"{draft.text}\n{CLOSE}{AFTER}")
        before, after = draft.text.split(mark)
        return self.ids(replace(draft, text=before)), self.ids(replace(draft, text=after))

    def draft(
        self,
        messages: Iterable[Message],
        tools: Iterable[Tool] = (),
        format: ToolFormat | None = None,
        thinking: bool | None = None,
    ) -> Draft:
        """``format``: if it is not the model's own, tools become text. ``thinking``: as of `GenerateRequest`, where the
        template can be told. Raises `ChatTemplateError`."""
        described = [_described(tool) for tool in tools]
        native = self._knows_tools and format in (None, self.format)
        told = list(messages if self.format.several else _one_by_one(messages))
        turns = list(map(_native, told)) if native else list(_plain(told, described))
        if self.format in (MISTRAL, MISTRAL_ARGS):
            turns = [_with_short_ids(turn) for turn in turns]
        mark = uuid4().hex
        names: list[str] = []

        def shielded(value: Any) -> Any:
            match value:
                case str():
                    return self._special.sub(lambda found: f"{mark}{_place(names, found[0])};", value)
                case list():
                    return [shielded(item) for item in value]
                case dict():
                    return {shielded(key): shielded(item) for key, item in value.items()}
                case _:
                    return value

        given = shielded(described) if described and native else None
        template = self._template if given is None else self._template.with_tools
        switch = {} if thinking is None else {SWITCH: thinking}
        text = template.render(shielded(turns), tools=given, variables=switch)
        return Draft(text, mark, names, stage_of(template.source, text))

    def ids(self, draft: Draft, begun: str = "") -> list[int]:
        """``begun``: text with which the answer has begun."""
        ids: list[int] = []
        for n, piece in enumerate(re.split(f"{draft.mark}([0-9]+);", draft.text + begun)):
            if n % 2:
                ids += self._tokenizer.encode(draft.names[int(piece)], special=False)
            elif piece:
                ids += self._tokenizer.encode(piece, special=True)
        return ids


def _native(message: Message) -> Turn:
    turn: Turn = {"role": message.role, "content": message.content}
    if message.thoughts:
        turn["reasoning_content"] = message.thoughts
    if message.name:
        turn["name"] = message.name
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    if message.calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    return turn


def _place(names: list[str], name: str) -> int:
    names.append(name)
    return len(names) - 1


def _described(tool: Tool) -> Turn:
    described = {"name": tool.name, "parameters": json.loads(tool.parameters)}
    if (description := custom_tools.described(tool)) is not None:
        described = {"name": tool.name, "description": description, "parameters": described["parameters"]}
    return {"type": "function", "function": described}


def _plain(messages: Iterable[Message], tools: list[dict[str, Any]]) -> Iterator[Turn]:
    """Turns for a template that knows system, user and assistant, and text."""
    turns = list(messages)
    if tools:
        system = turns.pop(0).content if turns and turns[0].role == "system" else ""
        yield {"role": "system", "content": f"{system}\n\n{preamble(tools)}".lstrip("\n")}
    # Templates want roles to alternate, so the results of several calls share a turn.
    for is_result, group in groupby(turns, lambda turn: turn.role == "tool"):
        if is_result:
            content = "\n".join(RESPONSE.format(result=turn.content) for turn in group)
            yield {"role": "user", "content": content}
            continue
        for turn in group:
            calls = HERMES.spell(*((call.name, call.arguments) for call in turn.calls))
            content = "\n".join(part for part in (turn.content, calls) if part)
            yield {"role": turn.role, "content": content} | ({"name": turn.name} if turn.name else {})


def _one_by_one(messages: Iterable[Message]) -> Iterator[Message]:
    """Calls that were made together, each as a turn of its own with its result: for templates that write one call a
    turn."""
    waiting: dict[str, Message] = {}
    for message in messages:
        if message.role == "tool" and message.call_id in waiting:
            yield waiting.pop(message.call_id)
            yield message
            continue
        yield from waiting.values()
        waiting = {}
        if len(message.calls) > 1:
            first, *others = message.calls
            waiting = {first.id: replace(message, calls=(first,))}
            waiting |= {call.id: Message("assistant", "", calls=(call,)) for call in others}
        else:
            yield message
    yield from waiting.values()


def _with_short_ids(turn: Turn) -> Turn:
    """Mistral's templates take ids of nine letters and digits only, so ids are replaced by digests of themselves."""
    if "tool_call_id" in turn:
        turn["tool_call_id"] = _short(turn["tool_call_id"])
    for call in turn.get("tool_calls", ()):
        call["id"] = _short(call["id"])
    return turn


def _short(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()[:9]
