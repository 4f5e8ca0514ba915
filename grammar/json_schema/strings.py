"""String values as locations: the plain lexicon with its length in registers, and automata for patterns and enumerations."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from grammar.errors import UnsatisfiableConstraint
from grammar.json_schema.lexicon import BETWEEN, Lexicon, key_strings, plain_strings, spell
from grammar.json_schema.shapes import StringEnum, StringShape
from grammar.literals import LiteralTrie, Node
from grammar.regex.dfa import LazyDfa
from grammar.regex.language import Pattern, text_dfa
from grammar.regex.syntax import Fuel
from grammar.tables import COUNT, END_REJECT, GOTO, NONE, POP, PUSH, Edge
from grammar.utf8 import json_spelling

if TYPE_CHECKING:
    from grammar.json_schema.machine import Edges, JsonMachine

QUOTE = ord('"')

Strings_ = tuple[tuple[StringShape | StringEnum, int], ...]
"""(shape, bit of its verdict; 0 where nobody asks)"""


class Strings:
    """The string automata of one vocabulary's alphabet (``spellable``: bool[256]) and one compile's fuel."""

    def __init__(self, spellable: Sequence[bool], fuel: int) -> None:
        self.spellable = tuple(spellable)
        self.plain, self.key = _lexicons(self.spellable)
        self._fuel = fuel
        self._patterned: dict[StringShape, LazyDfa] = {}
        self._listed: dict[StringEnum, LiteralTrie] = {}

    def spell(self, text: str) -> bytes:
        """Canonical spelling inside quotes."""
        return spell(text, self.spellable)

    def patterned(self, shape: StringShape) -> LazyDfa:
        """The automaton of a shape over canonical spellings; no state of it is a dead end. UnsatisfiableConstraint if it is empty."""
        found = self._patterned.get(shape)
        if found is None:
            found = self._patterned[shape] = text_dfa(
                [Pattern(pattern, "ecma", "search") for pattern in shape.patterns],
                json_spelling(self.spellable),
                Fuel(self._fuel),
                min_length=shape.min_length,
                max_length=shape.max_length,
            )
        return found

    def listed(self, shape: StringEnum) -> LiteralTrie:
        """The spelled strings of an enumeration."""
        found = self._listed.get(shape)
        if found is None:
            found = self._listed[shape] = LiteralTrie(sorted(map(self.spell, shape.values)))
        return found

    def automaton(self, shape: StringShape | StringEnum) -> Lexicon | LazyDfa | ListedAutomaton:
        """Any string shape as an automaton over its canonical spellings."""
        if isinstance(shape, StringEnum):
            return ListedAutomaton(self.listed(shape))
        if shape.patterns or shape.min_length or shape.max_length is not None:
            return self.patterned(shape)
        return self.key

    def productive(self, shape: StringShape) -> bool:
        """Whether any string satisfies the shape (the hook of `Normal`)."""
        if shape.max_length is not None and shape.min_length > shape.max_length:
            return False
        if not shape.patterns:
            return True
        try:
            self.patterned(shape)
        except UnsatisfiableConstraint:
            return False
        return True

    def matches(self, pattern: str, text: str) -> bool:
        """Whether a pattern is found in a text (the hook of `Normal`)."""
        return self.patterned(StringShape(patterns=(pattern,))).accepts(self.spell(text))


class ListedAutomaton:
    """Some strings as an automaton; its states are the nodes of their trie."""

    def __init__(self, trie: LiteralTrie) -> None:
        self._trie = trie
        self.start = trie.root

    def edges(self, state: Node) -> list[tuple[int, int, Node]]:
        return [(byte, byte, below) for byte, below in self._trie.children(state)]

    def accepting(self, state: Node) -> bool:
        return self._trie.terminal(state) >= 0


@lru_cache(maxsize=64)
def _lexicons(spellable: tuple[bool, ...]) -> tuple[Lexicon, Lexicon]:
    return plain_strings(spellable), key_strings(spellable)


def string_edges(m: JsonMachine, shapes: Strings_, ret: int) -> list[Edge]:
    """The edge on a string's opening quote."""
    if len(shapes) == 1:
        shape, bit = shapes[0]
        verdict = m.verdict(bit)
        if isinstance(shape, StringEnum):
            start = m.state(Listed(shape, verdict, m.strings.listed(shape).root))
            return [(QUOTE, QUOTE, PUSH, start, ret, m.tables.registers(), 0)]
        if not shape.patterns:
            hi = NONE if shape.max_length is None else shape.max_length
            registers = m.tables.registers(hi, shape.min_length)
            return [(QUOTE, QUOTE, PUSH, m.state(Plain(BETWEEN, verdict)), ret, registers, 0)]
    threads = tuple((i, automaton.start) for i, automaton in enumerate(_automata(m, shapes)))
    return [(QUOTE, QUOTE, PUSH, m.state(Several(shapes, threads)), ret, m.tables.registers(), 0)]


@dataclass(frozen=True, slots=True)
class Plain:
    """Inside a string without patterns: any text, its length counted in registers. The same states for all schemas."""

    at: int
    verdict: int

    def edges(self, m: JsonMachine) -> Edges:
        # A character is counted at its first byte, so that nothing begins that could not end.
        op = COUNT if self.at == BETWEEN else GOTO
        edges: list[Edge] = [
            (lo, hi, op, m.state(Plain(to, self.verdict)), 0, 0, 0) for lo, hi, to in m.strings.plain.edges(self.at)
        ]
        if self.at == BETWEEN:
            edges.append((QUOTE, QUOTE, POP, 0, self.verdict, 0, 0))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class Listed:
    """Inside one of some strings, at a node of their trie."""

    shape: StringEnum
    verdict: int
    node: Node

    def edges(self, m: JsonMachine) -> Edges:
        trie = m.strings.listed(self.shape)
        edges: list[Edge] = [
            (byte, byte, GOTO, m.state(Listed(self.shape, self.verdict, below)), 0, 0, 0)
            for byte, below in trie.children(self.node)
        ]
        if trie.terminal(self.node) >= 0:
            edges.append((QUOTE, QUOTE, POP, 0, self.verdict, 0, 0))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class Several:
    """Inside a string that several automata read at once. ``threads``: (index of the shape, state of its automaton), those alive."""

    shapes: Strings_
    threads: tuple[tuple[int, Hashable], ...]

    def edges(self, m: JsonMachine) -> Edges:
        automata = _automata(m, self.shapes)
        moves = [(i, automata[i].edges(at)) for i, at in self.threads]
        # Between two neighbouring cuts all bytes take the same edges.
        cuts = sorted({lo for _, ranges in moves for lo, _, _ in ranges} | {hi + 1 for _, ranges in moves for _, hi, _ in ranges})
        edges: list[Edge] = []
        for lo, end in zip(cuts, cuts[1:], strict=False):
            threads = tuple((i, to) for i, ranges in moves for first, last, to in ranges if first <= lo <= last)
            if threads:
                edges.append((lo, end - 1, GOTO, m.state(Several(self.shapes, threads)), 0, 0, 0))
        satisfied = [self.shapes[i][1] for i, at in self.threads if automata[i].accepting(at)]
        if satisfied:
            bits = 0
            for bit in satisfied:
                bits |= bit
            edges.append((QUOTE, QUOTE, POP, 0, m.verdict(bits), 0, 0))
        return edges, END_REJECT


def _automata(m: JsonMachine, shapes: Strings_) -> list[Lexicon | LazyDfa | ListedAutomaton]:
    return [m.strings.automaton(shape) for shape, _ in shapes]
