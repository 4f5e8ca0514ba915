"""The byte machine of a JSON Schema: the normal form of `normal.py`, read as a deterministic pushdown automaton.

Each static state is a *location* of the text together with the alternatives that are still alive there: a small
immutable object that can say its edges. The files, in reading order:

    machine.py        the machine: interning of locations, whitespace
    value.py          the start of a value, and JSON's three words
    strings.py        string values: the shared lexicon of unconstrained strings, patterns, enumerations
    numerals.py       number values
    arrays.py         one array shape: positions in the prefix, counters in registers
    unique.py         one array shape of unique items, which are read as keys that must not come twice
    spelled.py        the items of such arrays in one spelling each, with the number of values behind each beginning
    counting.py       what must and may still come where an array counts its items
    objects.py        one object shape: a trie of declared keys, the keys still to come in a register
    members.py        one object shape where registers cannot tell what must still come
    alternatives.py   several array or object shapes alive at once, tracked in the state until the text tells them apart

A value whose alternatives matter to its parent returns a verdict: the set of alternatives it satisfied, as an interned
bit mask. Verdict 0 means that the parent does not care.

What JSON may be spelled as is decided here too: whitespace by the option, strings and keys in UTF-8 (keys and patterned
or enumerated strings in one canonical spelling each, unconstrained strings in all of RFC 8259 except lone surrogates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grammar.constraint import JsonObject, JsonSchema
from grammar.errors import UnsupportedConstraint
from grammar.json_schema.counting import Counting
from grammar.json_schema.decoding import load
from grammar.json_schema.members import MembersPlan
from grammar.json_schema.normal import Normal
from grammar.json_schema.numbers import NumberAutomaton, number_automaton
from grammar.json_schema.objects import ObjectPlan
from grammar.json_schema.shapes import ArrayShape, Goal, NumberEnum, NumberShape, ObjectShape, Shape
from grammar.json_schema.spelled import Spelled
from grammar.json_schema.strings import Strings
from grammar.json_schema.unique import UniqueItems, UniqueStrings
from grammar.json_schema.value import Value
from grammar.states import Edges, States
from grammar.tables import END_ACCEPT, END_REJECT, ENDING, GOTO, PUSH, REDO, Edge

MAX_INDENT = 32
"""Bounded whitespace: a newline and up to so many spaces, or a quarter of it in tabs."""

ByteRanges = Sequence[tuple[int, int]]

AFTER_A_VALUE: ByteRanges = tuple((byte, byte) for byte in b"\t\n\r ,]}")
"""The bytes that may follow a value inside JSON, as ranges."""


class Location(Protocol):
    """A static state: hashable, compared by value."""

    def edges(self, m: JsonMachine) -> Edges: ...


class JsonMachine:
    """`grammar.tables.Machine` over a normalised schema. Locations are expanded when they are first reached.

    ``states``: those of a constraint that JSON is a part of; such a machine has no start, only `value_before`.
    ``follow``: the bytes that may come after a number in it.
    """

    def __init__(
        self, normal: Normal, strings: Strings, *, whitespace: str, property_order: str, number: str,
        fuel: int, states: States | None = None, follow: ByteRanges = AFTER_A_VALUE,
    ) -> None:  # fmt: skip
        self._all = states or States(fuel)
        self.tables = self._all.tables
        self.normal = normal
        self.whitespace = whitespace
        self.declared_order = property_order == "schema"
        self.free_numbers = number == "free" and not normal.plain_integers
        self.follow = follow
        self.strings = strings
        self.spelled = Spelled(self, fuel)
        self._states: dict[Location, int] = {}
        self._plans: dict[tuple[ObjectShape, int], ObjectPlan] = {}
        self._unique_items: dict[tuple[ArrayShape, int], UniqueItems] = {}
        self._unique_strings: dict[tuple[ArrayShape, int], UniqueStrings] = {}
        self._countings: dict[ArrayShape, Counting] = {}
        self._members_plans: dict[ObjectShape, MembersPlan] = {}
        self._numbers: dict[tuple[NumberShape | NumberEnum, ...], NumberAutomaton] = {}
        self._verdicts: list[int] = [0]
        self._verdict_ids: dict[int, int] = {0: 0}
        missing = [chr(b) for b in b'{}[]:,"\\-0123456789.eE+ntrufalse' if not strings.spellable[b]]
        if missing:
            raise UnsupportedConstraint(f"the vocabulary has no token for {missing[0]!r} alone, which JSON needs")
        self.expand, self.resume, self.admit = self._all.expand, self._all.resume, self._all.admit
        self._all.join(self)
        if states is None:
            self.start = self.state(self.value_before(self.state(Done())))

    def value_before(self, then: int) -> Location:
        """The whole JSON value, then the state ``then``."""
        root = Value(self.normal.shapes(self.normal.root), False, then)
        return Spaced(root) if self.whitespace == "flexible" else root

    def survey(self, records: bool) -> None:
        """Read the items of all arrays of unique items, so that `Normal.reasons` says what is left out of them.
        UnsupportedConstraint where nothing would be left, or they are no strings and the program has no records."""
        for goal in self.normal.unique_goals:
            for shape in self.normal.shapes(goal):
                if isinstance(shape, ArrayShape) and shape.unique and not shape.texts:
                    if not records:
                        reason = "inside a grammar, uniqueItems is enforced for strings only"
                        raise UnsupportedConstraint(reason, self.normal.pointer(goal))
                    self.unique_items(shape, 0)

    # -- the owner of its locations (grammar.states) -------------------------------------------------------------------

    def admitted(self) -> None:
        self.strings.fuel.admit()
        self.spelled.fuel.admit()
        self.normal.admit()

    def edges_of(self, location: Location) -> Edges:
        return location.edges(self)

    def decided(self, location: Undecided, verdict: int) -> int:
        return self.state(location.decided(self, self._verdicts[verdict]))

    # -- what locations use --------------------------------------------------------------------------------------------

    def state(self, location: Location) -> int:
        """The state of a location."""
        known = self._states.get(location)
        if known is None:
            known = self._states[location] = self._all.new(self, location)
        return known

    def spaced(self, location: Location) -> int:
        """The state of ``location`` with the option's whitespace before it."""
        return self.state(self.with_space(location))

    def with_space(self, location: Location) -> Location:
        return location if self.whitespace == "compact" else Spaced(location)

    def before_close(self, close: Location, unless: int) -> list[Edge]:
        """Bounded whitespace before a closing bracket: only where the value may end, so that the bracket can follow.
        ``unless``: the keys of which none may still come."""
        if self.whitespace != "bounded":
            return []
        then, registers = self.state(close), self.tables.registers()
        return [
            (0x20, 0x20, ENDING, self.state(Indent(MAX_INDENT, 0x20)), then, registers, unless),
            (0x0A, 0x0A, ENDING, self.state(Indent(0, 0x20)), then, registers, unless),
        ]

    def flexible(self, location: Location) -> int:
        """The state of ``location`` with whitespace before it under "flexible" only."""
        return self.state(self.with_flexible_space(location))

    def with_flexible_space(self, location: Location) -> Location:
        return Spaced(location) if self.whitespace == "flexible" else location

    def value(self, goal: Goal, ret: int) -> Value:
        """A value for ``goal``, whose alternatives nobody needs to tell apart."""
        return Value(self.normal.shapes(goal), False, ret)

    def either(self, shapes: tuple[Shape, ...], ret: int) -> Value:
        """A value for any of ``shapes``, which nobody needs to tell apart."""
        return Value(shapes, False, ret)

    def choice(self, shapes: tuple[Shape, ...], ret: int) -> Value:
        """A value for any of ``shapes``; the location behind ``ret`` is `Undecided` and learns which."""
        return Value(shapes, True, ret)

    def verdict(self, satisfied: int) -> int:
        """Id of a verdict: bit i set <=> alternative i is satisfied; 0 for none (nobody asks)."""
        known = self._verdict_ids.get(satisfied)
        if known is None:
            known = self._verdict_ids[satisfied] = len(self._verdicts)
            self._verdicts.append(satisfied)
        return known

    def object_plan(self, shape: ObjectShape, verdict: int) -> ObjectPlan:
        """The one plan of an object shape."""
        plan = self._plans.get((shape, verdict))
        if plan is None:
            plan = self._plans[shape, verdict] = ObjectPlan(self, shape, verdict)
        return plan

    def unique_items(self, shape: ArrayShape, verdict: int) -> UniqueItems:
        """The one plan of an array of unique items."""
        plan = self._unique_items.get((shape, verdict))
        if plan is None:
            plan = self._unique_items[shape, verdict] = UniqueItems(self, shape, verdict)
        return plan

    def unique_strings(self, shape: ArrayShape, verdict: int) -> UniqueStrings:
        """The one plan of an array of unique strings."""
        plan = self._unique_strings.get((shape, verdict))
        if plan is None:
            plan = self._unique_strings[shape, verdict] = UniqueStrings(self, shape, verdict)
        return plan

    def counting(self, shape: ArrayShape) -> Counting:
        """How the arrays of a shape that counts can be completed."""
        counting = self._countings.get(shape)
        if counting is None:
            counting = self._countings[shape] = Counting(shape, lambda goal: True)
        return counting

    def members_plan(self, shape: ObjectShape) -> MembersPlan:
        """The one plan of the threads of an object shape."""
        plan = self._members_plans.get(shape)
        if plan is None:
            plan = self._members_plans[shape] = MembersPlan(self, shape, declared_order=self.declared_order)
        return plan

    def numbers(self, shapes: tuple[NumberShape | NumberEnum, ...]) -> NumberAutomaton:
        """The one automaton of some number shapes."""
        automaton = self._numbers.get(shapes)
        if automaton is None:
            spelling = "free" if self.free_numbers else "canonical"
            automaton = self._numbers[shapes] = number_automaton(shapes, spelling)
        return automaton

    @property
    def limits(self) -> dict[str, int | str]:
        """The caps that an EXACT contract is exact up to."""
        limits: dict[str, int | str] = {"whitespace": self.whitespace, **self.normal.limits}
        if self.whitespace == "bounded":
            limits["indent"] = MAX_INDENT
        return limits


