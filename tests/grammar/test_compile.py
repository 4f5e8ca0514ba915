"""Compiles are deterministic whatever was compiled before them, and expand no more than they are asked to."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.compile import AHEAD, BEHIND, answer_misses, compile_machine, expand_ahead
from grammar.constraint import JsonSchema
from grammar.errors import ConstraintError
from grammar.tables import Delta

ALL_BYTES = [True] * 256
NUMBERS: list[Any] = [
    {"type": "integer"},
    {"type": "number"},
    {"type": "integer", "minimum": -12, "maximum": 345},
    {"type": "number", "multipleOf": 0.5},
    {"enum": [1, 12, 1.5]},
    {"type": "string", "pattern": "^[ab]+$"},
    {"type": "string", "format": "date"},
]


def tables(schema: Any, first: list[int], spelling: Any) -> Delta:
    machine = compile_machine(JsonSchema(schema, number=spelling), ALL_BYTES).machine
    for state in first:  # the order in which a vocabulary happens to ask
        answer_misses(machine, [(state % machine.tables.n_states, 0)])
    expand_ahead(machine, [machine.start], 300)
    return machine.tables.delta()


@settings(max_examples=40, deadline=None)
@given(
    schema=st.sampled_from(NUMBERS),
    spelling=st.sampled_from(["canonical", "free"]),
    before=st.lists(st.integers(0, 10**6), max_size=4),
    first=st.lists(st.integers(0, 10**6), max_size=4),
)
def test_numbering_does_not_depend_on_what_was_compiled_before(
    schema: Any, spelling: Any, before: list[int], first: list[int]
) -> None:
    fresh = tables({"items": schema, "title": "fresh"}, first, spelling)
    tables({"properties": {"a": schema}}, before, spelling)
    assert tables({"items": schema, "title": "again"}, first, spelling) == fresh


def test_a_compile_expands_what_the_first_mask_needs() -> None:
    properties = {f"p{i}": {"type": "string"} for i in range(50)}
    compiled = compile_machine(JsonSchema({"type": "object", "properties": properties}), ALL_BYTES)
    assert compiled.machine.tables.delta().n_defined == AHEAD


def test_many_misses_are_answered_with_little_more() -> None:
    properties = {f"{a}{b}": {"type": "string"} for a in "abcdefgh" for b in "abcdefgh"}
    machine = compile_machine(JsonSchema({"type": "object", "properties": properties}), ALL_BYTES, ahead=20).machine
    machine.tables.delta()
    missing = [state for state in range(machine.tables.n_states) if not machine.tables.expanded(state)]
    answer_misses(machine, [(state, 0) for state in missing])
    assert machine.tables.delta().n_defined <= len(missing) + BEHIND


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "nonsense"}])
def test_garbage_is_collected_again_after_a_compile(schema: Any) -> None:
    assert gc.isenabled()
    try:
        compile_machine(JsonSchema(schema), ALL_BYTES)
    except ConstraintError:
        assert schema["type"] == "nonsense"
    assert gc.isenabled()
