"""A regex as a byte machine: the DFA's states are the machine's states, numbered alike."""

from __future__ import annotations

from collections.abc import Sequence

from grammar.fuel import Fuel
from grammar.regex.language import Pattern, text_dfa
from grammar.tables import END_ACCEPT, END_REJECT, GOTO, NONE, Tables
from grammar.utf8 import raw_spelling


class RegexMachine:
    """The whole text matches ``pattern``; implements `grammar.tables.Machine`.

    ``dialect`` is "python" or "ecma"; ``spellable`` bool[256] the bytes that may be written; ``fuel`` the states that
    may be made until `admit`. Raises ConstraintError for a pattern that is malformed, unsupported
    (both with ``line:column``), too large, or matches nothing that can be written.
    """

    def __init__(self, pattern: str, dialect: str, spellable: Sequence[bool], fuel: int) -> None:
        self.tables = Tables()
        self._fuel = Fuel(fuel)
        self._dfa = text_dfa([Pattern(pattern, dialect, "full")], raw_spelling(spellable), self._fuel)
        self.start = self.tables.state()

    def admit(self) -> None:
        self._fuel.admit()

    def expand(self, state: int) -> None:
        """Define ``state``. ConstraintTooLarge when the fuel is spent before `admit`."""
        edges = self._dfa.edges(state)
        while self.tables.n_states < self._dfa.n_states:
            self.tables.state()
        lasting = self._dfa.lasting(state)
        if lasting is not None:
            self.tables.mark_lasting(state, *lasting, counted=False)
        end = END_ACCEPT if self._dfa.accepting(state) else END_REJECT
        self.tables.define(state, [(lo, hi, GOTO, target, NONE, NONE, NONE) for lo, hi, target in edges], end)

    def resume(self, ret: int, verdict: int) -> int:
        """A regex pushes no frame, so nothing ever returns to it."""
        raise AssertionError(f"a regex has no state to resume after return {ret} with verdict {verdict}")
