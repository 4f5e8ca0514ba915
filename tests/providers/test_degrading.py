"""Schemas that are checked after the fact: what is refused in any case, and what is never delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from providers.base import (
    Admission,
    CallBegun,
    CallDelta,
    Delta,
    Finished,
    GenerateRequest,
    GenerationEvent,
    ProviderError,
    Tool,
    Tools,
    Usage,
)
from providers.degrading import CheckedGeneration, Checks
from schemas.constraint import ChoiceSpec, JsonSchemaSpec

SCHEMA = '{"type": "object", "properties": {"a": {"type": "string", "format": "date"}}, "required": ["a"]}'
TOOLS = Tools((Tool("strict", SCHEMA), Tool("loose", SCHEMA, degrades=True)), ("strict", "loose"))
REFUSAL = ProviderError("unsupported_constraint", "not like this.", pointer="/properties/a")


def request(**fields: Any) -> GenerateRequest:
    return GenerateRequest("r", "m", "x", **fields)


class Scripted:
    def __init__(self, *events: GenerationEvent) -> None:
        self.admission = Admission(3, "engine", "exact")
        self.closed = False
        self._events = events

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        for event in self._events:
            yield event

    async def aclose(self) -> None:
        self.closed = True


def heard(checks: Checks, *events: GenerationEvent) -> list[GenerationEvent]:
    async def run() -> list[GenerationEvent]:
        return [event async for event in CheckedGeneration(Scripted(*events), checks)]

    return asyncio.run(run())


def answer_checks() -> Checks:
    checks = Checks()
    checks.weaken(request(constraint=JsonSchemaSpec(SCHEMA), degrades=True), REFUSAL)
    return checks


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (request(constraint=JsonSchemaSpec(SCHEMA)), REFUSAL),
        (request(constraint=ChoiceSpec(["a"]), degrades=True), REFUSAL),
        (request(tools=TOOLS), ProviderError("unsupported_constraint", "no", tool=0)),
        (request(constraint=JsonSchemaSpec(SCHEMA), degrades=True), ProviderError("invalid_constraint", "no")),
        (request(constraint=JsonSchemaSpec(SCHEMA), degrades=True), ProviderError("unsatisfiable_constraint", "no")),
        (request(constraint=JsonSchemaSpec(SCHEMA), degrades=True), ProviderError("overloaded", "no")),
        (request(constraint=JsonSchemaSpec('{"type": 3}'), degrades=True), REFUSAL),
        (request(constraint=JsonSchemaSpec('{"$ref": "http://127.0.0.1:9/x"}'), degrades=True), REFUSAL),
    ],
    ids=["strict", "no schema", "strict tool", "malformed", "unsatisfiable", "busy", "no check", "elsewhere"],
)
def test_what_is_refused_in_any_case(asked: GenerateRequest, error: ProviderError) -> None:
    with pytest.raises(ProviderError) as refusal:
        Checks().weaken(asked, error)
    assert refusal.value is error


@pytest.mark.parametrize(("root", "kept"), [('"object"', '{"type": "object"}'), ('["object"]', "{}")])
def test_the_outermost_type_is_still_enforced(root: str, kept: str) -> None:
    asked = request(constraint=JsonSchemaSpec(f'{{"type": {root}, "maxProperties": 2}}'), degrades=True)
    weaker = Checks().weaken(asked, REFUSAL)
    assert weaker.constraint == JsonSchemaSpec(kept) and weaker.degrades


def test_the_admission_says_so() -> None:
    admission = CheckedGeneration(Scripted(), answer_checks()).admission
    assert (admission.enforcement, admission.contract, admission.prompt_tokens) == ("validated", "", 3)
    assert "not like this." in admission.reasons[0] and "/properties/a" in admission.reasons[0]


def test_nothing_is_told_before_all_of_it_is_valid() -> None:
    events = [Delta(0, '{"a": "20'), Delta(1, "{"), Delta(0, '24-02-29"}'), Finished(0, "stop"), Finished(1, "length")]
    told = heard(answer_checks(), *events, Usage(1, 0, 1))
    assert told == [events[0], events[2], events[3], events[1], events[4], Usage(1, 0, 1)]


@pytest.mark.parametrize("text", ['{"a": "2023-02-29"}', "{}", "[]", '{"a": ', ""])
def test_an_invalid_answer_is_an_error(text: str) -> None:
    with pytest.raises(ProviderError, match="answer") as failure:
        heard(answer_checks(), Delta(0, text), Finished(0, "stop"))
    assert failure.value.kind == "invalid_answer"


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_calls_are_checked_one_by_one(reason: Literal["stop", "length"]) -> None:
    checks = Checks()
    refusal = ProviderError("constraint_too_large", "too large.", tool=1)
    weaker = checks.weaken(request(tools=TOOLS), refusal)
    assert weaker.tools is not None and weaker.tools.offered[0] == TOOLS.offered[0]
    assert weaker.tools.offered[1].enforced == '{"type":"object"}' and weaker.tools.offered[1].parameters == SCHEMA
    with pytest.raises(ProviderError):
        checks.weaken(weaker, refusal)
    right = [CallBegun(0, 0, "loose"), CallDelta(0, 0, '{"a": "2024-'), CallDelta(0, 0, '01-01"}')]
    unchecked = [Delta(0, "So"), CallBegun(0, 1, "strict"), CallDelta(0, 1, "{}")]
    last = [CallBegun(0, 2, "loose"), CallDelta(0, 2, '{"a": 1}')]
    assert heard(checks, *right, *unchecked, Finished(0, reason)) == [*right, *unchecked, Finished(0, reason)]
    if reason == "length":
        assert heard(checks, *right, *last, Finished(0, reason)) == [*right, *last, Finished(0, reason)]
        return
    with pytest.raises(ProviderError, match="`loose` did not validate: At /a"):
        heard(checks, *right, *last, Finished(0, reason))


def test_patterns_are_run_within_bounds() -> None:
    checks = Checks()
    slow = JsonSchemaSpec('{"type": "string", "pattern": "^(a+)+(?=b)c$"}')
    checks.weaken(request(constraint=slow, degrades=True), REFUSAL)
    with pytest.raises(ProviderError) as failure:
        heard(checks, Delta(0, f'"{"a" * 60}!"'), Finished(0, "stop"))
    assert failure.value.kind == "invalid_answer"
