"""Structural tags against a recogniser that shares nothing with the compiler, on all short texts and on random ones."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm import TokenTable, compile_constraint
from grammar import ConstraintError, Contract, StructuralTag, UnsatisfiableConstraint, UnsupportedConstraint
from tests.grammar.structural.recogniser import accepts

BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None], [256])


def tag(begin: str, content: Any, end: Any) -> dict[str, Any]:
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def const(value: str) -> dict[str, Any]:
    return {"type": "const_string", "value": value}


def regex(pattern: str) -> dict[str, Any]:
    return {"type": "regex", "pattern": pattern}


TEXT = {"type": "any_text"}
BOOLEAN = {"type": "json_schema", "json_schema": {"type": "boolean"}}


def document(form: dict[str, Any]) -> dict[str, Any]:
    return {"type": "structural_tag", "format": form}


def machine_accepts(program: Any, text: str) -> bool:
    matcher = program.matcher()
    return all(matcher.advance(byte) for byte in text.encode()) and matcher.accepting


words = st.text("ab<", min_size=1, max_size=3)
leaves = st.one_of(
    words.map(const),
    st.sampled_from(["a*", "(ab|a)b?", "<?", "[ab]{2}"]).map(regex),
    st.builds(lambda excludes: {**TEXT, "excludes": excludes}, st.lists(words, max_size=2)),
)
tags = st.builds(tag, words, leaves, st.one_of(words, st.lists(words, min_size=1, max_size=2), st.just("")))
elements = st.deferred(lambda: st.lists(st.one_of(leaves, tags, composed), min_size=1, max_size=3))
composed = st.one_of(
    st.builds(lambda e: {"type": "sequence", "elements": e}, elements),
    st.builds(lambda e: {"type": "or", "elements": e}, elements),
    st.builds(
        lambda kind, content: {"type": kind, "content": content},
        st.sampled_from(["optional", "star", "plus"]), st.one_of(leaves, tags),
    ),
    st.builds(
        lambda least, more, content: {"type": "repeat", "min": least, "max": least + more, "content": content},
        st.integers(0, 2), st.integers(0, 2), st.one_of(leaves, tags),
    ),
    st.builds(
        lambda tags, separator, one, stop: {
            "type": "tags_with_separator", "tags": tags, "separator": separator,
            "at_least_one": one, "stop_after_first": stop,
        },
        st.lists(tags, min_size=1, max_size=2), words, st.booleans(), st.booleans(),
    ),
    st.builds(
        lambda tags, one, stop, excludes: {
            "type": "triggered_tags", "triggers": sorted({t["begin"][:1] for t in tags}), "tags": tags,
            "at_least_one": one, "stop_after_first": stop, "excludes": excludes,
        },
        st.lists(tags, min_size=1, max_size=3), st.booleans(), st.booleans(), st.lists(words, max_size=1),
    ),
)  # fmt: skip
TEXTS = ["".join(letters) for n in range(6) for letters in product("ab<", repeat=n)]


@settings(max_examples=60, deadline=None)
@given(form=st.one_of(tags, composed), seed=st.integers(0, 2**32))
def test_the_texts_of_formats_are_those_of_the_recogniser(form: dict[str, Any], seed: int) -> None:
    asked = document(form)
    try:
        program = compile_constraint(StructuralTag(asked), BYTES)
    except UnsatisfiableConstraint as refused:  # a part that can never be written, even where others could
        assert "the free text can never end" in refused.reason
        return
    assert program.contract is Contract.EXACT
    for text in random.Random(seed).sample(TEXTS, 120):
        assert machine_accepts(program, text) == accepts(asked, text), (form, text)


@settings(max_examples=40, deadline=None)
@given(form=st.one_of(tags, composed), seed=st.integers(0, 2**32))
def test_no_walk_is_a_dead_end(form: dict[str, Any], seed: int) -> None:
    try:
        matcher = compile_constraint(StructuralTag(document(form)), BYTES).matcher()
    except UnsatisfiableConstraint:
        return
    dice, text = random.Random(seed), b""
    for _ in range(30):
        allowed = [token for token in matcher.allowed().tolist() if token < 256]
        if not allowed:
            assert matcher.accepting
            break
        letters = [token for token in allowed if token in b"ab<"] or allowed
        token = dice.choice(letters)
        assert matcher.advance(token)
        text += bytes([token])
    if matcher.accepting:
        assert accepts(document(form), text.decode())


CALLS = document(
    {
        "type": "triggered_tags",
        "triggers": ["<call"],
        "tags": [
            tag("<call a>", {"type": "json_schema", "json_schema": {"type": "integer"}}, "</call>"),
            tag("<call b>", BOOLEAN, "</call>"),
        ],
    }
)


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", True),
        ("just <text>", True),
        ("é <call a>12</call> and <call b>true</call>", True),
        ("<call a>12", False),
        ("<call a>true</call>", None),
        ("<call c>", None),
        ("<call a>12</call", False),
        ("<cal", True),
    ],
)
def test_text_is_free_until_a_trigger(text: str, complete: bool | None) -> None:
    matcher = compile_constraint(StructuralTag(CALLS), BYTES).matcher()
    written = all(matcher.advance(byte) for byte in text.encode())
    assert (matcher.accepting if written else None) == complete


def test_the_older_form_means_the_same() -> None:
    older = {
        "type": "structural_tag",
        "structures": [
            {"begin": "<call a>", "schema": {"type": "integer"}, "end": "</call>"},
            {"begin": "<call b>", "schema": {"type": "boolean"}, "end": "</call>"},
        ],
        "triggers": ["<call"],
    }
    program = compile_constraint(StructuralTag(older), BYTES)
    assert machine_accepts(program, "x<call b>true</call>")
    assert not machine_accepts(program, "x<call b>1</call>")


def test_where_json_and_text_could_go_on_json_does_and_the_contract_says_so() -> None:
    form = {"type": "or", "elements": [BOOLEAN, TEXT]}
    program = compile_constraint(StructuralTag(document(form)), BYTES)
    assert program.contract is Contract.SOUND_SUBSET
    assert "/format/elements/0/json_schema" in program.reasons[0]
    assert machine_accepts(program, "true") and machine_accepts(program, "some text")
    assert not machine_accepts(program, "truth")


def test_a_number_before_a_digit_goes_on_and_the_contract_says_so() -> None:
    integer = {"type": "json_schema", "json_schema": {"type": "integer", "maximum": 99, "minimum": 0}}
    program = compile_constraint(
        StructuralTag(document({"type": "sequence", "elements": [integer, const("0!")]})), BYTES
    )
    assert program.contract is Contract.SOUND_SUBSET
    matcher = program.matcher()
    assert all(matcher.advance(byte) for byte in b"120!") and matcher.accepting


def test_reasons_of_a_schema_inside_name_their_place() -> None:
    schema = {"type": "array", "items": {"format": "uri-template", "type": "string"}}
    program = compile_constraint(
        StructuralTag(document(tag("<", {"type": "json_schema", "json_schema": schema}, ">"))), BYTES
    )
    assert program.contract is Contract.SOUND_SUBSET
    assert any("/format/content/json_schema" in reason for reason in program.reasons)


@pytest.mark.parametrize(
    ("asked", "kind", "pointer"),
    [
        ({"type": "tag"}, ConstraintError, "/type"),
        ([], ConstraintError, ""),
        (document({"type": "any_text", "max_tokens": 3}), UnsupportedConstraint, "/format/max_tokens"),
        (document({"type": "token", "token": 3}), UnsupportedConstraint, "/format/type"),
        (document({"type": "sequence", "elements": []}), ConstraintError, "/format/elements"),
        (document(tag("a", TEXT, [])), ConstraintError, "/format/end"),
        (document(tag("a", {"type": "const_string"}, "b")), ConstraintError, "/format/content"),
        (document(tag("a", const("\ud800"), "b")), ConstraintError, "/format/content/value"),
        (document({**CALLS["format"], "triggers": ["<call", "<tool"]}), ConstraintError, "/format/triggers/1"),
        (document({**CALLS["format"], "triggers": ["<call", "<c"]}), ConstraintError, "/format/tags/0/begin"),
        (document({"type": "repeat", "min": 3, "max": 2, "content": TEXT}), ConstraintError, "/format/max"),
        (document(tag("a", {**TEXT, "excludes": ["<"]}, "<b")), UnsatisfiableConstraint, "/format/content"),
        (document(tag("a", regex("(?P<x>a)(?P=x)"), "b")), UnsupportedConstraint, "/format/content/pattern"),
        (
            document(tag("a", {"type": "json_schema", "json_schema": {"properties": {"a": {"type": 3}}}}, "b")),
            ConstraintError, "/format/content/json_schema/properties/a/type",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(asked: Any, kind: type[ConstraintError], pointer: str) -> None:
    with pytest.raises(kind) as caught:
        compile_constraint(StructuralTag(asked), BYTES)
    assert caught.value.pointer == pointer
