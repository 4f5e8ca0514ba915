"""How far one object shape has come: what a thread of `alternatives.py` knows of the properties so far.

Here nothing is left to registers, so that everything can be weighed: which properties must still come, which may, and
how many there may be. A property is taken only if what it leaves can still be completed.

    came        the declared properties that have come; under declared order only where it matters
    position    under declared order, the first declared property that may still come
    count       properties so far, saturated where no bound is further away; 0 where there is no bound
    pending     the ``some`` of the shape that no property has satisfied yet
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from grammar.json_schema.shapes import Goal, KeyClass, ObjectShape
from grammar.json_schema.strings import UNLIMITED

if TYPE_CHECKING:
    from grammar.json_schema.machine import JsonMachine


class MembersPlan:
    """What the threads of one object shape share. Compared by identity: there is one a shape and machine."""

    def __init__(self, m: JsonMachine, shape: ObjectShape, *, declared_order: bool) -> None:
        self.shape = shape
        self.declared_order = declared_order
        self.names = [name for name, _ in shape.properties]
        self.goals = dict(shape.properties)
        self.known = frozenset((*self.names, *shape.forbidden))
        """Names that are no additional properties."""
        self.required = sum(1 << i for i, name in enumerate(self.names) if name in shape.required)
        self.classes: list[tuple[KeyClass, Goal]] = [*shape.additional, *shape.some]
        """Those of additional properties, then those of the shape's ``some``."""
        self.automata = [m.strings.automaton(names) for names, _ in self.classes]
        self.additional = 0
        """How many additional names there are."""
        for names, _ in shape.additional:
            total = m.strings.remaining(names, m.strings.automaton(names).start)
            if total == UNLIMITED:
                self.additional = UNLIMITED
                break
            inside = sum(m.strings.has(names, m.strings.spell(name)) for name in self.known)
            self.additional = min(self.additional + total - inside, UNLIMITED)
        self.counted = shape.min_properties > 0 or shape.max_properties is not None
        # One more than the limit tells that it is exceeded.
        self.horizon = max(shape.min_properties, 0 if shape.max_properties is None else shape.max_properties + 1)
        self.few = any(m.strings.can_run_out(names) for names, _ in shape.additional)
        """Some additional names can be used up, so that it matters which have come."""
        self.ways: dict[tuple[int, int, int, int, tuple[int, ...]], list[tuple[Members, Goal]]] = {}
        """What `Members.added` has found."""

    @property
    def notes_names(self) -> bool:
        """Whether it matters which declared properties have come."""
        return not self.declared_order or self.few

    @property
    def start(self) -> Members:
        return Members(self, pending=(1 << len(self.shape.some)) - 1)


@dataclass(frozen=True, slots=True)
class Members:
    plan: MembersPlan
    came: int = 0
    position: int = 0
    count: int = 0
    pending: int = 0

    def complete(self) -> bool:
        return not self._missing() and not self.pending and self.count >= self.plan.shape.min_properties

    def feasible(self) -> bool:
        """Whether more properties can complete the object."""
        shape, plan = self.plan.shape, self.plan
        needed = self._missing().bit_count() + (self.pending > 0)
        if shape.max_properties is not None and self.count + needed > shape.max_properties:
            return False
        if self.count >= shape.min_properties or plan.additional == UNLIMITED:
            return True
        added = self.count - self.came.bit_count()
        return self.count + self._open().bit_count() + max(plan.additional - added, 0) >= shape.min_properties

    def next_declared(self) -> Iterator[tuple[str, Members]]:
        """The declared properties that may come next, and what follows each."""
        open_names = self._open()
        for i, name in enumerate(self.plan.names):
            if open_names >> i & 1:
                after = self._after(self.came | 1 << i if self.plan.notes_names else 0, i + 1)
                if after.feasible():
                    yield name, after
                if self.plan.declared_order and self.plan.required >> i & 1:
                    break

    def after_added(self) -> Members | None:
        """What follows an additional property, None where there can be none. What was pending still is."""
        if not self.plan.shape.additional or (self.plan.declared_order and self._missing()):
            return None
        after = self._after(self.came, len(self.plan.names))
        best = replace(after, pending=0)
        return after if best.feasible() else None

    def added(self, m: JsonMachine, accepted: tuple[int, ...]) -> list[tuple[Members, Goal]]:
        """The ways to take an additional property whose name is in the ``accepted`` classes: what follows, and what its
        value must satisfy. It may serve any of the pending ones that it can, at the cost of a stricter value."""
        # Asked at every byte of a key, with few different answers.
        place = (self.came, self.position, self.count, self.pending, accepted)
        known = self.plan.ways.get(place)
        if known is None:
            known = self.plan.ways[place] = list(self._ways(m, accepted))
        return known

    def _ways(self, m: JsonMachine, accepted: tuple[int, ...]) -> Iterator[tuple[Members, Goal]]:
        plan, n_classes = self.plan, len(self.plan.shape.additional)
        after = self.after_added()
        own = [plan.classes[k][1] for k in accepted if k < n_classes]
        if after is None or not own:
            return
        servable = [k - n_classes for k in accepted if k >= n_classes and self.pending >> (k - n_classes) & 1]
        for size in range(len(servable) + 1):
            for served in combinations(servable, size):
                goal, pending = own[0], after.pending
                for i in served:
                    goal, pending = m.normal.conjoin(goal, plan.shape.some[i][1]), pending & ~(1 << i)
                done = replace(after, pending=pending)
                if done.feasible() and m.normal.shapes(goal):
                    yield done, goal

    def _after(self, came: int, position: int) -> Members:
        count = min(self.count + 1, self.plan.horizon) if self.plan.counted else 0
        return Members(self.plan, came, position if self.plan.declared_order else 0, count, self.pending)

    def _missing(self) -> int:
        """Required properties that have not come (bits)."""
        return self.plan.required & self._open()

    def _open(self) -> int:
        """Declared properties that have not come or been passed by (bits)."""
        everything = (1 << len(self.plan.names)) - 1
        return everything >> self.position << self.position if self.plan.declared_order else everything & ~self.came
