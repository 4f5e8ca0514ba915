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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any, cast

from grammar.errors import ConstraintError, ConstraintTooLarge, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.json_schema.complement import Complement
from grammar.json_schema.conjunction import (
    ANY_OBJECT,
    ANY_SHAPES,
    TYPE_NAMES,
    Conjunction,
    object_shape,
    union,
)
from grammar.json_schema.dialect import REFERENCES
from grammar.json_schema.document import Document, Location
from grammar.json_schema.formats import NARROWED
from grammar.json_schema.keywords import Dependency, Reader
from grammar.json_schema.numbers import LIMITS
from grammar.json_schema.preparation import MAX_DISJUNCTS, Few, Place, Preparation, few_texts
from grammar.json_schema.productivity import Productivity, needs
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

MAX_CHAIN = 128
"""Of `$ref`, `allOf`, `anyOf` and `oneOf` that apply to one and the same value."""
DEFAULT_FUEL = 200_000
"""Shapes read and conjoined, about a microsecond each."""


@dataclass(frozen=True, slots=True)
class _Constant:
    """An atom that one value satisfies, from an `enum` or `const` at ``pointer``."""

    value: Any
    pointer: str


@dataclass(frozen=True, slots=True)
class _Negated:
    """An atom that everything satisfies that does not satisfy ``goal``, whose place is at ``pointer``."""

    goal: Goal
    pointer: str


