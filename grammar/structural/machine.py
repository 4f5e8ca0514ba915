"""Structural tags as a byte machine: free text in which a trigger starts a constrained region (tool calls, reasoning).

The formats become a small nondeterministic graph of parts (`Graph`): literals, regexes and free text are byte automata,
JSON values are machines of their own kind that share the states of this one (`grammar.states`). A location is the set
of parts that are alive, determinised as the text comes, so that "no trigger yet" and "a trigger has begun" are told
apart by the text alone.

    "Let me look. <tool_call>{"name": "find", ...}</tool_call>"
     free text ── the trigger ends ──▶ JSON (pushes frames) ── the value ends ──▶ literal ──▶ free text

Where there are grammars in it, the text is read by an LR parser's machine, of which all this is a part: the sentence of
a grammar is read on a frame of its own, and the end of the text is a byte (`grammar.tables`).

Two parts that would go on with the same byte are no problem while both are byte automata. Where one of them is JSON,
JSON goes on alone: nothing invalid follows, but some texts are lost, and the contract says so (SOUND_SUBSET).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from grammar.states import Edges, States
from grammar.structural.document import read
from grammar.structural.graph import Graph, JsonPart, Run, SentencePart
from grammar.tables import END_ACCEPT, END_ASK, END_OF_TEXT, END_REJECT, GOTO, SHIFT, Edge

EXPLORED = 5_000
"""Locations looked at when compiling, to say where JSON silences another part."""

_NUMBER_GOES_ON = [(byte, byte) for byte in b"+-.0123456789Ee"]

T = TypeVar("T")

Item = tuple[int, int]
"""(part, state of its automaton; 0 for JSON and grammars)"""


@dataclass(frozen=True, slots=True)
class Live:
    """The parts that are alive, ascending."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Opening:
    """Before the whole text, where a parser reads it: a program is known for a parser's by its first state."""

    begin: Live


