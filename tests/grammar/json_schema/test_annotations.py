"""`unevaluatedProperties` and `unevaluatedItems` beside everything that evaluates, against jsonschema."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.errors import ConstraintError, UnsatisfiableConstraint
from grammar.json_schema.values import accepts
from tests.grammar.json_schema.schemas import NAMES, PATTERNS, normal, values
from tests.grammar.json_schema.test_normal import has_example, valid

LEAVES = (
    st.booleans()
    | st.just({})
    | st.sampled_from([{"type": "integer"}, {"const": 1}, {"type": "null"}, {"minItems": 2}])
)


def _applicators(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "properties": st.dictionaries(NAMES, inner, max_size=2),
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        "additionalProperties": inner,
        "required": st.lists(NAMES, max_size=2, unique=True),
        "items": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "anyOf": st.lists(inner, min_size=1, max_size=3),
        "oneOf": st.lists(inner, min_size=1, max_size=3),
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "dependentSchemas": st.dictionaries(NAMES, inner, max_size=2),
        "$ref": st.just("#/$defs/one"),
        "unevaluatedProperties": inner,
        "unevaluatedItems": inner,
    }
    return st.lists(st.sampled_from(sorted(keywords)), min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: keywords[name] for name in names})
    )


_schemas = st.recursive(LEAVES, _applicators, max_leaves=8)


@st.composite
def schemas(draw: st.DrawFn) -> Any:
    keyword = draw(st.sampled_from(["unevaluatedProperties", "unevaluatedItems"]))
    return {keyword: draw(LEAVES), **draw(_applicators(_schemas)), "$defs": {"one": draw(_schemas)}}


@settings(max_examples=150, deadline=None)
@given(schemas(), st.lists(st.lists(values, max_size=3) | st.dictionaries(NAMES, values, max_size=3), max_size=8))
def test_verdicts_equal_those_of_jsonschema(schema: Any, instances: list[Any]) -> None:
    oracle = jsonschema.Draft202012Validator(schema)
    try:
        form = normal(schema, string_productive=has_example)
    except UnsatisfiableConstraint:
        assert not any(valid(oracle, instance) for instance in instances)
        return
    except ConstraintError:  # which of them may be raised is asked by test_normal.py
        return
    for instance in instances:
        assert accepts(form, form.root, instance) == valid(oracle, instance), instance


AN_A = {"properties": {"a": True}, "required": ["a"]}
A_B = {"properties": {"b": True}, "required": ["b"]}


@pytest.mark.parametrize(
    ("schema", "accepted", "rejected"),
    [
        ({"anyOf": [AN_A, A_B]}, [{"a": 1}, {"b": 1}, {"a": 1, "b": 1}], [{}, {"a": 1, "c": 1}]),
        ({"oneOf": [AN_A, A_B]}, [{"a": 1}, {"b": 1}], [{"a": 1, "b": 1}]),
        ({"not": {"not": AN_A}}, [], [{"a": 1}, {}]),
        ({"if": AN_A}, [{"a": 1}, {}], [{"b": 1}]),
        ({"if": AN_A, "else": A_B}, [{"a": 1}, {"b": 1}], [{"a": 1, "b": 1}, {}]),
        ({"dependentSchemas": {"a": AN_A}}, [{"a": 1}, {}], [{"b": 1}]),
        ({"allOf": [{"unevaluatedProperties": True}]}, [{"z": 1}, {}], []),
        ({"patternProperties": {"^a": True, "b$": True}}, [{"ab": 1, "a": 1, "b": 1}], [{"c": 1}]),
    ],
)
def test_what_each_keyword_evaluates(schema: dict[str, Any], accepted: list[Any], rejected: list[Any]) -> None:
    try:
        form = normal({**schema, "unevaluatedProperties": False})
    except UnsatisfiableConstraint:
        assert not accepted
        return
    assert all(accepts(form, form.root, value) for value in accepted)
    assert not any(accepts(form, form.root, value) for value in rejected)


def test_branches_that_evaluate_the_same_are_not_combined() -> None:
    branch: dict[str, Any] = {"properties": {name: {} for name in "abc"}}
    branches = [{**branch, "minProperties": n} for n in range(20)]
    form = normal({"anyOf": branches, "unevaluatedProperties": False, "type": "object"})
    assert len(form.shapes(form.root)) <= 4


def test_nothing_left_is_named() -> None:
    with pytest.raises(UnsatisfiableConstraint, match="unevaluatedProperties") as caught:
        normal({"type": "object", "required": ["a"], "unevaluatedProperties": False})
    assert caught.value.pointer == ""
