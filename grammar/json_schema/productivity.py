"""Which goals some finite value satisfies: the least fixpoint over the graph of goals.

A goal needs one of its shapes; a shape needs all parts that it cannot do without (required properties, the first
``min_items`` items). So goals and shapes form an and-or graph, productivity is Horn satisfiability, and the linear
algorithm of Dowling and Gallier (1984) decides it: each goal is proved at most once, as soon as one of its shapes lacks
nothing (and can choose enough optional properties, or items that count, which is no clause but as monotone as one).
What is left unproved when the queue is empty has no finite value, be it contradictory or a recursion without an end.

Of most goals it is enough to know that (`Productivity.prove`), and optional parts say nothing about it; what a text may
reach is known to its last part before anything of it is written (`Productivity.reach`).

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
    missing: set[Goal]


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
        self._refuted: set[Goal] = {NEVER}
        self.proofs: dict[Goal, Shape] = {ANY: NullShape()}
        """Of each productive goal a shape that proves it, in the order proved: what it takes stands before it."""
        self.reached: set[Goal] = {ANY, NEVER}
        """The goals that some goal given to `reach` leads to, by any part: all are proved or refuted."""

    def prove(self, goal: Goal) -> bool:
        """Whether a finite value satisfies the goal. Visits only what decides that: goals that a value needs."""
        if goal not in self.proofs and goal not in self._refuted:
            self._decide([goal])
        return goal in self.proofs

    def reach(self, goal: Goal) -> bool:
        """Whether a finite value satisfies the goal. Visits, and decides, every goal reachable from it."""
        found: list[Goal] = []
        pending = [goal]
        while pending:
            current = pending.pop()
            if current not in self.reached:
                self.reached.add(current)
                found.append(current)
                for shape in self._prepared(current):
                    pending += parts(shape)
        self._decide([goal for goal in reversed(found) if goal not in self.proofs and goal not in self._refuted])
        return goal in self.proofs

    def _decide(self, goals: list[Goal]) -> None:
        """Prove or refute goals about which nothing is known. Others that are met on the way are proved, or left
        open."""
        open_goals = set(goals)
        visited = set(goals)
        stack = list(goals)
        waiting: dict[Goal, list[_Attempt]] = {}
        while stack and open_goals:
            current = stack.pop()
            if current in self.proofs:
                continue
            for shape in self._prepared(current):
                if not self._fits(shape, current):
                    continue
                needed = needs(shape)
                missing = {need for need in needed if need not in self.proofs}
                if not all(need not in self._refuted and self._prepared(need) for need in missing):
                    continue
                if not missing and self._enough(shape, self.proofs):
                    self._prove(current, shape, waiting, open_goals)
                    break
                attempt = _Attempt(current, shape, missing)
                for part in dict.fromkeys(parts(shape)) if _chooses(shape) else missing:
                    if part not in self.proofs and part not in self._refuted:
                        waiting.setdefault(part, []).append(attempt)
                        if part not in visited:
                            visited.add(part)
                            stack.append(part)
        if open_goals:
            self._refuted.update(goal for goal in visited if goal not in self.proofs)

    def _prove(self, goal: Goal, shape: Shape, waiting: dict[Goal, list[_Attempt]], open_goals: set[Goal]) -> None:
        """Note a proof, and those that waited for it."""
        self.proofs[goal] = shape
        proved = [goal]
        while proved:
            done = proved.pop()
            open_goals.discard(done)
            for attempt in waiting.pop(done, ()):
                attempt.missing.discard(done)
                if not attempt.missing and attempt.goal not in self.proofs and self._enough(attempt.shape, self.proofs):
                    self.proofs[attempt.goal] = attempt.shape
                    proved.append(attempt.goal)


def _chooses(shape: Shape) -> bool:
    """Whether a shape waits for all its parts, not only for those that it needs."""
    if isinstance(shape, ObjectShape):
        return shape.min_properties > 0
    return isinstance(shape, ArrayShape) and len(shape.ways) > 0
