"""What the engine is asked for is what the model should write, and what is written is read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.grammar_worker import constraint_of
from fsm import TokenTable, compile_constraint
from grammar import ConstraintError
from providers.base import ProviderError, Tool, Tools
from providers.call_plan import Plan, plan_calls
from providers.tool_calls import Arguments, Begun, CallReader, Text
from providers.tool_formats import HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS, ToolFormat
from schemas.constraint import (
    ChoiceSpec,
    ConstraintSpec,
    JsonObjectSpec,
    JsonSchemaSpec,
    LarkSpec,
    RegexSpec,
    StructuralTagSpec,
)

FORMATS = [HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS]
BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None], [256])
CITY = (
    '{"type":"object","properties":{"city":{"enum":["Oslo","Rome"]}},"required":["city"],"additionalProperties":false}'
)
EMPTY = '{"type":"object","maxProperties":0}'
OFFERED = (Tool("weather", CITY), Tool("hidden", EMPTY), Tool("clock", EMPTY))
CALLABLE = ("weather", "clock")

family = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.family)


def accepts(plan: Plan, text: str) -> bool:
    matcher = compile_constraint(constraint_of(plan.constraint), BYTES).matcher()
    return all(matcher.advance(byte) for byte in text.encode()) and matcher.accepting


def calls(format: ToolFormat, *names: str) -> str:
    arguments: dict[str, Any] = {"weather": {"city": "Oslo"}, "clock": {}, "hidden": {}}
    return format.spell(*((name, arguments[name]) for name in names))


@family
def test_required(format: ToolFormat) -> None:
    plan = plan_calls(Tools(OFFERED, CALLABLE, required=True), format, None)
    assert accepts(plan, calls(format, "weather")) and accepts(plan, calls(format, "clock"))
    assert accepts(plan, calls(format, "clock", "weather", "clock")) == format.several
    for wrong in ("", "Sure.", calls(format, "hidden"), format.spell(("weather", {})), calls(format, "clock") + "!"):
        assert not accepts(plan, wrong)


@family
def test_auto(format: ToolFormat) -> None:
    plan = plan_calls(Tools(OFFERED, CALLABLE), format, None)
    for said in ("", "Let me see: {", "<tool", "[TOOL"):
        assert accepts(plan, said)
        assert accepts(plan, said + calls(format, "weather"))
        assert accepts(plan, said + calls(format, "weather", "clock")) == format.several
        assert not accepts(plan, said + calls(format, "hidden"))
        assert not accepts(plan, said + format.trigger)
    reader = CallReader(plan.format)
    pieces = reader.feed("Let me see: " + calls(format, "weather")) + reader.flush()
    assert pieces[:2] == [Text("Let me see:"), Begun("weather")]
    assert json.loads("".join(p.text for p in pieces if isinstance(p, Arguments))) == {"city": "Oslo"}


@family
@pytest.mark.parametrize("required", [False, True])
def test_at_most_one_call(format: ToolFormat, required: bool) -> None:
    plan = plan_calls(Tools(OFFERED, CALLABLE, required, parallel=False), format, None)
    assert accepts(plan, calls(format, "clock")) and not accepts(plan, calls(format, "clock", "clock"))


@family
def test_a_call_by_name_is_begun_in_the_prompt(format: ToolFormat) -> None:
    plan = plan_calls(Tools(OFFERED, ("clock",), required=True, parallel=False), format, JsonObjectSpec())
    assert (plan.constraint, plan.call) == (JsonSchemaSpec(EMPTY), "clock")
    assert plan.begun + "{}" + format.tail + format.closing == format.spell(("clock", {}))
    error = plan.blame(ProviderError("unsupported_constraint", "no", pointer="/x"))
    assert (error.tool, error.pointer) == (2, "/x")


TAG = '{"type":"structural_tag","format":{"type":"const_string","value":"yes"}}'
BESIDE: list[tuple[ConstraintSpec, str, str]] = [
    (JsonSchemaSpec('{"const":"yes"}'), '"yes"', "yes"),
    (JsonObjectSpec(), '{"a": 1}', "1"),
    (RegexSpec("y(e|E)s"), "yEs", "ys"),
    (ChoiceSpec(["yes", "no"]), "no", "yesno"),
    (StructuralTagSpec(TAG), "yes", "no"),
]


@family
@pytest.mark.parametrize(("constraint", "right", "wrong"), BESIDE, ids=str)
def test_calls_or_the_answer_asked_for(format: ToolFormat, constraint: ConstraintSpec, right: str, wrong: str) -> None:
    plan = plan_calls(Tools(OFFERED, CALLABLE), format, constraint)
    spelled = plan.format
    assert spelled is (HERMES if format is LLAMA3 else format)
    assert accepts(plan, right) and not accepts(plan, wrong) and not accepts(plan, "")
    assert accepts(plan, calls(spelled, "weather"))
    assert not accepts(plan, right + calls(spelled, "weather")) and not accepts(plan, calls(spelled, "hidden"))


BAD = Tool("bad", '{"type":"object","properties":{"a":{"type":"string","pattern":"("}}}')


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("constraint", [None, JsonSchemaSpec("true")], ids=str)
def test_a_fault_is_told_of_its_tool(required: bool, constraint: ConstraintSpec | None) -> None:
    tools = Tools((*OFFERED, BAD), ("clock", "bad"), required)
    plan = plan_calls(tools, HERMES, constraint)
    with pytest.raises(ConstraintError) as refusal:
        compile_constraint(constraint_of(plan.constraint), BYTES)
    kind: Any = refusal.value.code
    error = plan.blame(ProviderError(kind, refusal.value.reason, pointer=refusal.value.pointer))
    assert (error.tool, error.pointer) == (3, "/properties/a/pattern")


@pytest.mark.parametrize("text", [BAD.parameters, "{", '{"enum":[]}'])
def test_a_fault_of_the_answer_is_not_told_of_a_tool(text: str) -> None:
    plan = plan_calls(Tools(OFFERED, CALLABLE), HERMES, JsonSchemaSpec(text))
    with pytest.raises(ConstraintError) as refusal:
        compile_constraint(constraint_of(plan.constraint), BYTES)
    kind: Any = refusal.value.code
    error = plan.blame(ProviderError(kind, refusal.value.reason, pointer=refusal.value.pointer))
    assert error.tool is None and not error.pointer.startswith("/format")


OLDER = StructuralTagSpec('{"type":"structural_tag","structures":[],"triggers":[]}')


COMPACT = (JsonObjectSpec("compact"), JsonSchemaSpec("{}", whitespace="compact"))


@pytest.mark.parametrize("constraint", [*COMPACT, OLDER, LarkSpec('start: "a"')], ids=str)
def test_what_cannot_stand_beside_tools_is_refused(constraint: ConstraintSpec) -> None:
    with pytest.raises(ProviderError) as refusal:
        plan_calls(Tools(OFFERED, CALLABLE), HERMES, constraint)
    assert refusal.value.kind == "invalid_request"


def test_other_failures_are_passed_on() -> None:
    plan = plan_calls(Tools(OFFERED, CALLABLE), HERMES, None)
    overloaded = ProviderError("overloaded", "Full.")
    assert plan.blame(overloaded) is overloaded