_Place = Location | _Constant | _Negated


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
        self._preparation = Preparation(self, Conjunction(self.conjoin, self.matches), few)
        self._all_fuel = fuel
        self._document = Document(schema, registry)
        self._reader = Reader(self._document, self, formats)
        self._conjunction = Conjunction(self.conjoin, self.matches)
        self._complements = Complement(self._conjunction, self.negate)
        self._overlapping: dict[Location, set[tuple[int, int]]] = {}
        """Pairs of branches of `oneOf` that some value satisfies both."""
        self._forget()
        self._prove(self.goal_at(self._document.root))
        while self._overlaps_found:
            self._forget()
            self._prove(self.goal_at(self._document.root))
        self._proved = True
        if self._turned_away and self._negations:
            place = self._place(next(iter(self._negations)))
            raise UnsupportedConstraint("a value that a format may turn away cannot be negated", place.pointer)
        self.root: Goal = self.goal_at(self._document.root)
        if self.root not in self.productivity.proofs:
            raise self._unsatisfiable(self.root)
        self._note_unique_alternatives()

    def _forget(self) -> None:
        """Begin anew with the overlaps found so far: simpler than to repair tables that refer to one another."""
        self._fuel = self._all_fuel
        self._overlaps_found = False
        self._proved = False
        self._reader.reasons.clear()
        self._atoms: list[_Place] = []
        self._members: list[tuple[int, ...]] = [(), ()]
        """Atoms of each goal, ascending; ANY and NEVER, the first two, are told apart by their numbers."""
        self._goals: dict[tuple[int, ...], Goal] = {}
        self._located: dict[Location, Goal] = {}
        self._bare: dict[str, Goal] = {}
        self._constants: dict[object, Goal] = {}
        self._negations: dict[Goal, Goal] = {}
        self._conjoined: dict[tuple[Goal, Goal], Goal] = {}
        self._raw_shapes: dict[Goal, tuple[Shape, ...] | None] = {ANY: ANY_SHAPES, NEVER: ()}
        """None while a goal is being rewritten."""
        self._chain = 0
        self._string_fits: dict[StringShape, bool] = {}
        self._empty: dict[Goal, tuple[str, str]] = {NEVER: ("", "the schema `false` allows nothing")}
        """Goals without raw shapes: (pointer, why)."""
        self._exclusive: list[tuple[Location, list[Goal]]] = []
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

    def narrow(self, reason: str) -> None:
        """Note that valid values are left out."""
        self._reader.reasons[reason] = None

    def name_order(self, name: str) -> int:
        """Where a required name stands among those that are declared nowhere."""
        return self._reader.required_order[name]

    def _note_unique_alternatives(self) -> None:
        """Arrays of unique items are not told from other arrays item by item: say so where there are any."""
        goals = self.productivity.proofs
        alternatives = any(
            sum(isinstance(shape, kind) for shape in self._prepared(goal)) > 1
            for goal in goals
            for kind in (ArrayShape, ObjectShape)
        ) or any(isinstance(shape, ObjectShape) and shape.some for goal in goals for shape in self._prepared(goal))
        for goal in goals:
            if alternatives and any(isinstance(shape, ArrayShape) and shape.unique for shape in self._prepared(goal)):
                reason = "among alternatives, arrays of unique items may be limited to one item or to one alternative"
                self.narrow(f"{self._place(goal).pointer}: {reason}")

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

    def negate(self, goal: Goal) -> Goal:
        """The goal of what does not satisfy another."""
        if goal in (ANY, NEVER):
            return NEVER if goal == ANY else ANY
        found = self._negations.get(goal)
        if found is None:
            found = self._atom(_Negated(goal, self._place(goal).pointer))
            self._negations[goal], self._negations[found] = found, goal
        return found

    def _place(self, goal: Goal) -> _Place:
        """Where to point for a goal other than ANY and NEVER."""
        return self._atoms[self._members[goal][0]]

    # --- raw shapes --------------------------------------------------------------------------------------------------

    def raw(self, goal: Goal) -> tuple[Shape, ...]:
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
            shapes = self._product(self.raw(left), self.raw(right), place)
            if not shapes:
                self._empty[goal] = self._blame(left, right)
        elif isinstance(place, Location):
            shapes = self._at_location(goal, place)
        elif isinstance(place, _Negated):
            shapes = self._complement(place)
            if not shapes:
                self._empty[goal] = (place.pointer, "everything satisfies what is negated")
        else:
            shapes = self._candidates([place.value], place)
        self._chain -= 1
        self._raw_shapes[goal] = shapes
        return shapes

    def _blame(self, left: Goal, right: Goal) -> tuple[str, str]:
        for goal in (left, right):
            if not self.raw(goal):
                return self._empty[goal]
        other = self._place(left).pointer or "/"
        return self._place(right).pointer, f"nothing that `{other}` allows satisfies it"

    def _at_location(self, goal: Goal, place: Location) -> tuple[Shape, ...]:
        clause = self._reader.clause(place)
        self.spend(1 + len(place.schema), place)
        shapes = tuple(shape for shape in clause.shapes if self.has_text(shape, place, "/pattern"))
        if not shapes:
            why = (
                "no string of its length matches its pattern" if clause.shapes else clause.clash or "it allows no type"
            )
            self._empty[goal] = (place.pointer, why)
        if clause.names != ANY:
            shapes = self._narrow(goal, shapes, self._named(clause.names), "no name that propertyNames allows")
        for values in clause.values:
            shapes = self._narrow(goal, shapes, self._candidates(values, place), "none of the values of enum or const")
        for part in clause.all_of:
            shapes = self._narrow(goal, shapes, self.raw(part), "nothing that $ref or allOf allows")
        for branches in clause.any_of:
            shapes = self._narrow(goal, shapes, self._either(branches), "no branch of anyOf")
        for part in clause.none_of:
            shapes = self._narrow(goal, shapes, self.raw(self.negate(part)), "nothing that `not` leaves")
        if clause.condition is not None:
            when, then, otherwise = clause.condition
            sides = (self.conjoin(when, then), self.conjoin(self.negate(when), otherwise))
            shapes = self._narrow(goal, shapes, self._either(sides), "neither side of if")
        for dependency in clause.dependencies:
            shapes = self._narrow(goal, shapes, self._dependent(dependency, place), "nothing that a dependency allows")
        if clause.one_of is not None:
            if len(clause.one_of) > 1:
                self._exclusive.append((place, clause.one_of))
            shapes = self._narrow(
                goal, shapes, self._either(self._just_one(place, clause.one_of)), "no branch of oneOf"
            )
        return shapes

    def _complement(self, negated: _Negated) -> tuple[Shape, ...]:
        """A type at a time: what every shape of the type leaves out."""
        rest = ANY_SHAPES
        for shape in self.raw(negated.goal):
            kind = TYPE_NAMES[type(shape)]
            left_out = self._complements.of(shape, negated.pointer)
            others = tuple(other for other in ANY_SHAPES if TYPE_NAMES[type(other)] != kind)
            rest = self._product(rest, (*others, *left_out), negated)
        return rest

    def _named(self, goal: Goal) -> tuple[Shape, ...]:
        """Everything, but objects only with names that satisfy a goal."""
        strings = [shape for shape in self.raw(goal) if isinstance(shape, StringShape | StringEnum)]
        classes = self._preparation.disjoint(strings, self._place(goal) if goal != NEVER else self._document.root)
        named = object_shape({}, frozenset(), [(names, ANY) for names in classes or ()])
        assert named is not None, "an object may be empty"
        return (*(shape for shape in ANY_SHAPES if not isinstance(shape, ObjectShape)), named)

    def _just_one(self, place: Location, branches: list[Goal]) -> Iterator[Goal]:
        """The branches of a `oneOf`, each without those that it overlaps with."""
        overlapping = self._overlapping.get(place, set())
        for i, branch in enumerate(branches):
            for j, other in enumerate(branches):
                if (min(i, j), max(i, j)) in overlapping:
                    branch = self.conjoin(branch, self.negate(other))
            yield branch

    def _dependent(self, dependency: Dependency, place: Location) -> tuple[Shape, ...]:
        """Everything but objects that have a property without what depends on it."""
        name, required, goal = dependency
        without = object_shape({}, frozenset(), ANY_OBJECT.additional, (name,))
        having = object_shape({}, frozenset((name, *required)), ANY_OBJECT.additional)
        assert without is not None and having is not None, "any object has or lacks a property"
        others = tuple(shape for shape in ANY_SHAPES if shape != ANY_OBJECT)
        return (*others, without, *self._product((having,), self.raw(goal), place))

    def _narrow(self, goal: Goal, shapes: tuple[Shape, ...], others: tuple[Shape, ...], what: str) -> tuple[Shape, ...]:
        place = self._place(goal)
        both = self._product(shapes, others, place)
        if shapes and not both:
            self._empty[goal] = (place.pointer, f"{what} satisfies the keywords beside it")
        return both

    def _either(self, branches: Iterable[Goal]) -> tuple[Shape, ...]:
        return union(shape for branch in branches for shape in self.raw(branch))

    def _product(self, left: tuple[Shape, ...], right: tuple[Shape, ...], place: _Place) -> tuple[Shape, ...]:
        if right is ANY_SHAPES:
            return left
        if left == ANY_SHAPES:
            return right
        found: list[Shape] = []
        for a in left:
            for b in right:
                self.spend(_size(a) + _size(b), place)
                both = self._conjunction.of(a, b)
                if both is not None:
                    found.append(both)
            if len(found) > MAX_DISJUNCTS:
                raise ConstraintTooLarge(f"its alternatives multiply to more than {MAX_DISJUNCTS}", place.pointer)
        return union(found)

    def _candidates(self, values: Sequence[Any], place: _Place) -> tuple[Shape, ...]:
        """The shapes of constants."""
        self.spend(len(values), place)
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
                shapes.append(ObjectShape(properties, frozenset(members), ()))
        return union(shapes)

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
                shapes += self._preparation.of(shape, self._place(goal))
            found = self._prepared_shapes[goal] = tuple(dict.fromkeys(shapes))
        return found

    # --- productivity ------------------------------------------------------------------------------------------------

    def _prove(self, goal: Goal) -> bool:
        productive = self.productivity.prove(goal)
        while self._exclusive:
            place, branches = self._exclusive.pop()
            self._prove_exclusive(place, branches)
        return productive

    def _prove_exclusive(self, place: Location, branches: list[Goal]) -> None:
        """Find the pairs of branches of a `oneOf` that some value satisfies both."""
        here = self.goal_at(place)
        known = self._overlapping.setdefault(place, set())
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
        return not isinstance(shape, StringShape) or self.has_text(shape, self._place(goal))

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
                pointer, why = self._empty.get(goal) or (self._place(goal).pointer, "no property can have such a name")
                return UnsatisfiableConstraint(f"nothing can ever satisfy this schema: {why}", pointer)
            fitting = [shape for shape in shapes if self._fits(shape, goal)]
            if not fitting:
                why = "no string matches its patterns within its lengths"
                return UnsatisfiableConstraint(
                    f"nothing can ever satisfy this schema: {why}", self._place(goal).pointer
                )
            missing = [need for need in needs(fitting[0]) if need not in self.productivity.proofs]
            if not missing:
                why = "there cannot be as many properties as minProperties asks for"
                if isinstance(fitting[0], ArrayShape):
                    why = "there cannot be as many items of the kind that contains or uniqueItems asks for"
                return UnsatisfiableConstraint(
                    f"nothing can ever satisfy this schema: {why}", self._place(goal).pointer
                )
            goal = min(missing)
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
