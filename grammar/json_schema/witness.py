"""A small value of a goal: a sample for tests and documentation, and evidence that a schema can be satisfied.

Values are built along the proofs of `productivity.py`: each productive goal has a shape that was proved by goals proved
earlier, so the parts of a value are built before it, and recursion ends by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from grammar.json_schema.counting import Counting
from grammar.json_schema.normal import Normal
from grammar.json_schema.numbers import simplest, spell
from grammar.json_schema.productivity import needs
from grammar.json_schema.shapes import (
    ArrayShape,
    BoolShape,
    Goal,
    KeyClass,
    NullShape,
    NumberEnum,
    NumberShape,
    ObjectShape,
    Shape,
    StringEnum,
    StringShape,
)

Examples = Callable[[KeyClass, int], Sequence[str]]
"""(a productive string shape, n) → n different texts that satisfy it, or all where there are fewer."""


def plain_texts(shape: KeyClass, n: int) -> Sequence[str]:
    """The examples of a shape without patterns."""
    if isinstance(shape, StringEnum):
        return shape.values[:n]
    assert not shape.patterns and not shape.excluded, "a regex engine finds texts for patterns"
    return [f"{'a' * max(shape.min_length - len(str(i)), 0)}{i or ''}" for i in range(n)]


def witness(normal: Normal, goal: Goal, examples: Examples = plain_texts) -> Any:
    """A value of a productive goal, numbers as int or `Decimal`. Equal parts may be one object: copy before changing
    them."""
    proofs = normal.productivity.proofs
    earlier = {proved: i for i, proved in enumerate(proofs)}
    members: dict[Goal, list[tuple[str, Goal]]] = {}
    items: dict[Goal, list[Goal]] = {}
    wanted: set[Goal] = set()
    stack = [goal]
    while stack:
        current = stack.pop()
        if current not in wanted:
            wanted.add(current)
            shape = proofs[current]
            if isinstance(shape, ObjectShape):
                members[current] = _members(shape, {g for g, i in earlier.items() if i < earlier[current]}, examples)
                stack += [part for _, part in members[current]]
            elif isinstance(shape, ArrayShape) and shape.ways:
                before = {g for g, i in earlier.items() if i < earlier[current]}
                items[current] = Counting(shape, before.__contains__).shortest() or []
                stack += items[current]
            else:
                stack += needs(shape)
    values: dict[Goal, Any] = {}
    for current, shape in proofs.items():
        if current in members:
            values[current] = {name: values[part] for name, part in members[current]}
        elif current in items:
            values[current] = [values[part] for part in items[current]]
        elif current in wanted:
            values[current] = _value(shape, needs(shape), values, examples)
    return values[goal]


def _members(shape: ObjectShape, proved: set[Goal], examples: Examples) -> list[tuple[str, Goal]]:
    """Names and goals of as few properties as the shape can do with."""
    chosen = [(name, goal) for name, goal in shape.properties if name in shape.required]
    known = {*shape.forbidden, *(name for name, _ in shape.properties)}
    for names, goal in shape.some:
        others = [text for text in examples(names, len(known) + 1) if text not in known]
        known.add(others[0])
        chosen.append((others[0], goal))
    optional = [(n, goal) for n, goal in shape.properties if n not in shape.required and goal in proved]
    for names, goal in shape.additional:
        if goal in proved and len(chosen) + len(optional) < shape.min_properties:
            texts = examples(names, len(known) + shape.min_properties)
            optional += [(text, goal) for text in texts if text not in known]
    return chosen + optional[: max(shape.min_properties - len(chosen), 0)]


def _value(shape: Shape, parts: Sequence[Goal], values: dict[Goal, Any], examples: Examples) -> Any:
    match shape:
        case NullShape():
            return None
        case BoolShape() | StringEnum():
            return shape.values[0]
        case NumberShape() | NumberEnum():
            number = simplest(shape)
            return int(number) if number.denominator == 1 else Decimal(spell(number))
        case StringShape():
            return examples(shape, 1)[0]
        case ArrayShape():
            return [values[part] for part in parts] + [values[part] for part in parts[-1:]] * (
                shape.min_items - len(parts)
            )
        case ObjectShape():
            raise AssertionError("objects are made of their members")
