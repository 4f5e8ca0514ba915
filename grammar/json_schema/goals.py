"""Goals: hash-consed conjunctions of atoms. Equal conjunctions have equal numbers, so that recursion closes.

An atom is a schema location, a constant, the negation of a goal, or a choice between goals. What they mean is not known
here, but for their outlines (`outlines.py`): `rewriting.py` makes shapes of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from grammar.json_schema.document import Location
from grammar.json_schema.outlines import ANYTHING, Outline, of_schema, of_value, together
from grammar.json_schema.shapes import ANY, NEVER, Goal
from grammar.json_schema.values import canonical


@dataclass(frozen=True, slots=True)
class Constant:
    """An atom that one value satisfies, from an `enum` or `const` at ``pointer``."""

    value: Any
    pointer: str


@dataclass(frozen=True, slots=True)
class Negated:
    """An atom that everything satisfies that does not satisfy ``goal``, whose place is at ``pointer``."""

    goal: Goal
    pointer: str


@dataclass(frozen=True, slots=True)
class Either:
    """An atom that everything satisfies that satisfies one of ``goals``; they come together at ``pointer``."""

    goals: tuple[Goal, ...]
    pointer: str


Atom = Location | Constant | Negated | Either


class Goals:
    """The goals of one normal form, ANY and NEVER among them."""

    def __init__(self) -> None:
        self._atoms: list[Atom] = []
        self._outlines: dict[int, Outline] = {}
        self.members: list[tuple[int, ...]] = [(), ()]
        """Atoms of each goal, ascending; ANY and NEVER, the first two, are told apart by their numbers."""
        self._numbers: dict[tuple[int, ...], Goal] = {}
        self._constants: dict[object, Goal] = {}
        self._choices: dict[tuple[Goal, ...], Goal] = {}
        self.negations: dict[Goal, Goal] = {}
        """Both ways."""
        self._conjoined: dict[tuple[Goal, Goal], Goal] = {}

    def atom(self, atom: Atom) -> Goal:
        """A new goal of one atom."""
        self._atoms.append(atom)
        return self.of((len(self._atoms) - 1,))

    def of(self, atoms: tuple[int, ...]) -> Goal:
        """The goal of some atoms, ascending."""
        found = self._numbers.get(atoms)
        if found is None:
            found = self._numbers[atoms] = len(self.members)
            self.members.append(atoms)
        return found

    def constant(self, value: Any, pointer: str) -> Goal:
        """The goal of what equals ``value``."""
        key = canonical(value, pointer)
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = self.atom(Constant(value, pointer))
        return found

    def conjoin(self, a: Goal, b: Goal) -> Goal:
        """The goal of what satisfies both; it may be empty."""
        if a == b or b == ANY:
            return a
        if a == ANY:
            return b
        if a == NEVER or b == NEVER:
            return NEVER
        found = self._conjoined.get((a, b))
        if found is None:
            found = self._conjoined[a, b] = self._together(sorted({*self.members[a], *self.members[b]}))
        return found

    def _together(self, atoms: list[int]) -> Goal:
        kept = together([self._outline(i) for i in atoms], [self._barred(i) for i in atoms])
        return NEVER if kept is None else self.of(tuple(atoms[i] for i in kept))

    def _outline(self, i: int) -> Outline:
        found = self._outlines.get(i)
        if found is None:
            match self._atoms[i]:
                case Location() as place:
                    found = of_schema(place)
                case Constant(value, pointer):
                    found = of_value(value, pointer)
                case _:
                    found = ANYTHING
            self._outlines[i] = found
        return found

    def _barred(self, i: int) -> frozenset[object] | None:
        """The values that an atom forbids, where that is all that it says."""
        atom = self._atoms[i]
        if not isinstance(atom, Negated) or len(self.members[atom.goal]) > 1:
            return None
        outline = self._outline(self.members[atom.goal][0])
        return outline.listed if outline.whole else None

    def either(self, goals: Iterable[Goal], pointer: str) -> Goal:
        """The goal of what satisfies one of some goals, which come together at ``pointer``."""
        choice = tuple(sorted({goal for goal in goals if goal != NEVER}))
        if len(choice) < 2 or ANY in choice:
            return choice[0] if choice else NEVER
        found = self._choices.get(choice)
        if found is None:
            found = self._choices[choice] = self.atom(Either(choice, pointer))
        return found

    def negate(self, goal: Goal) -> Goal:
        """The goal of what does not satisfy another."""
        if goal in (ANY, NEVER):
            return NEVER if goal == ANY else ANY
        found = self.negations.get(goal)
        if found is None:
            found = self.atom(Negated(goal, self.place(goal).pointer))
            self.negations[goal], self.negations[found] = found, goal
        return found

    def place(self, goal: Goal) -> Atom:
        """Where to point for a goal other than ANY and NEVER."""
        return self._atoms[self.members[goal][0]]
