"""A request's answer from a provider that is only trusted once its answer is validated.

    held      a constraint, or more choices than one call has: all is collected, judged, repaired, then given out
    live      neither (or the caller wants it passed on): text goes out as it comes, calls once they are valid

A repair sends the invalid answer back with what is wrong with it. An answer that was cut at its token limit is not
data: where it is held, nothing of it goes out but that it was cut.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from providers.base import (
    CallBegun,
    CallDelta,
    Delta,
    Finished,
    GenerationEvent,
    Message,
    ProviderError,
    ScoredToken,
    Spoken,
    Thought,
    Usage,
)
from providers.remote.calling import Caller
from providers.remote.dialect import Ask

MAX_QUOTED = 20_000
"""Characters of an invalid answer that are sent back."""

MAX_TOLD = 20
"""Errors of an answer that are sent back with it."""


@dataclass(slots=True)
class _Call:
    """``custom``: ``arguments`` are the input of a custom tool, once they are judged."""

    name: str
    arguments: str = ""
    custom: bool = False


@dataclass(slots=True)
class _Choice:
    """A choice as it came. ``end`` None: it still goes on."""

    text: str = ""
    tokens: list[ScoredToken] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    end: Finished | None = None

    def hear(self, event: Spoken | Finished) -> None:
        match event:
            case Delta():
                self.text += event.text
                self.tokens += event.tokens
            case CallBegun():
                self.calls.append(_Call(event.name))
            case CallDelta():
                self.calls[event.number].arguments += event.arguments
            case Finished():
                self.end = event
            case Thought():
                pass  # no part of the answer


@dataclass(slots=True)
class Answers:
    """The answer to one request. ``ask``: all of it, before it is cut into calls."""

    caller: Caller
    ask: Ask
    repairs: int
    _used: list[Usage] = field(default_factory=list)

    @property
    def live(self) -> bool:
        check = self.ask.shaping.check
        whole = self.ask.n <= self.ask.can.choices
        return whole and (check is None or (self.ask.request.pass_on and not check.rewrites))

    async def events(self) -> AsyncGenerator[GenerationEvent, None]:
        """Raises `ProviderError`."""
        async with aclosing(self._live() if self.live else self._held()) as events:
            async for event in events:
                yield event
        yield sum(self._used, Usage(0, 0, 0))

    async def _held(self) -> AsyncGenerator[GenerationEvent, None]:
        most = self.ask.can.choices
        sizes = [min(most, self.ask.n - first) for first in range(0, self.ask.n, most)]
        tasks = [asyncio.create_task(self._valid(replace(self.ask, n=n))) for n in sizes]
        try:
            collected = [choice for choices in await asyncio.gather(*tasks) for choice in choices]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for number, choice in enumerate(collected):
            for event in _told(number, choice):
                yield event

    async def _valid(self, ask: Ask) -> list[_Choice]:
        """The choices of one call, each of them valid or cut."""
        return [await self._repaired(choice, await self._judge(choice)) for choice in await self._collect(ask)]

    async def _collect(self, ask: Ask) -> list[_Choice]:
        choices = [_Choice() for _ in range(ask.n)]
        async with aclosing(self.caller.call(ask, held=True)) as events:
            async for event in events:
                if isinstance(event, Usage):
                    self._used.append(event)
                else:
                    choices[event.choice].hear(event)
        return choices

    async def _repaired(self, choice: _Choice, errors: list[str]) -> _Choice:
        """``errors``: what is wrong with ``choice``."""
        for _ in range(self.repairs):
            if not errors:
                break
            messages = (*self.ask.messages, *_complaint(choice, errors))
            (choice,) = await self._collect(replace(self.ask, messages=messages, n=1))
            errors = await self._judge(choice)
        if errors:
            raise _invalid(errors)
        return choice

    async def _live(self) -> AsyncGenerator[GenerationEvent, None]:
        choices = [_Choice() for _ in range(self.ask.n)]
        wrong: dict[int, list[str]] = {}
        async with aclosing(self.caller.call(self.ask, held=False)) as events:
            async for event in events:
                if isinstance(event, Usage):
                    self._used.append(event)
                    continue
                choice = choices[event.choice]
                choice.hear(event)
                if isinstance(event, Delta):
                    yield event
                elif isinstance(event, Finished):
                    if errors := await self._judge(choice, plain=True):
                        wrong[event.choice] = errors
                        continue
                    for told in _rest(event.choice, choice):
                        yield told
        # Not before the end of the stream, which tells what all of it has used.
        for number, errors in wrong.items():
            if choices[number].text:
                raise _invalid(errors)
            for told in _told(number, await self._repaired(choices[number], errors)):
                yield told

    async def _judge(self, choice: _Choice, *, plain: bool = False) -> list[str]:
        """What is wrong with a choice. Of a valid one, the text and the arguments become what may be delivered.
        ``plain``: the text has been."""
        assert choice.end is not None
        if choice.end.reason == "length":
            self._cut(choice)
            return []
        errors = await self._judge_calls(choice)
        check, tools = self.ask.shaping.check, self.ask.request.tools
        if tools is not None and tools.required and not choice.calls:
            errors.append("The answer must be a call of a function.")
        if check is None:
            return errors
        if choice.calls:
            if choice.text.strip():
                errors.append("The answer must be either calls, or a text in the form that was asked for.")
            return errors
        # Tokens with log-probabilities are those of the text as it came.
        judged = await check.judge(choice.text, plain=plain or bool(choice.tokens))
        choice.text = choice.text if judged.errors else judged.text
        return [*errors, *judged.errors]

    def _cut(self, choice: _Choice) -> None:
        """Of a call that was cut nothing is known to be valid, and nothing of a text under a constraint."""
        del choice.calls[-1:]
        if self.ask.shaping.check is not None:
            choice.text, choice.tokens = "", []

    async def _judge_calls(self, choice: _Choice) -> list[str]:
        tools = self.ask.request.tools
        if choice.calls and tools is None:
            return ["There are no functions to call."]
        errors: list[str] = []
        if tools is not None and len(choice.calls) > 1 and not tools.parallel:
            errors.append("There may be one call at most.")
        known = {shaped.name: shaped for shaped in self.ask.shaping.tools}
        valid: list[_Call] = []
        for call in choice.calls:
            if call.name not in known:
                errors.append(f"There is no function {call.name[:100]!r} to call.")
                continue
            judged = await known[call.name].check.judge(call.arguments or "{}")
            valid.append(_Call(call.name, judged.text, known[call.name].custom))
            errors += [f"In the arguments of {call.name}: {error}" for error in judged.errors]
        choice.calls = choice.calls if errors else valid
        return errors


def _told(number: int, choice: _Choice) -> Iterator[GenerationEvent]:
    if choice.text or choice.tokens:
        yield Delta(number, choice.text, tuple(choice.tokens))
    yield from _rest(number, choice)


def _rest(number: int, choice: _Choice) -> Iterator[GenerationEvent]:
    """What comes after the text."""
    assert choice.end is not None
    for i, call in enumerate(choice.calls):
        yield CallBegun(number, i, call.name, call.custom)
        yield CallDelta(number, i, call.arguments)
    yield replace(choice.end, choice=number)


def _complaint(choice: _Choice, errors: list[str]) -> tuple[Message, Message]:
    """The invalid answer, and what is wrong with it. Calls are quoted as text: APIs want results for real ones."""
    calls = [{"name": call.name, "arguments": call.arguments} for call in choice.calls]
    answer = choice.text + (json.dumps(calls, ensure_ascii=False) if calls else "")
    listed = "\n".join(f"- {error}" for error in errors[:MAX_TOLD])
    wrong = f"Your answer is not valid:\n{listed}\nGive the whole answer again, corrected, and nothing else."
    return Message("assistant", answer[:MAX_QUOTED] or "(nothing)"), Message("user", wrong)


def _invalid(errors: list[str]) -> ProviderError:
    return ProviderError("invalid_answer", f"The provider's answer is not valid: {errors[0]}", elsewhere=True)
