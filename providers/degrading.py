"""What becomes of a schema that the compiler refuses where the caller did not insist on it (no `strict`).

JSON of the right kind is enforced instead, and what was written is validated against the whole schema before any of it
is delivered, as answers of remote providers are (`providers.remote.validation`): one that fails is an error.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import msgspec

from providers.base import (
    Admission,
    CallBegun,
    CallDelta,
    Delta,
    Finished,
    GenerateRequest,
    Generation,
    GenerationEvent,
    ProviderError,
    Tool,
)
from providers.remote.validation import JsonCheck, validator_of
from schemas.constraint import JsonSchemaSpec

DEGRADABLE = frozenset({"unsupported_constraint", "constraint_too_large"})
"""A schema that is malformed, or that nothing satisfies, is refused in any case."""

_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


class _Root(msgspec.Struct):
    type: object = None


@dataclass(slots=True)
class Checks:
    """What is validated instead of enforced. ``reasons``: why each could not be."""

    answer: JsonCheck | None = None
    calls: dict[str, JsonCheck] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def weaken(self, request: GenerateRequest, error: ProviderError) -> GenerateRequest:
        """``request`` without what ``error`` is about, which is noted as a check. Raises ``error`` where the caller
        insisted, or nothing can be checked either."""
        if error.kind not in DEGRADABLE:
            raise error
        if error.tool is not None:
            return self._weaken_tool(request, error, error.tool)
        constraint = request.constraint
        if not request.degrades or self.answer is not None or not isinstance(constraint, JsonSchemaSpec):
            raise error
        self.answer = _check_of(constraint.schema, error)
        self._note("the schema of the answer", error)
        return replace(request, constraint=outline_of(constraint))

    def _weaken_tool(self, request: GenerateRequest, error: ProviderError, number: int) -> GenerateRequest:
        tools = request.tools
        assert tools is not None
        tool = tools.offered[number]
        if not tool.degrades or tool.name in self.calls:
            raise error
        self.calls[tool.name] = _check_of(tool.parameters, error)
        self._note(f"the schema of the tool `{tool.name}`", error)
        loose: Tool = replace(tool, enforced='{"type":"object"}')
        offered = (*tools.offered[:number], loose, *tools.offered[number + 1 :])
        return replace(request, tools=replace(tools, offered=offered))

    def _note(self, what: str, error: ProviderError) -> None:
        place = f" at `{error.pointer}`" if error.pointer else ""
        self.reasons += (f"{what} is checked after the fact: {error.message}{place}",)


def outline_of(constraint: JsonSchemaSpec) -> JsonSchemaSpec:
    """Any JSON of the type that the schema's root asks for."""
    kind = msgspec.json.decode(constraint.schema, type=_Root).type
    kept = {"type": kind} if isinstance(kind, str) and kind in _TYPES else {}
    return msgspec.structs.replace(constraint, schema=json.dumps(kept))


def _check_of(schema: str, refusal: ProviderError) -> JsonCheck:
    try:
        validator_of(schema, "assert")
    except ProviderError:
        raise refusal from None
    return JsonCheck(schema)


@dataclass(slots=True)
class _Held:
    """The events of a choice, and what they say."""

    events: list[GenerationEvent] = field(default_factory=list)
    text: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)

    def hear(self, event: Delta | CallBegun | CallDelta) -> None:
        self.events.append(event)
        match event:
            case Delta(text=text):
                self.text += text
            case CallBegun(name=name):
                self.calls.append((name, ""))
            case CallDelta(arguments=arguments):
                name, begun = self.calls[-1]
                self.calls[-1] = name, begun + arguments


class CheckedGeneration:
    """Holds back each choice of a generation until all of it is validated. Implements `providers.base.Generation`."""

    def __init__(self, generation: Generation, checks: Checks) -> None:
        admitted = generation.admission
        self.admission = Admission(admitted.prompt_tokens, "validated", "", (*admitted.reasons, *checks.reasons))
        self._generation = generation
        self._checks = checks

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        held: dict[int, _Held] = {}
        async for event in self._generation:
            match event:
                case Delta() | CallBegun() | CallDelta():
                    held.setdefault(event.choice, _Held()).hear(event)
                case Finished(choice):
                    said = held.pop(choice, _Held())
                    await self._check(said, whole=event.reason == "stop")
                    for one in said.events:
                        yield one
                    yield event
                case _:
                    yield event

    async def aclose(self) -> None:
        await self._generation.aclose()

    async def _check(self, said: _Held, whole: bool) -> None:
        """What was cut is told to be, and is not validated."""
        complete = said.calls if whole else said.calls[:-1]
        for name, arguments in complete:
            if name in self._checks.calls:
                await _validate(self._checks.calls[name], arguments, f"The arguments of a call of `{name}`")
        if self._checks.answer is not None and whole and not said.calls:
            await _validate(self._checks.answer, said.text, "The answer")


async def _validate(check: JsonCheck, text: str, what: str) -> None:
    errors = (await check.judge(text, plain=True)).errors
    if errors:
        told = "; ".join(error.rstrip(".") for error in errors)
        message = f"{what} did not validate: {told}. The schema could only be checked after the fact."
        raise ProviderError("invalid_answer", message)