class Undecided(Protocol):
    """A location that waits for a value's verdict."""

    def decided(self, m: JsonMachine, satisfied: int) -> Location: ...


@dataclass(frozen=True, slots=True)
class Done:
    """After the document."""

    def edges(self, m: JsonMachine) -> Edges:
        if m.whitespace == "flexible":
            return _loop(m.state(self)), END_ACCEPT
        return [], END_ACCEPT


@dataclass(frozen=True, slots=True)
class Spaced:
    """Whitespace may come, then ``location``.

    bounded                  flexible
    Spaced ── " " ──▶ L      Spaced ◀─┐ [ \\t\\n\\r]
    Spaced ── "\\n" ─▶ Indent ──▶ L    └──┘  ──▶ L
    """

    location: Location

    def edges(self, m: JsonMachine) -> Edges:
        edges, end = self.location.edges(m)
        if m.whitespace == "flexible":
            spaces = _loop(m.state(self))
        else:
            then = m.state(self.location)
            spaces = [
                (0x20, 0x20, GOTO, then, 0, 0, 0),
                (0x0A, 0x0A, PUSH, m.state(Indent(0, 0x20)), then, m.tables.registers(), 0),
            ]
        return edges + spaces, end


def _loop(here: int) -> list[Edge]:
    """RFC 8259 whitespace, any amount."""
    return [(lo, hi, GOTO, here, 0, 0, 0) for lo, hi in ((0x09, 0x0A), (0x0D, 0x0D), (0x20, 0x20))]


