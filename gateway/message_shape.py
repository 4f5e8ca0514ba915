"""The answers of ``POST /v1/messages``: one message of blocks, and its stream:

message_start · (content_block_start · content_block_delta* · content_block_stop)* · message_delta · message_stop
"""

from __future__ import annotations

from uuid import uuid4

import msgspec
from msgspec import Raw

from gateway.answer import Called, Choice, Said, sent
from gateway.errors import ApiError, anthropic_error
from providers.base import Admission, CallBegun, CallDelta, Delta, Finished, Spoken, Thought, Usage
from schemas.anthropic import answer as wire

_encode = msgspec.json.Encoder().encode


class MessageShape:
    """`gateway.answer.Shape` of messages, which have one choice. ``max_tokens``: what was asked for."""

    def __init__(self, model: str, id: str, max_tokens: int) -> None:
        self._id = id
        self._model = model
        self._max_tokens = max_tokens
        self._finished = Finished(0, "length")
        self._called = False
        self._blocks = 0
        self._under_way: wire.Block | None = None

    def opening(self, choices: int, admission: Admission) -> bytes:
        usage = wire.Usage(admission.prompt_tokens, 0)
        return _event(wire.MessageStart(wire.Message(self._id, self._model, [], usage)))

    def spoken(self, event: Spoken) -> bytes:
        match event:
            case Thought(text=text):
                out = b"" if isinstance(self._under_way, wire.Thinking) else self._begin(wire.Thinking(""))
                return out + self._delta(wire.ThinkingDelta(text))
            case Delta(text=text):
                out = b"" if isinstance(self._under_way, wire.Text) else self._begin(wire.Text(""))
                return out + self._delta(wire.TextDelta(text))
            case CallBegun(name=name):
                self._called = True
                return self._begin(wire.ToolUse(_call_id(), name))
            case CallDelta(arguments=arguments):
                return self._delta(wire.InputDelta(arguments))

    def finish(self, event: Finished) -> bytes:
        self._finished = event
        return self._end()

    def closing(self, usage: Usage) -> bytes:
        reason = self._reason(self._finished, self._called, usage)
        ending = wire.Ending(reason, self._finished.stop)
        return _event(wire.MessageDelta(ending, _usage(usage))) + _event(wire.MessageStop())

    def failure(self, error: ApiError) -> bytes:
        return sent(anthropic_error(error, None), "error")

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        (choice,) = choices
        finished = Finished(0, choice.reason, choice.stop)
        message = wire.Message(
            self._id,
            self._model,
            [*_thinking(choice), *(_block(part, whole) for part, whole in choice.told())],
            _usage(usage),
            self._reason(finished, bool(choice.calls), usage),
            choice.stop,
        )
        return _encode(message)

    def _begin(self, block: wire.Block) -> bytes:
        ended = self._end()
        self._blocks += 1
        self._under_way = block
        return ended + _event(wire.BlockStart(self._blocks - 1, block))

    def _delta(self, delta: wire.TextDelta | wire.ThinkingDelta | wire.InputDelta) -> bytes:
        return _event(wire.BlockDelta(self._blocks - 1, delta))

    def _end(self) -> bytes:
        return _event(wire.BlockStop(self._blocks - 1)) if self._blocks else b""

    def _reason(self, finished: Finished, called: bool, usage: Usage) -> wire.StopReason:
        if finished.reason == "length":
            return "max_tokens" if usage.completion >= self._max_tokens else "model_context_window_exceeded"
        if finished.stop is not None:
            return "stop_sequence"
        return "tool_use" if called else "end_turn"


def _thinking(choice: Choice) -> list[wire.Thinking]:
    return [wire.Thinking(choice.thoughts)] if choice.thoughts else []


def _block(part: Said | Called, whole: bool) -> wire.Text | wire.ToolUse:
    """A call that was cut has no input: there is no JSON for half of an object."""
    match part:
        case Said(text):
            return wire.Text(text)
        case Called(name, arguments):
            return wire.ToolUse(_call_id(), name, Raw(arguments.encode()) if whole else Raw(b"{}"))


def _usage(usage: Usage) -> wire.Usage:
    return wire.Usage(usage.prompt - usage.cached, usage.completion, usage.cached)


def _event(event: wire.Event) -> bytes:
    return sent(_encode(event), str(event.__struct_config__.tag))


def _call_id() -> str:
    return f"toolu_{uuid4().hex[:24]}"
