"""A small value of a goal: a sample for tests and documentation, and evidence that a schema can be satisfied.

Values are built along the proofs of `productivity.py`: each productive goal has a shape that was proved by goals proved
earlier, so the parts of a value are built before it, and recursion ends by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from grammar.json_schema.normal import Normal
from grammar.json_schema.numbers import simplest, spell
from grammar.json_schema.productivity import needs
from grammar.json_schema.shapes import (
    ArrayShape,
    BoolShape,
    Goal,
    NullShape,
    NumberEnum,
    NumberShape,
    ObjectShape,
    Shape,
    StringEnum,
    StringShape,
)

Example = Callable[[StringShape], str]
"""A text that satisfies a productive string shape."""


def shortest_text(shape: StringShape) -> str:
    """The example of a shape without patterns."""
    assert not shape.patterns, "a regex engine finds texts for patterns"
    return "a" * shape.min_length


def witness(normal: Normal, goal: Goal, example: Example = shortest_text) -> Any:
    """A value of a productive goal, numbers as int or `Decimal`. Equal parts may be one object: copy before changing
    them."""
    proofs = normal.productivity.proofs
    wanted: set[Goal] = set()
    stack = [goal]
    while stack:
        current = stack.pop()
        if current not in wanted:
            wanted.add(current)
            stack += needs(proofs[current])
    values: dict[Goal, Any] = {}
    for current, shape in proofs.items():
        if current in wanted:
            values[current] = _value(shape, needs(shape), values, example)
    return values[goal]


def _value(shape: Shape, parts: Sequence[Goal], values: dict[Goal, Any], example: Example) -> Any:
    match shape:
        case NullShape():
            return None
        case BoolShape() | StringEnum():
            return shape.values[0]
        case NumberShape() | NumberEnum():
            number = simplest(shape)
            return int(number) if number.denominator == 1 else Decimal(spell(number))
        case StringShape():
            return example(shape)
        case ArrayShape():
            return [values[part] for part in parts] + [values[part] for part in parts[-1:]] * (
                shape.min_items - len(parts)
            )
        case ObjectShape():
            return {name: values[part] for name, part in zip(shape.required, parts, strict=True)}
