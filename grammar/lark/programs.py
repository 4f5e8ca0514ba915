r"""Terminals as programs of a virtual machine that keeps preferences (Thompson, CACM 1968; Pike's `sam`; Cox, "Regular
Expression Matching: the Virtual Machine Approach", 2009).

A DFA of a pattern's language cannot say where a lexer ends a token: ``".*?"`` and ``".*"`` match the same whole texts,
but take different parts of a longer one. A program keeps what Python's `re` prefers: `Split` lists its ways in order.

    ".*?"     0 Read "    1 Split 3, 2    2 Read . -> 1    3 Read "    4 Match

Lookaheads become `Look`: the body is a program of its own, which ends in `Held`. Lookbehinds are decided from the last
characters read, so a lookbehind that would see what came before the token is refused by name, like ``^`` and a ``\b``
at its beginning.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from grammar.charset import CharSet, refine
from grammar.errors import UnsupportedConstraint
from grammar.fuel import Fuel
from grammar.regex.derivatives import Automaton
from grammar.regex.syntax import Ahead, Alt, Behind, Chars, End, Node, Repeat, Seq, Start
from grammar.utf8 import ByteNode


@dataclass(frozen=True, slots=True)
class Read:
    """One character. ``pieces``: (characters, what a lookbehind will remember of them: a representative)."""

    pieces: tuple[tuple[CharSet, int], ...]
    next: int


@dataclass(frozen=True, slots=True)
class ReadControl:
    """One of some control tokens (`grammar.controls`)."""

    root: ByteNode
    next: int


@dataclass(slots=True)
class Split:
    """Several ways to go on, the preferred one first."""

    ways: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """Go on if the program at ``body`` comes to `Held` on what follows (``negated``: does not)."""

    negated: bool
    body: int
    next: int


@dataclass(frozen=True, slots=True)
class LookBack:
    """Go on if ``body`` matches the last ``width`` characters (``negated``: does not)."""

    negated: bool
    body: Node
    width: int
    next: int


@dataclass(frozen=True, slots=True)
class AtEnd:
    """Go on if the text ends here; only inside lookaheads."""

    next: int


@dataclass(frozen=True, slots=True)
class Held:
    """The end of a lookahead's body."""


@dataclass(frozen=True, slots=True)
class Match:
    """The end of a terminal. ``cuts``: what is less preferred is given up."""

    terminal: str
    cuts: bool


Instruction = Read | ReadControl | Split | Look | LookBack | AtEnd | Held | Match


