"""Rewriting goals into raw shapes: the disjunctive normal form, one step deep.

The shapes of an atom are those of the keywords at its place, conjoined with those of the schemas that apply in place
(`allOf`, `anyOf`, `$ref` and their like); the shapes of a goal are the product of those of its atoms. Sub-schemas of
parts stay goals.

Where `unevaluatedProperties` or `unevaluatedItems` stand, the schemas that apply in place are rewritten once more with
annotations, which say what each disjunct has evaluated (`annotations.py`); everywhere else shapes carry none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

from grammar.errors import ConstraintError, ConstraintTooLarge
from grammar.json_schema.annotations import adds_up, bare, with_unevaluated
from grammar.json_schema.complement import Complement
from grammar.json_schema.conjunction import (
    ANY_OBJECT,
    ANY_SHAPES,
    TYPE_NAMES,
    Conjunction,
    object_shape,
    union,
)
from grammar.json_schema.document import Location
from grammar.json_schema.goals import Atom, Constant, Either, Goals, Negated
from grammar.json_schema.keywords import Clause, Dependency, Reader
from grammar.json_schema.preparation import MAX_DISJUNCTS, Place
from grammar.json_schema.shapes import (
    ANY,
    NEVER,
    ArrayShape,
    BoolShape,
    Goal,
    KeyClass,
    NullShape,
    NumberEnum,
    ObjectShape,
    Shape,
    StringEnum,
    StringShape,
)
from grammar.json_schema.values import exact, is_number

MAX_CHAIN = 128
"""Of `$ref`, `allOf`, `anyOf` and `oneOf` that apply to one and the same value."""

Disjoint = Callable[[Iterable[Shape], Place], "list[KeyClass] | None"]
"""Disjoint classes that make up some string shapes; None if other shapes are among them."""


class Algebra(Protocol):
    """What rewriting needs of `Normal`."""

    def has_text(self, shape: Shape, place: Place, step: str = "") -> bool: ...

    def spend(self, units: int, place: Place) -> None: ...


class Rewriting:
    """The raw shapes of one `Normal`'s goals, each rewritten once."""

    def __init__(
        self,
        goals: Goals,
        reader: Reader,
        conjunction: Conjunction,
        disjoint: Disjoint,
        algebra: Algebra,
    ) -> None:
        self._goals = goals
        self._reader = reader
        self._conjunction = conjunction
        self._complements = Complement(conjunction, goals.negate)
        self._disjoint = disjoint
        self._has_text = algebra.has_text
        self._spend = algebra.spend
        self.overlapping: dict[Location, set[tuple[int, int]]] = {}
        """Pairs of branches of `oneOf` that some value satisfies both."""
        self.clear()

    def clear(self) -> None:
        """Forget all but the overlaps."""
        self._bare: dict[Goal, tuple[Shape, ...] | None] = {ANY: ANY_SHAPES, NEVER: ()}
        """None while a goal is being rewritten."""
        self._annotated = dict(self._bare)
        self._chain = 0
        self.empty: dict[Goal, tuple[str, str]] = {NEVER: ("", "the schema `false` allows nothing")}
        """Goals without raw shapes: (pointer, why)."""
        self.exclusive: list[tuple[Location, list[Goal]]] = []
        """The `oneOf` that were met and the goals of their branches, which are read as those of `anyOf`."""

    def shapes(self, goal: Goal, annotated: bool = False) -> tuple[Shape, ...]:
        """Disjuncts before anything is known about their parts; ``annotated``: with what each has evaluated."""
        known = self._annotated if annotated else self._bare
        found = known.get(goal)
        if found is not None:
            return found
        place = self._goals.place(goal)
        if goal in known:
            raise ConstraintError("the schema refers to itself for one and the same value, without end", place.pointer)
        if self._chain == MAX_CHAIN:
            raise ConstraintTooLarge(f"more than {MAX_CHAIN} schemas apply to one value by one another", place.pointer)
        known[goal] = None
        self._chain += 1
        *first, last = self._goals.members[goal]
        if first:
            left, right = self._goals.of(tuple(first)), self._goals.of((last,))
            shapes = self._product(self.shapes(left, annotated), self.shapes(right, annotated), place)
            if not shapes:
                self.empty[goal] = self._blame(left, right)
        else:
            shapes = self._of_atom(goal, place, annotated)
        self._chain -= 1
        known[goal] = shapes
        return shapes

    def _of_atom(self, goal: Goal, atom: Atom, annotated: bool) -> tuple[Shape, ...]:
        match atom:
            case Constant():
                return self._candidates([atom.value], atom)
            case Negated():
                shapes = self._complement(atom)
                if not shapes:
                    self.empty[goal] = (atom.pointer, "everything satisfies what is negated")
                return shapes
            case Either():
                return self._either(atom.goals, annotated)
            case _:
                return self._at_location(goal, atom, annotated)

    def _blame(self, left: Goal, right: Goal) -> tuple[str, str]:
        for goal in (left, right):
            if not self.shapes(goal):
                return self.empty[goal]
        other = self._goals.place(left).pointer or "/"
        return self._goals.place(right).pointer, f"nothing that `{other}` allows satisfies it"

    def _at_location(self, goal: Goal, place: Location, annotated: bool) -> tuple[Shape, ...]:
        clause = self._reader.clause(place, annotated)
        self._spend(1 + len(place.schema), place)
        shapes = tuple(shape for shape in clause.shapes if self._has_text(shape, place, "/pattern"))
        if not shapes:
            why = (
                "no string of its length matches its pattern" if clause.shapes else clause.clash or "it allows no type"
            )
            self.empty[goal] = (place.pointer, why)
        noted = annotated or clause.annotated
        for others, what in self._conjuncts(clause, place, noted):
            shapes = self._narrow(goal, shapes, others, what)
        if clause.annotated:
            rest = [self._with_unevaluated(shape, clause, place) for shape in shapes]
            if shapes and not any(rest):
                why = "nothing that unevaluatedProperties or unevaluatedItems allows satisfies the keywords beside it"
                self.empty[goal] = (place.pointer, why)
            shapes = union(shape for shape in rest if shape is not None)
        return shapes if annotated or not noted else union(map(bare, shapes))

    def _conjuncts(self, clause: Clause, place: Location, annotated: bool) -> Iterator[tuple[tuple[Shape, ...], str]]:
        """What the keywords that are about other schemas ask, and what to say where nothing satisfies it."""
        if clause.names != ANY:
            yield self._named(clause.names), "no name that propertyNames allows"
        for values in clause.values:
            yield self._candidates(values, place), "none of the values of enum or const"
        for part in clause.all_of:
            yield self.shapes(part, annotated), "nothing that a reference or allOf allows"
        for branches in clause.any_of:
            either = self._some_of(branches, place) if annotated else self._either(branches)
            yield either, "no branch of anyOf"
        for part in clause.none_of:
            yield self.shapes(self._goals.negate(part)), "nothing that `not` leaves"
        if clause.condition is not None:
            yield self._either(self._sides(*clause.condition), annotated), "neither side of if"
        for dependency in clause.dependencies:
            yield self._dependent(dependency, place, annotated), "nothing that a dependency allows"
        if clause.one_of is not None:
            if len(clause.one_of) > 1:
                self.exclusive.append((place, clause.one_of))
            yield self._either(self._just_one(place, clause.one_of), annotated), "no branch of oneOf"

    def _some_of(self, branches: list[Goal], place: Location) -> tuple[Shape, ...]:
        """The annotated disjuncts of an `anyOf`: of each branch, and of those that hold together where they evaluate
        more together."""
        found: list[Shape] = []
        for branch in branches:
            more = self.shapes(branch, True)
            for a in tuple(found):
                found += [both for b in more if adds_up(a, b) for both in self._product((a,), (b,), place)]
            found += more
            if len(found) > MAX_DISJUNCTS:
                raise ConstraintTooLarge(f"its alternatives multiply to more than {MAX_DISJUNCTS}", place.pointer)
        return union(found)

    def _sides(self, when: Goal, then: Goal, otherwise: Goal) -> tuple[Goal, ...]:
        """What `if` leaves. Where neither side asks anything, it is there for what it evaluates if it holds."""
        if then == ANY == otherwise:
            return when, ANY
        return self._goals.conjoin(when, then), self._goals.conjoin(self._goals.negate(when), otherwise)

    def _with_unevaluated(self, shape: Shape, clause: Clause, place: Location) -> Shape | None:
        def either(goals: Iterable[Goal]) -> Goal:
            return self._goals.either(goals, f"{place.pointer}/unevaluatedItems")

        self._spend(_size(shape), place)
        return with_unevaluated(
            shape, clause.unevaluated_properties, clause.unevaluated_items, self._conjunction, either
        )

    def _complement(self, negated: Negated) -> tuple[Shape, ...]:
        """By the laws of De Morgan down to the shapes that the keywords of a place make by themselves: a conjunction of
        many has no more disjuncts so than its parts have together. Of few values, what is left of them says more."""
        atoms = self._goals.members[negated.goal]
        if len(atoms) > 1:
            return self._either(self._goals.negate(self._goals.of((atom,))) for atom in atoms)
        match self._goals.place(negated.goal):
            case Either() as choice:
                return self._none(choice.goals, negated)
            case Location() as place:
                clause = self._reader.clause(place)
                if not clause.annotated and not clause.values:
                    self._spend(1 + len(place.schema), place)
                    return union(shape for shapes in self._left_out(clause, negated) for shape in shapes)
        return self._outside(self.shapes(negated.goal), negated)

    def _left_out(self, clause: Clause, negated: Negated) -> Iterator[tuple[Shape, ...]]:
        """What each keyword of a clause forbids."""
        place, goals = self._goals.place(negated.goal), self._goals
        assert isinstance(place, Location)
        yield self._outside([shape for shape in clause.shapes if self._has_text(shape, place, "/pattern")], negated)
        if clause.names != ANY:
            yield self._outside(self._named(clause.names), negated)
        yield self._either(goals.negate(part) for part in clause.all_of)
        for branches in clause.any_of:
            yield self._none(branches, negated)
        yield self._either(clause.none_of)
        if clause.condition is not None:
            when, then, otherwise = clause.condition
            broken = goals.conjoin(when, goals.negate(then)), goals.conjoin(goals.negate(when), goals.negate(otherwise))
            yield self._either(broken)
        for name, required, goal in clause.dependencies:
            for other in required:
                lacking = object_shape({}, frozenset((name,)), ANY_OBJECT.additional, (other,))
                yield () if lacking is None else (lacking,)
            yield self._product((_having(name),), self.shapes(goals.negate(goal)), place)
        if clause.one_of is not None:
            self.exclusive.append((place, clause.one_of))
            yield self._none(clause.one_of, negated)
            pairs = sorted(self.overlapping.get(place, ()))
            yield self._either(goals.conjoin(clause.one_of[i], clause.one_of[j]) for i, j in pairs)

    def _none(self, branches: Iterable[Goal], place: Atom) -> tuple[Shape, ...]:
        rest = ANY_SHAPES
        for branch in branches:
            rest = self._product(rest, self.shapes(self._goals.negate(branch)), place)
        return rest

    def _outside(self, shapes: Iterable[Shape], negated: Negated) -> tuple[Shape, ...]:
        """A type at a time: what every shape of the type leaves out."""
        rest = ANY_SHAPES
        for shape in shapes:
            kind = TYPE_NAMES[type(shape)]
            left_out = self._complements.of(shape, negated.pointer)
            others = tuple(other for other in ANY_SHAPES if TYPE_NAMES[type(other)] != kind)
            rest = self._product(rest, (*others, *left_out), negated)
        return rest

    def _named(self, goal: Goal) -> tuple[Shape, ...]:
        """Everything, but objects only with names that satisfy a goal."""
        strings = [shape for shape in self.shapes(goal) if isinstance(shape, StringShape | StringEnum)]
        classes = self._disjoint(strings, self._goals.place(goal) if goal != NEVER else self._reader.root)
        named = object_shape({}, frozenset(), [(names, ANY) for names in classes or ()])
        assert named is not None, "an object may be empty"
        return (*(shape for shape in ANY_SHAPES if not isinstance(shape, ObjectShape)), named)

    def _just_one(self, place: Location, branches: list[Goal]) -> Iterator[Goal]:
        """The branches of a `oneOf`, each without those that it overlaps with."""
        overlapping = self.overlapping.get(place, set())
        for i, branch in enumerate(branches):
            for j, other in enumerate(branches):
                if (min(i, j), max(i, j)) in overlapping:
                    branch = self._goals.conjoin(branch, self._goals.negate(other))
            yield branch

    def _dependent(self, dependency: Dependency, place: Location, annotated: bool) -> tuple[Shape, ...]:
        """Everything but objects that have a property without what depends on it."""
        name, required, goal = dependency
        without = object_shape({}, frozenset(), ANY_OBJECT.additional, (name,))
        assert without is not None, "any object may lack a property"
        others = tuple(shape for shape in ANY_SHAPES if shape != ANY_OBJECT)
        having = self._product((_having(name, *required),), self.shapes(goal, annotated), place)
        return (*others, without, *having)

    def _narrow(self, goal: Goal, shapes: tuple[Shape, ...], others: tuple[Shape, ...], what: str) -> tuple[Shape, ...]:
        place = self._goals.place(goal)
        both = self._product(shapes, others, place)
        if shapes and not both:
            self.empty[goal] = (place.pointer, f"{what} satisfies the keywords beside it")
        return both

    def _either(self, branches: Iterable[Goal], annotated: bool = False) -> tuple[Shape, ...]:
        return union(shape for branch in branches for shape in self.shapes(branch, annotated))

    def _product(self, left: tuple[Shape, ...], right: tuple[Shape, ...], place: Atom) -> tuple[Shape, ...]:
        if right is ANY_SHAPES:
            return left
        if left == ANY_SHAPES:
            return right
        found: list[Shape] = []
        conjoin, sizes, kinds = self._conjunction.of, sum(map(_size, right)), [TYPE_NAMES[type(b)] for b in right]
        for a in left:
            self._spend(len(right) * _size(a) + sizes, place)
            mine = TYPE_NAMES[type(a)]
            for b, kind in zip(right, kinds, strict=True):
                both = conjoin(a, b) if kind == mine else None
                if both is not None:
                    found.append(both)
            if len(found) > MAX_DISJUNCTS:
                raise ConstraintTooLarge(f"its alternatives multiply to more than {MAX_DISJUNCTS}", place.pointer)
        return union(found)

    def _candidates(self, values: Sequence[Any], place: Atom) -> tuple[Shape, ...]:
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
                items = tuple(self._goals.constant(item, place.pointer) for item in cast("list[Any]", value))
                shapes.append(ArrayShape(items, None, len(items), len(items)))
            elif isinstance(value, dict):
                members = cast("dict[str, Any]", value)
                properties = tuple(
                    (name, self._goals.constant(member, place.pointer)) for name, member in members.items()
                )
                shapes.append(ObjectShape(properties, frozenset(members), ()))
        return union(shapes)


def _having(*names: str) -> ObjectShape:
    having = object_shape({}, frozenset(names), ANY_OBJECT.additional)
    assert having is not None, "any object may have more properties"
    return having


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
