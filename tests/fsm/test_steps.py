"""The kernels against a plain interpreter of the same machines: every byte, at every place a random walk reaches."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from fsm.program import compile_constraint
from fsm.tokens import TokenTable
from grammar.compile import compile_machine
from grammar.constraint import Choice, Constraint, JsonObject, JsonSchema, Regex
from tests.fsm.interpreter import Interpreter

BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None], [256])

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5},
        "nick": {"type": "string", "pattern": "^[a-c]+$"},
        "né": {"enum": [1, "x", None]},
        "tags": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["tags"],
    "additionalProperties": {"type": "boolean"},
}
TREE = {
    "$ref": "#/$defs/t",
    "$defs": {
        "t": {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {"l": {"$ref": "#/$defs/t"}, "r": {"$ref": "#/$defs/t"}},
                    "required": ["l"],
                },
            ]
        }
    },
}
UNION = {
    "anyOf": [
        {"type": "object", "properties": {"k": {"const": "a"}, "v": {"type": "number"}}, "required": ["k", "v"]},
        {"type": "object", "properties": {"k": {"type": "string"}, "w": {"type": "boolean"}}, "required": ["w"]},
        {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 2},
        {"type": "array", "items": {"type": "number"}},
    ]
}
ANY_UNIQUE = {"type": "array", "uniqueItems": True, "minItems": 2, "maxItems": 4}
ROWS = {
    "type": "array",
    "uniqueItems": True,
    "items": {
        "type": "object",
        "properties": {"id": {"enum": ["a", "b"]}, "at": {"type": "object"}, "on": {"type": "boolean"}},
        "required": ["id", "at"],
        "additionalProperties": False,
    },
}
NESTED_UNIQUE = {
    "type": "array",
    "uniqueItems": True,
    "items": {"type": "array", "items": {"type": ["object", "boolean"]}, "uniqueItems": True},
}
CONSTRAINTS: dict[str, Constraint] = {
    "person": JsonSchema(PERSON),
    "person in any order": JsonSchema(PERSON, property_order="any"),
    "tree": JsonSchema(TREE, whitespace="compact"),
    "union": JsonSchema(UNION, property_order="any", whitespace="flexible"),
    "union in order": JsonSchema(UNION),
    "object": JsonObject(),
    "unique": JsonSchema(ANY_UNIQUE, property_order="any", number="free"),
    "unique rows": JsonSchema(ROWS),
    "unique in unique": JsonSchema(NESTED_UNIQUE, whitespace="flexible"),
    "regex": Regex("(ab|a[^b]c?)*é{2,3}"),
    "choice": Choice(["north", "northeast", "né", "south"]),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_kernels_equal_the_interpreter(name: str, seed: int) -> None:
    draw = random.Random(seed)
    matcher = compile_constraint(CONSTRAINTS[name], BYTES).matcher()
    oracle = Interpreter(compile_machine(CONSTRAINTS[name], [True] * 256).machine)
    place = oracle.start
    for _ in range(60):
        following = {b: reached for b in range(256) if (reached := oracle.step(place, b)) is not None}
        allowed = set(matcher.allowed().tolist())
        assert allowed - {256} == set(following)
        assert matcher.accepting == (256 in allowed) == oracle.accepting(place)
        if not following:
            break
        # Structure is rarer than letters: give it even odds, or walks stay in one string.
        rare = [b for b in following if chr(b) in '"{}[],:']
        byte = draw.choice(rare) if rare and draw.random() < 0.5 else draw.choice(list(following))
        assert matcher.advance(byte)
        place = following[byte]


@pytest.mark.parametrize("name", [name for name in CONSTRAINTS if name not in ("regex", "choice")])
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_walks_never_get_stuck_and_what_is_complete_is_valid(name: str, seed: int) -> None:
    """Wherever random bytes lead, something may follow or the text may end; where it may, a plain validator agrees."""
    constraint = CONSTRAINTS[name]
    draw = random.Random(seed)
    matcher = compile_constraint(constraint, BYTES).matcher()
    text = bytearray()
    for _ in range(150):
        choices = matcher.allowed().tolist()
        assert choices, text
        if 256 in choices:
            value = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
            if isinstance(constraint, JsonSchema):
                Draft202012Validator(constraint.schema).validate(value)
        closing = [b for b in choices if b < 256 and chr(b) in '"}]'] if draw.random() < 0.4 else []
        going = closing or [b for b in choices if b < 256]
        if not going:
            break
        text.append(draw.choice(going))
        assert matcher.advance(text[-1])


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


def test_matchers_are_persistent() -> None:
    matcher = compile_constraint(JsonSchema(PERSON), BYTES).matcher()
    for byte in b'{"ta':
        assert matcher.advance(byte)
    fork, before = matcher.fork(), matcher.mask()
    for byte in b'gs":[1,2]':
        assert matcher.advance(byte)
    assert not matcher.advance(ord("x"))
    assert (fork.mask() == before).all()
    matcher.rollback(9)
    assert matcher.state == fork.state
    assert (matcher.mask() == before).all()
    with pytest.raises(ValueError, match="roll back"):
        matcher.rollback(5)


def test_forced_text_runs_to_the_next_choice() -> None:
    matcher = compile_constraint(JsonSchema({"const": {"answer": 42}}, whitespace="compact"), BYTES).matcher()
    assert matcher.forced() == b'{"answer":42}'
    for byte in b'{"ans':
        assert matcher.advance(byte)
    assert matcher.forced() == b'wer":42}'


def test_end_of_sequence_and_special_tokens_are_never_text() -> None:
    table = TokenTable.from_bytes([b'"', b"a", b"b", None, b"<|im_end|>"], [4])
    matcher = compile_constraint(Regex('"[ab<|im_end>]*"'), table).matcher()
    assert matcher.allowed().tolist() == [0]
    assert matcher.advance(0) and not matcher.advance(4) and not matcher.advance(3) and not matcher.advance(99)
    assert matcher.allowed().tolist() == [0, 1, 2]
    assert matcher.advance(0) and matcher.allowed().tolist() == [4]


def test_masks_of_a_long_bounded_string_are_few() -> None:
    program = compile_constraint(JsonSchema({"type": "string", "maxLength": 100_000}), BYTES)
    matcher = program.matcher()
    assert matcher.advance(ord('"'))
    rows = set()
    for _ in range(3000):
        rows.add(matcher.mask().tobytes())
        assert matcher.advance(ord("x"))
    assert len(rows) == 1
    assert program.runtime.figures.cold <= 4


def test_a_table_grows_without_losing_its_states() -> None:
    program = compile_constraint(JsonObject(), BYTES)
    matcher, text = program.matcher(), json.dumps({f"key{i}": i for i in range(400)}).encode()
    generation = program.image.generation
    for byte in text:
        assert matcher.advance(byte)
    assert program.image.generation > generation
    assert matcher.accepting
    assert np.array_equal(matcher.allowed(), [256])
    matcher.rollback(len(text))
    assert matcher.state == program.image.start


MAP = JsonSchema({"type": "object", "additionalProperties": {"type": "null"}}, whitespace="compact")


def test_masks_inside_free_keys_are_shared() -> None:
    """Neither the text of a key nor the keys before it make a mask new, unless a token could repeat one of them."""
    program = compile_constraint(MAP, BYTES)
    matcher = program.matcher()
    for byte in json.dumps({f"some long key {i}": None for i in range(30)}, separators=(",", ":")).encode():
        matcher.mask()
        assert matcher.advance(byte)
    assert program.runtime.figures.cold < 100
    assert program.runtime.figures.warm > 600


def test_a_token_that_would_repeat_a_key_is_masked() -> None:
    pieces = [bytes([b]) for b in range(256)]
    pieces += [b'b"', b'b":', b'","', b'"ab"', b',"ab":null', b'"x":null,"x":', b'":null,"ab"', b'ab":null,"']
    table = TokenTable.from_bytes([*pieces, None], [len(pieces)])
    program = compile_constraint(MAP, table)
    for text in (b'{"ab":null', b'{"ab":null,', b'{"ab":null,"', b'{"ab":null,"a', b'{"c":null,"a', b'{"c', b"{"):
        oracle = Interpreter(compile_machine(MAP, [True] * 256).machine)
        place = oracle.run(text)
        assert place is not None
        matcher = program.matcher()
        for byte in text:
            assert matcher.advance(byte)
        expected = {i for i, piece in enumerate(pieces) if oracle.run(piece, place) is not None}
        assert set(matcher.allowed().tolist()) - {len(pieces)} == expected, text
