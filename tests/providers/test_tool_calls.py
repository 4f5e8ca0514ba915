"""Calls are read out of a text whatever pieces it comes in, and nothing else is taken for one."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.tool_calls import Arguments, Begun, CallReader, Piece, Text
from providers.tool_formats import HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS, ToolFormat

FORMATS = [HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS]
texts = st.text(alphabet='a<>[]{}"\\ \n:,é🦆', max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, values, max_size=3)
calls = st.tuples(st.sampled_from(["f", "get_weather", "a-b"]), objects)


def read(reader: CallReader, text: str, cuts: list[int], *, cut: bool = False) -> list[str | tuple[str, str]]:
    """Texts and calls, in their order, of a text that comes cut."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces: list[Piece] = []
    for start, end in pairwise(places):
        pieces += reader.feed(text[start:end])
    found: list[str | tuple[str, str]] = []
    for piece in (*pieces, *reader.flush(cut=cut)):
        match piece, found[-1:]:
            case Text(more), [str(said)]:
                found[-1] = said + more
            case Text(more), _:
                found.append(more)
            case Begun(name), _:
                found.append((name, ""))
            case Arguments(more), [(name, arguments)]:
                found[-1] = (str(name), arguments + more)
            case _:
                raise AssertionError(f"{piece} after {found[-1:]}")
    return found


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.family)
@settings(max_examples=50)
@given(
    parts=st.lists(st.tuples(texts, calls), max_size=3), rest=texts, cuts=st.lists(st.integers(0, 10_000), max_size=40)
)
def test_texts_and_calls_are_told_apart(
    format: ToolFormat, parts: list[tuple[str, tuple[str, dict[str, Any]]]], rest: str, cuts: list[int]
) -> None:
    expected: list[str | tuple[str, str]] = []
    whole = ""
    for said, (name, arguments) in parts:
        # White space between a text and a call belongs to nobody.
        expected += [said.rstrip()] if said.rstrip() else []
        expected.append((name, json.dumps(arguments, ensure_ascii=False)))
        whole += said + format.spell((name, arguments))
    last = rest.rstrip() if parts else rest
    expected += [last] if last else []
    assert read(CallReader(format), whole + rest, cuts) == expected


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.family)
@settings(max_examples=30)
@given(arguments=objects, cuts=st.lists(st.integers(0, 10_000), max_size=40))
def test_a_call_that_the_prompt_began(format: ToolFormat, arguments: dict[str, Any], cuts: list[int]) -> None:
    text = json.dumps(arguments, indent=2)
    assert read(CallReader(format, "f"), text, cuts) == [("f", text)]


@settings(max_examples=50)
@given(arguments=objects, kept=st.integers(0, 1000))
def test_a_cut_call_gives_what_there_was(arguments: dict[str, Any], kept: int) -> None:
    whole = HERMES.spell(("f", arguments))
    begin = HERMES.begin("f")
    cut = whole[: len(begin) + kept % (len(whole) - len(begin) - len(HERMES.tail) + 1)]
    assert read(CallReader(HERMES), cut, []) == [("f", cut[len(begin) :])]


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.family)
@settings(max_examples=50)
@given(
    said=texts,
    call=calls,
    kept=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 10_000), max_size=10),
    required=st.booleans(),
)
def test_a_call_that_is_cut_before_its_name_is_no_text(
    format: ToolFormat, said: str, call: tuple[str, dict[str, Any]], kept: int, cuts: list[int], required: bool
) -> None:
    """Once nothing but a call can come: one must, one has come, or its trigger is there."""
    said = "" if required else said
    head = format.openings[0] + format.head
    begun = head[: kept % len(head)]
    reader = CallReader(format, required=required)
    told = said if format.trigger in begun or not begun or required else said + begun
    expected = [told.rstrip() if told == said and begun else told]
    assert read(reader, said + begun, cuts, cut=True) == [text for text in expected if text]
    name, arguments = call
    if format.several:
        whole = said + format.spell(call) + "\n" + begun
        after = [text for text in (said.rstrip(), (name, json.dumps(arguments, ensure_ascii=False))) if text]
        assert read(CallReader(format, required=required), whole, cuts, cut=True) == after


def test_text_is_not_held_back_longer_than_needed() -> None:
    reader = CallReader(HERMES)
    assert reader.feed("Let me see <b") == [Text("Let me see <b")]
    assert reader.feed(" <tool_") == []
    assert reader.feed("box>") == [Text(" <tool_box>")]
    assert reader.feed('\n<tool_call>\n{"name": "f", "arg') == []
    assert reader.feed('uments": {"a"') == [Begun("f"), Arguments('{"a"')]
    assert not reader.in_text
    assert reader.feed(": 1}}\n</tool_call>\n") == [Arguments(": 1}")]
    assert reader.in_text and reader.flush() == []


@settings(max_examples=50)
@given(
    together=st.lists(calls, min_size=1, max_size=4),
    opening=st.sampled_from(MISTRAL.openings),
    said=texts,
    rest=texts,
    cuts=st.lists(st.integers(0, 10_000), max_size=40),
)
def test_calls_in_one_array(
    together: list[tuple[str, dict[str, Any]]], opening: str, said: str, rest: str, cuts: list[int]
) -> None:
    whole = opening + MISTRAL.spell(*together).removeprefix(MISTRAL.openings[0])
    expected: list[str | tuple[str, str]] = [said.rstrip()] if said.rstrip() else []
    expected += [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in together]
    expected += [rest.rstrip()] if rest.rstrip() else []
    assert read(CallReader(MISTRAL), said + whole + rest, cuts) == expected
