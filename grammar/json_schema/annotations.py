"""What a value's disjunct has evaluated, and so what `unevaluatedProperties` and `unevaluatedItems` are about.

Annotations (Core 2020-12 §7.7, §11) are a part of raw shapes while they are collected: `properties` says which names it
looks at, `prefixItems` how many items, and a conjunction of shapes has evaluated what each of them has. So a disjunct
knows what was evaluated in it, and the keyword becomes one more conjunct:

    anyOf: [{properties: {a}}, {properties: {b}}], unevaluatedProperties: false

        {a}, evaluated a          no other property than a
        {b}, evaluated b          no other property than b
        {a, b}, evaluated a, b    both branches hold: what they evaluate adds up

To have evaluated more never forbids anything. That is why the branches of an `anyOf` need not be told apart: a value
that satisfies both is in the third disjunct, and in the first two only if it would be valid without the other branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from grammar.json_schema.conjunction import ANY_ARRAY, ANY_OBJECT, ANY_STRING, Conjunction, array_shape, object_shape
from grammar.json_schema.shapes import (
    ALL_ITEMS,
    ALL_NAMES,
    ANY,
    ArrayShape,
    EvaluatedItems,
    EvaluatedNames,
    Goal,
    KeyClass,
    ObjectShape,
    Shape,
    StringShape,
)


def bare(shape: Shape) -> Shape:
    """A shape without annotations."""
    if isinstance(shape, ObjectShape | ArrayShape) and shape.evaluated is not None:
        return replace(shape, evaluated=None)
    return shape


def adds_up(a: Shape, b: Shape) -> bool:
    """Whether both shapes together have evaluated more than each by itself."""
    if isinstance(a, ObjectShape) and isinstance(b, ObjectShape) and a.evaluated and b.evaluated:
        return (a.evaluated | b.evaluated) not in (a.evaluated, b.evaluated)
    if isinstance(a, ArrayShape) and isinstance(b, ArrayShape) and a.evaluated and b.evaluated:
        return (a.evaluated | b.evaluated) not in (a.evaluated, b.evaluated)
    return False


def with_unevaluated(
    shape: Shape,
    properties: Goal | None,
    items: Goal | None,
    conjunction: Conjunction,
    either: Callable[[Iterable[Goal]], Goal],
) -> Shape | None:
    """A disjunct in which what was not evaluated satisfies a goal, and so all is evaluated; None if it has no value.

    ``properties``, ``items``: the goals, None for no such keyword. ``either`` gives the goal of what satisfies one of
    several.
    """
    if isinstance(shape, ObjectShape) and properties is not None:
        rest = _other_properties(shape.evaluated, properties)
        both = None if rest is None else conjunction.of(shape, rest)
        return replace(both, evaluated=ALL_NAMES) if isinstance(both, ObjectShape) else None
    if isinstance(shape, ArrayShape) and items is not None:
        rest = _other_items(shape.evaluated, items, either)
        both = None if rest is None else conjunction.of(shape, rest)
        return replace(both, evaluated=ALL_ITEMS) if isinstance(both, ArrayShape) else None
    return shape


def _other_properties(evaluated: EvaluatedNames | None, goal: Goal) -> ObjectShape | None:
    """Any object whose properties satisfy a goal, but for those that were evaluated."""
    if evaluated is None:
        return object_shape({}, frozenset(), [(ANY_STRING, goal)])
    if evaluated.everything:
        return ANY_OBJECT
    patterns = evaluated.patterns
    classes: list[tuple[KeyClass, Goal]] = [
        (StringShape(patterns=(pattern,), excluded=patterns[:i]), ANY) for i, pattern in enumerate(patterns)
    ]
    classes.append((StringShape(excluded=patterns) if patterns else ANY_STRING, goal))
    return object_shape(dict.fromkeys(evaluated.names, ANY), frozenset(), classes)


def _other_items(
    evaluated: EvaluatedItems | None, goal: Goal, either: Callable[[Iterable[Goal]], Goal]
) -> ArrayShape | None:
    """Any array whose items satisfy a goal, but for those that were evaluated."""
    if evaluated is None:
        return array_shape((), goal, 0, None)
    if evaluated.everything:
        return ANY_ARRAY
    return array_shape([ANY] * evaluated.count, either((goal, *evaluated.satisfying)), 0, None)
