"""String values as locations: the plain lexicon, its length in registers, and automata of patterns and enumerations."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from operator import or_
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from grammar.errors import UnsatisfiableConstraint
from grammar.fuel import Fuel, Supply
from grammar.json_schema.conjunction import ANY_STRING
from grammar.json_schema.lexicon import BETWEEN, Lexicon, key_strings, plain_strings, spell
from grammar.json_schema.shapes import KeyClass, StringEnum, StringShape
from grammar.literals import LiteralTrie, Node
from grammar.regex import lengths
from grammar.regex.dfa import LazyDfa, MeasuredDfa
from grammar.regex.language import Pattern, is_long_run, measured_dfa, text_dfa
from grammar.tables import COUNT, END_REJECT, GOTO, NONE, POP, PUSH, WITHIN, Edge
from grammar.utf8 import json_spelling

if TYPE_CHECKING:
    from grammar.json_schema.machine import Edges, JsonMachine

QUOTE = ord('"')
UNLIMITED = 2**31 - 1
"""A count of strings that no document can use up."""

ClassThreads = tuple[tuple[int, Hashable], ...]
"""(index of a class of strings, state of its automaton)"""

Strings_ = tuple[tuple[StringShape | StringEnum, int], ...]
"""(shape, bit of its verdict; 0 where nobody asks)"""


class TextAutomaton(Protocol):
    """A deterministic byte automaton over spelled texts; no state of it is a dead end."""

    @property
    def start(self) -> Any: ...

    def edges(self, state: Any) -> Sequence[tuple[int, int, Any]]:
        """Disjoint byte ranges, ascending, with the state each leads to."""
        ...

    def accepting(self, state: Any) -> bool: ...


class Strings:
    """The string automata of one vocabulary's alphabet (``spellable``: bool[256]) and one compile's fuel."""

    def __init__(self, spellable: Sequence[bool], fuel: int) -> None:
        self.spellable = tuple(spellable)
        self.plain, self.key = _lexicons(self.spellable)
        self.fuel = Supply(fuel)
        self._patterned: dict[StringShape, LazyDfa] = {}
        self._remaining: dict[KeyClass, dict[Hashable, int]] = {}
        self._matched: dict[tuple[str, str], bool] = {}
        self._listed: dict[StringEnum, LiteralTrie] = {}
        self._measured: dict[StringShape, tuple[MeasuredDfa, int, int | None]] = {}
        self._readers: dict[Strings_, Readers] = {}

    def spell(self, text: str) -> bytes:
        """Canonical spelling inside quotes."""
        return spell(text, self.spellable)

    def patterned(self, shape: StringShape) -> LazyDfa:
        """The automaton of a shape over canonical spellings; no state of it is a dead end. UnsatisfiableConstraint if
        it is empty."""
        found = self._patterned.get(shape)
        if found is None:
            found = self._patterned[shape] = text_dfa(
                [Pattern(pattern, "ecma", "search") for pattern in shape.patterns],
                json_spelling(self.spellable),
                self.fuel.new(),
                min_length=shape.min_length,
                max_length=shape.max_length,
                excluded=[Pattern(pattern, "ecma", "search") for pattern in shape.excluded],
            )
        return found

    def measured(self, shape: StringShape) -> tuple[MeasuredDfa, int, int | None]:
        """The automaton of a shape without its length, and the bounds of that, which registers count."""
        found = self._measured.get(shape)
        if found is None:
            found = self._measured[shape] = measured_dfa(
                [Pattern(pattern, "ecma", "search") for pattern in shape.patterns],
                json_spelling(self.spellable),
                self.fuel.new(),
                min_length=shape.min_length,
                max_length=shape.max_length,
                excluded=[Pattern(pattern, "ecma", "search") for pattern in shape.excluded],
            )
        return found

    def counts(self, shape: StringShape) -> bool:
        """Whether registers should count the length of a shape, one that has patterns."""
        if shape.min_length or shape.max_length is not None:
            return True
        if len(shape.patterns) != 1 or shape.excluded:
            return False
        return is_long_run(Pattern(shape.patterns[0], "ecma", "search"), json_spelling(self.spellable))

    def listed(self, shape: StringEnum) -> LiteralTrie:
        """The spelled strings of an enumeration."""
        found = self._listed.get(shape)
        if found is None:
            found = self._listed[shape] = LiteralTrie(sorted(map(self.spell, shape.values)))
        return found

    def readers(self, shapes: Strings_) -> Readers:
        """Those of some shapes: the same object for equal ones."""
        found = self._readers.get(shapes)
        if found is None:
            automata = [self.automaton(shape) for shape, _ in shapes]
            found = self._readers[shapes] = Readers(automata, [bit for _, bit in shapes])
        return found

    def automaton(self, shape: StringShape | StringEnum) -> TextAutomaton:
        """Any string shape as an automaton over its canonical spellings."""
        if isinstance(shape, StringEnum):
            return ListedAutomaton(self.listed(shape))
        return self.key if shape is ANY_STRING or shape == ANY_STRING else self.patterned(shape)

    def productive(self, shape: StringShape) -> bool:
        """Whether any string satisfies the shape (the hook of `Normal`)."""
        if shape.max_length is not None and shape.min_length > shape.max_length:
            return False
        if not shape.patterns and not shape.excluded:
            return True
        try:
            self.patterned(shape)
        except UnsatisfiableConstraint:
            return False
        return True

    def matches(self, pattern: str, text: str) -> bool:
        """Whether a pattern is found in a text (the hook of `Normal`)."""
        found = self._matched.get((pattern, text))
        if found is None:
            found = self._matched[pattern, text] = self.has(StringShape(patterns=(pattern,)), self.spell(text))
        return found

    def has(self, names: KeyClass, spelled: bytes) -> bool:
        """Whether a class has the string with this spelling."""
        automaton = self.automaton(names)
        state = automaton.start
        for byte in spelled:
            state = next((to for lo, hi, to in automaton.edges(state) if lo <= byte <= hi), None)
            if state is None:
                return False
        return automaton.accepting(state)

    def few(self, names: KeyClass, most: int) -> Sequence[str] | None:
        """The strings of a class if there are at most ``most``, else None (the hook of `Normal`)."""
        if isinstance(names, StringEnum):
            return names.values if len(names.values) <= most else None
        automaton = self.automaton(names)
        if self._more_than(automaton, most):
            return None
        texts: list[str] = []
        stack: list[tuple[Any, bytes]] = [(automaton.start, b"")]
        while stack:
            state, text = stack.pop()
            if automaton.accepting(state):
                texts.append(json.loads(b'"' + text + b'"'))
            for lo, hi, to in automaton.edges(state):
                stack += [(to, text + bytes([byte])) for byte in range(lo, hi + 1)]
        return sorted(texts)

    def _more_than(self, automaton: TextAutomaton, most: int) -> bool:
        """Whether an automaton has more than ``most`` texts. Counts its beginnings, a byte longer at a time: since no
        state is a dead end, each leads to a text of its own."""
        ended, begun = 0, {automaton.start: 1}
        while begun and ended + sum(begun.values()) <= most:
            longer: dict[Hashable, int] = {}
            for state, count in begun.items():
                ended += count * automaton.accepting(state)
                for lo, hi, to in automaton.edges(state):
                    longer[to] = longer.get(to, 0) + count * (hi - lo + 1)
            begun = longer
        return ended + sum(begun.values()) > most

    def remaining(self, names: KeyClass, state: Hashable) -> int:
        """How many strings of a class go on from ``state`` of its automaton; `UNLIMITED` where there are more than any
        text can hold."""
        if names is ANY_STRING or names == ANY_STRING:
            return UNLIMITED
        counts = self._remaining.setdefault(names, {})
        if state not in counts:
            count_ends(self.automaton(names), state, counts, self.fuel.new())
        return counts[state]

    def unlimited(self, names: KeyClass) -> bool:
        """Whether the class has no end of strings."""
        return self.remaining(names, self.automaton(names).start) == UNLIMITED

    def can_run_out(self, names: KeyClass) -> bool:
        """Whether some beginning has a limited number of strings of the class."""
        start = self.automaton(names).start
        return names != ANY_STRING and (
            self.remaining(names, start) < UNLIMITED or min(self._remaining[names].values()) < UNLIMITED
        )


def count_ends(automaton: TextAutomaton, start: Hashable, counts: dict[Hashable, int], fuel: Fuel) -> None:
    """Count the texts that lead from ``start``, and from every state below it, to an accepting state. A state that can
    come back to itself has unlimited ones, since it is no dead end."""
    open_states: set[Hashable] = set()
    stack: list[tuple[Hashable, bool]] = [(start, False)]
    while stack:
        state, below_done = stack.pop()
        if below_done:
            total = int(automaton.accepting(state))
            for lo, hi, to in automaton.edges(state):
                # A state that is still open leads here: a circle.
                total += (hi - lo + 1) * (UNLIMITED if to in open_states else counts[to])
            counts[state] = min(total, UNLIMITED)
            open_states.discard(state)
        elif state not in counts and state not in open_states:
            fuel.spend(1)
            open_states.add(state)
            stack.append((state, True))
            stack += [(to, False) for _, _, to in automaton.edges(state) if to not in counts and to not in open_states]


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
            trie = m.strings.listed(shape)
            start = m.state(Listed(trie, verdict, trie.root))
            return [(QUOTE, QUOTE, PUSH, start, ret, m.tables.registers(), 0)]
        if not shape.patterns and not shape.excluded:
            registers = m.tables.registers(_or_none(shape.max_length), shape.min_length)
            return [(QUOTE, QUOTE, PUSH, m.state(Plain(BETWEEN, verdict)), ret, registers, 0)]
        if m.strings.counts(shape):
            automaton, lo, hi = m.strings.measured(shape)
            start, registers = m.state(Measured(shape, verdict, automaton.start)), m.tables.registers(_or_none(hi), lo)
            return [(QUOTE, QUOTE, PUSH, start, ret, registers, 0)]
    readers = m.strings.readers(shapes)
    threads = tuple((i, automaton.start) for i, automaton in enumerate(readers.automata))
    return [(QUOTE, QUOTE, PUSH, m.state(Several(readers, threads)), ret, m.tables.registers(), 0)]


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
            m.tables.mark_plain(m.state(self))
            edges.append((QUOTE, QUOTE, POP, 0, self.verdict, 0, 0))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class Listed:
    """Inside one of some strings, at a node of their trie (there is one an enumeration, and hashing that of thousands
    of strings at every node would take longer than all else)."""

    trie: LiteralTrie
    verdict: int
    node: Node

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = [
            (byte, byte, GOTO, m.state(Listed(self.trie, self.verdict, below)), 0, 0, 0)
            for byte, below in self.trie.children(self.node)
        ]
        if self.trie.terminal(self.node) >= 0:
            edges.append((QUOTE, QUOTE, POP, 0, self.verdict, 0, 0))
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class Measured:
    """Inside a string with patterns whose length registers count: a state of the automaton without the length. What
    may still come must fit between the bounds (WITHIN), so that none of it is a dead end. (A state for every length
    would be a new mask for every character.)"""

    shape: StringShape
    verdict: int
    at: int

    def edges(self, m: JsonMachine) -> Edges:
        automaton, lo, hi = m.strings.measured(self.shape)
        cap = lo if hi is None else hi + 1
        between = automaton.between(self.at)
        edges: list[Edge] = []
        for first, last, to in automaton.edges(self.at):
            fitting = lengths.runs(automaton.lengths(to, cap), cap, lo, hi)
            if fitting:
                target = m.state(Measured(self.shape, self.verdict, to))
                if fitting == _ANY_LENGTH:
                    edges.append((first, last, COUNT if between else GOTO, target, 0, 0, 0))
                else:
                    edges.append((first, last, WITHIN, target, m.tables.lengths(fitting), 0, int(between)))
        if automaton.accepting(self.at):
            edges.append((QUOTE, QUOTE, POP, 0, self.verdict, 0, 0))
        lasting = automaton.lasting(
            self.at, lambda q: lengths.runs(automaton.place_lengths(q, cap), cap, lo, hi) == _ANY_LENGTH
        )
        if lasting is not None:
            m.tables.mark_lasting(m.state(self), *lasting, counted=True)
        return edges, END_REJECT


_ANY_LENGTH = ((0, None),)


def _or_none(limit: int | None) -> int:
    return NONE if limit is None else limit


@dataclass(frozen=True, eq=False, slots=True)
class Readers:
    """The automata of some shapes, and the bits of their verdicts. Compared by identity: there may be hundreds, and
    looking at all of them for every letter would take longer than all else."""

    automata: Sequence[TextAutomaton]
    bits: Sequence[int]


@dataclass(frozen=True, slots=True)
class Several:
    """Inside a string that several automata read at once. ``threads``: (index of the automaton, state of it) of those
    alive."""

    readers: Readers
    threads: tuple[tuple[int, Hashable], ...]

    def edges(self, m: JsonMachine) -> Edges:
        automata, bits = self.readers.automata, self.readers.bits
        if len(self.threads) == 1:
            ((i, at),) = self.threads
            automaton = automata[i]
            if isinstance(automaton, LazyDfa):
                lasting = automaton.lasting(cast(int, at))
                if lasting is not None:
                    m.tables.mark_lasting(m.state(self), *lasting, counted=False)
        edges: list[Edge] = [
            (lo, hi, GOTO, m.state(Several(self.readers, threads)), 0, 0, 0)
            for lo, hi, threads in together([(i, automata[i], at) for i, at in self.threads])
        ]
        satisfied = [bits[i] for i, at in self.threads if automata[i].accepting(at)]
        if satisfied:
            edges.append((QUOTE, QUOTE, POP, 0, m.verdict(reduce(or_, satisfied)), 0, 0))
        return edges, END_REJECT


_Thread = TypeVar("_Thread")


def together(
    threads: Sequence[tuple[_Thread, TextAutomaton, Hashable]],
) -> list[tuple[int, int, tuple[tuple[_Thread, Hashable], ...]]]:
    """Disjoint byte ranges with the threads that take them: (lo, hi, (thread, its next state)...). ``threads``: (name,
    automaton, state)."""
    which: dict[tuple[int, Hashable], int] = {}
    moves: list[Sequence[tuple[int, int, Hashable]]] = []
    for _, automaton, at in threads:
        if which.setdefault((id(automaton), at), len(which)) == len(moves):
            moves.append(automaton.edges(at))
    named = [(name, which[id(automaton), at]) for name, automaton, at in threads]
    if len(moves) == 1:
        return [(lo, hi, tuple((name, to) for name, _ in named)) for lo, hi, to in moves[0]]
    # Between two neighbouring cuts all bytes take the same edges.
    cuts = sorted({cut for ranges in moves for lo, hi, _ in ranges for cut in (lo, hi + 1)})
    found: list[tuple[int, int, tuple[tuple[_Thread, Hashable], ...]]] = []
    places = [0] * len(moves)
    for lo, end in pairwise(cuts):
        taken: dict[int, Hashable] = {}
        for i, ranges in enumerate(moves):
            while places[i] < len(ranges) and ranges[places[i]][1] < lo:
                places[i] += 1
            if places[i] < len(ranges) and ranges[places[i]][0] <= lo:
                taken[i] = ranges[places[i]][2]
        if taken:
            found.append((lo, end - 1, tuple((name, taken[i]) for name, i in named if i in taken)))
    return found
