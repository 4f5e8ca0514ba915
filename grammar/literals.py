"""A fixed set of byte strings as a trie, without building one: enums, property keys, choices.

The strings are sorted, so the strings below a trie node are an interval of them, and a node is just (lo, hi, depth):
``strings[lo:hi]`` are those that begin with the node's ``depth`` bytes. Children are found by bisection when asked for.

    0 "car"   1 "cart"   2 "dog"      (0, 3, 0) ─c▶ (0, 2, 1) ─a▶ (0, 2, 2) ─r▶ (0, 2, 3) ─t▶ (1, 2, 4)
                                          └─────d▶ (2, 3, 1)                    ends "car"   ends "cart"
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from grammar.errors import ConstraintError, UnsatisfiableConstraint
from grammar.tables import END_ACCEPT, END_REJECT, GOTO, NONE, Edge, Tables

Node = tuple[int, int, int]
"""(lo, hi, depth)"""


class LiteralTrie:
    """The trie of ``strings``, which must be distinct and ascending (bytewise). Immutable."""

    def __init__(self, strings: Sequence[bytes]) -> None:
        self.strings = strings
        self.root: Node = (0, len(strings), 0)

    def terminal(self, node: Node) -> int:
        """Index of the string that ends at ``node``, or -1."""
        lo, _, depth = node
        # The shortest string below a node sorts first.
        return lo if len(self.strings[lo]) == depth else -1

    def children(self, node: Node) -> list[tuple[int, Node]]:
        """(byte, child) in byte order."""
        strings = self.strings
        lo, hi, depth = node
        if len(strings[lo]) == depth:
            lo += 1
        found: list[tuple[int, Node]] = []
        while lo < hi:
            first = strings[lo]
            byte = first[depth]
            if hi - lo == 1 or strings[hi - 1][depth] == byte:
                stop = hi
            elif strings[lo + 1][depth] != byte:
                stop = lo + 1
            else:
                # Up to the first string that the next byte could begin. 0xFF would be the last byte, handled above.
                stop = bisect_left(strings, first[:depth] + bytes((byte + 1,)), lo, hi)
            found.append((byte, (lo, stop, depth + 1)))
            lo = stop
        return found

    def chain(self, node: Node) -> tuple[bytes, Node]:
        """The bytes that every string below ``node`` goes on with, and the node they lead to."""
        lo, hi, depth = node
        # In sorted order, what the first and the last string share, all between them share.
        first, last = self.strings[lo], self.strings[hi - 1]
        end = depth
        limit = min(len(first), len(last))
        while end < limit and first[end] == last[end]:
            end += 1
        return first[depth:end], (lo, hi, end)


class ChoiceMachine:
    """The text is one of ``choices``; implements `grammar.tables.Machine`.

    ``spellable`` bool[256]: the bytes that may be written. Raises ConstraintError with the index of the choice
    (``/3``) for an empty list, a duplicate, or a choice that is not text; UnsatisfiableConstraint for one that cannot
    be written.
    """

    def __init__(self, choices: Sequence[str], spellable: Sequence[bool]) -> None:
        if not choices:
            raise ConstraintError("there is no choice")
        self.tables = Tables()
        self._trie = LiteralTrie(_sorted_literals(choices, spellable))
        self._nodes: list[Node] = [self._trie.root]
        self.start = self.tables.state()

    def admit(self) -> None:
        """A choice has no fuel: its states are at most as many as its bytes."""

    def expand(self, state: int) -> None:
        node = self._nodes[state]
        edges: list[Edge] = []
        for byte, child in self._trie.children(node):
            self._nodes.append(child)
            edges.append((byte, byte, GOTO, self.tables.state(), NONE, NONE, NONE))
        self.tables.define(state, edges, END_REJECT if self._trie.terminal(node) < 0 else END_ACCEPT)

    def resume(self, ret: int, verdict: int) -> int:
        """A choice pushes no frame, so nothing ever returns to it."""
        raise AssertionError(f"a choice has no state to resume after return {ret} with verdict {verdict}")


def _sorted_literals(choices: Sequence[str], spellable: Sequence[bool]) -> list[bytes]:
    encoded: list[bytes] = []
    for i, choice in enumerate(choices):
        try:
            encoded.append(choice.encode())
        except UnicodeEncodeError:
            raise ConstraintError("the choice contains a lone surrogate", f"/{i}") from None
    missing = {byte for byte in range(256) if not spellable[byte]}
    if not missing.isdisjoint(b"".join(encoded)):
        for i, data in enumerate(encoded):
            for byte in data:
                if byte in missing:
                    reason = f"the vocabulary cannot write byte 0x{byte:02X} of the choice"
                    raise UnsatisfiableConstraint(reason, f"/{i}")
    ordered = sorted(encoded)
    for one, two in pairwise(ordered):
        if one == two:
            again = len(encoded) - 1 - encoded[::-1].index(one)
            raise ConstraintError(f"the choice {one.decode()!r} is given twice", f"/{again}")
    return ordered
