"""Fuel: what one constraint may spend on states, disjuncts and nodes. Deterministic, so that the same constraint
succeeds or fails everywhere.

A constraint is refused while it compiles, never in the middle of a text: once it is admitted, whatever still grows may
grow to `ROOM` times its fuel. Real constraints need none of that; it bounds the memory that one made to hurt can take.
"""

from __future__ import annotations

from grammar.errors import ConstraintTooLarge

ROOM = 10


class Fuel:
    """A number of units, shared by all that is compiled for one part."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.left = units

    def admit(self) -> None:
        """What it pays for is compiled."""
        self.left += (ROOM - 1) * self.units
        self.units *= ROOM

    def spend(self, units: int = 1) -> None:
        """Raises ConstraintTooLarge when nothing is left."""
        self.left -= units
        if self.left < 0:
            raise ConstraintTooLarge(f"the pattern needs more than {self.units} states")


class Supply:
    """Fuel for parts that are told apart as they are met, each with ``units`` of its own."""

    def __init__(self, units: int) -> None:
        self.units = units
        self._given: list[Fuel] = []

    def new(self) -> Fuel:
        fuel = Fuel(self.units)
        self._given.append(fuel)
        return fuel

    def admit(self) -> None:
        """What was given pays for what is compiled; what will be given is for what comes after."""
        for fuel in self._given:
            fuel.admit()
        self._given.clear()
        self.units *= ROOM
