"""The parts of a structural tag and what may follow each: Thompson's construction over automata instead of characters.

Built from the end backwards: `Graph._add(format, then)` makes the parts of a format that lead to part ``then``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grammar.errors import ConstraintError, ConstraintTooLarge, UnsatisfiableConstraint
from grammar.fuel import Supply
from grammar.json_schema.machine import JsonMachine, compile_json_schema
from grammar.json_schema.shapes import NumberEnum, NumberShape
from grammar.lark.compile import Parser, compile_quoted_lark
from grammar.regex.language import Pattern as TextPattern
from grammar.regex.language import text_dfa
from grammar.states import States
from grammar.structural import formats
from grammar.structural.free_text import FreeText
from grammar.utf8 import Spelling, json_spelling, raw_spelling


class ByteAutomaton(Protocol):
    """Deterministic; state 0 is the start, and every state leads to an accepting one (or to an exit)."""

    def edges(self, state: int) -> Sequence[tuple[int, int, int]]:
        """(lo, hi, target), disjoint; a target below 0 is exit -1 - target."""
        ...

    def accepting(self, state: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Run:
    """A byte automaton, then part ``then``; ``exits[i]``: the parts that begin at its exit i."""

    automaton: ByteAutomaton
    then: int
    exits: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class JsonPart:
    """A JSON value, then part ``then``."""

    machine: JsonMachine
    then: int
    pointer: str
    may_be_number: bool


@dataclass(frozen=True, slots=True)
class SentencePart:
    """A sentence of a grammar inside a JSON string, then part ``then``: the closing quote."""

    machine: Parser
    then: int


@dataclass(frozen=True, slots=True)
class End:
    """The text may end."""


Part = Run | JsonPart | SentencePart | End | tuple[int, ...]
"""A tuple: any of these parts, at once."""


class Graph:
    """All parts of a format. ``end``: the part after the whole text. ``reasons``, ``limits``: those of
    the JSON and the grammars in it. ``parses``: there are grammars, which an LR parser reads."""

    def __init__(self, root: formats.Format, spellable: Sequence[bool], fuel: int, states: States) -> None:
        self._spellable = spellable
        self._spelling = raw_spelling(spellable)
        self.fuel = Supply(fuel)
        self._states = states
        self.parses = formats.has_sentences(root)
        self._machines: dict[str, JsonMachine] = {}
        self._parsers: dict[str, Parser] = {}
        self.reasons: tuple[str, ...] = ()
        self.limits: dict[str, int | str] = {}
        self.parts: list[Part] = []
        self.end = self._part(End())
        self.start = self._add(root, self.end)

    def _part(self, part: Part) -> int:
        if len(self.parts) >= self.fuel.units:
            raise ConstraintTooLarge(f"the structural tag has more than {self.fuel.units} parts")
        self.parts.append(part)
        return len(self.parts) - 1

    def _add(self, what: formats.Format, then: int, ends: tuple[str, ...] = ()) -> int:
        """The part that begins ``what`` and leads to ``then``, after one of ``ends`` if there are any."""
        match what:
            case formats.FreeText():
                return self._free_text(what, then, ends)
            case formats.Either(elements):
                return self._part(tuple(self._add(element, then, ends) for element in elements))
            case formats.Joined(elements):
                begin = self._add(elements[-1], then, ends)
                for element in reversed(elements[:-1]):
                    begin = self._add(element, begin)
                return begin
        then = self._any_of(ends, then)
        match what:
            case formats.ConstString(value):
                return self._literal(value, then)
            case formats.Json():
                return self._json(what, then)
            case formats.Pattern():
                return self._pattern(what, then, self._spelling)
            case formats.Quoted(content):
                return self._literal('"', self._quoted(content, self._literal('"', then)))
            case formats.Tag(begin, content, after):
                return self._literal(begin, self._add(content, then, after))
            case formats.Repeated():
                return self._repeated(what, then)
            case formats.Separated():
                return self._separated(what, then)

    def _any_of(self, texts: tuple[str, ...], then: int) -> int:
        return self._part(tuple(self._literal(text, then) for text in texts)) if texts else then

    def _literal(self, text: str, then: int) -> int:
        return self._part(Run(Literal(self._spell(text)), then)) if text else then

    def _spell(self, text: str) -> bytes:
        spelled = self._spelling.spell(text)
        if spelled is None:
            raise UnsatisfiableConstraint(f"the vocabulary cannot write {text!r}")
        return spelled

    def _json(self, what: formats.Json, then: int) -> int:
        machine = self._machines.get(what.pointer)
        if machine is None:
            try:
                machine, reasons = compile_json_schema(
                    what.constraint, self._spellable, self.fuel.units, states=self._states, follow=((0, 255),),
                    records=not self.parses,
                )  # fmt: skip
            except ConstraintError as error:
                raise type(error)(error.reason, what.pointer + error.pointer) from None
            self._machines[what.pointer] = machine
            self.reasons += tuple(f"{reason} (in the schema at `{what.pointer}`)" for reason in reasons)
            self.limits |= machine.limits
        shapes = machine.normal.shapes(machine.normal.root)
        may_be_number = any(isinstance(shape, NumberShape | NumberEnum) for shape in shapes)
        return self._part(JsonPart(machine, then, what.pointer, may_be_number))

    def _quoted(self, what: formats.Pattern | formats.Sentence, then: int) -> int:
        if isinstance(what, formats.Pattern):
            return self._pattern(what, then, json_spelling(self._spellable))
        machine = self._parsers.get(what.pointer)
        if machine is None:
            try:
                machine, reasons = compile_quoted_lark(what.constraint, self._spellable, self.fuel.units, self._states)
            except ConstraintError as error:
                raise type(error)(f"{error.reason}, at {error.pointer} of the grammar", what.pointer) from None
            self._parsers[what.pointer] = machine
            self.limits |= machine.limits
            self.reasons += tuple(f"{reason} (in the grammar at `{what.pointer}`)" for reason in reasons)
        return self._part(SentencePart(machine, then))

    def _pattern(self, what: formats.Pattern, then: int, spelling: Spelling) -> int:
        pattern = TextPattern(what.constraint.pattern, what.constraint.dialect, "full")
        try:
            dfa = text_dfa([pattern], spelling, self.fuel.new())
        except ConstraintError as error:
            raise type(error)(f"{error.reason}, at {error.pointer} of the pattern", what.pointer) from None
        return self._part(Run(dfa, then))

    def _repeated(self, what: formats.Repeated, then: int) -> int:
        if what.most is None:
            loop = self._part(())
            self.parts[loop] = (self._add(what.content, loop), then)
            begin = loop
        else:
            begin = then
            for _ in range(what.most - what.least):
                begin = self._part((self._add(what.content, begin), then))
        for _ in range(what.least):
            begin = self._add(what.content, begin)
        return begin

    def _separated(self, what: formats.Separated, then: int) -> int:
        more = self._part(())
        first = self._part(tuple(self._add(tag, more) for tag in what.tags))
        self.parts[more] = (then,) if what.stop_after_first else (then, self._literal(what.separator, first))
        return first if what.at_least_one else self._part((first, then))

    def _free_text(self, what: formats.FreeText, then: int, ends: tuple[str, ...]) -> int:
        """Free text stops at a trigger, or at one of ``ends``; an empty one among these asks for no stop."""
        stopping = ends if "" not in ends else ()
        text = self._part(())
        after = self._any_of(ends, then) if what.stop_after_first else text
        begins = [self._add(content, after) for _, content in what.triggered]
        stops = [*(trigger for trigger, _ in what.triggered), *stopping]
        try:
            automaton = FreeText(
                [self._spell(stop) for stop in stops], [text.encode() for text in what.excludes], self._spelling,
                may_end=not stopping,
            )  # fmt: skip
        except UnsatisfiableConstraint as error:
            raise UnsatisfiableConstraint(error.reason, what.pointer) from None
        targets = [*begins, *(then for _ in stopping)]
        self.parts[text] = Run(automaton, then, tuple(tuple(targets[i] for i in exit) for exit in automaton.exits))
        if not what.at_least_one:
            return text
        return self._part(tuple(self._literal(stop, begin) for stop, begin in zip(stops, begins, strict=False)))


class Literal:
    """One byte string, as an automaton."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def edges(self, state: int) -> Sequence[tuple[int, int, int]]:
        return [(self._text[state], self._text[state], state + 1)] if state < len(self._text) else ()

    def accepting(self, state: int) -> bool:
        return state == len(self._text)
