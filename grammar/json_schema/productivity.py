"""Which goals some finite value satisfies: the least fixpoint over the graph of goals.

A goal needs one of its shapes; a shape needs all parts that it cannot do without (required properties, the first
``min_items`` items). So goals and shapes form an and-or graph, productivity is Horn satisfiability, and the linear
algorithm of Dowling and Gallier (1984) decides it: each goal is proved at most once, as soon as one of its shapes lacks
nothing (and can choose enough optional properties, or items that count, which is no clause but as monotone as one).
What is left unproved when the queue is empty has no finite value, be it contradictory or a recursion without an end.

    {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}     # needs itself: never proved
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from grammar.json_schema.shapes import ANY, NEVER, ArrayShape, Goal, NullShape, ObjectShape, Shape


def needs(shape: Shape) -> Sequence[Goal]:
    """Goals of the parts that every value of a prepared shape has; of an array that counts, none is known."""
    if isinstance(shape, ObjectShape):
        return [goal for name, goal in shape.properties if name in shape.required] + [goal for _, goal in shape.some]
    if isinstance(shape, ArrayShape) and not shape.ways:
        first = list(shape.prefix[: shape.min_items])
        if shape.min_items > len(shape.prefix):
            first.append(NEVER if shape.rest is None else shape.rest)
        return first
    return ()


def parts(shape: Shape) -> Sequence[Goal]:
    """Goals of all parts that a value of a prepared shape may have."""
    if isinstance(shape, ObjectShape):
        goals = [goal for _, goal in shape.properties]
        return goals + [goal for _, goal in shape.additional] + [goal for _, goal in shape.some]
    if isinstance(shape, ArrayShape):
        if shape.ways:
            return [goal for way in shape.ways for goal in (*way.prefix, way.rest) if goal != NEVER]
        return shape.prefix if shape.rest is None else [*shape.prefix, shape.rest]
    return ()


Enough = Callable[[Shape, Collection[Goal]], bool]
"""Whether a shape has a value when every part has one that these goals allow, and all that it `needs`."""


@dataclass(slots=True)
class _Attempt:
    """A shape on its way to prove a goal."""

    goal: Goal
    shape: Shape
    missing: int
    choosing: bool
    """It waits for all its parts, not only for those that it needs."""


class Productivity:
    """Verdicts on goals, each final once given. ``prepared`` gives a goal's prepared shapes, ``fits`` whether a scalar
    one has a value. A shape that `needs` nothing more may still lack parts to choose from (``minProperties``,
    ``contains``): that is what ``enough`` says."""

    def __init__(
        self, prepared: Callable[[Goal], tuple[Shape, ...]], fits: Callable[[Shape, Goal], bool], enough: Enough
    ) -> None:
        self._prepared = prepared
        self._fits = fits
        self._enough = enough
        self._decided: set[Goal] = {ANY, NEVER}
        self.proofs: dict[Goal, Shape] = {ANY: NullShape()}
        """Of each productive goal a shape that proves it, in the order proved: what it takes stands before it."""

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
            for shape in self._prepared(current):
                for part in parts(shape):
                    if part not in reached and part not in self._decided:
                        reached.add(part)
                        stack.append(part)
                if current in proofs or not self._fits(shape, current):
                    continue
                choosing = (
                    shape.min_properties > 0
                    if isinstance(shape, ObjectShape)
                    else isinstance(shape, ArrayShape) and len(shape.ways) > 0
                )
                missing = {need for need in needs(shape) if need not in proofs}
                if missing or (choosing and not self._enough(shape, proofs)):
                    attempt = _Attempt(current, shape, len(missing), choosing)
                    for part in dict.fromkeys(parts(shape)) if choosing else missing:
                        if part not in proofs:
                            waiting.setdefault(part, []).append(attempt)
                else:
                    proofs[current] = shape
                    proved.append(current)
        while proved:
            done = proved.pop()
            for attempt in waiting.get(done, ()):
                attempt.missing -= not attempt.choosing or done in needs(attempt.shape)
                if not attempt.missing and attempt.goal not in proofs and self._enough(attempt.shape, proofs):
                    proofs[attempt.goal] = attempt.shape
                    proved.append(attempt.goal)
        self._decided |= reached
        return goal in proofs
