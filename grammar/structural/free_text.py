"""Free text that watches for strings: UTF-8 (RFC 3629) in the bytes a vocabulary has, run beside Aho and Corasick's
matcher ("Efficient string matching", CACM 1975).

    stops      strings that end the text: the state after the last byte is an *exit*
    excludes   strings that never come to their last byte

Every state can be left: by the text's end where `may_end`, or by some stop; bytes that lead to no such state are not
offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from grammar.charset import ANY
from grammar.errors import UnsatisfiableConstraint
from grammar.utf8 import DONE, ByteNode, Spelling

Move = tuple[int, int, int]
"""(lo, hi, target): a state, or -1 - i for exit i"""


class FreeText:
    """A deterministic byte automaton; ``start`` is state 0. ``exits[i]``: the stops that end together at exit i.

    UnsatisfiableConstraint if nothing can be written.
    """

    def __init__(self, stops: Sequence[bytes], excludes: Sequence[bytes], spelling: Spelling, may_end: bool) -> None:
        self.start = 0
        self.exits: list[tuple[int, ...]] = []
        self._may_end = may_end
        self._matcher = _Matcher([*stops, *excludes], len(stops))
        self._root = spelling.root(ANY)
        self._places: list[tuple[ByteNode, int]] = [(DONE, 0)]
        self._ids: dict[tuple[ByteNode, int], int] = {(DONE, 0): 0}
        self._moves: list[list[Move]] = []
        while len(self._moves) < len(self._places):
            self._moves.append(self._expand(*self._places[len(self._moves)]))
        self._drop_dead_ends()

    def edges(self, state: int) -> list[Move]:
        """Disjoint byte ranges, ascending, with the state or exit each leads to."""
        return self._moves[state]

    def accepting(self, state: int) -> bool:
        """Whether the text may end here."""
        return self._may_end and self._places[state][0] is DONE

    def _expand(self, inside: ByteNode, found: int) -> list[Move]:
        moves: list[Move] = []
        for lo, hi, node in (self._root if inside is DONE else inside).edges:
            for first, last, reached in self._matcher.moves(found, lo, hi):
                ended = self._matcher.ended[reached]
                if any(i < self._matcher.n_stops for i in ended):
                    stopped = tuple(i for i in ended if i < self._matcher.n_stops)
                    if stopped not in self.exits:
                        self.exits.append(stopped)
                    moves.append((first, last, -1 - self.exits.index(stopped)))
                elif not ended:
                    place = (node, reached)
                    if place not in self._ids:
                        self._ids[place] = len(self._places)
                        self._places.append(place)
                    moves.append((first, last, self._ids[place]))
        return moves

    def _drop_dead_ends(self) -> None:
        alive = [self.accepting(state) for state in range(len(self._places))]
        changed = True
        while changed:
            changed = False
            for state, moves in enumerate(self._moves):
                if not alive[state] and any(target < 0 or alive[target] for _, _, target in moves):
                    alive[state] = changed = True
        if not alive[0]:
            raise UnsatisfiableConstraint("the free text can never end: what should end it is excluded")
        self._moves = [[move for move in moves if move[2] < 0 or alive[move[2]]] for moves in self._moves]


class _Matcher:
    """The goto function of Aho and Corasick, made whole. Node 0: nothing begun. ``ended[node]``: the strings that end
    there, the first ``n_stops`` of them stops."""

    def __init__(self, strings: Sequence[bytes], n_stops: int) -> None:
        self.n_stops = n_stops
        self._children: list[dict[int, int]] = [{}]
        self.ended: list[tuple[int, ...]] = [()]
        for i, string in enumerate(strings):
            node = 0
            for byte in string:
                if byte not in self._children[node]:
                    self._children[node][byte] = len(self._children)
                    self._children.append({})
                    self.ended.append(())
                node = self._children[node][byte]
            self.ended[node] += (i,)
        self._next: list[dict[int, int]] = [dict(self._children[0])]
        self._next += [{} for _ in self._children[1:]]
        queue = [(child, 0) for child in self._children[0].values()]
        for node, longest in queue:  # breadth first: ``longest``, the longest other suffix, is complete already
            self.ended[node] += self.ended[longest]
            self._next[node] = {**self._next[longest], **self._children[node]}
            queue += [(child, self._next[longest].get(byte, 0)) for byte, child in self._children[node].items()]

    def moves(self, node: int, lo: int, hi: int) -> list[tuple[int, int, int]]:
        """(first, last, node) for the bytes lo..hi."""
        special = self._next[node]
        cuts = sorted({lo, hi + 1, *(cut for byte in special if lo <= byte <= hi for cut in (byte, byte + 1))})
        return [(first, stop - 1, special.get(first, 0)) for first, stop in pairwise(cuts)]
