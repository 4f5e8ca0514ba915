"""Shapes: what one disjunct of a JSON Schema's normal form says about a value, one class a JSON type.

A schema location in normal form is a union of shapes (`grammar.json_schema.normal.Normal.shapes`); a shape is a
conjunction of everything that must hold for values of its type, with goals in place of sub-schemas:

    goal ──shapes──▶ shape | shape | ...            a value is valid under a goal if it satisfies one of its shapes
    shape ──parts──▶ goal of each item or property  ... and each part is valid under the part's goal

This is the canonical form of Attouche et al., "Witness Generation for JSON Schema" (PVLDB 15(13), 2022), after DNF and
object and array preparation, restricted to what has no negative parts.

Shapes that `Normal.shapes` returns are *productive*: a finite value satisfies each, and each part that they allow. So a
machine that follows them runs into no dead end. Shapes are plain, immutable and compared by value.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    is an integer times each of these, which are positive, distinct and ascending.
    """

    integer: bool = False
    lo: Fraction | None = None
    lo_open: bool = False
    hi: Fraction | None = None
    hi_open: bool = False
    multiple_of: tuple[Fraction, ...] = ()


@dataclass(frozen=True, slots=True)
class NumberEnum:
    """One of these numbers: distinct, in the order of the schema."""

    values: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class StringEnum:
    """One of these strings: distinct, in the order of the schema."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StringShape:
    """A string of min_length to max_length code points (None: no limit) in which every pattern is found (ECMA-262
    search)."""

    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArrayShape:
    """Item i satisfies ``prefix[i]``, items after the prefix ``rest`` (None: there are none). ``max_items`` None: no
    limit.

    ``max_items`` is never None when ``rest`` is, and exceeds ``len(prefix)`` only when ``rest`` is not None.
    """

    prefix: tuple[Goal, ...]
    rest: Goal | None
    min_items: int = 0
    max_items: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """Named properties in declared order, those that must occur, and what any other property must satisfy (None:
    there is none).

    ``required`` names properties only: a required name without a declaration is appended to ``properties``.
    ``forbidden`` names may not occur although they are no properties and ``additional`` would allow them (empty when
    ``additional`` is None).
    """

    properties: tuple[tuple[str, Goal], ...]
    required: frozenset[str]
    additional: Goal | None
    forbidden: frozenset[str] = frozenset()


Shape = NullShape | BoolShape | NumberShape | NumberEnum | StringShape | StringEnum | ArrayShape | ObjectShape
