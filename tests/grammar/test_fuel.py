"""A constraint that compiles is not refused in the middle of a text, whatever it lies in; and growth is bounded."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from fsm import TokenTable, compile_constraint
from grammar import Choice, ConstraintTooLarge, JsonSchema, Lark, Regex, StructuralTag
from grammar.compile import compile_machine
from grammar.constraint import Constraint
from grammar.fuel import ROOM

BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None], [256])
FUEL = 2_000
WIDE = "^(a|b)*a(a|b){10}$"
"""Its automaton has 2,048 states and more, which texts meet one after another."""
SCHEMA = {"type": "string", "pattern": WIDE}
TAG = {"type": "tag", "begin": "<", "content": {"type": "json_schema", "json_schema": SCHEMA}, "end": ">"}

NESTED: dict[str, tuple[Constraint, bytes]] = {
    "schema": (JsonSchema(SCHEMA), b'"'),
    "regex": (Regex(WIDE[1:-1]), b""),
    "schema in a tag": (StructuralTag({"type": "structural_tag", "format": TAG}), b'<"'),
    "regex in a tag": (
        StructuralTag({"type": "structural_tag", "format": {"type": "regex", "pattern": WIDE[1:-1]}}),
        b"",
    ),
    "schema in a grammar": (Lark(f'start: "<" %json {json.dumps(SCHEMA)} ">"'), b'<"'),
}


def after_letters(constraint: Constraint, begin: bytes, letters: int) -> int:
    """States made by a random text of a and b."""
    program = compile_constraint(constraint, BYTES, fuel=FUEL)
    matcher, dice = program.matcher(), random.Random(0)
    assert all(map(matcher.advance, begin))
    for _ in range(letters):
        assert matcher.advance(dice.choice(b"ab"))
    return program.machine.tables.n_states


@pytest.mark.parametrize("name", NESTED)
def test_a_text_goes_on_where_compiling_would_not(name: str) -> None:
    assert after_letters(*NESTED[name], letters=8_000) > FUEL


@pytest.mark.parametrize("name", ["schema", "regex", "schema in a tag"])
def test_what_a_text_can_make_grow_is_bounded(name: str) -> None:
    constraint, begin = NESTED[name]
    wider = json.loads(json.dumps(SCHEMA).replace("{10}", "{20}"))
    wide: Any = {
        "schema": JsonSchema(wider),
        "regex": Regex(wider["pattern"][1:-1]),
        "schema in a tag": StructuralTag(
            {"type": "structural_tag", "format": {**TAG, "content": {"type": "json_schema", "json_schema": wider}}}
        ),
    }[name]
    assert type(wide) is type(constraint)
    with pytest.raises(ConstraintTooLarge):
        after_letters(wide, begin, letters=3 * ROOM * FUEL)


def test_a_choice_needs_none() -> None:
    assert compile_machine(Choice(["a" * 50_000]), [True] * 256, fuel=1).machine.tables.n_states > 1
