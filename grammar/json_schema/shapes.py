"""Shapes: what one disjunct of a JSON Schema's normal form says about a value, one class a JSON type.

A schema location in normal form is a union of shapes (`grammar.json_schema.normal.Normal.shapes`); a shape is a
conjunction of everything that must hold for values of its type, with goals in place of sub-schemas:

    goal ──shapes──▶ shape | shape | ...            a value is valid under a goal if it satisfies one of its shapes
    shape ──parts──▶ goal of each item or property  ... and each part is valid under the part's goal

This is the canonical form of Attouche et al., "Witness Generation for JSON Schema" (PVLDB 15(13), 2022), after DNF and
object and array preparation.

Shapes that `Normal.shapes` returns are *productive*: a finite value satisfies each, and each part that they allow. So a
machine that follows them runs into no dead end. Shapes are plain, immutable and compared by value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

Goal = int
"""A hash-consed conjunction of schema locations: what must hold for the value here. Numbers are `Normal`'s own."""

ANY: Goal = 0
"""The empty conjunction, in every `Normal`."""
NEVER: Goal = 1
"""The goal of `false`. Never a part of a productive shape."""


@dataclass(frozen=True, slots=True)
class NullShape:
    """null."""


@dataclass(frozen=True, slots=True)
class BoolShape:
    """One of ``values``, which are distinct and in the order false, true."""

    values: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class NumberShape:
    """A number within an interval; bounds are exact, None is unbounded, ``*_open`` excludes the bound.

    ``integer``: the value is an integer (1.0 is one); bounds are then integers and closed. ``multiple_of``: the value
    is an integer times each of these, which are positive, distinct and ascending. ``not_multiple_of``: and times none
    of these.
    """

    integer: bool = False
    lo: Fraction | None = None
    lo_open: bool = False
    hi: Fraction | None = None
    hi_open: bool = False
    multiple_of: tuple[Fraction, ...] = ()
    not_multiple_of: tuple[Fraction, ...] = ()


@dataclass(frozen=True, slots=True)
class NumberEnum:
    """One of these numbers: distinct, in the order of the schema."""

    values: tuple[Fraction, ...]
    _hash: int = field(init=False, repr=False, compare=False)
    """Looked up with every state of a number, of which there may be thousands, each slow to hash."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.values))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class StringEnum:
    """One of these strings: distinct, in the order of the schema."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StringShape:
    """A string of min_length to max_length code points (None: no limit) in which every one of ``patterns`` is found
    (ECMA-262 search), and none of ``excluded``."""

    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


KeyClass = StringShape | StringEnum
"""Some property names."""


@dataclass(frozen=True, slots=True)
class EvaluatedNames:
    """The properties that a raw shape has evaluated: those of these names, those whose name one of the patterns is
    found in, or all of them. Names and patterns ascend, and there are none beside ``everything``."""

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    everything: bool = False

    def __or__(self, other: EvaluatedNames) -> EvaluatedNames:
        if self.everything or other.everything:
            return ALL_NAMES
        return EvaluatedNames(
            tuple(sorted({*self.names, *other.names})), tuple(sorted({*self.patterns, *other.patterns}))
        )


ALL_NAMES = EvaluatedNames(everything=True)


@dataclass(frozen=True, slots=True)
class EvaluatedItems:
    """The items that a raw shape has evaluated: the first ``count``, those that satisfy one of some goals, or all of
    them. Goals ascend, and there is nothing beside ``everything``."""

    count: int = 0
    satisfying: tuple[Goal, ...] = ()
    everything: bool = False

    def __or__(self, other: EvaluatedItems) -> EvaluatedItems:
        if self.everything or other.everything:
            return ALL_ITEMS
        return EvaluatedItems(max(self.count, other.count), tuple(sorted({*self.satisfying, *other.satisfying})))


ALL_ITEMS = EvaluatedItems(everything=True)


@dataclass(frozen=True, slots=True)
class Contains:
    """From ``least`` to ``most`` (None: all) items satisfy ``goal``; the first ``skip`` items are not counted."""

    goal: Goal
    least: int
    most: int | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """A way to write an item of an array that counts: bit i of ``counted`` says that ``contains[i]`` counts it. What
    the item satisfies at each position of ``prefix``, and behind it; NEVER where it cannot be written so."""

    counted: int
    prefix: tuple[Goal, ...]
    rest: Goal


@dataclass(frozen=True, slots=True)
class ArrayShape:
    """Item i satisfies ``prefix[i]``, items after the prefix ``rest`` (None: there are none). ``max_items`` None: no
    limit.

    ``max_items`` is never None when ``rest`` is, and exceeds ``len(prefix)`` only when ``rest`` is not None.
    ``contains``: of how many items what must hold; in a prepared shape ``ways`` are then the ways to write an item,
    whose prefixes are of one length. What an item satisfies that is not counted may be counted all the same where a
    ``contains`` has no ``most``, and the other way round where it has no ``least``.
    ``unique``: no two items are equal; where they are strings of one schema, ``texts`` of a productive shape are
    disjoint classes that make these up.
    """

    prefix: tuple[Goal, ...]
    rest: Goal | None
    min_items: int = 0
    max_items: int | None = None
    contains: tuple[Contains, ...] = ()
    unique: bool = False
    texts: tuple[KeyClass, ...] = ()
    ways: tuple[Way, ...] = ()
    evaluated: EvaluatedItems | None = None
    """Annotations, while they are collected; None in a productive shape."""


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """Named properties in declared order, those that must occur, and what the properties of other names must satisfy,
    a class of names at a time. Classes share no name; a name in no class may not occur.

    ``required`` names properties only: a required name without a declaration is appended to ``properties``.
    ``forbidden`` names may not occur although they are no properties and a class has them (empty without classes).
    ``min_properties`` is 0 or exceeds ``len(required)``, and ``max_properties`` (None: no limit) does too.
    ``some``: for each, some property of the class satisfies the goal; in a productive shape one that is in one of the
    classes of ``additional``, and the goal is conjoined with that class's.
    """

    properties: tuple[tuple[str, Goal], ...]
    required: frozenset[str]
    additional: tuple[tuple[KeyClass, Goal], ...]
    forbidden: frozenset[str] = frozenset()
    min_properties: int = 0
    max_properties: int | None = None
    some: tuple[tuple[KeyClass, Goal], ...] = ()
    evaluated: EvaluatedNames | None = None
    """Annotations, while they are collected; None in a productive shape."""


Shape = NullShape | BoolShape | NumberShape | NumberEnum | StringShape | StringEnum | ArrayShape | ObjectShape
