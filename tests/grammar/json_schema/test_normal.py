"""The normal form against jsonschema: equal verdicts, witnesses that validate, and no dead ends."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from grammar.compile import compile_machine
from grammar.constraint import JsonSchema
from grammar.errors import (
    ConstraintError,
    ConstraintTooLarge,
    UnsatisfiableConstraint,
    UnsupportedConstraint,
)
from grammar.json_schema.normal import Normal
from grammar.json_schema.productivity import needs, parts
from grammar.json_schema.shapes import (
    ANY,
    NEVER,
    ArrayShape,
    Goal,
    KeyClass,
    NullShape,
    NumberEnum,
    NumberShape,
    ObjectShape,
    Shape,
    StringEnum,
    StringShape,
)
from grammar.json_schema.values import accepts, string_satisfies
from grammar.json_schema.witness import witness
from tests.grammar.json_schema.schemas import normal, schemas, values

TEXTS = ["a" * n + "b" * m for n in range(4) for m in range(4)] + ["ééé", "c", "cc", "ccc", "cd", "dd", "a1b"]


def shapes_of(schema: Any, **options: Any) -> tuple[Shape, ...]:
    form = normal(schema, **options)
    return form.shapes(form.root)


def reachable(form: Normal) -> dict[Goal, tuple[Shape, ...]]:
    found: dict[Goal, tuple[Shape, ...]] = {}
    stack = [form.root]
    while stack:
        goal = stack.pop()
        if goal not in found:
            found[goal] = form.shapes(goal)
            for shape in found[goal]:
                stack += parts(shape)
    return found


def examples(shape: KeyClass, n: int) -> list[str]:
    """Texts at hand, in place of a regex engine."""
    return [t for t in TEXTS if string_satisfies(shape, t, lambda p, x: re.search(p, x) is not None)][:n]


def has_example(shape: StringShape) -> bool:
    return bool(examples(shape, 1))


@settings(max_examples=250, deadline=None)
@given(schemas(), st.lists(values, min_size=1, max_size=8))
def test_verdicts_equal_those_of_jsonschema(schema: Any, instances: list[Any]) -> None:
    oracle = jsonschema.Draft202012Validator(schema)
    try:
        form = normal(schema, string_productive=has_example)
    except UnsatisfiableConstraint:
        for instance in instances:
            assert not valid(oracle, instance)
        return
    except ConstraintError as error:
        assert (
            isinstance(error, UnsupportedConstraint)
            or "refers to itself" in error.reason
            or "leads back" in error.reason
        )
        return
    for instance in instances:
        assert accepts(form, form.root, instance) == valid(oracle, instance), instance
    found = json.loads(json.dumps(witness(form, form.root, examples), default=float))
    assert valid(oracle, found), f"the witness {found!r} is invalid"


def valid(oracle: Any, instance: Any) -> bool:
    try:
        return oracle.is_valid(instance)
    except BaseException as error:  # a reference that loops in a branch that is never needed
        if isinstance(error, RecursionError) or type(error).__name__ == "PanicException":
            assume(False)
        raise


@settings(max_examples=120, deadline=None)
@given(schemas())
def test_no_shape_leads_to_a_dead_end(schema: Any) -> None:
    try:
        form = normal(schema, string_productive=has_example)
    except ConstraintError:
        return
    for shapes in reachable(form).values():
        assert shapes
        assert len(set(shapes)) == len(shapes)
        for shape in shapes:
            assert NEVER not in parts(shape)
            if isinstance(shape, ObjectShape):
                names = [name for name, _ in shape.properties]
                assert len(set(names)) == len(names)
                assert shape.required <= set(names)
                assert shape.forbidden.isdisjoint(names)
                assert shape.additional or not shape.forbidden
            elif isinstance(shape, ArrayShape):
                assert (shape.max_items is None) <= (shape.rest is not None)
                assert shape.max_items is None or shape.min_items <= shape.max_items
            assert all(form.shapes(need) for need in needs(shape))


def test_equal_schemas_are_numbered_equally() -> None:
    branch = {"required": ["x", "y", "z"], "properties": {"z": {"enum": [[1], {"k": 2}]}}}
    schema = {
        "anyOf": [branch, {"$ref": "#/$defs/a"}],
        "$defs": {"a": {"type": "array", "items": {"$ref": "#"}}},
    }
    assert reachable(normal(schema)) == reachable(normal(json.loads(json.dumps(schema))))


def test_conjunction_of_objects_keeps_declared_order_and_meets_additional() -> None:
    schema = {
        "properties": {"a": True, "b": {"type": "string"}},
        "allOf": [
            {
                "properties": {"c": True, "b": {"maxLength": 3}},
                "required": ["d"],
                "additionalProperties": {"type": "null"},
            }
        ],
        "type": "object",
    }
    form = normal(schema)
    (shape,) = form.shapes(form.root)
    assert isinstance(shape, ObjectShape)
    assert [name for name, _ in shape.properties] == ["a", "b", "c", "d"]
    goals = dict(shape.properties)
    assert form.shapes(goals["b"]) == (StringShape(0, 3),)
    assert form.shapes(goals["a"]) == form.shapes(goals["d"]) == (NullShape(),)
    assert goals["c"] == ANY


def test_an_impossible_property_is_forbidden_not_forgotten() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "enum": [1]}, "b": True}}
    (shape,) = shapes_of(schema)
    assert shape == ObjectShape((("b", ANY),), frozenset(), ((StringShape(), ANY),), frozenset({"a"}))


def test_an_impossible_item_cuts_the_array() -> None:
    schema = {"type": "array", "prefixItems": [{"type": "null"}, {"minimum": 3, "maximum": 2, "type": "number"}]}
    (shape,) = shapes_of(schema)
    assert isinstance(shape, ArrayShape)
    assert (len(shape.prefix), shape.rest, shape.max_items) == (1, None, 1)


@pytest.mark.parametrize(
    ("schema", "shape"),
    [
        ({"type": "integer", "minimum": 0.5, "exclusiveMaximum": 7}, NumberShape(True, Fraction(1), hi=Fraction(6))),
        ({"type": "number", "minimum": 2, "maximum": 2}, NumberEnum((Fraction(2),))),
        ({"type": "number", "multipleOf": Decimal("0.1"), "exclusiveMinimum": 0, "exclusiveMaximum": Decimal("0.2")},
         NumberEnum((Fraction(1, 10),))),
        ({"enum": [3, "x", 3.0, "x", "y"], "type": ["string", "integer"]}, None),
        ({"const": 1.0, "type": "integer"}, NumberEnum((Fraction(1),))),
        ({"enum": ["a", "bb", "ccc"], "maxLength": 2}, StringEnum(("a", "bb"))),
        ({"anyOf": [{"type": "string"}, {"const": "x"}]}, StringShape()),
    ],
)  # fmt: skip
def test_scalars_become_canonical(schema: Any, shape: Shape | None) -> None:
    shapes = shapes_of(schema)
    assert shapes == ((NumberEnum((Fraction(3),)), StringEnum(("x", "y"))) if shape is None else (shape,))


def test_true_is_not_one() -> None:
    form = normal({"enum": [1, False]})
    assert [accepts(form, form.root, value) for value in (1, 1.0, True, False, 0)] == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        (False, "", "false"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "", "without end"),
        ({"properties": {"a": {"minLength": 3, "maxLength": 2, "type": "string"}}, "required": ["a"], "type": "object"},
         "/properties/a", "minLength"),
        ({"type": "string", "const": 5}, "", "enum or const"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "", "allOf"),
        ({"anyOf": [{"type": "string"}, False], "type": "null"}, "", "anyOf"),
        ({"type": "array", "minItems": 2, "items": False}, "", "minItems"),
    ],
)  # fmt: skip
def test_what_nothing_satisfies_is_refused_with_its_reason(schema: Any, pointer: str, words: str) -> None:
    with pytest.raises(UnsatisfiableConstraint) as caught:
        normal(schema)
    assert caught.value.pointer == pointer
    assert words in caught.value.reason


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"$ref": "#"}, "/$ref"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "/$defs/a/$ref"),
        ({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, ""),
        ({"$ref": "#/$defs/none"}, "/$ref"),
        ({"properties": {"a/b": {"$ref": "#nowhere"}}}, "/properties/a~1b/$ref"),
        ({"minLength": -1}, "/minLength"),
        ({"maxItems": 1.5}, "/maxItems"),
        ({"type": "strnig"}, "/type"),
        ({"minimum": "1"}, "/minimum"),
        ({"minimum": True, "$schema": "https://json-schema.org/draft/2020-12/schema"}, "/minimum"),
        ({"items": [{}], "$schema": "https://json-schema.org/draft/2020-12/schema"}, "/items"),
        ({"exclusiveMinimum": 3, "$schema": "http://json-schema.org/draft-04/schema#"}, "/exclusiveMinimum"),
        ({"exclusiveMinimum": True, "$schema": "http://json-schema.org/draft-07/schema#"}, "/exclusiveMinimum"),
        ({"properties": {"a": 5}}, "/properties/a"),
        ({"properties": []}, "/properties"),
        ({"required": "a"}, "/required"),
        ({"anyOf": []}, "/anyOf"),
        ({"enum": {}}, "/enum"),
        ({"multipleOf": 0}, "/multipleOf"),
        ({"maximum": Decimal("1e9999")}, "/maximum"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(schema: Any, pointer: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        normal(schema)
    assert type(caught.value) is ConstraintError
    assert caught.value.pointer == pointer


def test_a_reference_that_leaves_the_documents_is_refused_where_it_can_matter() -> None:
    below = {"properties": {"x": {"$ref": "https://example.com/other"}}}
    with pytest.raises(UnsupportedConstraint, match="points outside") as caught:
        normal(below)
    assert caught.value.pointer == "/properties/x/$ref"
    normal({"$defs": below, "type": "string"})


def test_keywords_of_other_types_say_nothing() -> None:
    assert shapes_of({"type": "string", "uniqueItems": True, "minProperties": 3, "format": "colour"}) == (
        StringShape(),
    )
    assert shapes_of(
        {"type": "object", "required": ["a", "b"], "minProperties": 2, "properties": {"a": {}}, "format": "date"}
    )


def test_unknown_keywords_and_those_of_other_drafts_are_annotations() -> None:
    draft4 = {"$schema": "http://json-schema.org/draft-04/schema#", "const": 5, "if": False, "x-note": {"not": {}}}
    assert normal(draft4).root == ANY
    assert shapes_of({"type": "string", "format": "date"}, formats="annotate") == (StringShape(),)


def test_one_of_is_taken_where_branches_exclude_each_other() -> None:
    tagged = [{"properties": {"kind": {"const": k}}, "required": ["kind"], "type": "object"} for k in "abc"]
    assert len(shapes_of({"oneOf": tagged})) == 3
    recursive = {"oneOf": [{"type": "null"}, {"type": "object", "properties": {"next": {"$ref": "#"}}}]}
    assert len(shapes_of(recursive)) == 2
    # The branches overlap in strings, which the schema beside them excludes.
    beside = {
        "type": ["number", "null"],
        "oneOf": [{"maxLength": 3, "type": ["string", "null"]}, {"type": ["number", "string"]}],
    }
    assert len(shapes_of(beside)) == 2
    overlapping = shapes_of({"oneOf": [{"type": "number"}, {"type": "string"}, {"type": "integer"}]})
    assert overlapping == (NumberShape(not_multiple_of=(Fraction(1),)), StringShape())


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"oneOf": [{"properties": {"a": {"type": "null"}}, "additionalProperties": False},
                    {"properties": {"b": {"type": "null"}}, "additionalProperties": False}], "type": "object"},
         [{"a": None}, {"b": None}], [{}, {"a": 1}, {"a": None, "b": None}]),
        ({"allOf": [{"enum": [{"a1b": None}, {}]}, {"not": {"patternProperties": {"[0-9]": {"type": "boolean"}}}}]},
         [{"a1b": None}], [{}]),
        ({"not": {"minProperties": 1}}, [{}], [{"a": 1}, 1]),
        ({"not": {"not": {"type": "integer"}}}, [1], [1.5, "a"]),
        ({"not": {"type": ["integer", "object"]}}, [1.5, "a"], [1, {}]),
        ({"not": {"enum": [1, "a", None]}}, [2, "b", False, []], [1, "a", None]),
        ({"if": {"type": "array", "minItems": 1}, "then": {"items": {"type": "null"}}, "else": {"maxLength": 1}},
         [[None], [], 3, "a"], [[1], "aa"]),
    ],
)  # fmt: skip
def test_logic(schema: Any, valid: list[Any], invalid: list[Any]) -> None:
    form = normal(schema, string_productive=has_example)
    for value, expected in [*((v, True) for v in valid), *((v, False) for v in invalid)]:
        assert accepts(form, form.root, value) is expected, value


def test_alternatives_that_multiply_are_bounded() -> None:
    factor = {"anyOf": [{"properties": {name: {"type": "null"}}} for name in "abcdef"]}
    many = [{"anyOf": [{"properties": {f"{name}{i}": {"type": "null"}}} for name in "abcdef"]} for i in range(9)]
    assert shapes_of({"type": "object", "allOf": [factor, factor]})
    with pytest.raises(ConstraintTooLarge) as caught:
        normal({"properties": {"x": {"type": "object", "allOf": many}}})
    assert caught.value.pointer.startswith("/properties/x")


def test_depth_is_bounded_by_a_clear_error() -> None:
    chain: Any = {"type": "null"}
    for _ in range(1000):
        chain = {"allOf": [chain], "title": "x"}
    with pytest.raises(ConstraintTooLarge):
        normal(chain)
    constant: Any = []
    for _ in range(1000):
        constant = [constant]
    with pytest.raises(ConstraintTooLarge):
        normal({"const": constant})
    form = normal(True)
    assert accepts(form, form.root, constant)
    nested: Any = {"type": "null"}
    for _ in range(3000):
        nested = {"type": "object", "properties": {"a": nested}, "required": ["a"]}
    assert normal(nested).shapes(0)


def test_fuel_is_deterministic() -> None:
    schema = {"properties": {f"p{i}": {"anyOf": [{"minimum": i}, {"type": "string"}]} for i in range(50)}}
    spent = next(fuel for fuel in range(0, 20_000, 50) if _fits(schema, fuel))
    assert _fits(schema, spent) and not _fits(schema, spent - 50)


def _fits(schema: Any, fuel: int) -> bool:
    try:
        normal(schema, fuel=fuel)
    except ConstraintTooLarge:
        return False
    return True


def test_a_broken_pattern_is_named_with_its_place() -> None:
    def productive(shape: StringShape) -> bool:
        raise ConstraintError("unbalanced parenthesis", "1:3")

    with pytest.raises(ConstraintError) as caught:
        normal({"properties": {"x": {"type": "string", "pattern": "ab("}}}, string_productive=productive)
    assert caught.value.pointer == "/properties/x/pattern"
    assert "1:3" in caught.value.reason


def test_patterns_that_exclude_each_other_are_found_empty() -> None:
    schema = {"allOf": [{"pattern": "^a"}, {"pattern": "^b"}], "type": ["string", "null"]}
    assert shapes_of(schema, string_productive=has_example) == (NullShape(),)


def test_what_a_narrowed_format_turns_away_is_not_negated() -> None:
    """The leap second is a time, and no time of ours: its negation must not let it in."""
    schema = {"not": {"enum": ["23:59:60Z"], "format": "time"}}
    with pytest.raises(UnsupportedConstraint, match="turn away"):
        compile_machine(JsonSchema(schema), [True] * 256)


def test_a_schema_may_be_its_text() -> None:
    compiled = compile_machine(JsonSchema('{"const": 1.50}'), [True] * 256)
    assert compiled.contract.value == "exact"


@pytest.mark.parametrize("names", [("few", "many"), ("many", "few")])
def test_too_few_different_items_are_found_in_any_order_of_proofs(names: tuple[str, str]) -> None:
    parts_of = {
        "few": {"enum": [1, 2]},
        "many": {"type": "array", "items": {"$ref": "#/properties/few"}, "uniqueItems": True, "minItems": 3},
    }
    schema = {"type": "object", "properties": {name: parts_of[name] for name in names}, "required": list(names)}
    with pytest.raises(UnsatisfiableConstraint) as caught:
        normal(schema)
    assert caught.value.pointer == "/properties/many"


kinds = st.sampled_from(
    [
        {"const": "a"},
        {"const": "b"},
        {"enum": ["a", "b", 1.0]},
        {"enum": [1, None, ["a"]]},
        {"type": "string", "enum": ["b", 1]},
        {"type": "string", "maxLength": 0},
        {"type": ["integer", "null"]},
        {"type": "object"},
    ]
)


@settings(max_examples=200)
@given(st.lists(kinds, min_size=1, max_size=2), st.lists(kinds, max_size=3))
def test_what_is_seen_of_conjoined_parts_at_a_glance_is_so(wanted: list[Any], barred: list[Any]) -> None:
    asked = {"allOf": [{"items": kind} for kind in wanted] + [{"items": {"not": kind}} for kind in barred]}
    oracle = jsonschema.Draft202012Validator(asked)
    form = normal(asked)
    for value in ("a", "b", "", 1, 1.5, None, True, ["a"], [], {}):
        assert accepts(form, form.root, [value]) == oracle.is_valid([value])


def test_alternatives_told_apart_by_a_kind_do_not_multiply() -> None:
    def variant(kind: int) -> dict[str, Any]:
        known = {"kind": {"const": kind}, f"a{kind}": {"type": "string"}}
        return {"properties": known, "required": ["kind"], "additionalProperties": False}

    variants = [variant(kind) for kind in range(8)]
    form = normal({"allOf": [{"anyOf": variants}] * 4 + [{"not": variant(0)}]}, fuel=20_000)
    assert accepts(form, form.root, {"kind": 3, "a3": ""})
    assert not accepts(form, form.root, {"kind": 3, "a4": ""}) and not accepts(form, form.root, {"kind": 0})


def test_what_no_value_reaches_is_no_reason() -> None:
    dated = {"properties": {"kind": {"const": "b"}, "on": {"type": "string", "format": "date"}}, "required": ["kind"]}
    schema = {"type": "object", "allOf": [{"properties": {"kind": {"const": "a"}}}, {"anyOf": [dated, {}]}]}
    assert compile_machine(JsonSchema(schema), [True] * 256).reasons == ()
