"""Which goals some finite value satisfies: the least fixpoint over the graph of goals.

A goal needs one of its shapes; a shape needs all parts that it cannot do without (required properties, the first
``min_items`` items). So goals and shapes form an and-or graph, productivity is Horn satisfiability, and the linear
algorithm of Dowling and Gallier (1984) decides it: each goal is proved at most once, as soon as one of its shapes
lacks nothing. What is left unproved when the queue is empty has no finite value, be it contradictory or a recursion
without an end.

    {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}     # needs itself: never proved
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grammar.json_schema.conjunction import member_goal
from grammar.json_schema.shapes import ANY, NEVER, ArrayShape, Goal, NullShape, ObjectShape, Shape


def needs(shape: Shape) -> Sequence[Goal]:
    """Goals of the parts that every value of a raw shape has."""
    if isinstance(shape, ObjectShape):
        goals = dict(shape.properties)
        return [member_goal(shape, goals, name) for name in shape.required]
    if isinstance(shape, ArrayShape):
        first = list(shape.prefix[: shape.min_items])
        if shape.min_items > len(shape.prefix):
            first.append(NEVER if shape.rest is None else shape.rest)
        return first
    return ()


def parts(shape: Shape) -> Sequence[Goal]:
    """Goals of all parts that a value of a raw shape may have."""
    if isinstance(shape, ObjectShape):
        goals = [goal for _, goal in shape.properties]
        return goals if shape.additional is None else [*goals, shape.additional]
    if isinstance(shape, ArrayShape):
        return shape.prefix if shape.rest is None else [*shape.prefix, shape.rest]
    return ()


@dataclass(slots=True)
class _Attempt:
    """A shape on its way to prove a goal."""

    goal: Goal
    shape: Shape
    missing: int


class Productivity:
    """Verdicts on goals, each final once given. ``raw`` gives a goal's raw shapes, ``fits`` whether a scalar one has
    a value."""

    def __init__(self, raw: Callable[[Goal], tuple[Shape, ...]], fits: Callable[[Shape, Goal], bool]) -> None:
        self._raw = raw
        self._fits = fits
        self._decided: set[Goal] = {ANY, NEVER}
        self.proofs: dict[Goal, Shape] = {ANY: NullShape()}
        """Of each productive goal a shape that proves it, in the order proved: a shape's needs stand before it."""

    def prove(self, goal: Goal) -> bool:
        """Whether a finite value satisfies the goal. Visits, and decides, every goal reachable from it."""
        if goal in self._decided:
            return goal in self.proofs
        proofs = self.proofs
        reached = {goal}
        stack = [goal]
        proved: list[Goal] = []
        waiting: dict[Goal, list[_Attempt]] = {}
        while stack:
            current = stack.pop()
            for shape in self._raw(current):
                for part in parts(shape):
                    if part not in reached and part not in self._decided:
                        reached.add(part)
                        stack.append(part)
                if current in proofs or not self._fits(shape, current):
                    continue
                missing = {need for need in needs(shape) if need not in proofs}
                if missing:
                    attempt = _Attempt(current, shape, len(missing))
                    for need in missing:
                        waiting.setdefault(need, []).append(attempt)
                else:
                    proofs[current] = shape
                    proved.append(current)
        while proved:
            for attempt in waiting.get(proved.pop(), ()):
                attempt.missing -= 1
                if not attempt.missing and attempt.goal not in proofs:
                    proofs[attempt.goal] = attempt.shape
                    proved.append(attempt.goal)
        self._decided |= reached
        return goal in proofs
