"""Lazy determinisation over bytes: the subset construction, one state at a time.

An *item* is a place in the text of one code-point state: between two code points, or inside the spelling of one (a
`ByteNode` of `grammar.utf8`) with the state that follows it. A DFA state is a set of items. Items are productive, so
every state has a completion and every edge leads to one: no byte is offered that cannot be finished.

    text     a ─────────── é ───────────── b
    items    (q0)          (q1) (C3·, q2) (q2)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_

from grammar.charset import EMPTY, CharSet
from grammar.fuel import Fuel
from grammar.regex.terms import CodePointAutomaton, MeasuredAutomaton
from grammar.tables import ByteWords
from grammar.utf8 import DONE, ByteNode, Spelling

ByteEdge = tuple[int, int, int]
"""(lo, hi, next): the bytes lo..hi, both included."""

_MANY_PLACES = 8
"""Items up to here are not worth comparing."""


class LazyDfa:
    """A deterministic byte automaton, built as it is walked. ``start`` is state 0; states are numbered in the order
    they are met.

    `edges` raises ConstraintTooLarge when the fuel is spent; what it has returned before stays valid.
    """

    def __init__(self, automaton: CodePointAutomaton, spelling: Spelling, fuel: Fuel, used: CharSet) -> None:
        """``used``: no text has other characters."""
        self._automaton = automaton
        self._spelling = spelling
        self._used = used
        self._loops: dict[int, CharSet] = {}
        self._fuel = fuel
        self._items: list[tuple[ByteNode, int]] = []
        self._item_ids: dict[tuple[ByteNode, int], int] = {}
        self._item_edges: list[list[ByteEdge] | None] = []
        self._states: list[tuple[int, ...]] = []
        self._state_ids: dict[tuple[int, ...], int] = {}
        self._edges: list[list[ByteEdge] | None] = []
        self.start = self._state((self._item(DONE, automaton.start),))

    @property
    def n_states(self) -> int:
        """States met so far."""
        return len(self._states)

    def edges(self, state: int) -> list[ByteEdge]:
        """Disjoint byte ranges, ascending, with the state each leads to."""
        found = self._edges[state]
        if found is None:
            items = self._states[state]
            moves = self._moves(items[0]) if len(items) == 1 else [e for item in items for e in self._moves(item)]
            found = self._edges[state] = self._determinise(moves)
        return found

    def accepting(self, state: int) -> bool:
        """Whether the text may end here."""
        for item in self._states[state]:
            node, q = self._items[item]
            if node is DONE and self._automaton.accepting(q):
                return True
        return False

    def accepts(self, data: bytes) -> bool:
        """Whether the spelled text ``data`` is in the language."""
        state = self.start
        for byte in data:
            state = next((target for lo, hi, target in self.edges(state) if lo <= byte <= hi), None)
            if state is None:
                return False
        return self.accepting(state)

    def between(self, state: int) -> bool:
        """Whether a state is between two code points. (No spelling is a prefix of another: all its items are, or
        none.)"""
        return self._items[self._states[state][0]][0] is DONE

    def lasting(self, state: int, among: Callable[[int], bool] = lambda q: True) -> tuple[ByteWords, ByteWords] | None:
        """What `Tables.mark_lasting` says of a state, None if there is nothing to say. A place of the text (a
        code-point state) that some characters lead back to stays one of the text's places however many of them follow.
        ``among``: the places that count."""
        if not self.between(state):
            return None
        places = (self._items[item][1] for item in self._states[state])
        chosen = max((self._loop(q) for q in places if among(q)), key=len, default=EMPTY)
        return self._spelling.first_bytes(chosen, self._used) if chosen else None

    def _loop(self, q: int) -> CharSet:
        """The characters that lead a code-point state back to itself."""
        found = self._loops.get(q)
        if found is None:
            found = self._loops[q] = reduce(or_, (by for by, to in self._automaton.edges(q) if to == q), EMPTY)
        return found

    def _item(self, node: ByteNode, following: int) -> int:
        key = (node, following)
        found = self._item_ids.get(key)
        if found is None:
            found = self._item_ids[key] = len(self._items)
            self._items.append(key)
            self._item_edges.append(None)
        return found

    def _state(self, items: tuple[int, ...]) -> int:
        """The state of a set of items, ascending."""
        if len(items) > 1:
            for item in items:
                node, q = self._items[item]
                if node is DONE and self._automaton.universal(q):
                    items = (item,)
                    break
            if len(items) > _MANY_PLACES:
                items = self._widest(items)
        found = self._state_ids.get(items)
        if found is None:
            # The work of expanding a state grows with its items.
            self._fuel.spend(1 + len(items) // 16)
            found = self._state_ids[items] = len(self._states)
            self._states.append(items)
            self._edges.append(None)
        return found

    def _widest(self, items: tuple[int, ...]) -> tuple[int, ...]:
        """The items less those that others make up for."""
        places: dict[ByteNode, list[int]] = {}
        for item in items:
            node, q = self._items[item]
            places.setdefault(node, []).append(q)
        widest = ((node, q) for node, states in places.items() for q in self._automaton.widest(states))
        return tuple(sorted(self._item_ids[place] for place in widest))

    def _moves(self, item: int) -> list[ByteEdge]:
        """(lo, hi, next item); ranges may overlap where the code-point automaton is nondeterministic."""
        found = self._item_edges[item]
        if found is None:
            node, q = self._items[item]
            if node is DONE:
                root = self._spelling.root
                pairs = [(root(members), target) for members, target in self._automaton.edges(q)]
            else:
                pairs = [(node, q)]
            found = [(lo, hi, self._item(child, target)) for parent, target in pairs for lo, hi, child in parent.edges]
            found.sort()
            self._item_edges[item] = found
        return found

    def _determinise(self, moves: list[ByteEdge]) -> list[ByteEdge]:
        moves = sorted(moves)
        edges: list[ByteEdge] = []
        end = -1
        for lo, hi, item in moves:
            if lo <= end:
                return self._sweep(moves)
            end = hi
            _append(edges, lo, hi, self._state((item,)))
        return edges

    def _sweep(self, moves: list[ByteEdge]) -> list[ByteEdge]:
        """Cut overlapping ranges into cells with one set of items each."""
        begins: dict[int, list[int]] = {}
        ends: dict[int, list[int]] = {}
        for lo, hi, item in moves:
            begins.setdefault(lo, []).append(item)
            ends.setdefault(hi + 1, []).append(item)
        active: dict[int, int] = {}
        edges: list[ByteEdge] = []
        previous = 0
        for point in sorted(begins.keys() | ends.keys()):
            if active:
                _append(edges, previous, point - 1, self._state(tuple(sorted(active))))
            for item in ends.get(point, ()):
                active[item] -= 1
                if not active[item]:
                    del active[item]
            for item in begins.get(point, ()):
                active[item] = active.get(item, 0) + 1
            previous = point
        return edges


class MeasuredDfa(LazyDfa):
    """One whose states know the lengths of what may still come."""

    def __init__(self, automaton: MeasuredAutomaton, spelling: Spelling, fuel: Fuel, used: CharSet) -> None:
        super().__init__(automaton, spelling, fuel, used)
        self._measured = automaton

    def lengths(self, state: int, cap: int) -> int:
        """Code points from here on to an end, the one that is begun not counted, as `grammar.regex.lengths` writes
        them."""
        bits = 0
        for item in self._states[state]:
            bits |= self.place_lengths(self._items[item][1], cap)
        return bits

    def place_lengths(self, q: int, cap: int) -> int:
        """The same of one place."""
        return self._measured.lengths(q, cap)


def _append(edges: list[ByteEdge], lo: int, hi: int, target: int) -> None:
    if edges and edges[-1][1] == lo - 1 and edges[-1][2] == target:
        edges[-1] = (edges[-1][0], hi, target)
    else:
        edges.append((lo, hi, target))
