"""Masks that are put together from a profile equal those of a walk over all tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm.program import compile_constraint
from fsm.tokens import TokenTable
from grammar.constraint import JsonSchema

PIECES = [
    "a",
    "b",
    "\\",
    '"',
    "é",
    "日",
    "\\u00",
    "0",
    "{",
    "}",
    ":",
    ",",
    " ",
    '":',
    '","',
    "\n",
    "😀",
    "\\ud83d",
    "ab",
]
SCHEMAS: list[Any] = [
    {"type": "string"},
    {"type": "string", "maxLength": 3},
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"type": "object"},
    {"type": "object", "properties": {"ab": {"type": "string"}, "é": True}, "required": ["ab"]},
    {"type": "object", "properties": {"ab": True}, "additionalProperties": {"type": "string"}, "maxProperties": 2},
    {"anyOf": [{"required": ["a"], "maxProperties": 2}, {"properties": {"b": False}}], "type": "object"},
]


@settings(max_examples=60, deadline=None)
@given(
    schema=st.sampled_from(SCHEMAS),
    order=st.sampled_from(["schema", "any"]),
    tokens=st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join), max_size=40),
    choices=st.lists(st.integers(0, 10**6), max_size=12),
)
def test_inside_of_strings_and_keys(schema: Any, order: Any, tokens: list[str], choices: list[int]) -> None:
    vocabulary: list[bytes | None] = [*(bytes([b]) for b in range(256)), *(token.encode() for token in tokens)]
    # Pieces of characters, as byte-level tokenizers have them.
    vocabulary += [*(token.encode()[1:] or None for token in tokens), None]
    table = TokenTable.from_bytes(vocabulary, [len(vocabulary) - 1])
    fast = compile_constraint(JsonSchema(schema, property_order=order), table)
    slow = compile_constraint(JsonSchema(schema, property_order=order), table)
    one, other = fast.matcher(), slow.matcher()
    for choice in choices:
        slow.image.plain.clear()
        slow.image.keyed.clear()
        assert np.array_equal(one.mask(), other.mask())
        allowed = [i for i in one.allowed().tolist() if i not in table.eos_ids]
        if not allowed:
            break
        token = allowed[choice % len(allowed)]
        assert one.advance(token)
        assert other.advance(token)


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "object"}])
def test_profiles_leave_few_tokens_to_walk(schema: Any) -> None:
    words: list[bytes | None] = [bytes([97 + i % 26, 97 + i // 26 % 26, 97 + i // 676]) for i in range(5000)]
    vocabulary: list[bytes | None] = [*(bytes([b]) for b in range(256)), *words, None]
    program = compile_constraint(JsonSchema(schema), TokenTable.from_bytes(vocabulary, [len(vocabulary) - 1]))
    matcher = program.matcher()
    for byte in b'{"a' if schema["type"] == "object" else b'"a':
        assert matcher.advance(byte)
    before = program.runtime.figures.nodes
    assert len(matcher.allowed()) > 5000
    assert program.runtime.figures.nodes - before < 100
