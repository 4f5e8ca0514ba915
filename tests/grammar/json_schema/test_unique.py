"""Arrays of unique items, through the interpreter of their machines: spellings, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from grammar.compile import compile_machine
from grammar.constraint import Contract, JsonSchema, Lark
from grammar.errors import UnsatisfiableConstraint, UnsupportedConstraint
from tests.fsm.interpreter import Interpreter

ROW = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "on": {"type": "boolean"}},
    "required": ["id", "on"],
    "additionalProperties": False,
}


def takes(schema: Any, text: str, **options: Any) -> bool:
    compiled = compile_machine(JsonSchema(schema, **options), [True] * 256, ahead=0)
    assert compiled.contract is Contract.EXACT
    machine = Interpreter(compiled.machine)
    reached = machine.run(text.encode())
    return reached is not None and machine.accepting(reached)


def test_closed_objects_have_one_space_after_colons_and_commas() -> None:
    schema = {"type": "array", "items": ROW, "uniqueItems": True}
    assert takes(schema, '[{"id": "a", "on": true}, {"id": "a", "on": false}]')
    assert takes(schema, '[{"id":"a","on":true},{"id":"a","on":false}]', whitespace="compact")
    assert not takes(schema, '[{"id": "a", "on": true}, {"id": "a", "on": true}]')


def test_what_could_only_repeat_is_not_begun() -> None:
    schema = {"type": "array", "items": ROW, "uniqueItems": True}
    machine = Interpreter(compile_machine(JsonSchema(schema, whitespace="compact"), [True] * 256, ahead=0).machine)
    both = '[{"id":"a","on":true},{"id":"a","on":false},'
    assert machine.run((both + '{"id":"a').encode()) is not None
    assert machine.run((both + '{"id":"a"').encode()) is None


@pytest.mark.parametrize(
    "text", ['[{"a":1,"b":[2]},{"b":[2],"a":1}]', '[{"a":"A"},{"a":"\\u0041"}]', "[[1],[1.0]]", "[[1e2],[100]]"]
)
def test_open_ended_items_are_compared_by_value(text: str) -> None:
    options = {"property_order": "any", "number": "free"}
    assert not takes({"type": "array", "uniqueItems": True}, text, **options)
    assert takes({"type": "array"}, text, **options)


def test_too_few_values_are_found_when_compiling() -> None:
    with pytest.raises(UnsatisfiableConstraint):
        takes({"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 3}, "[]")


def test_a_grammar_takes_unique_strings_only() -> None:
    with pytest.raises(UnsupportedConstraint, match="strings only"):
        compile_machine(Lark('start: %json {"type": "array", "uniqueItems": true}'), [True] * 256)