@dataclass(frozen=True, slots=True)
class Indent:
    """After a newline and ``width`` spaces (or tabs); anything else ends the indentation."""

    width: int
    byte: int

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = [(0x21, 0xFF, REDO, 0, 0, 0, 0)]
        if self.width == 0 or (self.byte == 0x20 and self.width < MAX_INDENT):
            edges.append((0x20, 0x20, GOTO, m.state(Indent(self.width + 1, 0x20)), 0, 0, 0))
        if self.width == 0 or (self.byte == 0x09 and self.width < MAX_INDENT // 4):
            edges.append((0x09, 0x09, GOTO, m.state(Indent(self.width + 1, 0x09)), 0, 0, 0))
        return edges, END_REJECT


def compile_json_schema(
    constraint: JsonSchema,
    spellable: Sequence[bool],
    fuel: int,
    *,
    states: States | None = None,
    follow: ByteRanges = AFTER_A_VALUE,
    records: bool = True,
) -> tuple[JsonMachine, tuple[str, ...]]:
    """The machine of a schema, and the reasons why it reaches less than all valid values (none: it is exact).
    ``states`` and ``follow`` as in `JsonMachine`; ``records``: the program can record values (an LR parser cannot)."""
    options = {
        "property_order": ("schema", "any"),
        "whitespace": ("compact", "bounded", "flexible"),
        "number": ("canonical", "free"),
        "formats": ("assert", "annotate"),
    }
    for name, allowed in options.items():
        if getattr(constraint, name) not in allowed:
            raise UnsupportedConstraint(
                f"{name} must be one of {', '.join(allowed)}, not {getattr(constraint, name)!r}"
            )
    strings = Strings(spellable, fuel)
    schema = load(constraint.schema) if isinstance(constraint.schema, str) else constraint.schema
    normal = Normal(
        schema, formats=constraint.formats, registry=constraint.registry, fuel=fuel,
        string_productive=strings.productive, matches=strings.matches, few=strings.few,
    )  # fmt: skip
    machine = JsonMachine(
        normal, strings, whitespace=constraint.whitespace, property_order=constraint.property_order,
        number=constraint.number, fuel=fuel, states=states, follow=follow,
    )  # fmt: skip
    machine.survey(records)
    return machine, normal.reasons


def compile_json_object(constraint: JsonObject, spellable: Sequence[bool], fuel: int) -> JsonMachine:
    """The machine of OpenAI's JSON mode."""
    return compile_json_schema(JsonSchema({"type": "object"}, whitespace=constraint.whitespace), spellable, fuel)[0]
