"""An automaton whose texts must also have a length, counted in code points, between two bounds.

A state is (inner state, code points so far). It exists only if some completion of the inner state has a length that
still fits, so there are no dead ends; and the count is dropped as soon as every completion fits.
"""

from __future__ import annotations

from collections.abc import Sequence

from grammar.charset import CharSet
from grammar.errors import UnsatisfiableConstraint
from grammar.fuel import Fuel
from grammar.regex.terms import MeasuredAutomaton

_FREE = -1


class LengthWindow:
    """``inner`` restricted to texts of ``lo`` to ``hi`` code points (hi None = no limit)."""

    def __init__(self, inner: MeasuredAutomaton, lo: int, hi: int | None, fuel: Fuel) -> None:
        """Raises UnsatisfiableConstraint when no text of the automaton has such a length."""
        self._inner = inner
        self._lo, self._hi = lo, hi
        # One bit above the window, so that lengths beyond it are seen.
        self._cap = lo if hi is None else hi + 1
        self._fuel = fuel
        self._states: list[tuple[int, int]] = []
        self._ids: dict[tuple[int, int], int] = {}
        start = self._state(inner.start, 0)
        if start is None:
            window = f"at least {lo}" if hi is None else f"{lo} to {hi}"
            raise UnsatisfiableConstraint(f"no text that matches has a length of {window} characters")
        self.start = start

    def _state(self, inner: int, count: int) -> int | None:
        """The state of ``inner`` after ``count`` code points, or None if it is a dead end."""
        if count != _FREE:
            bits = self._inner.lengths(inner, self._cap)
            need = max(self._lo - count, 0)
            fitting = bits >> need << need
            if self._hi is not None:
                fitting &= (1 << max(self._hi - count + 1, 0)) - 1
            if not fitting:
                return None
            if fitting == bits:
                count = _FREE
        key = (inner, count)
        found = self._ids.get(key)
        if found is None:
            self._fuel.spend()
            found = self._ids[key] = len(self._states)
            self._states.append(key)
        return found

    def edges(self, state: int) -> Sequence[tuple[CharSet, int]]:
        inner, count = self._states[state]
        after = count if count == _FREE else count + 1
        moves = [(members, self._state(target, after)) for members, target in self._inner.edges(inner)]
        return [(members, target) for members, target in moves if target is not None]

    def widest(self, states: Sequence[int]) -> Sequence[int]:
        return states

    def accepting(self, state: int) -> bool:
        inner, count = self._states[state]
        return (count == _FREE or count >= self._lo) and self._inner.accepting(inner)

    def universal(self, state: int) -> bool:
        inner, count = self._states[state]
        return count == _FREE and self._inner.universal(inner)
