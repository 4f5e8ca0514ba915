"""The normal form of a JSON Schema: goals, lazily rewritten into unions of productive shapes.

    schema ──Reader──▶ clause ──conjoin, distribute──▶ raw shapes ──Productivity──▶ shapes

A *goal* is a conjunction of atoms (schema locations and constants), hash-consed: equal conjunctions have equal
numbers, so that recursion closes and states that mean the same are the same. `Normal.shapes` rewrites one goal into a
disjunction of shapes whose parts are goals again. This is Attouche et al., "Witness Generation for JSON Schema"
(PVLDB 15(13), 2022), with two differences: references stay folded (a goal is rewritten when it is asked for), and
emptiness is decided on the graph of goals by a least fixpoint rather than by generating witnesses.

`oneOf` is read as `anyOf` and then proved to be one: two branches and their schema, conjoined, must be empty. Where
they are not, the schema is refused.

Negation will enter as a third kind of atom, the complement of a location, with shapes of its own; goals, conjunction
and productivity stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any, cast

from grammar.errors import ConstraintError, ConstraintTooLarge, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.json_schema.conjunction import ANY_SHAPES, Conjunction, array_shape, member_goal, union
from grammar.json_schema.document import Document, Location
from grammar.json_schema.keywords import Reader
from grammar.json_schema.numbers import LIMITS
from grammar.json_schema.productivity import Productivity, needs, parts
from grammar.json_schema.shapes import (
    ANY,
    NEVER,
    ArrayShape,
    BoolShape,
    Goal,
    NullShape,
    NumberEnum,
    ObjectShape,
    Shape,
    StringEnum,
    StringShape,
)
from grammar.json_schema.values import Matches, canonical, exact, is_number

MAX_DISJUNCTS = 4096
"""Of one goal."""
MAX_CHAIN = 128
"""Of `$ref`, `allOf`, `anyOf` and `oneOf` that apply to one and the same value."""
DEFAULT_FUEL = 200_000
"""Shapes read and conjoined, about a microsecond each."""


@dataclass(frozen=True, slots=True)
class _Constant:
    """An atom that one value satisfies, from an `enum` or `const` at ``pointer``."""

    value: Any
    pointer: str


_Place = Location | _Constant


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
    ConstraintError for a pattern that is no regular expression; ``matches`` searches a text for a pattern.

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
    ) -> None:
        if formats not in ("assert", "annotate"):
            raise ConstraintError(f"formats must be 'assert' or 'annotate', not {formats!r}")
        self.matches = matches
        self._string_productive = string_productive
        self._fuel = fuel
        self._document = Document(schema, registry)
        self._reader = Reader(self._document, self._goal_at, formats)
        self._conjunction = Conjunction(self.conjoin, matches)
        self._atoms: list[_Place] = []
        self._members: list[tuple[int, ...]] = [(), ()]
        """Atoms of each goal, ascending; ANY and NEVER, the first two, are told apart by their numbers."""
        self._goals: dict[tuple[int, ...], Goal] = {}
        self._located: dict[Location, Goal] = {}
        self._bare: dict[str, Goal] = {}
        self._constants: dict[object, Goal] = {}
        self._conjoined: dict[tuple[Goal, Goal], Goal] = {}
        self._raw_shapes: dict[Goal, tuple[Shape, ...] | None] = {ANY: ANY_SHAPES, NEVER: ()}
        """None while a goal is being rewritten."""
        self._chain = 0
        self._string_fits: dict[StringShape, bool] = {}
        self._empty: dict[Goal, tuple[str, str]] = {NEVER: ("", "the schema `false` allows nothing")}
        """Goals without raw shapes: (pointer, why)."""
        self._exclusive: list[tuple[Location, list[Goal]]] = []
        self._final: dict[Goal, tuple[Shape, ...]] = {ANY: ANY_SHAPES, NEVER: ()}
        self.productivity = Productivity(self._raw, self._fits)
        self.root: Goal = self._goal_at(self._document.root)
        if not self._prove(self.root):
            raise self._unsatisfiable(self.root)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the normal form admits less than the schema, each with its JSON pointer; () if it does not."""
        return tuple(self._reader.reasons)

    def shapes(self, goal: Goal) -> tuple[Shape, ...]:
        """The disjuncts of a goal, distinct and productive in all their parts; () only for a goal that nothing
        satisfies."""
        found = self._final.get(goal)
        if found is None:
            self._prove(goal)
            shapes = [self._complete(shape) for shape in self._raw(goal) if self._productive(shape, goal)]
            found = self._final[goal] = union(shapes)
        return found

    # --- goals -------------------------------------------------------------------------------------------------------

    def _goal_at(self, place: Location) -> Goal:
        """The goal of a sub-schema. Schemas that say nothing are ANY, and those that only refer are what they refer
        to."""
        found = self._located.get(place)
        if found is None:
            found = self._located[place] = self._new_goal_at(place)
        return found

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
            if "$ref" not in active or (len(active) > 1 and not dialect.ref_hides_siblings):
                break
            place = self._reader.target(place)
            if place in followed:
                raise ConstraintError("$ref leads back to itself and never describes a value", f"{place.pointer}/$ref")
            if len(followed) == MAX_CHAIN:
                raise ConstraintTooLarge(f"more than {MAX_CHAIN} $ref lead to one another", followed[0].pointer)
            followed.append(place)
        if len(followed) > 1:
            return self._goal_at(place)
        if len(active) == 1 and isinstance(schema.get("type"), str):
            known = self._bare.get(schema["type"])
            if known is None:
                known = self._bare[schema["type"]] = self._atom(place)
            return known
        return self._atom(place)

    def _atom(self, atom: _Place) -> Goal:
        self._atoms.append(atom)
        return self._intern((len(self._atoms) - 1,))

    def _constant(self, value: Any, place: _Place) -> Goal:
        key = canonical(value, place.pointer)
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = self._atom(_Constant(value, place.pointer))
        return found

    def _intern(self, atoms: tuple[int, ...]) -> Goal:
        found = self._goals.get(atoms)
        if found is None:
            found = self._goals[atoms] = len(self._members)
            self._members.append(atoms)
        return found

    def conjoin(self, a: Goal, b: Goal) -> Goal:
        """The goal of what satisfies both; it may be empty."""
        if a == b or b == ANY:
            return a
        if a == ANY:
            return b
        if a == NEVER or b == NEVER:
            return NEVER
        found = self._conjoined.get((a, b))
        if found is None:
            found = self._intern(tuple(sorted({*self._members[a], *self._members[b]})))
            self._conjoined[a, b] = found
        return found

    def _place(self, goal: Goal) -> _Place:
        """Where to point for a goal other than ANY and NEVER."""
        return self._atoms[self._members[goal][0]]

    # --- raw shapes --------------------------------------------------------------------------------------------------

    def _raw(self, goal: Goal) -> tuple[Shape, ...]:
        """Disjuncts before anything is known about their parts."""
        found = self._raw_shapes.get(goal)
        if found is not None:
            return found
        place = self._place(goal)
        if goal in self._raw_shapes:
            raise ConstraintError("the schema refers to itself for one and the same value, without end", place.pointer)
        if self._chain == MAX_CHAIN:
            raise ConstraintTooLarge(f"more than {MAX_CHAIN} schemas apply to one value by one another", place.pointer)
        self._raw_shapes[goal] = None
        self._chain += 1
        *first, last = self._members[goal]
        if first:
            left, right = self._intern(tuple(first)), self._intern((last,))
            shapes = self._product(self._raw(left), self._raw(right), place)
            if not shapes:
                self._empty[goal] = self._blame(left, right)
        elif isinstance(place, Location):
            shapes = self._at_location(goal, place)
        else:
            shapes = self._candidates([place.value], place)
        self._chain -= 1
        self._raw_shapes[goal] = shapes
        return shapes

    def _blame(self, left: Goal, right: Goal) -> tuple[str, str]:
        for goal in (left, right):
            if not self._raw(goal):
                return self._empty[goal]
        other = self._place(left).pointer or "/"
        return self._place(right).pointer, f"nothing that `{other}` allows satisfies it"

    def _at_location(self, goal: Goal, place: Location) -> tuple[Shape, ...]:
        clause = self._reader.clause(place)
        self._spend(1 + len(place.schema), place)
        shapes = tuple(shape for shape in clause.shapes if self._string_has_value(shape, place, "/pattern"))
        if not shapes:
            why = (
                "no string of its length matches its pattern" if clause.shapes else clause.clash or "it allows no type"
            )
            self._empty[goal] = (place.pointer, why)
        for values in clause.values:
            shapes = self._narrow(goal, shapes, self._candidates(values, place), "none of the values of enum or const")
        for part in clause.all_of:
            shapes = self._narrow(goal, shapes, self._raw(part), "nothing that $ref or allOf allows")
        for branches in clause.any_of:
            shapes = self._narrow(goal, shapes, self._either(branches), "no branch of anyOf")
        if clause.one_of is not None:
            if len(clause.one_of) > 1:
                self._exclusive.append((place, clause.one_of))
            shapes = self._narrow(goal, shapes, self._either(clause.one_of), "no branch of oneOf")
        return shapes

    def _narrow(self, goal: Goal, shapes: tuple[Shape, ...], others: tuple[Shape, ...], what: str) -> tuple[Shape, ...]:
        place = self._place(goal)
        both = self._product(shapes, others, place)
        if shapes and not both:
            self._empty[goal] = (place.pointer, f"{what} satisfies the keywords beside it")
        return both

    def _either(self, branches: Iterable[Goal]) -> tuple[Shape, ...]:
        return union(shape for branch in branches for shape in self._raw(branch))

    def _product(self, left: tuple[Shape, ...], right: tuple[Shape, ...], place: _Place) -> tuple[Shape, ...]:
        if right is ANY_SHAPES:
            return left
        if left == ANY_SHAPES:
            return right
        found: list[Shape] = []
        for a in left:
            for b in right:
                self._spend(_size(a) + _size(b), place)
                both = self._conjunction.of(a, b)
                if both is not None:
                    found.append(both)
            if len(found) > MAX_DISJUNCTS:
                raise ConstraintTooLarge(f"its alternatives multiply to more than {MAX_DISJUNCTS}", place.pointer)
        return union(found)

    def _candidates(self, values: Sequence[Any], place: _Place) -> tuple[Shape, ...]:
        """The shapes of constants."""
        self._spend(len(values), place)
        shapes: list[Shape] = []
        booleans = sorted({value for value in values if isinstance(value, bool)})
        numbers = dict.fromkeys(exact(value, place.pointer) for value in values if is_number(value))
        strings = dict.fromkeys(value for value in values if isinstance(value, str))
        if None in values:
            shapes.append(NullShape())
        if booleans:
            shapes.append(BoolShape(tuple(booleans)))
        if numbers:
            shapes.append(NumberEnum(tuple(numbers)))
        if strings:
            shapes.append(StringEnum(tuple(strings)))
        for value in values:
            if isinstance(value, list):
                items = tuple(self._constant(item, place) for item in cast("list[Any]", value))
                shapes.append(ArrayShape(items, None, len(items), len(items)))
            elif isinstance(value, dict):
                members = cast("dict[str, Any]", value)
                properties = tuple((name, self._constant(member, place)) for name, member in members.items())
                shapes.append(ObjectShape(properties, frozenset(members), None))
        return union(shapes)

    def _spend(self, units: int, place: _Place) -> None:
        self._fuel -= units
        if self._fuel < 0:
            raise ConstraintTooLarge("the schema takes more work to normalise than is allowed", place.pointer)

    # --- productivity ------------------------------------------------------------------------------------------------

    def _prove(self, goal: Goal) -> bool:
        productive = self.productivity.prove(goal)
        while self._exclusive:
            place, branches = self._exclusive.pop()
            self._prove_exclusive(place, branches)
        return productive

    def _prove_exclusive(self, place: Location, branches: list[Goal]) -> None:
        """Refuse a `oneOf` unless no value satisfies two of its branches."""
        here = self._goal_at(place)
        for i, j in combinations(range(len(branches)), 2):
            self._spend(1, place)
            both = self.conjoin(branches[i], branches[j])
            if self.productivity.prove(both) and self.productivity.prove(self.conjoin(here, both)):
                reason = f"branches {i} and {j} of oneOf overlap, and their difference is not enforced yet"
                raise UnsupportedConstraint(reason, f"{place.pointer}/oneOf")

    def _fits(self, shape: Shape, goal: Goal) -> bool:
        return not isinstance(shape, StringShape) or self._string_has_value(shape, self._place(goal))

    def _string_has_value(self, shape: Shape, place: _Place, step: str = "") -> bool:
        if not isinstance(shape, StringShape) or not shape.patterns:
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
        return self._fits(shape, goal) and all(need in self.productivity.proofs for need in needs(shape))

    def _complete(self, shape: Shape) -> Shape:
        """A productive raw shape without the parts that are not productive, and with all required names declared."""
        proofs = self.productivity.proofs
        if isinstance(shape, ArrayShape):
            if all(part in proofs for part in parts(shape)):
                return shape
            prefix = [goal if goal in proofs else NEVER for goal in shape.prefix]
            rest = shape.rest if shape.rest in proofs else None
            return array_shape(prefix, rest, shape.min_items, shape.max_items) or shape
        if isinstance(shape, ObjectShape):
            declared = dict(shape.properties)
            undeclared = shape.required.difference(declared)
            if not undeclared and all(part in proofs for part in parts(shape)):
                return shape
            for name in sorted(undeclared, key=self._reader.required_order.__getitem__):
                declared[name] = member_goal(shape, declared, name)
            properties = tuple((name, goal) for name, goal in declared.items() if goal in proofs)
            if shape.additional not in proofs:
                return ObjectShape(properties, shape.required, None)
            dropped = {name for name, goal in declared.items() if goal not in proofs}
            return ObjectShape(properties, shape.required, shape.additional, shape.forbidden | dropped)
        return shape

    def _unsatisfiable(self, goal: Goal) -> UnsatisfiableConstraint:
        """Why nothing satisfies a goal: follow one missing part after another to a contradiction, or into a circle."""
        met: set[Goal] = set()
        while goal not in met:
            met.add(goal)
            shapes = self._raw(goal)
            if not shapes:
                pointer, why = self._empty[goal]
                return UnsatisfiableConstraint(f"nothing can ever satisfy this schema: {why}", pointer)
            fitting = [shape for shape in shapes if self._fits(shape, goal)]
            if not fitting:
                why = "no string matches its patterns within its lengths"
                return UnsatisfiableConstraint(
                    f"nothing can ever satisfy this schema: {why}", self._place(goal).pointer
                )
            goal = min(need for need in needs(fitting[0]) if need not in self.productivity.proofs)
        reason = "nothing can ever satisfy this schema: each value must contain another one like it, without end"
        return UnsatisfiableConstraint(reason, self._place(goal).pointer)


def _size(shape: Shape) -> int:
    """Units of fuel that conjoining it takes."""
    match shape:
        case ObjectShape():
            return 1 + len(shape.properties)
        case ArrayShape():
            return 1 + len(shape.prefix)
        case StringEnum() | NumberEnum():
            return 1 + len(shape.values)
        case _:
            return 1
