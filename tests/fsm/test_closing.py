"""The way to the end: as short as brute force finds it, and never a budget that cuts."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from fsm import TokenTable, compile_constraint
from fsm.program import Matcher, Program
from grammar import Choice, ConstraintError, JsonSchema, Lark, Regex, StructuralTag
from tests.fsm.languages import language
from tests.fsm.real_schemas import cases, needs_schemas
from tests.fsm.test_masks_exact import NESTED, SINGLE, arrays, objects
from tests.fsm.test_steps import BYTES, TREE, UNION

WORDS = [b'{"', b'":', b'", "', b'"}', b"true", b"null", b"[[", b"]]", b"00", b"ab", b'": "', b"}}", b"], [", b'"name']
TOKENS = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), *WORDS, None], [256 + len(WORDS)])


def text_of(program: Program, way: tuple[int, ...] | None) -> bytes:
    assert way is not None
    return b"".join(program.table.bytes_of(token) or b"" for token in way)


@settings(max_examples=60)
@given(schema=st.one_of(SINGLE, objects(NESTED), arrays(NESTED)), order=st.sampled_from(["schema", "any"]))
def test_the_completion_is_the_shortest(schema: Any, order: Any) -> None:
    sentences = language(schema, order)
    if not sentences:
        return
    program = compile_constraint(JsonSchema(schema, property_order=order, whitespace="compact"), BYTES)
    completion = text_of(program, program.matcher().completion())
    assert completion in sentences
    assert len(completion) == min(map(len, sentences))


def finish(program: Program, dice: random.Random, budget: int) -> bytes:
    """A random sentence of at most ``budget`` tokens: any token that leaves room, else the way."""
    matcher, text = program.matcher(), b""
    eos = set(program.table.eos_ids)
    for left in range(budget, 0, -1):
        drawn = int(dice.choice(matcher.allowed().tolist()))
        if drawn in eos:
            break
        if not matcher.advance_within(drawn, left):
            way = matcher.completion()
            assert way is not None and len(way) <= left, (text, left)
            if not way:
                break
            drawn = way[0]
            assert matcher.advance(drawn)
        text += program.table.bytes_of(drawn) or b""
    assert matcher.accepting, text
    return text


DEEP = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 100},
        "tags": {"type": "array", "items": {"type": "string", "minLength": 2}, "minItems": 3, "uniqueItems": True},
        "more": TREE,
        "when": {"type": "string", "format": "date-time"},
    },
    "required": ["id", "tags", "when"],
    "minProperties": 5,
    "$defs": TREE["$defs"],
}
DIFFERENT = {
    "type": "array",
    "items": {"type": ["string", "integer", "array"], "maxLength": 1, "maximum": 9, "minimum": 0, "maxItems": 1},
    "minItems": 7,
    "uniqueItems": True,
}


@pytest.mark.parametrize("schema", [DEEP, UNION, TREE, DIFFERENT], ids=["deep", "union", "tree", "different"])
@pytest.mark.parametrize("order", ["schema", "any"])
def test_no_budget_cuts(schema: Any, order: Any) -> None:
    program = compile_constraint(JsonSchema(schema, property_order=order), TOKENS)
    least = program.matcher().completion()
    assert least is not None
    for seed in range(3):
        dice = random.Random(seed)
        text = finish(program, dice, len(least) + dice.choice([0, 0, 1, 3, 10, 40]))
        Draft202012Validator(schema).validate(json.loads(text))


@pytest.mark.parametrize(
    ("constraint", "shortest"),
    [
        (Regex("(ab|a[^b]c?)*é{2,3}"), "éé".encode()),
        (Choice(["northeast", "north", "south-west"]), b"north"),
        (StructuralTag({"type": "structural_tag", "format": {"type": "any_text"}}), b""),
        (Lark('start: "(" start ")" | "x" "y"'), b"xy"),
    ],
    ids=["regex", "choice", "tag", "grammar"],
)
def test_other_constraints(constraint: Any, shortest: bytes) -> None:
    program = compile_constraint(constraint, TOKENS)
    assert text_of(program, program.matcher().completion()) == shortest
    for seed in range(5):
        finish(program, random.Random(seed), len(shortest) + seed)


def test_many_required_keys_in_any_order() -> None:
    """2^40 sets of keys could be tried; what is still owed leads the search."""
    keys = [f"key{i}" for i in range(40)]
    schema = {"properties": {key: {"type": "boolean"} for key in keys}, "required": keys[:30], "type": "object"}
    program = compile_constraint(JsonSchema(schema, property_order="any"), TOKENS)
    text = text_of(program, program.matcher().completion())
    Draft202012Validator(schema).validate(json.loads(text))


def test_the_way_goes_on_from_the_middle() -> None:
    matcher: Matcher = compile_constraint(JsonSchema(DEEP), BYTES).matcher()
    for byte in b'{"id": 7':
        assert matcher.advance(byte)
    way = matcher.completion()
    assert way is not None and all(matcher.advance(byte) for byte in way) and matcher.accepting


def finish_many(seed: int, programs: int, each: int) -> None:
    dice = random.Random(seed)
    while programs:
        schema = dice.choice(cases())["schema"]
        try:
            program = compile_constraint(JsonSchema(schema), TOKENS)
        except ConstraintError:
            continue
        least = program.matcher().completion()
        if least is None or len(least) > 400:
            continue
        programs -= 1
        for _ in range(each):
            json.loads(finish(program, dice, len(least) + dice.choice([0, 1, 2, 5, 20])))


@needs_schemas
def test_tight_budgets_of_real_schemas() -> None:
    finish_many(2, programs=10, each=2)


@needs_schemas
@pytest.mark.slow
def test_ten_thousand_tight_budgets_of_real_schemas() -> None:
    finish_many(3, programs=500, each=20)
