"""The states of one program: which location each stands for, and whose it is.

A constraint is read as *locations*, small immutable objects that can say their edges; `States` numbers them and writes
their edges into the tables when they are first asked for. Owners of locations are machines of one kind (a JSON Schema,
a structural tag), and several may share one `States`: that is how JSON lies inside a structural tag without a border
that a token would notice.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

from grammar.errors import ConstraintTooLarge
from grammar.fuel import ROOM
from grammar.tables import Edge, Tables

Edges = tuple[list[Edge], int]
"""What a location expands to: edges, and what the end of the text means there."""


class Owner(Protocol):
    """Whose locations they are."""

    def edges_of(self, location: Any) -> Edges: ...

    def decided(self, location: Any, verdict: int) -> int:
        """The state after a value that ended with ``verdict`` above 0, for the location that waits for it."""
        ...

    def admitted(self) -> None:
        """The constraint is compiled: the owner admits what it spends fuel on (`grammar.fuel`)."""
        ...


class States:
    """`grammar.tables.Machine`, less the start. ``fuel``: states that may be reached."""

    def __init__(self, fuel: int) -> None:
        self.tables = Tables()
        self._fuel = fuel
        self._owners: list[Owner] = []
        self._locations: list[tuple[Owner, Hashable]] = []

    def join(self, owner: Owner) -> None:
        """``owner`` will have locations here."""
        self._owners.append(owner)

    def new(self, owner: Owner, location: Hashable) -> int:
        """A state for a location that has none."""
        self._locations.append((owner, location))
        return self.tables.state()

    def location(self, state: int) -> Any:
        """What a state stands for."""
        return self._locations[state][1]

    def edges_of(self, state: int) -> Edges:
        """What a state expands to. ConstraintTooLarge when the fuel is spent."""
        if len(self._locations) > self._fuel:
            raise ConstraintTooLarge(f"the constraint needs more than {self._fuel} automaton states")
        owner, location = self._locations[state]
        return owner.edges_of(location)

    def admit(self) -> None:
        """As `grammar.tables.Machine` has it."""
        self._fuel *= ROOM
        for owner in self._owners:
            owner.admitted()

    def expand(self, state: int) -> None:
        """Define ``state`` in the tables. ConstraintTooLarge when the fuel is spent."""
        edges, end = self.edges_of(state)
        self.tables.define(state, edges, end)

    def resume(self, ret: int, verdict: int) -> int:
        """The state after a value that ended with ``verdict`` above 0; recorded in the tables."""
        known = self.tables.returned(ret, verdict)
        if known is None:
            owner, location = self._locations[ret]
            known = owner.decided(location, verdict)
            self.tables.returns(ret, verdict, known)
        return known
