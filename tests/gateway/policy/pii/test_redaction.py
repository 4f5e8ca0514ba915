"""Placeholders: of the same format, restored however the answer is cut, and never of a value that can be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.facts import Endpoint, Known
from gateway.policy.pii.placeholders import Mint
from gateway.policy.pii.redaction import Redaction, examine
from gateway.policy.pii.restoring import Restorer
from gateway.policy.selection import Candidate
from providers.base import (
    Call,
    CallBegun,
    CallDelta,
    Delta,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Message,
    ProviderError,
    Thought,
    Tool,
    Tools,
)
from schemas.constraint import ChoiceSpec, ConstraintSpec, JsonObjectSpec, JsonSchemaSpec, RegexSpec
from schemas.engine import Sampling
from tests.gateway.policy.pii.test_finding import TRUE, find

MAIL = "jane.doe@corp.example"
ELSEWHERE = Candidate(Endpoint("theirs", "managed"), "m", Known())


@pytest.mark.parametrize(("name", "text"), TRUE)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers())
def test_placeholders_are_of_the_same_format(name: str, text: str, seed: int) -> None:
    (found,) = find(text)
    drawn = Mint([text], Random(seed)).placeholder(text, found.kind)
    assert drawn != text and found.kind.valid(drawn)
    (again,) = find(drawn)
    assert again.kind.name == name and (again.begin, again.end) == (0, len(drawn))
    assert drawn.isascii() and drawn.isprintable() and not set(drawn) & set('"\\')
    if name not in ("email", "ip address"):
        assert [c if not c.isalnum() else "x" for c in drawn] == [c if not c.isalnum() else "x" for c in text]


@given(
    st.dictionaries(st.text("ab", min_size=1, max_size=4), st.sampled_from(["<1>", "<2>"]), max_size=4),
    st.text("abc", max_size=30),
    st.lists(st.integers(0, 30)),
)
def test_what_is_restored_does_not_depend_on_the_pieces(originals: dict[str, str], text: str, cuts: list[int]) -> None:
    alone = {
        key: value for key, value in originals.items() if not any(key in other for other in originals if other != key)
    }
    if not alone:
        return
    whole = Restorer(alone)
    expected = whole.take(text) + whole.rest()
    pieces = Restorer(alone)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    said = "".join(pieces.take(text[begin:end]) for begin, end in pairwise(edges))
    assert said + pieces.rest() == expected
    at, plain = 0, ""
    while at < len(text):
        key = next((key for key in alone if text.startswith(key, at)), None)
        plain += alone[key] if key else text[at]
        at += len(key) if key else 1
    assert expected == plain


def request(*turns: Message, **fields: Any) -> GenerateRequest:
    return GenerateRequest(id="r", model="m", prompt=turns or (Message("user", f"Mail {MAIL}"),), **fields)


def hidden(redaction: Redaction) -> GenerateRequest:
    assert redaction.hidden is not None
    return redaction.hidden


def test_nothing_to_hide_changes_nothing() -> None:
    asked = request(Message("user", "Hello"))
    redaction = examine(asked, "redact")
    assert redaction.hidden is asked
    assert redaction.outgoing(ELSEWHERE) == (asked, None)


def test_a_value_has_one_placeholder_wherever_it_stands() -> None:
    call = Call("c1", "send", {"to": [MAIL], "subject": "Hi"})
    thinking = Message("assistant", "", calls=(call,), thoughts=f"It is {MAIL}.")
    turns = Message("user", f"{MAIL}!"), thinking, Message("tool", MAIL, call_id="c1")
    out = hidden(examine(request(*turns), "redact"))
    assert MAIL not in repr(out)
    assert isinstance(out.prompt, tuple)
    placeholder = out.prompt[2].content
    assert out.prompt[0].content == f"{placeholder}!"
    assert out.prompt[1].calls[0].arguments == {"to": [placeholder], "subject": "Hi"}


TOOLS = Tools((Tool("send", "{}", f"like {MAIL}"),), ("send",))


@pytest.mark.parametrize(
    "asked",
    [
        request(Message("user", "Hi", name="mail@corp.example")),
        request(Message("user", "Hi"), stop=(MAIL,)),
        request(Message("user", "Hi"), constraint=ChoiceSpec([MAIL])),
        request(Message("user", "Hi"), tools=TOOLS),
        request(Message("assistant", "", calls=(Call("c", "f", {MAIL: 1}),))),
        request(Message("assistant", "", calls=(Call("c", "f", {"card": 4111111111111111}),))),
        request(sampling=Sampling(logprobs=0)),
        request(constraint=RegexSpec(".*")),
        GenerateRequest(id="r", model="m", prompt=[1, 2, 3]),
        request(Message("user", "x" * 1_000_001)),
        request(Message("user", " ".join(f"u{i}@corp.example" for i in range(1001)))),
    ],
)
def test_what_cannot_be_hidden_stays_here(asked: GenerateRequest) -> None:
    redaction = examine(asked, "redact")
    assert redaction.keeps_from(ELSEWHERE) and redaction.reason
    assert MAIL not in redaction.reason


def test_blocking_names_the_place_and_not_the_value() -> None:
    with pytest.raises(ProviderError) as refusal:
        examine(request(Message("user", "Hi"), Message("user", MAIL)), "block")
    assert refusal.value.param == "messages[1].content"
    assert "email" in refusal.value.message and MAIL not in refusal.value.message


async def restored(redaction: Redaction, events: list[GenerationEvent]) -> list[GenerationEvent]:
    async def given_out() -> AsyncIterator[GenerationEvent]:
        for event in events:
            yield event

    _, restore = redaction.outgoing(ELSEWHERE)
    assert restore is not None
    return [event async for event in restore(given_out())]


def begun() -> tuple[Redaction, str, int]:
    """A redaction, its only placeholder, and the middle of that."""
    redaction = examine(request(), "redact")
    out = hidden(redaction).prompt
    assert isinstance(out, tuple)
    placeholder = out[0].content.removeprefix("Mail ")
    return redaction, placeholder, len(placeholder) // 2


def test_answers_of_several_choices_and_calls_are_restored() -> None:
    redaction, placeholder, half = begun()
    events: list[GenerationEvent] = [
        Delta(0, f"To {placeholder[:half]}"),
        Delta(1, placeholder[half:]),
        CallBegun(0, 0, "send"),
        CallDelta(0, 0, f'{{"to":"{placeholder[:half]}'),
        Delta(0, placeholder[half:]),
        CallDelta(0, 0, f'{placeholder[half:]}"}}'),
        Delta(1, placeholder[:3]),
        Finished(0, "stop"),
        Finished(1, "stop"),
    ]
    found = asyncio.run(restored(redaction, events))
    texts = ["".join(e.text for e in found if isinstance(e, Delta) and e.choice == choice) for choice in (0, 1)]
    assert texts == [f"To {MAIL}", placeholder[half:] + placeholder[:3]]
    assert "".join(e.arguments for e in found if isinstance(e, CallDelta)) == f'{{"to":"{MAIL}"}}'
    assert [e for e in found if isinstance(e, Finished)] == [Finished(0, "stop"), Finished(1, "stop")]


def test_thoughts_are_restored_before_what_follows_them() -> None:
    redaction, placeholder, half = begun()
    events: list[GenerationEvent] = [
        Thought(0, f"To {placeholder[:half]}"),
        Thought(0, placeholder[half:]),
        Thought(0, placeholder[:3]),
        Delta(0, "Done."),
        Finished(0, "stop"),
    ]
    found = asyncio.run(restored(redaction, events))
    assert "".join(e.text for e in found if isinstance(e, Thought)) == f"To {MAIL}{placeholder[:3]}"
    assert found[-2:] == [Delta(0, "Done."), Finished(0, "stop")]


def test_a_number_comes_back_without_its_separators_too() -> None:
    redaction = examine(request(Message("user", "4111 1111 1111 1111")), "redact")
    out = hidden(redaction).prompt
    assert isinstance(out, tuple)
    compact = out[0].content.replace(" ", "")
    (event,) = asyncio.run(restored(redaction, [Delta(0, compact + ".")]))
    assert event == Delta(0, "4111111111111111.")


LONG = JsonSchemaSpec('{"properties": {"to": {"type": "string", "maxLength": 20}}}')
FITTING = JsonSchemaSpec('{"properties": {"to": {"type": "string", "format": "email"}}}')


@pytest.mark.parametrize(
    ("constraint", "reason", "fits"),
    [(JsonObjectSpec(), "stop", True), (FITTING, "stop", True), (LONG, "stop", False), (LONG, "length", True)],
)
def test_answers_under_a_constraint_are_judged_with_the_original_in_them(
    constraint: ConstraintSpec, reason: Any, fits: bool
) -> None:
    """A placeholder has 24 characters, the original 21: an answer may break a bound, and is then not delivered."""
    redaction = examine(request(constraint=constraint), "redact")
    out = hidden(redaction).prompt
    assert isinstance(out, tuple)
    answer = f'{{"to": "{out[0].content.removeprefix("Mail ")}"}}'
    events: list[GenerationEvent] = [*(Delta(0, character) for character in answer), Finished(0, reason)]
    if fits:
        found = asyncio.run(restored(redaction, events))
        assert "".join(event.text for event in found if isinstance(event, Delta)) == f'{{"to": "{MAIL}"}}'
        assert found[-1] == Finished(0, reason)
    else:
        with pytest.raises(ProviderError) as broken:
            asyncio.run(restored(redaction, events))
        assert broken.value.kind == "invalid_answer" and MAIL not in broken.value.message


@pytest.mark.parametrize(("longest", "fits"), [(30, True), (20, False)])
def test_arguments_of_calls_are_judged_too(longest: int, fits: bool) -> None:
    schema = f'{{"properties": {{"to": {{"type": "string", "maxLength": {longest}}}}}}}'
    redaction = examine(request(tools=Tools((Tool("send", schema),), ("send",))), "redact")
    out = hidden(redaction).prompt
    assert isinstance(out, tuple)
    arguments = f'{{"to": "{out[0].content.removeprefix("Mail ")}"}}'
    calls = [CallDelta(0, 0, character) for character in arguments]
    events: list[GenerationEvent] = [Delta(0, "So:"), CallBegun(0, 0, "send"), *calls, Finished(0, "stop")]
    if fits:
        found = asyncio.run(restored(redaction, events))
        assert found[:2] == events[:2]
        assert "".join(e.arguments for e in found if isinstance(e, CallDelta)) == f'{{"to": "{MAIL}"}}'
    else:
        with pytest.raises(ProviderError, match="back in its place"):
            asyncio.run(restored(redaction, events))