class Programs:
    """The programs of a grammar's terminals in one list, ``code``; a place in it is a ``pc``."""

    def __init__(self, fuel: Fuel) -> None:
        self.code: list[Instruction] = []
        self.terminal: list[str] = []
        """Whose instruction it is."""
        self.memory: dict[str, int] = {}
        """Characters that a terminal's lookbehinds remember."""
        self.looks: set[str] = set()
        """Terminals with a lookahead."""
        self._fuel = fuel
        self._name = ""
        self._cells: list[CharSet] = []

    def compile(self, name: str, node: Node, prefers: bool = True) -> int:
        """The pc where the program of terminal ``name`` begins; ``prefers``: as Python's `re` does, else all its
        matches are equal. UnsupportedConstraint for what needs the text before the token."""
        self._name = name
        behind = [n for n in _nodes(node) if isinstance(n, Behind)]
        sets = {part.set: None for n in behind for part in _nodes(n.body) if isinstance(part, Chars)}
        self._cells = [cell for cell, _ in refine(tuple(sets))] if behind else []
        self.memory[name] = max((_width(n.body) for n in behind), default=0)
        start = self._emit(node, self._add(Match(name, prefers)))
        if behind:
            self._check_lookbehinds(start)
        return start

    def compile_control(self, name: str, root: ByteNode) -> int:
        """The pc where the program of terminal ``name`` begins, which reads a control token."""
        self._name, self.memory[name] = name, 0
        return self._add(ReadControl(root, self._add(Match(name, True))))

    def compile_automaton(self, name: str, automaton: Automaton) -> int:
        """The pc where the program of terminal ``name`` begins, which matches what an automaton does, all matches
        equal."""
        self._name, self.memory[name] = name, 0
        end = self._add(Match(name, False))
        states = [Split(()) for _ in automaton.edges]
        starts = [self._add(state) for state in states]
        for state, edges, accepting in zip(states, automaton.edges, automaton.accepting, strict=True):
            reads = [self._add(Read(((members, 0),), starts[to])) for members, to in edges]
            state.ways = (*reads, *((end,) if accepting else ()))
        return starts[0]

    def _add(self, instruction: Instruction) -> int:
        self._fuel.spend()
        self.code.append(instruction)
        self.terminal.append(self._name)
        return len(self.code) - 1

    def _emit(self, node: Node, then: int, ahead: bool = False) -> int:
        """Where the code of ``node`` begins that goes on at ``then``. ``ahead``: inside a lookahead."""
        match node:
            case Chars(members):
                cells = [(members & cell, cell) for cell in self._cells] if not ahead else []
                pieces = [(part, cell.bounds[0]) for part, cell in cells if part] or [(members, 0)]
                return self._add(Read(tuple(pieces), then))
            case Seq(items):
                for item in reversed(items):
                    then = self._emit(item, then, ahead)
                return then
            case Alt(options):
                return self._add(Split(tuple(self._emit(option, then, ahead) for option in options)))
            case Repeat():
                return self._emit_repeat(node, then, ahead)
            case Ahead(body, False) if ahead and isinstance(self.code[then], Held):
                return self._emit(body, then, ahead)
            case Ahead(body, negated) if not ahead:
                self.looks.add(self._name)
                return self._add(Look(negated, self._emit(body, self._add(Held()), True), then))
            case End() if ahead:
                return self._add(AtEnd(then))
            case End():
                self.looks.add(self._name)
                return self._add(Look(False, self._add(AtEnd(self._add(Held()))), then))
            case Behind(body, negated) if not ahead:
                return self._add(LookBack(negated, body, _width(body), then))
            case Start():
                raise UnsupportedConstraint("`^` depends on where the token stands")
            case _:
                raise UnsupportedConstraint("a lookaround inside a lookahead is not supported")

    def _emit_repeat(self, node: Repeat, then: int, ahead: bool) -> int:
        body, lo, hi = node.body, node.lo, node.hi
        if hi is None:
            loop = Split(())
            again = self._add(loop)
            once = self._emit(body, again, ahead)
            loop.ways = (then, once) if node.lazy else (once, then)
            then = again
        else:
            after = then
            for _ in range(hi - lo):
                once = self._emit(body, then, ahead)
                then = self._add(Split((after, once) if node.lazy else (once, after)))
        for _ in range(lo):
            then = self._emit(body, then, ahead)
        return then

    def _check_lookbehinds(self, start: int) -> None:
        least = {start: 0}
        queue = deque([start])
        while queue:
            pc = queue.popleft()
            read = least[pc]
            match self.code[pc]:
                case Read(_, following):
                    ways, read = (following,), read + 1
                case Split(ways):
                    pass
                case Look(_, _, following):
                    ways = (following,)
                case LookBack(_, _, width, following):
                    if read < width:
                        raise UnsupportedConstraint(
                            "a lookbehind that sees what came before the token is not supported"
                        )
                    ways = (following,)
                case _:
                    ways = ()
            for way in ways:
                if read < least.get(way, read + 1):
                    least[way] = read
                    queue.append(way)


def behind_matches(body: Node, window: tuple[int, ...]) -> bool:
    """Whether a lookbehind's body matches these characters, as a whole."""
    return len(window) in _ends(body, window, 0)


def _ends(node: Node, text: tuple[int, ...], start: int) -> set[int]:
    match node:
        case Chars(members):
            return {start + 1} if start < len(text) and text[start] in members else set()
        case Seq(items):
            ends = {start}
            for item in items:
                ends = {after for end in ends for after in _ends(item, text, end)}
            return ends
        case Alt(options):
            return {end for option in options for end in _ends(option, text, start)}
        case Repeat(body, lo):
            ends = {start}
            for _ in range(lo):
                ends = {after for end in ends for after in _ends(body, text, end)}
            return ends
        case _:
            raise AssertionError(f"{node} has no width")


def _nodes(node: Node) -> list[Node]:
    """``node`` and all below it."""
    match node:
        case Seq(parts) | Alt(parts):
            return [node, *(below for part in parts for below in _nodes(part))]
        case Repeat(body) | Ahead(body) | Behind(body):
            return [node, *_nodes(body)]
        case _:
            return [node]


def _width(node: Node) -> int:
    """The length of what a lookbehind's body matches; Python allows only bodies with one."""
    match node:
        case Chars():
            return 1
        case Seq(items):
            return sum(map(_width, items))
        case Alt(options):
            return max(map(_width, options), default=0)
        case Repeat(body, lo):
            return lo * _width(body)
        case _:
            return 0
