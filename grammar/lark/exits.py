"""Whether a parser's stack can be completed, and what that depends on.

Whether a configuration of a pushdown automaton can come to its end is decided by its state and a regular language of
stacks (Büchi, 1964; Bouajjani, Esparza and Maler, CONCUR 1997). Written from the bottom up:

    exits     of a state: the reductions that it can come to and that reach below its topmost frame, each before some
              byte, and the end of the text; a least fixpoint over all states of the machine
    context   of a stack: the exits that it leads on from, to the end. It follows from the frame on top and the context
              below

              a state may be completed on a stack  ⇔  it has an exit of the stack's context
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple, Protocol

from grammar.fuel import Fuel
from grammar.tables import END_OF_TEXT, GOTO, PUSH, REDO, REDUCE, SHIFT, Edge

Set = int
"""A set of exits: bits."""

ENDED: Set = 1
"""The sentence has come to its end."""

AHEAD = -1
"""No byte is waiting: the state has not seen the next one."""


class _Node(NamedTuple):
    """A state, before a byte of a class that it must take, or `AHEAD`."""

    state: int
    byte: int


class _Above(NamedTuple):
    """A node with a frame on top of the stack, which the exits are not counted from."""

    frame: int
    node: _Node


class _Exit(NamedTuple):
    """A reduction that drops some more frames before a byte of a class."""

    verdict: int
    frames: int
    byte: int


class Steps(Protocol):
    """An LR machine, as `grammar.tables` describes one."""

    def edges_of(self, state: int) -> list[Edge]: ...

    def behind(self, frame: int, verdict: int) -> int | None:
        """The state after a reduction that uncovers a frame, None where the parser cannot go on from there."""
        ...


class Exits:
    """The exits of all states that a machine comes to from ``start``. ConstraintTooLarge when the fuel for them is
    spent."""

    def __init__(self, start: int, steps: Steps, fuel: Fuel) -> None:
        self._start = start
        self._steps = steps
        self._fuel = fuel
        self.edges: dict[int, list[Edge]] = {}
        self._frames: dict[int, None] = {}
        self._verdicts: dict[int, None] = {}
        self._targets: dict[tuple[int, int], int | None] = {}
        self._meet_all()
        self.classes = _classes(edge for edges in self.edges.values() for edge in edges)
        """Ranges (lo, hi) of bytes that no edge tells apart, ascending; the last is the end of the text."""
        self._class_at = {lo: number for number, (lo, _) in enumerate(self.classes)}
        self._exits: list[_Exit] = []
        self._bits: dict[_Exit, int] = {}
        self._found: dict[_Node | _Above, Set] = {}
        self._feeds: dict[_Node | _Above, dict[_Node | _Above, Set]] = {}
        """For each variable those that it feeds, and what they were given."""
        self._new: list[_Node | _Above] = []
        self._grown: list[_Node | _Above] = []
        for state in self.edges:
            self._add(_Node(state, AHEAD))
        self._solve()

    def of(self, state: int, byte: int = AHEAD) -> Set:
        """The exits of a state, before a byte of a class that it was met before."""
        return self._found[_Node(state, byte)]

    def below(self, frame: int, context: Set) -> Set:
        """The context of a stack with ``frame`` on top of one whose context is given."""
        found = ENDED
        for number, (verdict, frames, byte) in enumerate(self._exits, 1):
            if frames:
                bit = self._bits.get(_Exit(verdict, frames - 1, byte))
                holds = bit is not None and context >> bit & 1
            else:
                target = self.target(frame, verdict)
                # What was not met as a variable is not met by a text either.
                holds = target is not None and self._found.get(_Above(frame, _Node(target, byte)), 0) & context
            if holds:
                found |= 1 << number
        return found

    def bit(self, verdict: int, frames: int, byte: int) -> Set:
        """The set of one exit."""
        return 1 << self._bits[_Exit(verdict, frames, byte)]

    def target(self, frame: int, verdict: int) -> int | None:
        """The state after a reduction that a frame is uncovered by; None where there is none."""
        key = frame, verdict
        if key not in self._targets:
            self._fuel.spend()
            self._targets[key] = self._steps.behind(frame, verdict)
        return self._targets[key]

    def within(self, lo: int, hi: int) -> range:
        """The classes of a range of bytes."""
        first = self._class_at[lo]
        last = first
        while self.classes[last][1] < hi:
            last += 1
        return range(first, last + 1)

    # -- all states ----------------------------------------------------------------------------------------------------

    def _meet_all(self) -> None:
        queue = [self._start]
        met = set(queue)

        def meet(states: Iterable[int | None]) -> None:
            for state in states:
                if state is not None and state not in met:
                    met.add(state)
                    queue.append(state)

        for state in queue:
            self._fuel.spend(4)
            self.edges[state] = edges = self._steps.edges_of(state)
            for lo, _, op, target, a, _, _ in edges:
                if op in (PUSH, SHIFT) or (op == GOTO and lo != END_OF_TEXT):
                    meet((target,))
                if op in (PUSH, SHIFT) and a not in self._frames:
                    self._frames[a] = None
                    meet([self.target(a, verdict) for verdict in self._verdicts])
                if op == REDUCE and a not in self._verdicts:
                    self._verdicts[a] = None
                    meet([self.target(frame, a) for frame in self._frames])

    # -- the fixpoint --------------------------------------------------------------------------------------------------

    def _solve(self) -> None:
        while self._new or self._grown:
            if self._new:
                self._begin(self._new.pop())
            else:
                self._propagate(self._grown.pop())

    def _add(self, variable: _Node | _Above) -> None:
        if variable not in self._found:
            self._fuel.spend()
            self._found[variable] = 0
            self._new.append(variable)

    def _begin(self, variable: _Node | _Above) -> None:
        """What a variable starts from, and what feeds it."""
        if isinstance(variable, _Above):
            self._feed(variable.node, variable)
            return
        for lo, hi, op, target, a, b, _ in self.edges[variable.state]:
            if variable.byte != AHEAD and not lo <= self.classes[variable.byte][0] <= hi:
                continue
            if op == REDO or (op == GOTO and lo == END_OF_TEXT):
                self._found[variable] |= ENDED
            elif op == GOTO:
                self._feed(_Node(target, AHEAD), variable)
            elif op == PUSH:
                self._feed(_Above(a, _Node(target, AHEAD)), variable)
            else:
                for byte in self.within(lo, hi) if variable.byte == AHEAD else (variable.byte,):
                    if op == SHIFT:
                        self._feed(_Above(a, _Node(target, byte)), variable)
                    else:
                        self._found[variable] |= 1 << self._number(_Exit(a, b, byte))
        self._grown.append(variable)

    def _number(self, leaving: _Exit) -> int:
        found = self._bits.get(leaving)
        if found is None:
            self._exits.append(leaving)
            found = self._bits[leaving] = len(self._exits)
        return found

    def _feed(self, source: _Node | _Above, sink: _Node | _Above) -> None:
        self._add(source)
        sinks = self._feeds.setdefault(source, {})
        if sink not in sinks:
            sinks[sink] = 0
            self._grown.append(source)

    def _propagate(self, source: _Node | _Above) -> None:
        sinks = self._feeds.get(source, {})
        for sink in list(sinks):
            given = self._found[source] & ~sinks[sink]
            sinks[sink] |= given
            if isinstance(sink, _Above) and isinstance(source, _Node):
                given = self._above(sink, given)
            if given & ~self._found[sink]:
                self._found[sink] |= given
                self._grown.append(sink)

    def _above(self, sink: _Above, exits: Set) -> Set:
        """Exits as they are counted from below a frame."""
        found = exits & ENDED
        self._fuel.spend(exits.bit_count())
        for number in _members(exits & ~ENDED):
            verdict, frames, byte = self._exits[number - 1]
            if frames:
                found |= 1 << self._number(_Exit(verdict, frames - 1, byte))
            elif (target := self.target(sink.frame, verdict)) is not None:
                self._feed(_Above(sink.frame, _Node(target, byte)), sink)
        return found


def _classes(edges: Iterable[Edge]) -> list[tuple[int, int]]:
    points = {point for lo, hi, *_ in edges for point in (lo, hi + 1)} | {END_OF_TEXT, END_OF_TEXT + 1}
    return [(lo, stop - 1) for lo, stop in pairwise(sorted(points))]


def _members(bits: Set) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