class StructuralMachine:
    """`grammar.tables.Machine` over a structural tag. ``reasons``: where it reaches less than what was asked.

    ``spellable`` bool[256]; ``fuel``: states that may be made. Raises ConstraintError with the JSON pointer of what
    cannot be enforced.
    """

    def __init__(self, document: object, spellable: Sequence[bool], fuel: int) -> None:
        self._states = States(fuel)
        self.tables = self._states.tables
        self.expand, self.resume, self.admit = self._states.expand, self._states.resume, self._states.admit
        self._states.join(self)
        self._graph = Graph(read(document), spellable, fuel, self._states)
        self._numbers: dict[Live | Opening, int] = {}
        self._silenced: dict[str, None] = {}
        begin = Live(self._alive((self._graph.start,)))
        if any(isinstance(part, JsonPart) for part in self._graph.parts):
            self._explore(begin)
        self.start = self._state(Opening(begin) if self._graph.parses else begin)

    @property
    def reasons(self) -> tuple[str, ...]:
        return (*self._graph.reasons, *self._silenced)

    @property
    def limits(self) -> dict[str, int | str]:
        return self._graph.limits

    # -- the owner of its locations (grammar.states) -------------------------------------------------------------------

    def admitted(self) -> None:
        self._graph.fuel.admit()

    def edges_of(self, location: Live | Opening) -> Edges:
        if isinstance(location, Opening):
            begin = self._state(location.begin)
            return [(0, END_OF_TEXT, SHIFT, begin, begin, self.tables.registers(), 0)], END_ASK
        edges = [edge for _, begun in self._values(location) for edge in begun]
        text = _without(self._moves(location), [(lo, hi) for lo, hi, *_ in edges])
        edges += [(lo, hi, GOTO, self._state(Live(items)), 0, 0, 0) for lo, hi, items in text]
        edges += self._sentences(location)
        if (self._graph.end, 0) not in location.items:
            return edges, END_REJECT
        if self._graph.parses:
            return [*edges, (END_OF_TEXT, END_OF_TEXT, GOTO, 0, 0, 0, 0)], END_ASK
        return edges, END_ACCEPT

    def decided(self, location: Live, verdict: int) -> int:
        """Nobody asks which alternative the JSON in a tag satisfied."""
        raise AssertionError(f"{location} waits for no verdict, and got {verdict}")

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _state(self, location: Live | Opening) -> int:
        known = self._numbers.get(location)
        if known is None:
            known = self._numbers[location] = self._states.new(self, location)
        return known

    def _alive(self, parts: Sequence[int], items: Sequence[Item] = ()) -> tuple[Item, ...]:
        """The items of ``parts`` at their start, and of all that may begin at once where one of them may be empty."""
        found: dict[Item, None] = {}
        todo = [*items, *((part, 0) for part in parts)]
        while todo:
            item = todo.pop()
            if item in found:
                continue
            part = self._graph.parts[item[0]]
            if isinstance(part, tuple):
                todo += [(other, 0) for other in part]
                continue
            found[item] = None
            if isinstance(part, Run) and part.automaton.accepting(item[1]):
                todo.append((part.then, 0))
        return tuple(sorted(found))

    def _moves(self, location: Live) -> list[tuple[int, int, tuple[Item, ...]]]:
        """(lo, hi, items) of the byte automata alive: disjoint and ascending."""
        moves: list[tuple[int, int, tuple[Item, ...]]] = []
        for number, state in location.items:
            part = self._graph.parts[number]
            if isinstance(part, Run):
                for lo, hi, target in part.automaton.edges(state):
                    after = ((number, target),) if target >= 0 else tuple((t, 0) for t in part.exits[-1 - target])
                    moves.append((lo, hi, after))
        cuts = sorted({cut for lo, hi, _ in moves for cut in (lo, hi + 1)})
        disjoint: list[tuple[int, int, tuple[Item, ...]]] = []
        for lo, stop in pairwise(cuts):
            items = [item for first, last, after in moves if first <= lo <= last for item in after]
            if items:
                disjoint.append((lo, stop - 1, self._alive((), items)))
        return disjoint

    def _values(self, location: Live) -> list[tuple[JsonPart, list[Edge]]]:
        """The JSON alive, with the edges of its first bytes, less those that JSON before it takes."""
        found: list[tuple[JsonPart, list[Edge]]] = []
        taken: list[tuple[int, int]] = []
        for number, _ in location.items:
            part = self._graph.parts[number]
            if isinstance(part, JsonPart):
                then = self._state(Live(self._alive((part.then,))))
                edges = part.machine.value_before(then).edges(part.machine)[0]
                left = _without([(edge[0], edge[1], edge) for edge in edges], taken)
                taken += [(lo, hi) for lo, hi, _ in left]
                found.append((part, [(lo, hi, *edge[2:]) for lo, hi, edge in left]))
        return found

    def _sentences(self, location: Live) -> list[Edge]:
        """What begins the sentences of grammars. A parser follows all ways at once, so nothing is silenced."""
        edges: list[Edge] = []
        for number, _ in location.items:
            part = self._graph.parts[number]
            if isinstance(part, SentencePart):
                then, registers = self._state(Live(self._alive((part.then,)))), self.tables.registers()
                edges += [(lo, hi, SHIFT, part.machine.start, then, registers, 0) for lo, hi in part.machine.begins()]
        return edges

    def _explore(self, begin: Live) -> None:
        """Note where JSON silences something, by going through the locations outside JSON."""
        queue, seen = deque([begin]), {begin}
        while queue:
            location = queue.popleft()
            moves = self._moves(location)
            values = self._values(location)
            following = [Live(items) for _, _, items in moves]
            sentences = [self._graph.parts[number] for number, _ in location.items]
            following += [Live(self._alive((part.then,))) for part in sentences if isinstance(part, SentencePart)]
            for i, (part, edges) in enumerate(values):
                after = Live(self._alive((part.then,)))
                following.append(after)
                if i:
                    self._silence(part, "another schema comes before it where both may begin")
                if _meet(moves, edges):
                    self._silence(part, "it begins wherever it can, although other text could go on with the same byte")
                if part.may_be_number and _meet(self._moves(after), _NUMBER_GOES_ON):
                    self._silence(part, "a number goes on as long as it can")
            for one in following:
                if one not in seen:
                    if len(seen) == EXPLORED:
                        self._silenced["not all parts were searched for places where JSON silences others"] = None
                        return
                    seen.add(one)
                    queue.append(one)

    def _silence(self, part: JsonPart, reason: str) -> None:
        self._silenced[f"{reason} (at `{part.pointer}`)"] = None


def _without(moves: Sequence[tuple[int, int, T]], taken: Sequence[tuple[int, int]]) -> list[tuple[int, int, T]]:
    """``moves`` less the bytes that are ``taken``."""
    left = list(moves)
    for lo, hi in taken:
        kept: list[tuple[int, int, T]] = []
        for first, last, what in left:
            if first < lo:
                kept.append((first, min(last, lo - 1), what))
            if last > hi:
                kept.append((max(first, hi + 1), last, what))
        left = kept
    return left


def _meet(moves: Sequence[tuple[int, int, object]], others: Sequence[Sequence[int]]) -> bool:
    return any(lo <= other[1] and other[0] <= hi for lo, hi, _ in moves for other in others)
