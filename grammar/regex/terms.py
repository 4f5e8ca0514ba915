"""An automaton over code points whose states are what is left of the pattern: Antimirov's partial derivatives (TCS
1996).

A state is a list of nodes to match one after the other, hash-consed as (node, rest). Reading a character takes a
partial derivative: one state may lead to several. Nothing is built before it is asked for; a counted repeat is a node
with its count, so ``a{0,100000}`` is one state until somebody walks it. Every state of a plain pattern is productive:
`grammar.regex.syntax` lets no empty set survive inside a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from grammar.charset import CharSet
from grammar.fuel import Fuel
from grammar.regex import lengths
from grammar.regex.syntax import EPSILON, Ahead, Alt, Behind, Chars, Node, Repeat, Seq, plain


class CodePointAutomaton(Protocol):
    """A nondeterministic automaton over code points, each of whose states is productive."""

    start: int

    def edges(self, state: int) -> Sequence[tuple[CharSet, int]]:
        """(characters, next state); the sets of different edges may overlap."""
        ...

    def accepting(self, state: int) -> bool: ...

    def universal(self, state: int) -> bool:
        """Whether every text over the alphabet is accepted from here; may miss some states of which this is true."""
        ...

    def widest(self, states: Sequence[int]) -> Sequence[int]:
        """States of these that accept together what all of them accept; may be more than are needed."""
        ...


class MeasuredAutomaton(CodePointAutomaton, Protocol):
    """One that knows how long its texts are."""

    def lengths(self, state: int, cap: int) -> int:
        """The lengths of accepted texts from here, in code points, as `grammar.regex.lengths` writes them."""
        ...


Assertion = Ahead | Behind


@dataclass(frozen=True, slots=True)
class Path:
    """A way through a state without reading: the assertions that must hold here, then one of ``members`` and on to
    ``next``."""

    members: CharSet
    next: int
    assertions: frozenset[Assertion]


_ENDLESS = 2**31

NIL, TOP = 0, 1
"""The states that match only the empty text, and any text over the alphabet."""


class Terms:
    """The states, and their transitions."""

    def __init__(self, alphabet: CharSet, fuel: Fuel, *, all_plain: bool = False) -> None:
        """``all_plain``: no node that will be asked for has an assertion."""
        self.alphabet = alphabet
        self.all_plain = all_plain
        self._fuel = fuel
        self._cells: list[tuple[Node, int]] = [(EPSILON, NIL), (Repeat(Chars(alphabet), 0, None), NIL)]
        self._ids: dict[tuple[Node | CharSet, int], int] = {}
        self._repeats: dict[tuple[Node, int, int | None], Repeat] = {}
        self._paths: dict[int, tuple[list[Path], list[frozenset[Assertion]]]] = {}
        self._lengths: dict[tuple[Node | int, int], int] = {}
        self._plain = [True, True]
        self._counts: dict[int, tuple[int, tuple[int, ...]]] = {NIL: (NIL, ()), TOP: (TOP, ())}
        self._kinds: dict[tuple[Node | CharSet, int, bool], int] = {}

    def state(self, node: Node, rest: int) -> int:
        """The state that matches ``node`` and then ``rest``."""
        if isinstance(node, Seq):
            for item in reversed(node.items):
                rest = self.state(item, rest)
            return rest
        if rest == NIL and self._any_text(node):
            return TOP
        key = (node.set if isinstance(node, Chars) else node, rest)
        found = self._ids.get(key)
        if found is None:
            self._fuel.spend()
            found = self._ids[key] = len(self._cells)
            self._cells.append((node, rest))
            self._plain.append(self.all_plain or (self._plain[rest] and plain(node)))
        return found

    def cell(self, state: int) -> tuple[Node, int]:
        """(node, rest) of a state; NIL and TOP are their own rest."""
        return self._cells[state]

    def plain(self, state: int) -> bool:
        """Whether no assertion is left in ``state``."""
        return self._plain[state]

    def paths(self, state: int) -> tuple[list[Path], list[frozenset[Assertion]]]:
        """(paths, ends): ways to read a character, and the sets of assertions under which the text may end here."""
        found = self._paths.get(state)
        if found is None:
            found = self._paths[state] = self._walk(state)
        return found

    def _walk(self, state: int) -> tuple[list[Path], list[frozenset[Assertion]]]:
        none: frozenset[Assertion] = frozenset()
        paths: list[Path] = []
        ends: list[frozenset[Assertion]] = []
        stack = [(state, none)]
        seen = {(state, none)}
        while stack:
            here, assertions = stack.pop()
            if here == NIL:
                ends.append(assertions)
                continue
            node, rest = self._cells[here]
            following: list[tuple[int, frozenset[Assertion]]] = []
            match node:
                case Chars(members):
                    paths.append(Path(members, rest, assertions))
                case Alt(options):
                    following = [(self.state(option, rest), assertions) for option in reversed(options)]
                case Repeat(body, lo, hi):
                    again = here if lo == 0 and hi is None else self._repeated(body, lo, hi, rest)
                    following = [(self.state(body, again), assertions)]
                    if lo == 0:
                        following.append((rest, assertions))
                case Ahead() | Behind():
                    following = [(rest, assertions | {node})]
                case _:
                    raise AssertionError(f"{node} is no node of a state")
            for move in following:
                if move not in seen:
                    seen.add(move)
                    stack.append(move)
        self._fuel.spend(len(seen) // 16)
        return paths, ends

    def _any_text(self, node: Node) -> bool:
        match node:
            case Repeat(Chars(members), 0, None):
                return members == self.alphabet
            case _:
                return False

    def _repeated(self, body: Node, lo: int, hi: int | None, rest: int) -> int:
        """What follows one iteration of a repeat."""
        if hi == 1:
            return rest
        key = (body, max(lo - 1, 0), None if hi is None else hi - 1)
        node = self._repeats.get(key)
        if node is None:
            node = self._repeats[key] = Repeat(*key)
        return self.state(node, rest)

    def widest(self, states: Sequence[int]) -> list[int]:
        """Those of some plain states that do not count like another, but narrower: a{0,3}b{1,4} matches nothing that
        a{0,5}b{0,4} does not. A text may be at thousands of places of ((a{1,50}b?){1,50}c?){1,50}, and few of these
        are not narrower than others."""
        alike: dict[int, dict[tuple[int, ...], int]] = {}
        for state in states:
            kind, counts = self._counts_of(state)
            alike.setdefault(kind, {})[counts] = state
        found: list[int] = []
        for group in alike.values():
            self._fuel.spend(len(group) * len(group) >> 12)
            counts, several = np.array(list(group), np.int64), list(group.values())
            wider = (counts[:, None] >= counts).all(2)
            found += [several[i] for i in np.flatnonzero(wider.sum(0) == 1).tolist()]
        return found

    def _counts_of(self, state: int) -> tuple[int, tuple[int, ...]]:
        """(which state it is but for its counts, its counts; the larger they are, the wider it is)."""
        chain: list[int] = []
        while state not in self._counts:
            chain.append(state)
            state = self._cells[state][1]
        found = self._counts[state]
        for link in reversed(chain):
            kind, counts = found
            match self._cells[link][0]:
                case Repeat(body, lo, hi):
                    key, counts = (body, kind, True), (*counts, -lo, _ENDLESS if hi is None else hi)
                case Chars(members):
                    key = (members, kind, False)
                case node:
                    key = (node, kind, False)
            found = self._counts[link] = self._kinds.setdefault(key, len(self._kinds) + 2), counts
        return found

    def lengths(self, state: int, cap: int) -> int:
        """Lengths of the texts that a plain state matches."""
        chain: list[int] = []
        while state != NIL and (state, cap) not in self._lengths:
            chain.append(state)
            state = self._cells[state][1]
        known = 1 if state == NIL else self._lengths[state, cap]
        for link in reversed(chain):
            self._fuel.spend(cap >> 12)
            known = self._lengths[link, cap] = lengths.add(self._node_lengths(self._cells[link][0], cap), known, cap)
        return known

    def _node_lengths(self, node: Node, cap: int) -> int:
        found = self._lengths.get((node, cap))
        if found is not None:
            return found
        match node:
            case Chars():
                total = lengths.saturate(2, cap)
            case Seq(items):
                total = 1
                for item in items:
                    total = lengths.add(total, self._node_lengths(item, cap), cap)
            case Alt(options):
                total = 0
                for option in options:
                    total |= self._node_lengths(option, cap)
            case Repeat(body, lo, hi):
                total = lengths.times(self._node_lengths(body, cap), lo, hi, cap)
            case _:
                raise AssertionError(f"{node} has no lengths of its own")
        self._lengths[node, cap] = total
        return total


class PlainAutomaton:
    """The automaton of one plain state."""

    def __init__(self, terms: Terms, start: int) -> None:
        self._terms = terms
        self.start = start

    def edges(self, state: int) -> Sequence[tuple[CharSet, int]]:
        return [(path.members, path.next) for path in self._terms.paths(state)[0]]

    def accepting(self, state: int) -> bool:
        return bool(self._terms.paths(state)[1])

    def universal(self, state: int) -> bool:
        return state == TOP

    def widest(self, states: Sequence[int]) -> Sequence[int]:
        return self._terms.widest(states)

    def lengths(self, state: int, cap: int) -> int:
        return self._terms.lengths(state, cap)
