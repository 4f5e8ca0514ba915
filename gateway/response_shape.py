"""The answers of ``POST /v1/responses``. An answer is a list of items, and a stream tells of each of them in full:

    created · in_progress · (item.added · (text: part.added · delta* · text.done · part.done
                                          | thoughts: part.added · delta* · text.done · part.done
                                          | call: arguments.delta* · arguments.done
                                          | custom call: input.delta* · input.done) · item.done)* · completed

Every event counts, from 0, and an item has one id throughout. What a plain answer holds is what the last event of a
stream holds.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Raw

from gateway.answer import Called, Choice, Said, sent
from gateway.chat import call_id
from gateway.errors import ApiError
from gateway.tokens import chat_logprobs
from providers.base import Admission, CallBegun, CallDelta, Delta, Finished, Spoken, Thought, Usage
from schemas.openai import response_events as wire
from schemas.openai.responses import ResponseRequest

_encode = msgspec.json.Encoder().encode


class ResponseShape:
    """`gateway.answer.Shape` of Responses, which have one choice. ``stored``: it can be asked for again."""

    def __init__(self, fields: ResponseRequest, id: str, created: int, stored: bool) -> None:
        self._response = wire.Response(
            id=id,
            created_at=created,
            model=fields.model,
            status="in_progress",
            output=[],
            instructions=fields.instructions,
            metadata=fields.metadata or {},
            parallel_tool_calls=fields.parallel_tool_calls is not False,
            temperature=1.0 if fields.temperature is None else fields.temperature,
            top_p=1.0 if fields.top_p is None else fields.top_p,
            tool_choice=Raw(_encode(fields.tool_choice or "auto")),
            tools=Raw(_encode(fields.tools or [])),
            text=Raw(_encode(fields.text) if fields.text and fields.text.format else b'{"format":{"type":"text"}}'),
            max_output_tokens=fields.max_output_tokens,
            max_tool_calls=fields.max_tool_calls,
            top_logprobs=fields.top_logprobs or 0,
            prompt_cache_key=fields.prompt_cache_key,
            safety_identifier=fields.safety_identifier,
            user=fields.user,
            store=stored,
            background=bool(fields.background),
            previous_response_id=fields.previous_response_id,
            reasoning=wire.Reasoning(fields.reasoning.effort if fields.reasoning else None),
            conversation=fields.conversation_ref,
        )
        self.ended = False
        """The last event of a stream is told."""
        self._events = 0

    @property
    def response(self) -> wire.Response:
        """What was answered, once it is."""
        return self._response

    @property
    def _output(self) -> list[wire.OutputItem]:
        return self._response.output

    def opening(self, choices: int, admission: Admission) -> bytes:
        begun = self._event("response.created", response=self._response)
        return begun + self._event("response.in_progress", response=self._response)

    def spoken(self, event: Spoken) -> bytes:
        match event:
            case Thought(text=text):
                return self._think(text)
            case Delta(text=text, tokens=tokens):
                out = b""
                item = self._output[-1] if self._output else None
                if not isinstance(item, wire.MessageItem):
                    out = self._end("completed")
                    item = _message()
                    out += self._begin(item) + self._part("added", wire.OutputText())
                    item.content.append(wire.OutputText())
                scored = chat_logprobs(tokens).content
                part = item.content[0]
                part.text += text
                part.logprobs = [*part.logprobs, *scored]
                return out + self._event("response.output_text.delta", **self._place(), delta=text, logprobs=scored)
            case CallBegun(name=name, custom=custom):
                out = self._end("completed")
                return out + self._begin(_call(name, "", "in_progress", custom))
            case CallDelta(arguments=arguments):
                item = self._output[-1]
                assert not isinstance(item, wire.MessageItem | wire.ReasoningItem)
                if isinstance(item, wire.CustomCallItem):
                    item.input += arguments
                else:
                    item.arguments += arguments
                return self._event(f"{_streams(item)}.delta", **self._item(), delta=arguments)

    def finish(self, event: Finished) -> bytes:
        # An empty answer is an empty message; thoughts that were cut are no answer.
        answered = self._output and not (event.reason == "stop" and isinstance(self._output[-1], wire.ReasoningItem))
        out = b"" if answered else self.spoken(Delta(0, ""))
        self._conclude(event.reason)
        return out + self._end("incomplete" if event.reason == "length" else "completed")

    def closing(self, usage: Usage) -> bytes:
        self.ended = True
        self._account(usage)
        return self._event(f"response.{self._response.status}", response=self._response)

    def failure(self, error: ApiError) -> bytes:
        self.ended = True
        self._response.status = "failed"
        self._response.error = wire.ResponseError(error.message)
        return self._event("response.failed", response=self._response)

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        (choice,) = choices
        if choice.thoughts:
            status: wire.Status = "completed" if choice.parts or choice.reason == "stop" else "incomplete"
            self._output.append(wire.ReasoningItem(_id("rs"), [wire.ReasoningText(choice.thoughts)], status))
        for part, whole in choice.told():
            status: wire.Status = "completed" if whole else "incomplete"
            match part:
                case Said(text, tokens):
                    item = _message(status)
                    item.content.append(wire.OutputText(text, logprobs=chat_logprobs(tokens).content))
                    self._output.append(item)
                case Called(name, arguments, custom):
                    self._output.append(_call(name, arguments, status, custom))
        if not self._output or (not choice.parts and choice.reason == "stop"):
            self._output.append(wire.MessageItem(_id("msg"), [wire.OutputText()], "completed"))
        self._conclude(choice.reason)
        self._account(usage)
        return _encode(self._response)

    def _think(self, text: str) -> bytes:
        out = b""
        item = self._output[-1] if self._output else None
        if not isinstance(item, wire.ReasoningItem):
            item = wire.ReasoningItem(_id("rs"), [], "in_progress")
            out = self._begin(item) + self._part("added", wire.ReasoningText())
            item.content.append(wire.ReasoningText())
        item.content[0].text += text
        return out + self._event("response.reasoning_text.delta", **self._place(), delta=text)

    # -- items and events ----------------------------------------------------------------------------------------------

    def _begin(self, item: wire.OutputItem) -> bytes:
        self._output.append(item)
        return self._event("response.output_item.added", output_index=len(self._output) - 1, item=item)

    def _end(self, status: wire.Status) -> bytes:
        """The end of the item under way, if there is one."""
        if not self._output:
            return b""
        item = self._output[-1]
        item.status = status
        match item:
            case wire.MessageItem():
                part = item.content[0]
                place = self._place()
                out = self._event("response.output_text.done", **place, text=part.text, logprobs=part.logprobs)
                out += self._part("done", part)
            case wire.ReasoningItem():
                thoughts = item.content[0]
                out = self._event("response.reasoning_text.done", **self._place(), text=thoughts.text)
                out += self._part("done", thoughts)
            case wire.FunctionCallItem(arguments=arguments):
                out = self._event(f"{_streams(item)}.done", **self._item(), arguments=arguments)
            case wire.CustomCallItem(input=text):
                out = self._event(f"{_streams(item)}.done", **self._item(), input=text)
        return out + self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _part(self, what: str, part: wire.OutputText | wire.ReasoningText) -> bytes:
        return self._event(f"response.content_part.{what}", **self._place(), part=part)

    def _place(self) -> dict[str, Any]:
        return {**self._item(), "content_index": 0}

    def _item(self) -> dict[str, Any]:
        return {"output_index": len(self._output) - 1, "item_id": self._output[-1].id}

    def _event(self, type: str, **fields: Any) -> bytes:
        data = _encode(wire.Event(type, self._events, **fields))
        self._events += 1
        return sent(data, type)

    def _conclude(self, reason: str) -> None:
        if reason == "length":
            self._response.status = "incomplete"
            self._response.incomplete_details = wire.IncompleteDetails()
        else:
            self._response.status = "completed"

    def _account(self, usage: Usage) -> None:
        self._response.completed_at = int(time.time()) if self._response.status == "completed" else None
        self._response.usage = usage_fields(usage)


def usage_fields(usage: Usage) -> wire.ResponseUsage:
    return wire.ResponseUsage(
        input_tokens=usage.prompt,
        input_tokens_details=wire.InputTokensDetails(usage.cached, usage.written),
        output_tokens=usage.completion,
        output_tokens_details=wire.OutputTokensDetails(usage.reasoning),
        total_tokens=usage.prompt + usage.completion,
    )


def _message(status: wire.Status = "in_progress") -> wire.MessageItem:
    return wire.MessageItem(_id("msg"), [], status)


def _call(name: str, text: str, status: wire.Status, custom: bool) -> wire.FunctionCallItem | wire.CustomCallItem:
    if custom:
        return wire.CustomCallItem(_id("ctc"), call_id(), name, text, status)
    return wire.FunctionCallItem(_id("fc"), call_id(), name, text, status)


def _streams(item: wire.FunctionCallItem | wire.CustomCallItem) -> str:
    """What the events of a call's text are called."""
    custom = isinstance(item, wire.CustomCallItem)
    return "response.custom_tool_call_input" if custom else "response.function_call_arguments"


def _id(kind: str) -> str:
    return f"{kind}_{uuid4().hex}"
