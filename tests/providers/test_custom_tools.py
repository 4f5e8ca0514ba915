"""Custom tools: what the engine is asked for, and the input that is read back."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.grammar_worker import constraint_of
from fsm import compile_constraint
from grammar import ConstraintError
from providers.base import ProviderError, Tool, Tools
from providers.call_plan import plan_calls
from providers.custom_tools import PARAMETERS, InputReader, described
from providers.tool_calls import Arguments, Begun, CallReader
from providers.tool_formats import ToolFormat
from schemas.constraint import IndenterSpec, JsonSchemaSpec, LarkSpec, RegexSpec
from tests.providers.test_call_plan import BYTES, EMPTY, FORMATS, accepts

SUM = 'start: NUMBER ("+" NUMBER)*\nNUMBER: /[0-9]+/'
CODE = """
file: ("do" _NL _INDENT file _DEDENT | "x" _NL)+
_NL: /\\n */
%declare _INDENT _DEDENT
"""
TOOLS = (
    Tool("note", PARAMETERS, custom=True),
    Tool("date", PARAMETERS, custom=True, grammar=RegexSpec(r'\d{4}-\d\d|"now"')),
    Tool("sum", PARAMETERS, "Adds.", custom=True, grammar=LarkSpec(SUM)),
    Tool("code", PARAMETERS, custom=True, grammar=LarkSpec(CODE, "file", "contextual", IndenterSpec("_NL"))),
    Tool("clock", EMPTY),
)
NAMES = tuple(tool.name for tool in TOOLS)
RIGHT = {"note": 'any "text"\n🦆', "date": '"now"', "sum": "1+22+3", "code": "do\n  x\n  x\nx\n"}
WRONG = {"date": "now", "sum": "1+", "code": "do\nx\n"}

family = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.family)


@given(text=st.text(), ascii=st.booleans(), cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_the_input_is_what_the_json_says(text: str, ascii: bool, cuts: list[int]) -> None:
    whole = json.dumps({"input": text}, ensure_ascii=ascii)
    places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    reader = InputReader()
    assert "".join(reader.feed(whole[start:end]) for start, end in pairwise(places)) == text


@family
def test_each_call_keeps_its_grammar(format: ToolFormat) -> None:
    plan = plan_calls(Tools(TOOLS, NAMES, required=True), format, None)
    assert accepts(plan, format.spell(("clock", {})))
    for name, text in RIGHT.items():
        assert accepts(plan, format.spell((name, {"input": text}))), name
    for name, text in WRONG.items():
        assert not accepts(plan, format.spell((name, {"input": text}))), name
    both = format.spell(("sum", {"input": "1"}), ("clock", {}))
    assert accepts(plan, both) == format.several


@family
@pytest.mark.parametrize("name", RIGHT)
def test_a_call_by_name(format: ToolFormat, name: str) -> None:
    plan = plan_calls(Tools(TOOLS, (name,), required=True, parallel=False), format, None)
    assert accepts(plan, json.dumps({"input": RIGHT[name]}, ensure_ascii=False))
    assert name not in WRONG or not accepts(plan, json.dumps({"input": WRONG[name]}))
    reader = CallReader(plan.format, plan.call, frozenset(RIGHT))
    begun, *rest = reader.feed(json.dumps({"input": RIGHT[name]}, ensure_ascii=False)) + reader.flush()
    assert begun == Begun(name, True)
    assert "".join(piece.text for piece in rest if isinstance(piece, Arguments)) == RIGHT[name]


@family
def test_text_calls_or_json(format: ToolFormat) -> None:
    answer = JsonSchemaSpec('{"type":"object","required":["a"]}')
    plan = plan_calls(Tools(TOOLS, NAMES), format, answer)
    assert accepts(plan, '{"a": 1}') and accepts(plan, plan.format.spell(("sum", {"input": "1"})))
    assert not accepts(plan, plan.format.spell(("sum", {"input": "x"}))) and not accepts(plan, "")


@pytest.mark.parametrize("grammar", [LarkSpec("start: nothing"), RegexSpec("(")], ids=str)
@pytest.mark.parametrize("required", [False, True])
def test_a_fault_is_told_of_its_tool(grammar: Any, required: bool) -> None:
    bad = Tool("bad", PARAMETERS, custom=True, grammar=grammar)
    for callable in (("clock", "bad"), ("bad",)):
        plan = plan_calls(Tools((*TOOLS, bad), callable, required, parallel=False), FORMATS[0], None)
        with pytest.raises(ConstraintError) as refusal:
            compile_constraint(constraint_of(plan.constraint), BYTES)
        kind: Any = refusal.value.code
        error = plan.blame(ProviderError(kind, refusal.value.reason, pointer=refusal.value.pointer))
        assert (error.tool, error.pointer) == (len(TOOLS), "") and "1:" in error.message


def test_the_model_is_told_the_grammar() -> None:
    assert described(TOOLS[0]) is None
    assert RIGHT["date"] in (described(TOOLS[1]) or "")
    assert (described(TOOLS[2]) or "").startswith("Adds.\n") and SUM in (described(TOOLS[2]) or "")
