"""Answers under a constraint, judged again once hidden data is back in them: a placeholder may fit where the original
does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from providers.base import CallBegun, CallDelta, Delta, Finished, GenerateRequest, GenerationEvent, ProviderError
from providers.remote.validation import Check, JsonCheck
from schemas.constraint import ConstraintSpec, JsonObjectSpec, JsonSchemaSpec

ANY_OBJECT = '{"type": "object"}'


@dataclass(frozen=True, slots=True)
class Checks:
    """``text``: of the answer, None = any; ``tools``: name → of a call's arguments."""

    text: Check | None
    tools: dict[str, Check]


def checks_of(request: GenerateRequest) -> Checks | None:
    """What judges answers to ``request``; None where nothing here can judge them."""
    tools: dict[str, Check] = {}
    for tool in request.tools.offered if request.tools else ():
        if tool.custom:
            return None
        tools[tool.name] = JsonCheck(tool.parameters)
    if request.constraint is None:
        return Checks(None, tools)
    text = _check_of(request.constraint)
    return None if text is None else Checks(text, tools)


def _check_of(constraint: ConstraintSpec) -> Check | None:
    match constraint:
        case JsonSchemaSpec(schema=schema, formats=formats):
            return JsonCheck(schema, formats)
        case JsonObjectSpec():
            return JsonCheck(ANY_OBJECT)
        case _:
            return None


@dataclass(slots=True)
class _Said:
    """What one choice has said so far: its text, and its calls with their arguments."""

    text: str = ""
    calls: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    events: list[GenerationEvent] = field(default_factory=list[GenerationEvent])

    def hear(self, event: Delta | CallBegun | CallDelta) -> None:
        self.events.append(event)
        match event:
            case Delta():
                self.text += event.text
            case CallBegun(_, number, name):
                self.calls[number] = (name, "")
            case CallDelta(_, number, arguments):
                name, before = self.calls[number]
                self.calls[number] = (name, before + arguments)

    async def valid(self, checks: Checks) -> bool:
        for name, arguments in self.calls.values():
            if (await checks.tools[name].judge(arguments, plain=True)).errors:
                return False
        if self.calls or checks.text is None:
            return True
        return not (await checks.text.judge(self.text, plain=True)).errors


async def checked(events: AsyncIterator[GenerationEvent], checks: Checks) -> AsyncIterator[GenerationEvent]:
    """``events``, those of each choice held back until it is whole and valid. A choice that was cut is given out as it
    is, and says so. Raises `ProviderError` "invalid_answer"."""
    choices: defaultdict[int, _Said] = defaultdict(_Said)
    async for event in events:
        match event:
            case Delta(choice) | CallBegun(choice) | CallDelta(choice):
                choices[choice].hear(event)
            case Finished(choice, reason):
                said = choices.pop(choice, _Said())
                if reason == "stop" and not await said.valid(checks):
                    message = "The answer does not satisfy the constraint with the personal data back in its place."
                    raise ProviderError("invalid_answer", message, elsewhere=True)
                for held in said.events:
                    yield held
                yield event
            case _:
                yield event
