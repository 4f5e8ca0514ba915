"""The normal form of a JSON Schema: goals, lazily rewritten into unions of productive shapes.

    schema ──Reader──▶ clause ──conjoin, distribute──▶ raw shapes ──Productivity──▶ shapes

A *goal* is a conjunction of atoms (schema locations and constants), hash-consed: equal conjunctions have equal
numbers, so that recursion closes and states that mean the same are the same. `Normal.shapes` rewrites one goal into a
disjunction of shapes whose parts are goals again. This is Attouche et al., "Witness Generation for JSON Schema"
(PVLDB 15(13), 2022), with two differences: references stay folded (a goal is rewritten when it is asked for), and
emptiness is decided on the graph of goals by a least fixpoint rather than by generating witnesses.

Negation is a third kind of atom, the complement of a goal, whose shapes `complement.py` makes of that goal's.

`oneOf` is read as `anyOf` and then proved to be one: two branches and their schema, conjoined, must be empty. Where
they are not, all is rewritten once more, and each of the two is conjoined with the negation of the other: most schemas
that say oneOf need no negation, and those that do pay for the branches that overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from types import MappingProxyType
from typing import Any, cast

from grammar.errors import ConstraintError, ConstraintTooLarge, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.fuel import ROOM
from grammar.json_schema.conjunction import (
    ANY_SHAPES,
    Conjunction,
    union,
)
from grammar.json_schema.dialect import REFERENCES
from grammar.json_schema.document import Document, Location
from grammar.json_schema.formats import NARROWED
from grammar.json_schema.goals import Goals
from grammar.json_schema.keywords import Reader
from grammar.json_schema.numbers import LIMITS
from grammar.json_schema.preparation import Few, Place, Preparation, few_texts
from grammar.json_schema.productivity import Productivity, needs
from grammar.json_schema.rewriting import MAX_CHAIN, Rewriting
from grammar.json_schema.shapes import (
    ANY,
    NEVER,
    ArrayShape,
    Goal,
    ObjectShape,
    Shape,
    StringShape,
)
from grammar.json_schema.values import Matches

DEFAULT_FUEL = 200_000
"""Shapes read and conjoined, about a microsecond each."""


def lengths_allow(shape: StringShape) -> bool:
    """The productivity of strings without a regex engine: right for shapes without patterns."""
    return shape.max_length is None or shape.min_length <= shape.max_length


def _no_matcher(pattern: str, text: str) -> bool:
    raise UnsupportedConstraint(f"whether {text!r} matches the pattern {pattern!r} needs a regex engine")


class Normal:
    """One schema in normal form.

    ``schema``: decoded JSON that must not change any more, best by `document.load`, which keeps numbers exact.
    ``formats``: "assert" enforces the formats that the specifications define, "annotate" ignores them. ``registry``:
    decoded documents that references may name, by URI.``fuel`` bounds the
    work, deterministically. ``string_productive`` says whether a string shape with patterns has a value, and raises
    ConstraintError for a pattern that is no regular expression; ``matches`` searches a text for a pattern; ``few``
    lists the strings of a class where there are not more than a number of them.

    Construction proves the whole schema: ConstraintError (malformed), UnsupportedConstraint, UnsatisfiableConstraint or
    ConstraintTooLarge name the JSON pointer. Equal schemas give equal goal numbers.
    """

    any_goal: Goal = ANY
    limits: Mapping[str, int] = MappingProxyType(LIMITS)
    """Caps on what is spelled of what it admits."""

    def __init__(
        self,
        schema: Any,
        *,
        formats: str = "assert",
        registry: Mapping[str, Any] | None = None,
        fuel: int = DEFAULT_FUEL,
        string_productive: Callable[[StringShape], bool] = lengths_allow,
        matches: Matches = _no_matcher,
        few: Few = few_texts,
    ) -> None:
        if formats not in ("assert", "annotate"):
            raise ConstraintError(f"formats must be 'assert' or 'annotate', not {formats!r}")
        self._search = matches
        self._turned_away = False
        """A narrowed format has refused a text of the schema itself, which the format proper may allow."""
        self._string_productive = string_productive
        self._all_fuel = fuel
        self._goals = Goals()
        self._located: dict[Location, Goal] = {}
        self._bare: dict[str, Goal] = {}
        self._string_fits: dict[StringShape, bool] = {}
        self._document = Document(schema, registry)
        self._reader = Reader(self._document, self, formats)
        conjunction = Conjunction(self._goals.conjoin, self.matches)
        self._preparation = Preparation(self, conjunction, few)
        self._rewriting = Rewriting(self._goals, self._reader, conjunction, self._preparation.disjoint, self)
        self._forget()
        self._prove(self.goal_at(self._document.root))
        while self._overlaps_found:
            self._forget()
            self._prove(self.goal_at(self._document.root))
        self._proved = True
        if self._turned_away and self._goals.negations:
            place = self._goals.place(next(iter(self._goals.negations)))
            raise UnsupportedConstraint("a value that a format may turn away cannot be negated", place.pointer)
        self.root: Goal = self.goal_at(self._document.root)
        if self.root not in self.productivity.proofs:
            raise self._unsatisfiable(self.root)
        self._note_unique_alternatives()

    def _forget(self) -> None:
        """Begin anew with the overlaps found so far: simpler than to repair tables that refer to one another. What
        goals are, and which texts there are, stays as it is."""
        self._fuel = self._all_fuel
        self._overlaps_found = False
        self._proved = False
        self._reader.reasons.clear()
        self._rewriting.clear()
        self._final: dict[Goal, tuple[Shape, ...]] = {ANY: ANY_SHAPES, NEVER: ()}
        self._prepared_shapes: dict[Goal, tuple[Shape, ...]] = {ANY: ANY_SHAPES, NEVER: ()}
        self.productivity = Productivity(self._prepared, self._fits, self._preparation.enough)

    def matches(self, pattern: str, text: str) -> bool:
        """Whether a pattern is found in a text."""
        found = self._search(pattern, text)
        self._turned_away = self._turned_away or (not found and pattern in NARROWED)
        return found

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the normal form admits less than the schema, each with its JSON pointer; () if it does not."""
        return tuple(self._reader.reasons)

    @property
    def plain_integers(self) -> bool:
        """Whether some integer must be spelled without fraction and exponent, as draft 4 asks."""
        return self._reader.plain_integers

    def narrow(self, reason: str) -> None:
        """Note that valid values are left out."""
        self._reader.reasons[reason] = None

    def name_order(self, name: str) -> int:
        """Where a required name stands among those that are declared nowhere."""
        return self._reader.required_order[name]

    def _note_unique_alternatives(self) -> None:
        """Arrays of unique items are not told from other arrays item by item: say so where there are any."""
        places = [self.pointer(goal) for goal in self.unique_goals]
        if not places:
            return
        prepared = [self._prepared(goal) for goal in self.productive_goals]
        alternatives = any(
            sum(isinstance(shape, kind) for shape in shapes) > 1
            for shapes in prepared
            for kind in (ArrayShape, ObjectShape)
        ) or any(isinstance(shape, ObjectShape) and shape.some for shapes in prepared for shape in shapes)
        for place in places if alternatives else ():
            reason = "among alternatives, arrays of unique items may be limited to one item or to one alternative"
            self.narrow(f"{place}: {reason}")

    @property
    def productive_goals(self) -> list[Goal]:
        """The goals that some part of a value may have."""
        return [goal for goal in self.productivity.proofs if goal in self.productivity.reached]

    @property
    def unique_goals(self) -> list[Goal]:
        """Those of them that have arrays of unique items."""
        return [
            goal
            for goal in self.productive_goals
            if any(isinstance(shape, ArrayShape) and shape.unique for shape in self._prepared(goal))
        ]

    def shapes(self, goal: Goal) -> tuple[Shape, ...]:
        """The disjuncts of a goal, distinct and productive in all their parts; () only for a goal that nothing
        satisfies."""
        found = self._final.get(goal)
        if found is None:
            self._prove(goal)
            shapes = [
                self._preparation.complete(shape, self.productivity.proofs)
                for shape in self._prepared(goal)
                if self._productive(shape, goal)
            ]
            found = self._final[goal] = union(shapes)
        return found

    # --- goals -------------------------------------------------------------------------------------------------------

    def goal_at(self, place: Location) -> Goal:
        """The goal of a sub-schema. Schemas that say nothing are ANY, and those that only refer are what they refer
        to."""
        found = self._located.get(place)
        if found is None:
            found = self._located[place] = self._new_goal_at(place)
        return found

    def known_goal(self, schema: Any, parent: Location) -> Goal | None:
        """The goal of a schema below ``parent`` that says nothing but a type which was met before; None of others."""
        if not isinstance(schema, dict):
            return None
        members, dialect = cast("dict[str, Any]", schema), parent.resource.dialect
        if dialect.id_keyword in members or members.keys() & dialect.keywords != {"type"}:
            return None
        kind = members["type"]
        return self._bare.get(kind) if isinstance(kind, str) else None

    def _new_goal_at(self, place: Location) -> Goal:
        followed = [place]
        while True:
            if isinstance(place.schema, bool):
                return ANY if place.schema else NEVER
            if not isinstance(place.schema, dict):
                raise ConstraintError(f"a schema is an object or a boolean, not {place.schema!r}", place.pointer)
            schema = cast("dict[str, Any]", place.schema)
            dialect = place.resource.dialect
            active = dialect.keywords & schema.keys()
            if not active:
                return ANY
            if "$ref" in active and dialect.ref_hides_siblings:
                keyword = "$ref"
            elif len(active) == 1 and not active.isdisjoint(REFERENCES):
                (keyword,) = active
            else:
                break
            place = self._reader.target(place, keyword)
            if place in followed:
                reason = f"{keyword} leads back to itself and never describes a value"
                raise ConstraintError(reason, f"{place.pointer}/{keyword}")
            if len(followed) == MAX_CHAIN:
                raise ConstraintTooLarge(f"more than {MAX_CHAIN} $ref lead to one another", followed[0].pointer)
            followed.append(place)
        if len(followed) > 1:
            return self.goal_at(place)
        if len(active) == 1 and isinstance(schema.get("type"), str):
            known = self._bare.get(schema["type"])
            if known is None:
                known = self._bare[schema["type"]] = self._goals.atom(place)
            return known
        return self._goals.atom(place)

    def conjoin(self, a: Goal, b: Goal) -> Goal:
        """The goal of what satisfies both; it may be empty."""
        return self._goals.conjoin(a, b)

    def negate(self, goal: Goal) -> Goal:
        """The goal of what does not satisfy another."""
        return self._goals.negate(goal)

    def raw(self, goal: Goal) -> tuple[Shape, ...]:
        """Disjuncts before anything is known about their parts."""
        return self._rewriting.shapes(goal)

    def pointer(self, goal: Goal) -> str:
        """Where to point for a goal."""
        return "" if goal in (ANY, NEVER) else self._goals.place(goal).pointer

    def admit(self) -> None:
        """The schema is compiled (`grammar.fuel`)."""
        self._fuel += (ROOM - 1) * self._all_fuel

    def spend(self, units: int, place: Place) -> None:
        self._fuel -= units
        if self._fuel < 0:
            raise ConstraintTooLarge("the schema takes more work to normalise than is allowed", place.pointer)

    # --- prepared shapes ---------------------------------------------------------------------------------------------

    def _prepared(self, goal: Goal) -> tuple[Shape, ...]:
        """Raw shapes whose required names are declared, whose classes have names, and whose ``some`` are spread out."""
        found = self._prepared_shapes.get(goal)
        if found is None:
            shapes: list[Shape] = []
            for shape in self.raw(goal):
                shapes += self._preparation.of(shape, self._goals.place(goal))
            found = self._prepared_shapes[goal] = tuple(dict.fromkeys(shapes))
        return found

    # --- productivity ------------------------------------------------------------------------------------------------

    def _prove(self, goal: Goal) -> bool:
        productive = self.productivity.reach(goal)
        while self._rewriting.exclusive:
            place, branches = self._rewriting.exclusive.pop()
            self._prove_exclusive(place, branches)
        return productive

    def _prove_exclusive(self, place: Location, branches: list[Goal]) -> None:
        """Find the pairs of branches of a `oneOf` that some value satisfies both."""
        here = self.goal_at(place)
        known = self._rewriting.overlapping.setdefault(place, set())
        for pair in combinations(range(len(branches)), 2):
            if pair in known:
                continue
            self.spend(1, place)
            both = self.conjoin(branches[pair[0]], branches[pair[1]])
            if self.productivity.prove(both) and self.productivity.prove(self.conjoin(here, both)):
                assert not self._proved, "all that can be reached was read"
                known.add(pair)
                self._overlaps_found = True

    def _fits(self, shape: Shape, goal: Goal) -> bool:
        return not isinstance(shape, StringShape) or self.has_text(shape, self._goals.place(goal))

    def has_text(self, shape: Shape, place: Place, step: str = "") -> bool:
        if not isinstance(shape, StringShape) or not (shape.patterns or shape.excluded):
            return True
        found = self._string_fits.get(shape)
        if found is None:
            try:
                found = self._string_fits[shape] = self._string_productive(shape)
            except ConstraintError as error:
                where = f" (at {error.pointer} of the pattern)" if error.pointer else ""
                raise type(error)(error.reason + where, place.pointer + step) from error
        return found

    def _productive(self, shape: Shape, goal: Goal) -> bool:
        proofs = self.productivity.proofs
        return (
            self._fits(shape, goal)
            and all(need in proofs for need in needs(shape))
            and self._preparation.enough(shape, proofs)
        )

    def _unsatisfiable(self, goal: Goal) -> UnsatisfiableConstraint:
        """Why nothing satisfies a goal: follow one missing part after another to a contradiction, or into a circle."""
        met: set[Goal] = set()
        while goal not in met:
            met.add(goal)
            shapes = self._prepared(goal)
            if not shapes:
                pointer, why = self._rewriting.empty.get(goal) or (
                    self._goals.place(goal).pointer,
                    "no property can have such a name",
                )
                return UnsatisfiableConstraint(f"nothing can ever satisfy this schema: {why}", pointer)
            fitting = [shape for shape in shapes if self._fits(shape, goal)]
            if not fitting:
                why = "no string matches its patterns within its lengths"
                return UnsatisfiableConstraint(
                    f"nothing can ever satisfy this schema: {why}", self._goals.place(goal).pointer
                )
            missing = [need for need in needs(fitting[0]) if need not in self.productivity.proofs]
            if not missing:
                why = "there cannot be as many properties as minProperties asks for"
                if isinstance(fitting[0], ArrayShape):
                    why = "there cannot be as many items of the kind that contains or uniqueItems asks for"
                return UnsatisfiableConstraint(
                    f"nothing can ever satisfy this schema: {why}", self._goals.place(goal).pointer
                )
            goal = min(missing)
        reason = "nothing can ever satisfy this schema: each value must contain another one like it, without end"
        return UnsatisfiableConstraint(reason, self._goals.place(goal).pointer)
