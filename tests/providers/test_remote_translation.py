"""Translated schemas: only what the API takes, and nothing it lets through may be wrong where that is claimed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from providers.remote.capabilities import SOURCES, capabilities_of, profiles
from providers.remote.translation import VALUE, Translation, translate
from providers.remote.validation import JsonCheck
from schemas.providers import Capabilities, Kind, Profile, ProviderSettings, RemoteModel
from tests.grammar.json_schema.schemas import schemas, values

NAMES = ("a", "b", "c")


def row(profile: Any, **overrides: Any) -> Capabilities:
    model = RemoteModel(name="m", capabilities=overrides)
    return capabilities_of(
        ProviderSettings(name="p", kind="openai", key_env="KEY", profile=profile, models=(model,)), model
    )


RESTRICTED = {name: row(name) for name in ("openai", "anthropic", "gemini")}


@st.composite
def typed_schemas(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    """Schemas as people and pydantic write them."""
    kinds = ["string", "integer", "enum", "null"] + (
        ["object", "array", "anyOf", "oneOf", "allOf", "ref"] * (depth > 0)
    )
    inner = typed_schemas(depth - 1)
    match draw(st.sampled_from(kinds)):
        case "string":
            bounds = {"minLength": st.integers(0, 2), "maxLength": st.integers(1, 4), "pattern": st.just("^[a-z]*$")}
            extra = draw(st.fixed_dictionaries({}, optional=bounds))
            return {"type": "string", **extra}
        case "integer":
            bounds = {"minimum": st.integers(-2, 1), "maximum": st.integers(1, 3), "multipleOf": st.just(2)}
            return {"type": "integer", **draw(st.fixed_dictionaries({}, optional=bounds))}
        case "enum":
            return draw(st.sampled_from([{"enum": ["a", "B", 1]}, {"const": "a"}, {"type": "boolean"}]))
        case "null":
            return {"type": draw(st.sampled_from(["null", ["null", "string"]]))}
        case "object":
            properties = draw(st.dictionaries(st.sampled_from(NAMES), inner, max_size=3))
            required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
            extra = draw(st.sampled_from([{}, {}, {"additionalProperties": False}, {"additionalProperties": True}]))
            return {"type": "object", "properties": properties, "required": required, **extra}
        case "array":
            bounds = {"minItems": st.integers(0, 2), "maxItems": st.integers(1, 3), "uniqueItems": st.booleans()}
            return {"type": "array", "items": draw(inner), **draw(st.fixed_dictionaries({}, optional=bounds))}
        case "ref":
            return {"$ref": "#/$defs/one", **draw(st.sampled_from([{}, {"description": "one of those"}]))}
        case keyword:
            return {keyword: draw(st.lists(inner, min_size=1, max_size=2))}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    return {**draw(typed_schemas()), "$defs": {"one": draw(typed_schemas(1))}}


@st.composite
def instances(draw: st.DrawFn, schema: Any, root: Any, depth: int = 6) -> Any:
    """A value that a translated schema is likely to admit."""
    assume(depth > 0)
    if "$ref" in schema:
        return draw(instances(root["$defs"][schema["$ref"].rpartition("/")[2]], root, depth - 1))
    if "anyOf" in schema:
        return draw(instances(draw(st.sampled_from(schema["anyOf"])), root, depth))
    if "enum" in schema or "const" in schema:
        return draw(st.sampled_from(schema.get("enum", [schema.get("const")])))
    kinds = schema.get("type", "string")
    match draw(st.sampled_from([kinds] if isinstance(kinds, str) else kinds)):
        case "object":
            found: dict[str, Any] = {}
            for name, inner in schema.get("properties", {}).items():
                if name in schema.get("required", ()) or draw(st.booleans()):
                    found[name] = draw(instances(inner, root, depth - 1))
            return found
        case "array":
            size = draw(st.integers(schema.get("minItems", 0), 3))
            return [draw(instances(schema.get("items", {}), root, depth - 1)) for _ in range(size)]
        case "string":
            return draw(st.sampled_from(["", "a", "ab", "abc", "A", "é"]))
        case "integer":
            return draw(st.integers(-3, 4))
        case "boolean":
            return draw(st.booleans())
        case _:
            return None


def errors_of(original: Any, sent: Translation, value: Any) -> tuple[str, ...]:
    check = JsonCheck(json.dumps(original), sent=sent)
    return asyncio.run(check.judge(json.dumps(value))).errors


@pytest.mark.parametrize("profile", RESTRICTED)
@given(data=st.data())
@settings(max_examples=60)
def test_what_is_let_through_is_valid_where_the_translation_is_whole(profile: str, data: st.DataObject) -> None:
    original = data.draw(documents())
    sent = translate(original, RESTRICTED[profile])
    assume(sent is not None)
    assert sent is not None
    check_form(sent.schema, RESTRICTED[profile])
    value = data.draw(instances(sent.schema, sent.schema))
    assume(Draft202012Validator(sent.schema).is_valid(value))
    if sent.whole:
        assert not errors_of(original, sent, value)


@pytest.mark.parametrize("profile", RESTRICTED)
@given(original=schemas(), value=values)
@settings(max_examples=100)
def test_any_schema_is_translated_soundly_or_not_at_all(profile: str, original: Any, value: Any) -> None:
    sent = translate(original, RESTRICTED[profile])
    if sent is None:
        return
    check_form(sent.schema, RESTRICTED[profile])
    told = {VALUE: value} if sent.wrapped else value
    if sent.whole and Draft202012Validator(sent.schema).is_valid(told):
        assert not errors_of(original, sent, told)


def check_form(schema: dict[str, Any], can: Capabilities) -> None:
    """The published rules of strict schemas."""
    Draft202012Validator.check_schema(schema)
    assert can.keywords is not None
    for node in nodes(schema):
        assert set(node) <= {*can.keywords, "description"}, node
        if can.typed:
            assert set(node) & {"type", "anyOf", "enum", "const", "$ref"}
        if "object" in node.get("type", ()) and can.closed:
            assert node["additionalProperties"] is False
        if "object" in node.get("type", ()) and can.all_required:
            assert node["required"] == list(node["properties"])
        if can.small_min_items:
            assert node.get("minItems", 0) <= 1
    if can.root_object:
        assert schema["type"] == "object" and "anyOf" not in schema


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(schema, dict):
        return
    yield schema
    for place in ("properties", "$defs"):
        for inner in schema.get(place, {}).values():
            yield from nodes(inner)
    for inner in (*schema.get("anyOf", ()), *schema.get("prefixItems", ())):
        yield from nodes(inner)
    for place in ("items", "additionalProperties"):
        yield from nodes(schema.get(place))


PERSON = {
    "$defs": {"Pet": {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}},
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "x", "title": "Name"},
        "pet": {"anyOf": [{"$ref": "#/$defs/Pet"}, {"type": "null"}], "default": None},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/Pet"}},
    },
    "required": ["name"],
}


def test_nulls_that_stand_for_absent_properties_are_taken_out_and_others_stay() -> None:
    sent = translate(PERSON, RESTRICTED["openai"])
    assert sent is not None and sent.whole and sent.nulls and not sent.wrapped
    text = '{"name": "A", "pet": null, "pets": [{"name": "B", "age": null}, {"name": null, "age": 1e0}]}'
    judged = asyncio.run(JsonCheck(json.dumps(PERSON), sent=sent).judge(text))
    assert not judged.errors
    assert judged.text == '{"name":"A","pet":null,"pets":[{"name":"B"},{"age":1e0}]}'


def test_an_answer_that_is_no_object_comes_wrapped_and_keeps_its_spelling() -> None:
    original = {"type": "array", "items": {"type": "number"}}
    sent = translate(original, RESTRICTED["openai"])
    assert sent is not None and sent.wrapped
    judged = asyncio.run(JsonCheck(json.dumps(original), sent=sent).judge('{"value": [1.50, 2e3]}'))
    assert (judged.text, judged.errors) == ("[1.50, 2e3]", ())


MAP = {"type": "object", "additionalProperties": {"type": "integer"}}
TREE = {
    "type": "object",
    "properties": {"left": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["left"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("profile", "schema", "whole"),
    [
        ("openai", MAP, None),  # every object is closed there: only {} would be left
        ("anthropic", MAP, None),
        ("gemini", MAP, True),
        ("openai", TREE, True),
        ("anthropic", TREE, None),
        ("openai", {"type": "object", "patternProperties": {"^a": {}}}, None),
        ("openai", {"type": "array", "items": {"type": "integer", "minimum": 3}}, True),
        ("anthropic", {"type": "array", "items": {"type": "integer", "minimum": 3}}, False),
        ("openai", {"type": "string", "minLength": 3}, False),
        ("openai", {"type": "string", "format": "uuid"}, True),
        ("openai", {"type": "string", "format": "uri"}, False),
        ("openai", {"enum": ["Yes", "No"]}, True),
        ("anthropic", {"enum": ["Yes", "No"]}, False),  # the case of letters is not promised
        ("gemini", {"const": 3}, True),
        ("openai", {"oneOf": [{"type": "string"}, {"type": "null"}]}, True),
        ("openai", {"oneOf": [{"type": "number"}, {"type": "integer"}]}, False),
        ("openai", {"allOf": [{"type": "string"}], "description": "d"}, True),
        ("openai", {"allOf": [{"minimum": 1}, {"minimum": 2}], "type": "integer"}, None),
        ("openai", {"$ref": "#/$defs/x", "$defs": {"x": {"type": "object", "properties": {"a": True}}}}, None),
        ("openai", {"$ref": "https://example.org/schema"}, None),
        ("openai", True, None),
        ("sluice", {"not": {"type": "string"}}, True),
    ],
)
def test_what_each_api_can_be_told(profile: str, schema: Any, whole: bool | None) -> None:
    sent = translate(schema, row(profile))
    assert (None if sent is None else sent.whole) == whole


def test_what_is_left_out_is_told() -> None:
    sent = translate({"type": "string", "minLength": 3, "description": "A name."}, RESTRICTED["anthropic"])
    assert sent is not None
    assert sent.schema == {
        "type": "string",
        "description": 'A name. Must also hold, as JSON Schema: {"minLength": 3}',
    }


@pytest.mark.parametrize(
    "limit", [{"max_properties": 1}, {"max_depth": 1}, {"max_enum_values": 1}, {"max_characters": 3}, {"max_unions": 1}]
)
def test_limits(limit: dict[str, int]) -> None:
    schema = {
        "type": "object",
        "properties": {"aa": {"enum": ["bb", "c"]}, "d": {"anyOf": [{"type": "null"}, {"type": ["string", "null"]}]}},
        "required": ["aa", "d"],
    }
    assert translate(schema, row("openai")) is not None
    assert translate(schema, row("openai", **limit)) is None


def test_a_schema_that_is_nested_without_end_is_no_crash() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(3000):
        schema = {"type": "array", "items": schema}
    assert translate(schema, row("gemini")) is None


def test_every_row_has_a_source_and_is_read() -> None:
    assert set(SOURCES) == set(profiles()) == set(get_args(Profile)) >= set(get_args(Kind))
    for profile in profiles():
        assert row(profile) and SOURCES[profile]
