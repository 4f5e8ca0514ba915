"""Strings with a pattern and a length: their masks equal brute force, and are few however long the string."""

from __future__ import annotations

import json
import random
import re
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm import TokenTable, compile_constraint
from grammar import JsonSchema, UnsatisfiableConstraint
from tests.fsm.test_masks_exact import check

LETTERS = "ab é"
TOKENS = [*(bytes([b]) for b in range(0x20, 0x7F)), *(bytes([b]) for b in "é".encode()), b"ab", b"aab", b' a"', b'b"']
TABLE = TokenTable.from_bytes([*TOKENS, None], [len(TOKENS)])
TEXTS = ["".join(letters) for n in range(7) for letters in product(LETTERS, repeat=n)]

PATTERNS = st.sampled_from(
    [
        "^(aa)*b?$",
        "^(ab|aab|é){1,3}$",
        "^a{2}( a{3})?$",
        "^([^a]+a){0,2}$",
        "^(a|b b|é é b b)*$",
        "a b",
        "^a.*b$",
        "b{2,4}é?$",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    patterns=st.lists(PATTERNS, min_size=1, max_size=2, unique=True), least=st.integers(0, 5), more=st.integers(0, 3)
)
def test_masks_equal_brute_force(patterns: list[str], least: int, more: int) -> None:
    longest = min(least + more, 6)
    within: dict[str, Any] = {"minLength": least, "maxLength": longest, "pattern": "^[ab é]*$"}
    schema = {"type": "string", **within, "allOf": [{"pattern": pattern} for pattern in patterns]}
    sentences = {
        json.dumps(text, ensure_ascii=False).encode()
        for text in TEXTS
        if least <= len(text) <= longest and all(re.search(pattern, text) for pattern in patterns)
    }
    try:
        program = compile_constraint(JsonSchema(schema, whitespace="compact"), TABLE)
    except UnsatisfiableConstraint:
        assert not sentences
        return
    check(program, sentences, budget=200)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": r"^(?:\S+\s+){0,49}\S+$", "minLength": 1, "maxLength": 5000},
        {"type": "string", "pattern": "^[a-z ]*$", "minLength": 2000},
        {"type": "string", "pattern": "x", "maxLength": 100_000},
        {"type": "string", "pattern": "^[a-z]{1,100000}$"},
        {"type": "string", "pattern": "^([a-z]{0,1000}){0,1000}$"},
    ],
)
def test_a_long_string_has_few_states_and_masks(schema: Any) -> None:
    bytes_only = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None], [256])
    program = compile_constraint(JsonSchema(schema), bytes_only)
    matcher = program.matcher()
    assert matcher.advance(ord('"'))
    for i in range(1500):
        matcher.mask()
        assert matcher.advance(ord("xyz"[i % 3]))
    assert program.machine.tables.n_states < 2500
    assert program.runtime.figures.cold < 20


@pytest.mark.parametrize(("least", "most"), [(0, 17), (3, 20), (25, 25), (30, None)])
def test_a_pattern_that_only_counts_is_a_length(least: int, most: int | None) -> None:
    """Step by step, the masks are those of the same length given by keywords."""
    pattern = f"^[ab é]{{{least},{'' if most is None else most}}}$"
    bounds = {"minLength": least} if most is None else {"minLength": least, "maxLength": most}
    counted = compile_constraint(JsonSchema({"type": "string", "pattern": pattern}), TABLE)
    bounded = compile_constraint(JsonSchema({"type": "string", "pattern": "^[ab é]*$", **bounds}), TABLE)
    for seed in range(4):
        dice, one, other = random.Random(seed), counted.matcher(), bounded.matcher()
        for _ in range(40):
            allowed = one.allowed()
            assert np.array_equal(allowed, other.allowed())
            if one.accepting:
                break
            token = int(dice.choice(allowed))
            assert one.advance(token)
            assert other.advance(token)
        assert one.accepting == other.accepting
