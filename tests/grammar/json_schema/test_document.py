"""Decoding schemas, naming their places, following their references."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from grammar.errors import ConstraintError, ConstraintTooLarge, UnsupportedConstraint
from grammar.json_schema.decoding import load
from grammar.json_schema.document import Document


def test_load_keeps_numbers_exact_and_keys_in_order() -> None:
    schema = load('{"b": 0.1, "a": 100000000000000000000000, "c": 1e-30}')
    assert list(schema) == ["b", "a", "c"]
    assert list(schema.values()) == [Decimal("0.1"), 10**23, Decimal("1e-30")]


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"a": [1, {"x/y": {"k": 1, "k": 2}}]}', "/a/1/x~1y"),
        ('{"a": 1, "a": 2}', ""),
        ('{"a": 1,\n "b" 2}', "2:6"),
        ('{"a": NaN}', ""),
        ('{"a": 1e99999999}', ""),
        ('{"enum": ["ok", "\\ud800"]}', "/enum/1"),
        (b"\xff", ""),
    ],
)
def test_what_is_no_clean_json_is_refused_with_its_place(text: str | bytes, pointer: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        load(text)
    assert caught.value.pointer == pointer


def test_text_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ConstraintTooLarge):
        load("[" * 100_000)


def test_surrogate_pairs_are_characters() -> None:
    assert load('"\\ud83d\\ude00"') == "\U0001f600"


SCHEMA: dict[str, Any] = {
    "$id": "https://example.com/root.json",
    "$defs": {
        "a/b~c%": {"title": "escaped"},
        "named": {"$anchor": "here", "title": "anchored"},
        "other": {"$id": "other.json", "$defs": {"x": {"title": "inner"}}, "items": {"$ref": "#/$defs/x"}},
        "legacy": {"$id": "#old", "title": "old anchor"},
        "list": {"prefixItems": [{"title": "first"}]},
    },
    "enum": [{"$id": "trap.json"}, {"$anchor": "trap"}],
}


@pytest.mark.parametrize(
    ("reference", "title"),
    [
        ("#/$defs/a~1b~0c%25", "escaped"),
        ("#here", "anchored"),
        ("root.json#here", "anchored"),
        ("https://example.com/other.json#/$defs/x", "inner"),
        ("other.json#/$defs/x", "inner"),
        ("#old", "old anchor"),
        ("#/$defs/list/prefixItems/0", "first"),
        ("remote.json#/$defs/far", "far away"),
    ],
)
def test_references_are_followed(reference: str, title: str) -> None:
    registry = {"https://example.com/remote.json": {"$defs": {"far": {"title": "far away"}}}}
    document = Document(SCHEMA, registry)
    assert document.resolve(document.root, reference).schema["title"] == title


def test_a_fragment_is_relative_to_its_resource() -> None:
    document = Document(SCHEMA)
    items = document.child(document.child(document.root, "$defs", "other"), "items")
    target = document.resolve(items, "#/$defs/x")
    assert target.schema["title"] == "inner"
    assert target.pointer == "/$defs/other/$defs/x"
    assert target is document.child(document.resolve(items, "#"), "$defs", "x")


@pytest.mark.parametrize(
    "reference", ["#nowhere", "#/$defs/none", "#trap", "#/$defs/list/prefixItems/1", "#/$defs/list/prefixItems/-"]
)
def test_references_to_nothing_are_refused(reference: str) -> None:
    document = Document(SCHEMA)
    with pytest.raises(ConstraintError) as caught:
        document.resolve(document.root, reference)
    assert caught.value.pointer == "/$ref"


@pytest.mark.parametrize("reference", ["trap.json", "https://example.org/x", "urn:example:y"])
def test_references_out_of_the_document_are_refused(reference: str) -> None:
    with pytest.raises(UnsupportedConstraint):
        Document(SCHEMA).resolve(Document(SCHEMA).root, reference)


def test_a_place_in_the_registry_is_named_by_its_uri() -> None:
    document = Document({"$ref": "urn:example:a#/x"}, {"urn:example:a": {"x": {"y": {}}}})
    place = document.child(document.resolve(document.root, "urn:example:a#/x"), "y")
    assert place.pointer == "urn:example:a#/x/y"


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(UnsupportedConstraint) as caught:
        Document({"$schema": "https://example.com/my-dialect"})
    assert caught.value.pointer == "/$schema"


TREE = {"$id": "https://example.com/tree", "$dynamicAnchor": "node", "items": {"$dynamicRef": "#node"}}


def dynamic_target(root: dict[str, Any]) -> Any:
    """What the `$dynamicRef` of TREE means where ``root`` refers to it."""
    document = Document(root, {"https://example.com/tree": TREE})
    items = document.child(document.resolve(document.root, "tree"), "items")
    return document.resolve(items, "#node", "$dynamicRef").schema


def test_a_dynamic_reference_means_the_outermost_anchor_of_its_name() -> None:
    strict: dict[str, Any] = {"$id": "https://example.com/strict", "$ref": "tree"}
    assert dynamic_target(strict) == TREE
    assert dynamic_target({**strict, "$anchor": "node"}) == TREE
    assert dynamic_target({**strict, "$dynamicAnchor": "other"}) == TREE
    assert dynamic_target({**strict, "$dynamicAnchor": "node"})["$id"] == strict["$id"]
    below = {**strict, "$defs": {"here": {"$dynamicAnchor": "node", "title": "below"}}}
    assert dynamic_target(below)["title"] == "below"


def test_a_place_is_one_location_a_dynamic_scope() -> None:
    root: dict[str, Any] = {"$id": "https://example.com/strict", "$dynamicAnchor": "node", "$ref": "tree"}
    document = Document(root, {"https://example.com/tree": TREE})
    inside, again = (document.resolve(document.root, "tree") for _ in range(2))
    assert inside is again
    assert document.child(inside, "items") is document.child(again, "items")
    assert inside.pointer == "https://example.com/tree#"


@pytest.mark.parametrize(
    "uri",
    [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2020-12/meta/core",
    ],
)
def test_metaschemas_are_at_hand(uri: str) -> None:
    document = Document({"$ref": uri})
    target = document.resolve(document.root, uri)
    assert target.schema["$schema"].rstrip("#").startswith(uri.rstrip("#").partition("/meta")[0])


VOCABULARIES = "https://json-schema.org/draft/2020-12/vocab/"


@pytest.mark.parametrize(("required", "refused"), [(True, True), (False, False)])
def test_a_metaschema_says_which_keywords_are_in_force(required: bool, refused: bool) -> None:
    uri = "https://example.com/meta"
    vocabulary = {VOCABULARIES + "core": True, VOCABULARIES + "applicator": True, "urn:example:units": required}
    registry = {uri: {"$schema": "https://json-schema.org/draft/2020-12/schema", "$vocabulary": vocabulary}}
    if refused:
        with pytest.raises(UnsupportedConstraint, match="urn:example:units"):
            Document({"$schema": uri}, registry)
        return
    dialect = Document({"$schema": uri}, registry).root.resource.dialect
    assert {"properties", "$ref", "prefixItems"} <= dialect.keywords
    assert {"minimum", "unevaluatedItems", "format"} <= dialect.ignored
    assert dialect.keywords.isdisjoint(dialect.ignored)
