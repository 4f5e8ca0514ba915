"""Loops: a mask that skips subtrees allows the same tokens as steps byte by byte."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm.program import Program, compile_constraint
from fsm.steps import MISS, OK
from fsm.tokens import TokenTable
from grammar.constraint import JsonSchema, Regex

PIECES = (
    "a",
    "b",
    "z",
    "0",
    " ",
    "/",
    ".",
    '"',
    "\\",
    "\t",
    "é",
    "ß",
    "€",
    "　",
    "中",
    "文",
    "，",
    "🙂",
    "\ufeff",
    "\x7f",
)
"""One of each: bytes on either side of every border that a loop may have."""


def vocabulary() -> TokenTable:
    rng = random.Random(0)
    texts = {"".join(rng.choices(PIECES, k=rng.randint(1, 6))).encode() for _ in range(3000)}
    cut = {text[rng.randrange(len(text)) :][: rng.randint(1, 5)] for text in texts}
    ill = {
        bytes(rng.choices((0x41, 0x80, 0xA0, 0xBF, 0xC0, 0xC3, 0xE0, 0xED, 0xF0, 0xF4, 0xF8), k=3)) for _ in range(200)
    }
    every = {bytes([b]) for b in range(256)}
    return TokenTable.from_bytes([*sorted(texts | cut | ill | every), None], [len(texts | cut | ill | every)])


TABLE = vocabulary()


def stepped(program: Program, state: int) -> set[int]:
    """The tokens that can be advanced over."""
    n = TABLE.vocab_size
    programs, states = np.full(n, program.number, np.int32), np.full(n, state, np.int32)
    tokens = np.arange(n, dtype=np.int32)
    out, status = np.empty(n, np.int32), np.empty(n, np.uint8)
    while True:
        program.runtime.advance(programs, states, tokens, out, status)
        if not (status == MISS).any():
            return set(np.flatnonzero(status == OK).tolist())
        program.answer_misses()


def test_steps_that_were_made_are_the_same_again() -> None:
    """A step is looked up the second time, unless its place was taken by another."""
    schema = {"type": "array", "items": {"type": "string", "pattern": "^[a-z]*$", "maxLength": 4}, "minItems": 30}
    program, fresh = (compile_constraint(JsonSchema(schema, whitespace="compact"), TABLE) for _ in range(2))
    rng = random.Random(0)
    path: list[int] = []
    for _ in range(60):
        matcher = program.matcher()
        assert all(map(matcher.advance, path))
        going_on = stepped(program, matcher.state) - set(TABLE.eos_ids)
        if not going_on:
            break
        path.append(rng.choice(sorted(going_on)))
    assert program.image.n_configurations > 3 * fresh.image.n_configurations
    matcher, unaided = program.matcher(), fresh.matcher()
    for token in path:
        assert matcher.advance(token) and unaided.advance(token)
        assert set(matcher.allowed().tolist()) == set(unaided.allowed().tolist())
    assert len(path) > 20


def check(program: Program, seed: int, steps: int = 12) -> None:
    """Walk at random; at each state the mask allows the tokens that can be advanced over, and no others."""
    rng = random.Random(seed)
    matcher = program.matcher()
    for _ in range(steps):
        taken = stepped(program, matcher.state)
        assert set(matcher.allowed().tolist()) - set(TABLE.eos_ids) == taken
        if not taken:
            return
        assert matcher.advance(rng.choice(sorted(taken)))


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z]*$", "^[^/]+$", "^\\S+$", "^(?:\\S+\\s+){0,3}\\S+$", "^[^\\u3000]*$", "^[^a🙂]*z?$", "[中文]+",
        "^.{3}[^.]*$", "^[\\u0080-\\uffff]*$", "^[^\\ufeff]*/", "^(a|é|€|🙂)*$", "^[^\\u0800-\\u0fff]*$",
    ],
)  # fmt: skip
@pytest.mark.parametrize("lengths", [{}, {"maxLength": 4}, {"minLength": 2, "maxLength": 9}, {"minLength": 3}])
def test_patterns(pattern: str, lengths: dict[str, int]) -> None:
    schema = {"type": "string", "pattern": pattern, **lengths}
    program = compile_constraint(JsonSchema(schema, whitespace="compact"), TABLE)
    for seed in range(2):
        check(program, seed)


CLASS = st.sampled_from(
    ("a", "\\w", "\\s", "[^a]", "[^é]", "[^中-文]", ".", "[\\x00-\\x7f]", "[^\\x00-\\x7f]", "🙂", "[a-é]")
)


@given(
    st.lists(st.tuples(CLASS, st.sampled_from(("", "*", "+", "?", "{2,5}"))), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_regular_expressions(parts: list[tuple[str, str]], seed: int) -> None:
    program = compile_constraint(Regex("".join(first + repeat for first, repeat in parts)), TABLE)
    check(program, seed, 4)


@pytest.mark.parametrize("order", ["schema", "any"])
@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": True, "éa": True}},
        {"properties": {"a": True}, "required": ["a"], "maxProperties": 2},
        {"patternProperties": {"^a": {"type": "null"}, "/": {"type": "null"}}, "additionalProperties": False},
        {"propertyNames": {"pattern": "^[^ ]*$", "maxLength": 5}},
        {"additionalProperties": False, "patternProperties": {"^\\S+$": True}, "properties": {"zz": True}},
        {"patternProperties": {"^ab$": {"type": "null"}, "^é": {"type": "null"}}},
        {"patternProperties": {"(^.+中.+)|(^[a-z]+)": {"type": "null"}}, "additionalProperties": False},
        {"patternProperties": {"^b": {"type": "null"}}, "propertyNames": {"maxLength": 3}},
    ],
)
def test_keys(schema: dict[str, object], order: str) -> None:
    constraint = JsonSchema({"type": "object", **schema}, property_order=order, whitespace="compact")  # type: ignore[arg-type]
    program = compile_constraint(constraint, TABLE)
    for seed in range(3):
        check(program, seed)


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"enum": ["ab", "é中", "a/🙂"]}, {"type": "string", "pattern": "^[^ ]{2}"}]},
        {"anyOf": [{"const": "ab"}, {"type": "string", "minLength": 3, "maxLength": 5}]},
        {"type": "string", "pattern": "^[^é]", "maxLength": 3},
        {"type": "string", "pattern": "^(a|[^a].)", "minLength": 2, "maxLength": 6},
        {"type": "string", "pattern": "^.[a-z]*$", "maxLength": 4},
        {"not": {"enum": ["a", "ab/", "中"]}, "type": "string"},
    ],
)
def test_states_that_lead_to_a_loop(schema: dict[str, object]) -> None:
    program = compile_constraint(JsonSchema(schema, whitespace="compact"), TABLE)
    for seed in range(4):
        check(program, seed)


@pytest.mark.parametrize("pattern", ["foo", "^.*a.{3}", "[ab]*a[ab]{4}$", "é.*中", "^(.*z|[^/]*/)", "\\sa", "^x(.*)y$"])
@pytest.mark.parametrize("lengths", [{}, {"maxLength": 7}, {"minLength": 3, "maxLength": 30}])
def test_places_that_last(pattern: str, lengths: dict[str, int]) -> None:
    schema = {"type": "string", "pattern": pattern, **lengths}
    program = compile_constraint(JsonSchema(schema, whitespace="compact"), TABLE)
    for seed in range(3):
        check(program, seed)


@pytest.mark.parametrize("pattern", [".*a.{3}", "[ab]*a[ab]{4}", "(.|\n)*é", "(?s:.*)a", "[^é]*é.*"])
def test_places_that_last_in_regular_expressions(pattern: str) -> None:
    program = compile_constraint(Regex(pattern), TABLE)
    for seed in range(5):
        check(program, seed)
