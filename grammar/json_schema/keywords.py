"""Reading one schema object: keywords become shapes, one a type; applicators conjoin other schemas to them.

    {"type": ["string", "null"], "maxLength": 5, "anyOf": [A, B], "allOf": [C]}

        shapes    null | string of at most 5      what the local assertions leave, a disjunct a type
        all_of    C                               conjoined; `$ref` is one of them
        any_of    [A, B]                          conjoined unions
        one_of    none                            a conjoined union whose members must not overlap
        values    none                            conjoined sets of candidates, by `enum` and `const`

Keywords of types that `type` excludes say nothing, and are not read. Everything else is honoured, or refused with its
place by `ConstraintError` when its value is none that the draft allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol, cast

from grammar.errors import ConstraintError
from grammar.json_schema.conjunction import ANY_STRING, array_shape, number_shape, object_shape
from grammar.json_schema.decoding import escape
from grammar.json_schema.dialect import REFERENCES
from grammar.json_schema.document import Document, Location
from grammar.json_schema.formats import FORMATS
from grammar.json_schema.operands import (
    ARRAY,
    BOOLEAN,
    EVERY_TYPE,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    bound_of,
    count_of,
    list_of,
    malformed,
    members_of,
    number_of,
    required_names,
    strings_of,
    types_of,
)
from grammar.json_schema.shapes import (
    ALL_ITEMS,
    ALL_NAMES,
    ANY,
    BoolShape,
    Contains,
    EvaluatedItems,
    EvaluatedNames,
    Goal,
    KeyClass,
    NullShape,
    NumberShape,
    Shape,
    StringShape,
)
from grammar.json_schema.values import Matches

_NULL = NullShape()
_BOOLEANS = BoolShape((False, True))
_NUMBERS = NumberShape()
_INTEGERS = NumberShape(integer=True)
_NUMBER_KEYWORDS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))


Dependency = tuple[str, tuple[str, ...], Goal]
"""(name, names, goal): an object with the property must have the others and satisfy the goal."""


@dataclass(slots=True)
class Clause:
    """What one schema object says; everything in it is conjoined."""

    shapes: list[Shape]
    all_of: list[Goal] = field(default_factory=list[Goal])
    any_of: list[list[Goal]] = field(default_factory=list[list[Goal]])
    one_of: list[Goal] | None = None
    none_of: list[Goal] = field(default_factory=list[Goal])
    condition: tuple[Goal, Goal, Goal] | None = None
    """The goals of `if`, `then` and `else`."""
    dependencies: list[Dependency] = field(default_factory=list[Dependency])
    names: Goal = ANY
    """What `propertyNames` asks of names."""
    values: list[list[Any]] = field(default_factory=list[list[Any]])
    unevaluated_properties: Goal | None = None
    unevaluated_items: Goal | None = None
    clash: str = ""
    """Why a type that the schema allows has no shape all the same; "" if that did not happen."""

    @property
    def annotated(self) -> bool:
        """Whether it matters here what is evaluated."""
        return self.unevaluated_properties is not None or self.unevaluated_items is not None


class Algebra(Protocol):
    """What reading needs of `Normal`."""

    matches: Matches

    def goal_at(self, place: Location) -> Goal: ...

    def known_goal(self, schema: Any, parent: Location) -> Goal | None:
        """The goal of a schema below ``parent``, where no more than a look at it is needed to know that."""
        ...

    def conjoin(self, a: Goal, b: Goal) -> Goal: ...

    def has_text(self, shape: StringShape, place: Location, step: str) -> bool:
        """Whether any string satisfies the shape; a broken pattern is named as the one ``step`` below ``place``."""
        ...


class Reader:
    """Reads the schema objects of a document."""

    def __init__(self, document: Document, algebra: Algebra, formats: str) -> None:
        self._document = document
        self.root = document.root
        self._goal = algebra.goal_at
        self._known = algebra.known_goal
        self._conjoin = algebra.conjoin
        self._has_text = algebra.has_text
        self._matches = algebra.matches
        self._assert_formats = formats == "assert"
        self.required_order: dict[str, int] = {}
        """Names in `required` lists by the order met: that of properties which are declared nowhere."""
        self.plain_integers = False
        """Some integer must be spelled as one, without fraction and exponent."""
        self.reasons: dict[str, None] = {}
        """What valid values are left out, with the pointer of the keyword; in the order met."""

    def clause(self, place: Location, annotated: bool = False) -> Clause:
        """Everything that the schema object at ``place`` asserts; never called where `$ref` hides its siblings.

        ``annotated``: the shapes are to say what they evaluate; they do in any case where a keyword beside them is
        about what is unevaluated.
        """
        dialect = place.resource.dialect
        keywords, schema = dialect.keywords, cast("dict[str, Any]", place.schema)
        if dialect.ignored:
            schema = {keyword: value for keyword, value in schema.items() if keyword not in dialect.ignored}
        types, integer = types_of(place, schema["type"]) if "type" in schema else (EVERY_TYPE, False)
        self.plain_integers = self.plain_integers or (integer and dialect.plain_integers)
        active = keywords & schema.keys()
        clause = Clause([])
        shapes = clause.shapes
        if types & OBJECT and "unevaluatedProperties" in active:
            clause.unevaluated_properties = self._child(place, "unevaluatedProperties")
        if types & ARRAY and "unevaluatedItems" in active:
            clause.unevaluated_items = self._child(place, "unevaluatedItems")
        annotated = annotated or clause.annotated
        if types & NULL:
            shapes.append(_NULL)
        if types & BOOLEAN:
            shapes.append(_BOOLEANS)
        if types & NUMBER:
            _add(clause, _number_shape(place, schema, integer), "no number lies within its bounds")
        if types & STRING:
            _add(clause, self._string(place, schema), "minLength exceeds maxLength")
        if types & ARRAY:
            _add(clause, self._array(place, schema, annotated), "there cannot be as many items as minItems asks for")
        if types & OBJECT:
            _add(
                clause,
                self._object(place, schema, annotated),
                "its required properties cannot all come, or not as many properties as it asks for",
            )
            if "propertyNames" in schema and "propertyNames" in keywords:
                clause.names = self._child(place, "propertyNames")
            for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
                if keyword in schema and keyword in keywords:
                    clause.dependencies += self._dependencies(place, keyword, schema)
        if "enum" in schema:
            clause.values.append(list_of(place, "enum", schema["enum"]))
        if "const" in schema and "const" in keywords:
            clause.values.append([schema["const"]])
        clause.all_of += (self._goal(self.target(place, keyword)) for keyword in REFERENCES if keyword in active)
        if "allOf" in schema:
            clause.all_of += self._goals(place, "allOf", schema["allOf"])
        if "anyOf" in schema:
            clause.any_of.append(self._goals(place, "anyOf", schema["anyOf"]))
        if "not" in schema:
            clause.none_of.append(self._child(place, "not"))
        if "if" in schema and "if" in keywords:
            then, otherwise = (self._child(place, k) if k in schema else ANY for k in ("then", "else"))
            if annotated or (then, otherwise) != (ANY, ANY):
                clause.condition = (self._child(place, "if"), then, otherwise)
        if "oneOf" in schema:
            clause.one_of = self._goals(place, "oneOf", schema["oneOf"])
        return clause

    def target(self, place: Location, keyword: str) -> Location:
        """The location that a reference of the schema object at ``place`` points to; a schema."""
        reference = place.schema[keyword]
        if not isinstance(reference, str):
            malformed(place, keyword, reference, "a URI reference")
        target = self._document.resolve(place, reference, keyword)
        if not isinstance(target.schema, dict | bool):
            raise ConstraintError(f"{keyword} {reference!r} points to no schema", f"{place.pointer}/{keyword}")
        return target

    def _goals(self, place: Location, keyword: str, value: Any) -> list[Goal]:
        """Goals of a list of schemas."""
        members = list_of(place, keyword, value)
        if not members:
            malformed(place, keyword, members, "a list of one or more schemas")
        return [self._goal(self._document.child(place, keyword, str(i))) for i in range(len(members))]

    def _string(self, place: Location, schema: dict[str, Any]) -> Shape | None:
        low = count_of(place, schema, "minLength") or 0
        high = count_of(place, schema, "maxLength")
        patterns: tuple[str, ...] = ()
        if "pattern" in schema:
            pattern = schema["pattern"]
            if not isinstance(pattern, str):
                malformed(place, "pattern", pattern, "a regular expression")
            patterns = (pattern,)
        name = schema.get("format")
        asserted = self._assert_formats or place.resource.dialect.asserts_formats
        if asserted and isinstance(name, str) and name in FORMATS:
            form = FORMATS[name]
            patterns += (form.pattern,)
            if form.max_length is not None:
                high = form.max_length if high is None else min(high, form.max_length)
            if form.narrowed:
                self.reasons[f"{place.pointer}/format: {name} is written without {form.narrowed}"] = None
        if high is not None and low > high:
            return None
        return StringShape(low, high, patterns) if low or patterns or high is not None else ANY_STRING

    def _array(self, place: Location, schema: dict[str, Any], annotated: bool) -> Shape | None:
        dialect = place.resource.dialect
        prefix: list[Goal] = []
        rest = ANY
        items = schema.get("items", True)
        if "prefixItems" in schema and "prefixItems" in dialect.keywords:
            prefix = self._goals(place, "prefixItems", schema["prefixItems"])
        if isinstance(items, list):
            if not dialect.item_lists or prefix:
                malformed(place, "items", "a list", f"a schema in {dialect.name}, which has prefixItems for lists")
            prefix = [self._child(place, "items", str(i)) for i in range(len(cast("list[Any]", items)))]
            if "additionalItems" in schema:
                rest = self._child(place, "additionalItems")
        elif "items" in schema:
            rest = self._child(place, "items")
        unique = schema.get("uniqueItems", False)
        if not isinstance(unique, bool):
            malformed(place, "uniqueItems", unique, "true or false")
        least, most = count_of(place, schema, "minItems") or 0, count_of(place, schema, "maxItems")
        evaluated = self._evaluated_items(place, schema, len(prefix)) if annotated else None
        return array_shape(prefix, rest, least, most, self._contains(place, schema), unique, evaluated=evaluated)

    def _contains(self, place: Location, schema: dict[str, Any]) -> list[Contains]:
        keywords = place.resource.dialect.keywords
        if "contains" not in schema or "contains" not in keywords:
            return []
        least = count_of(place, schema, "minContains") if "minContains" in keywords else None
        most = count_of(place, schema, "maxContains") if "maxContains" in keywords else None
        return [Contains(self._child(place, "contains"), 1 if least is None else least, most)]

    def _evaluated_items(self, place: Location, schema: dict[str, Any], count: int) -> EvaluatedItems | None:
        dialect, items = place.resource.dialect, schema.get("items")
        rest = "additionalItems" if isinstance(items, list) else "items"
        if rest in schema:
            return ALL_ITEMS
        satisfying: tuple[Goal, ...] = ()
        if "contains" in schema and dialect.contains_evaluates:
            satisfying = (self._child(place, "contains"),)
        return EvaluatedItems(count, satisfying) if count or satisfying else None

    def _object(self, place: Location, schema: dict[str, Any], annotated: bool) -> Shape | None:
        names = required_names(place, schema)
        for name in names:
            self.required_order.setdefault(name, len(self.required_order))
        goals: dict[str, Goal] = {}
        if "properties" in schema:
            for name, below in members_of(place, "properties", schema).items():
                known = self._known(below, place)
                goals[name] = self._child(place, "properties", name) if known is None else known
        additional = self._child(place, "additionalProperties") if "additionalProperties" in schema else ANY
        classes: list[tuple[KeyClass, Goal]] = [(ANY_STRING, additional)]
        if schema.get("patternProperties"):
            classes = self._pattern_cells(place, schema, goals, additional)
        least, most = count_of(place, schema, "minProperties") or 0, count_of(place, schema, "maxProperties")
        evaluated = _evaluated_names(schema) if annotated else None
        return object_shape(goals, frozenset(names), classes, (), least, most, evaluated=evaluated)

    def _dependencies(self, place: Location, keyword: str, schema: dict[str, Any]) -> Iterator[Dependency]:
        for name, value in members_of(place, keyword, schema).items():
            self.required_order.setdefault(name, len(self.required_order))
            if isinstance(value, list) and keyword != "dependentSchemas":
                names = strings_of(place, keyword, cast("list[Any]", value))
                for other in names:
                    self.required_order.setdefault(other, len(self.required_order))
                yield name, tuple(names), ANY
            elif keyword != "dependentRequired":
                goal = self._child(place, keyword, name)
                if goal != ANY:
                    yield name, (), goal
            else:
                malformed(place, keyword, value, "an object of lists of property names")

    def _pattern_cells(
        self, place: Location, schema: dict[str, Any], goals: dict[str, Goal], additional: Goal
    ) -> list[tuple[KeyClass, Goal]]:
        """The cells that the patterns of `patternProperties` cut the names into, with what each asks; the goals of
        declared names are conjoined with those of the patterns that they match."""
        cells: list[tuple[StringShape, Goal]] = [(ANY_STRING, ANY)]
        for pattern in members_of(place, "patternProperties", schema):
            goal, step = self._child(place, "patternProperties", pattern), f"/patternProperties/{escape(pattern)}"
            cut: list[tuple[StringShape, Goal]] = []
            for cell, asked in cells:
                inside = StringShape(patterns=(*cell.patterns, pattern), excluded=cell.excluded)
                outside = StringShape(patterns=cell.patterns, excluded=(*cell.excluded, pattern))
                if self._has_text(inside, place, step):
                    cut.append((inside, self._conjoin(asked, goal)))
                if self._has_text(outside, place, step):
                    cut.append((outside, asked))
            cells = cut
            for name in goals:
                if self._matches(pattern, name):
                    goals[name] = self._conjoin(goals[name], goal)
        classes: list[tuple[KeyClass, Goal]] = [
            (names, goal if names.patterns else additional) for names, goal in cells
        ]
        return classes if len({goal for _, goal in classes}) > 1 else [(ANY_STRING, classes[0][1])]

    def _child(self, place: Location, *steps: str) -> Goal:
        return self._goal(self._document.child(place, *steps))


def _evaluated_names(schema: dict[str, Any]) -> EvaluatedNames | None:
    if "additionalProperties" in schema:
        return ALL_NAMES
    names, patterns = (tuple(sorted(schema.get(keyword, ()))) for keyword in ("properties", "patternProperties"))
    return EvaluatedNames(names, patterns) if names or patterns else None


def _add(clause: Clause, shape: Shape | None, clash: str) -> None:
    if shape is None:
        clause.clash = clash
    else:
        clause.shapes.append(shape)


def _number_shape(place: Location, schema: dict[str, Any], integer: bool) -> Shape | None:
    if _NUMBER_KEYWORDS.isdisjoint(schema):
        return _INTEGERS if integer else _NUMBERS
    lo, lo_open = bound_of(place, schema, "minimum", "exclusiveMinimum", 1)
    hi, hi_open = bound_of(place, schema, "maximum", "exclusiveMaximum", -1)
    factors: list[Fraction] = []
    if "multipleOf" in schema:
        factors.append(number_of(place, "multipleOf", schema["multipleOf"]))
        if factors[0] <= 0:
            malformed(place, "multipleOf", schema["multipleOf"], "a number above 0")
    return number_shape(integer, lo, lo_open, hi, hi_open, factors)
