"""Thoughts are told apart from answers however a text is cut, and constraints are those of the answer."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.grammar_worker import constraint_of
from engine.model.chat_template import ChatTemplate
from fsm import TokenTable, compile_constraint
from grammar import ConstraintError
from providers.base import CallBegun, Delta, GenerateRequest, Message, ProviderError, Thought, Tool, Tools
from providers.choice_text import ChoiceText
from providers.preparing import Preparer
from providers.prompting import Prompter
from providers.thinking import ThoughtReader, blame_answer, stage_of
from providers.tool_calls import CallReader
from providers.tool_formats import HERMES
from schemas.constraint import (
    ChoiceSpec,
    ConstraintSpec,
    JsonObjectSpec,
    JsonSchemaSpec,
    LarkSpec,
    RegexSpec,
    StructuralTagSpec,
)
from schemas.engine import TokenLogprobs, Tokens
from tests.providers.bytewise import byte_tokenizer

SPECIAL = ("<|im_end|>", "<|im_start|>")
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
SWITCHED = TURNS + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
ALWAYS = TURNS + "<think>\n"
STRIPPING = "{{ ''.split('</think>')[-1] }}{# <think> #}" + TURNS
BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None], [256])
ASK = (Message("user", "Hello"),)

texts = st.text(alphabet="<>/think \nab🦆", max_size=14)
thoughts_ = texts.filter(lambda text: "</think>" not in text)


def preparer(template: str) -> Preparer:
    tokenizer = byte_tokenizer(*SPECIAL)
    return Preparer("m", tokenizer, Prompter(tokenizer, ChatTemplate(template, {})))


def request(**fields: Any) -> GenerateRequest:
    return GenerateRequest("r", "m", ASK, **fields)


def accepts(constraint: ConstraintSpec | None, text: str) -> bool:
    assert constraint is not None
    matcher = compile_constraint(constraint_of(constraint), BYTES).matcher()
    return all(matcher.advance(byte) for byte in text.encode()) and matcher.accepting


@pytest.mark.parametrize(
    ("template", "prompt", "stage"),
    [
        (SWITCHED, "assistant\n", "ahead"),
        (SWITCHED, "assistant\n<think>\n\n</think>\n\n", "never"),
        (ALWAYS, "assistant\n<think>\n", "begun"),
        (STRIPPING, "assistant\n", "never"),
        (TURNS, "assistant\n", "never"),
    ],
)
def test_what_comes_is_read_off_the_prompt(template: str, prompt: str, stage: str) -> None:
    assert stage_of(template, prompt) == stage


def read(reader: ThoughtReader, text: str, cuts: list[int]) -> tuple[str, str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [*(reader.feed(text[start:end]) for start, end in pairwise(places)), reader.flush()]
    return "".join(thought for thought, _ in pieces), "".join(answer for _, answer in pieces)


@given(thoughts=thoughts_, answer=texts, cuts=st.lists(st.integers(0, 99)), begun=st.booleans(), tail=st.booleans())
def test_thoughts_are_told_apart(thoughts: str, answer: str, cuts: list[int], begun: bool, tail: bool) -> None:
    text = ("" if begun else "<think>\n") + thoughts + "</think>" + ("\n\n" if tail else "") + answer
    found = read(ThoughtReader("begun" if begun else "ahead"), text, cuts)
    assert found == (thoughts.strip(), answer.lstrip())


@given(answer=texts, cuts=st.lists(st.integers(0, 99)))
def test_an_answer_without_thoughts_is_left_alone(answer: str, cuts: list[int]) -> None:
    if not answer.lstrip().startswith("<think>"):
        assert read(ThoughtReader("ahead"), answer, cuts) == ("", answer)


@given(thoughts=thoughts_, cuts=st.lists(st.integers(0, 99)))
def test_thoughts_that_are_cut_are_no_answer(thoughts: str, cuts: list[int]) -> None:
    assert read(ThoughtReader("begun"), thoughts, cuts) == (thoughts.strip(), "")


def test_thoughts_are_not_held_back_longer_than_needed() -> None:
    reader = ThoughtReader("ahead")
    pieces = ("<th", "ink>\n", "Let me", " see", "\n</thi", "s", "\n</think>", "\n\nYes")
    assert [reader.feed(piece) for piece in pieces] == [
        ("", ""), ("", ""), ("Let me", ""), (" see", ""), ("", ""), ("\n</this", ""), ("", ""), ("", "Yes"),
    ]  # fmt: skip


CONSTRAINTS: list[tuple[ConstraintSpec, str, str]] = [
    (JsonSchemaSpec('{"enum":["yes","no"]}'), '"yes"', '"maybe"'),
    (JsonObjectSpec(), '{"a": 1}', "[]"),
    (RegexSpec("y+"), "yy", "n"),
    (ChoiceSpec(["yes", "no"]), "no", "maybe"),
    (StructuralTagSpec('{"type":"structural_tag","format":{"type":"const_string","value":"yes"}}'), "yes", "no"),
]


@pytest.mark.parametrize(("constraint", "right", "wrong"), CONSTRAINTS, ids=str)
@pytest.mark.parametrize(("template", "begin"), [(SWITCHED, "<think>\n"), (ALWAYS, "")])
def test_a_constraint_is_that_of_the_answer(
    template: str, begin: str, constraint: ConstraintSpec, right: str, wrong: str
) -> None:
    prepared = preparer(template).prepare(request(constraint=constraint))
    for thoughts in ("", "\n", "yes\n", "{<think>\n</thin 🦆\n"):
        assert accepts(prepared.constraint, f"{begin}{thoughts}</think>\n\n{right}")
        assert not accepts(prepared.constraint, f"{begin}{thoughts}</think>\n\n{wrong}")
        assert not accepts(prepared.constraint, f"{begin}{thoughts}</think>")
    assert not accepts(prepared.constraint, f"{begin}{right}")


def test_without_thoughts_it_is_as_it_was() -> None:
    constraint = JsonSchemaSpec("{}")
    for prepared in (
        preparer(TURNS).prepare(request(constraint=constraint)),
        preparer(STRIPPING).prepare(request(constraint=constraint)),
        preparer(SWITCHED).prepare(request(constraint=constraint, thinking=False)),
    ):
        assert (prepared.constraint, prepared.stage) == (constraint, "never")
    assert preparer(SWITCHED).prepare(request()).constraint is None


CITY = (
    '{"type":"object","properties":{"city":{"enum":["Oslo","Rome"]}},"required":["city"],"additionalProperties":false}'
)
WEATHER = Tool("weather", CITY)
CALL = HERMES.spell(("weather", {"city": "Oslo"}))


@pytest.mark.parametrize("parallel", [False, True])
def test_calls_come_after_thoughts(parallel: bool) -> None:
    """Also the one call that must come, which otherwise the prompt begins."""
    tools = Tools((WEATHER,), ("weather",), required=True, parallel=parallel)
    prepared = preparer(SWITCHED).prepare(request(tools=tools))
    assert prepared.plan is not None and prepared.plan.call is None
    assert accepts(prepared.constraint, f"<think>\nHm.\n</think>\n\n{CALL}")
    assert not accepts(prepared.constraint, CALL) and not accepts(prepared.constraint, "<think></think>\n\nHello")
    auto = preparer(SWITCHED).prepare(request(tools=Tools((WEATHER,), ("weather",), parallel=parallel)))
    assert accepts(auto.constraint, f"<think>\n{CALL}\n</think>\n\nWell: {CALL}")


UNFIT: list[ConstraintSpec] = [LarkSpec('start: "a"'), JsonObjectSpec("compact")]


@pytest.mark.parametrize("constraint", UNFIT, ids=str)
def test_a_constraint_that_cannot_follow_thoughts_keeps_the_model_from_them(constraint: ConstraintSpec) -> None:
    prepared = preparer(SWITCHED).prepare(request(constraint=constraint))
    assert (prepared.constraint, prepared.stage) == (constraint, "never")
    for template, thinking in ((SWITCHED, True), (ALWAYS, None)):
        with pytest.raises(ProviderError, match="together with this constraint") as refusal:
            preparer(template).prepare(request(constraint=constraint, thinking=thinking))
        assert refusal.value.param == "reasoning_effort"


@pytest.mark.parametrize(
    ("template", "thinking", "why"), [(TURNS, True, "does not think"), (ALWAYS, False, "always thinks")]
)
def test_what_a_model_cannot_do_is_refused(template: str, thinking: bool, why: str) -> None:
    with pytest.raises(ProviderError, match=why):
        preparer(template).prepare(request(thinking=thinking))


@pytest.mark.parametrize("text", ['{"type":"strin"}', '{"properties":{"a":{"pattern":"("}}}'])
def test_a_fault_is_told_where_the_caller_wrote_it(text: str) -> None:
    with pytest.raises(ConstraintError) as alone:
        compile_constraint(constraint_of(JsonSchemaSpec(text)), BYTES)
    prepared = preparer(SWITCHED).prepare(request(constraint=JsonSchemaSpec(text)))
    assert prepared.constraint is not None
    with pytest.raises(ConstraintError) as together:
        compile_constraint(constraint_of(prepared.constraint), BYTES)
    kind: Any = together.value.code
    error = prepared.blame(ProviderError(kind, together.value.reason, pointer=together.value.pointer))
    assert error.pointer == alone.value.pointer


def test_a_fault_of_a_tool_is_told_of_it() -> None:
    bad = Tool("bad", '{"properties":{"a":{"pattern":"("}}}')
    prepared = preparer(SWITCHED).prepare(request(tools=Tools((WEATHER, bad), ("weather", "bad"))))
    assert prepared.constraint is not None
    with pytest.raises(ConstraintError) as refusal:
        compile_constraint(constraint_of(prepared.constraint), BYTES)
    kind: Any = refusal.value.code
    error = prepared.blame(ProviderError(kind, refusal.value.reason, pointer=refusal.value.pointer))
    assert (error.tool, error.pointer) == (1, "/properties/a/pattern")
    other = ProviderError("overloaded", "Full.")
    assert blame_answer(other, JsonObjectSpec()) is other


def said(stage: Literal["ahead", "begun"], text: str, stops: tuple[str, ...] = (), calls: bool = False) -> list[Any]:
    """What a choice gives for ``text``, a byte a token, each with its place as its score."""
    tokenizer = byte_tokenizer(*SPECIAL)
    choice = ChoiceText(0, tokenizer, stops, False, CallReader(HERMES) if calls else None, stage)
    found: list[Any] = []
    for place, token in enumerate(tokenizer.encode(text, special=False)):
        found += choice.take(Tokens("r", 0, [token], [TokenLogprobs(-float(place), [], [])]))
    found += choice.rest()
    found.append(choice.thought_tokens)
    return found


def test_scores_are_those_of_the_answer() -> None:
    whole = "<think>\nHm</think>\n\nYes"
    *events, thinking = said("ahead", whole)
    assert "".join(event.text for event in events if isinstance(event, Thought)) == "Hm"
    scores = [token.sampled for event in events if isinstance(event, Delta) for token in event.tokens]
    assert b"".join(token.data for token in scores) == b"Yes"
    assert [-token.logprob for token in scores] == [float(whole.index("Y") + i) for i in range(3)]
    assert thinking == whole.index("Y")


def test_what_was_held_back_keeps_its_scores() -> None:
    *events, thinking = said("ahead", " <thing>")
    scores = [token for event in events if isinstance(event, Delta) for token in event.tokens]
    assert "".join(event.text for event in events) == " <thing>" and len(scores) == 8 and thinking == 0


def test_stop_strings_stop_answers_only() -> None:
    *events, _ = said("begun", "stop! stop</think>\n\nGo, stop", ("stop",))
    assert "".join(event.text for event in events if isinstance(event, Thought)) == "stop! stop"
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "Go, "


def test_calls_in_thoughts_are_thoughts() -> None:
    *events, _ = said("begun", f"{CALL}</think>\n\n{CALL}", calls=True)
    assert "".join(event.text for event in events if isinstance(event, Thought)) == CALL
    assert [event.name for event in events if isinstance(event, CallBegun)] == ["weather"]
    assert json.loads(CALL[len(HERMES.begin("weather")) : -len(HERMES.tail)]) == {"city": "Oslo"}
