"""Which constraint reaches the provider, and how its faults come back."""

from __future__ import annotations

import json
from typing import Any, get_args

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.body import understand
from gateway.constraint import constraint_of
from providers.base import ErrorKind, ProviderError
from schemas.constraint import (
    ChoiceSpec,
    IndenterSpec,
    JsonObjectSpec,
    JsonSchemaSpec,
    LarkSpec,
    RegexSpec,
    StructuralTagSpec,
)
from tests.gateway.fakes import MODEL, FakeProvider
from tests.gateway.test_parameters import DECODERS, LEAST

SCHEMA = {"type": "object", "properties": {"z": {"type": "integer"}, "a": {"const": 1.0}}}
TEXT = json.dumps(SCHEMA)


TAG = {"type": "structural_tag", "format": {"type": "any_text", "excludes": ["<"]}}


def json_schema(schema: object, **more: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


def compact(schema: object) -> str:
    """As the SDK sends it."""
    return json.dumps(schema, separators=(",", ":"))


ASKED = [
    ({"response_format": {"type": "text"}}, None),
    ({"response_format": {"type": "json_object"}}, JsonObjectSpec()),
    ({"response_format": json_schema(SCHEMA)}, JsonSchemaSpec(compact(SCHEMA))),
    ({"response_format": json_schema(SCHEMA, strict=True)}, JsonSchemaSpec(compact(SCHEMA))),
    ({"response_format": json_schema(SCHEMA, strict=False, description="d")}, JsonSchemaSpec(compact(SCHEMA))),
    ({"response_format": json_schema(True)}, JsonSchemaSpec("true")),
    ({"structured_outputs": {"json": SCHEMA}}, JsonSchemaSpec(compact(SCHEMA))),
    ({"structured_outputs": {"json": TEXT}}, JsonSchemaSpec(TEXT)),
    (
        {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
        JsonSchemaSpec(compact(SCHEMA), whitespace="compact"),
    ),
    ({"structured_outputs": {"regex": "a+", "json": None, "grammar": None}}, RegexSpec("a+")),
    ({"structured_outputs": {"choice": ["a", "b"]}}, ChoiceSpec(["a", "b"])),
    ({"structured_outputs": {"json_object": True}}, JsonObjectSpec()),
    ({"response_format": TAG}, StructuralTagSpec(compact(TAG))),
    ({"structured_outputs": {"structural_tag": TAG}}, StructuralTagSpec(compact(TAG))),
    ({"structured_outputs": {"structural_tag": json.dumps(TAG)}}, StructuralTagSpec(json.dumps(TAG))),
    ({"guided_json": SCHEMA}, JsonSchemaSpec(compact(SCHEMA))),
    ({"guided_json": TEXT}, JsonSchemaSpec(TEXT)),
    ({"guided_regex": "a+"}, RegexSpec("a+")),
    ({"guided_choice": ["a"]}, ChoiceSpec(["a"])),
    ({"structured_outputs": {"grammar": 'start: "a"'}}, LarkSpec('start: "a"')),
    (
        {"structured_outputs": {"grammar": "g", "sluice": {"start": "s", "semantics": "contextual", "indenter": {}}}},
        LarkSpec("g", "s", "contextual", IndenterSpec()),
    ),
    (
        {"structured_outputs": {"grammar": "g", "sluice": {"indenter": {"newline": "NL", "open_parens": ["X"]}}}},
        LarkSpec("g", indenter=IndenterSpec("NL", open_parens=("X",))),
    ),
    (
        {"structured_outputs": {"grammar": "g", "sluice": {"imports": {"x": "y", "a": "b"}}}},
        LarkSpec("g", imports=(("x", "y"), ("a", "b"))),
    ),
    ({"guided_grammar": 'start: "a"'}, LarkSpec('start: "a"')),
    ({"guided_json": None, "guided_regex": None, "structured_outputs": None, "response_format": None}, None),
    ({"response_format": {"type": "text"}, "guided_regex": "a+"}, RegexSpec("a+")),
]


@pytest.mark.parametrize(("fields", "spec"), ASKED, ids=str)
def test_constraint(client: openai.OpenAI, provider: FakeProvider, fields: dict[str, Any], spec: object) -> None:
    client.chat.completions.create(**LEAST["chat"], extra_body=fields)
    client.completions.create(**LEAST["completions"], extra_body=fields)
    assert [request.constraint for request in provider.requests] == [spec, spec]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([1.0, 1e22, 0.1, -0.0]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(schema=st.dictionaries(st.text(), json_values), ascii_only=st.booleans(), indent=st.none() | st.integers(0, 3))
def test_schema_text_arrives_unchanged(schema: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    """Key order, spelling of numbers and escapes, even whitespace: what the client wrote is what the compiler reads."""
    text = json.dumps(schema, ensure_ascii=ascii_only, indent=indent)
    fields = json.dumps(LEAST["chat"])[:-1] + ', "response_format": '
    fields += '{"type": "json_schema", "json_schema": {"name": "n", "schema": ' + text + "}}}"
    constraint = constraint_of(understand(fields.encode(), DECODERS["chat"], "chat"))
    assert constraint is not None and constraint.spec == JsonSchemaSpec(text)


REFUSED = [
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "response_format.json_schema.schema"),
    ({"response_format": json_schema(None)}, "response_format.json_schema.schema"),
    ({"response_format": json_schema(SCHEMA, name="a b")}, "response_format.json_schema.name"),
    ({"response_format": json_schema(SCHEMA, name="a" * 65)}, "response_format.json_schema.name"),
    ({"response_format": json_schema(SCHEMA, extra=1)}, "response_format.json_schema.extra"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "response_format.schema"),
    ({"response_format": {"schema": SCHEMA}}, "response_format.type"),
    ({"structured_outputs": {}}, "structured_outputs"),
    ({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, "structured_outputs"),
    ({"structured_outputs": {"json_object": False}}, "structured_outputs"),
    ({"structured_outputs": {"grammar": 1}}, "structured_outputs.grammar"),
    ({"structured_outputs": {"grammar": "start: A", "regex": "a"}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a", "sluice": {"start": "s"}}}, "structured_outputs.sluice"),
    ({"structured_outputs": {"grammar": "g", "sluice": {"lexer": "basic"}}}, "structured_outputs.sluice.lexer"),
    ({"structured_outputs": {"grammar": "g", "sluice": {"semantics": "lalr"}}}, "structured_outputs.sluice.semantics"),
    ({"structured_outputs": {"structural_tag": ""}}, "structured_outputs.structural_tag"),
    ({"structured_outputs": {"json": SCHEMA, "whitespace_pattern": ""}}, "structured_outputs.whitespace_pattern"),
    ({"structured_outputs": {"json": " "}}, "structured_outputs.json"),
    ({"structured_outputs": {"regex": 1}}, "structured_outputs.regex"),
    ({"structured_outputs": {"choice": "a"}}, "structured_outputs.choice"),
    (
        {"structured_outputs": {"regex": "a", "disable_any_whitespace": True}},
        "structured_outputs.disable_any_whitespace",
    ),
    ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
    ({"guided_json": SCHEMA, "guided_choice": ["a"]}, "guided_choice"),
    ({"guided_regex": "a+", "ignore_eos": True}, "ignore_eos"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=str)
def test_refused(client: openai.OpenAI, provider: FakeProvider, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**LEAST["chat"], extra_body=fields)
    assert refusal.value.param == param
    assert param in refusal.value.message
    assert not provider.requests


FAULTS = [
    ({"response_format": json_schema(SCHEMA)}, "response_format", "schema"),
    ({"structured_outputs": {"json": SCHEMA}}, "structured_outputs.json", "schema"),
    ({"guided_regex": "("}, "guided_regex", "regex"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "choice"),
]
CODES = {
    "invalid_constraint": "invalid_{}",
    "unsupported_constraint": "unsupported_{}",
    "unsatisfiable_constraint": "unsatisfiable_{}",
    "constraint_too_large": "{}_too_large",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize(("fields", "param", "noun"), FAULTS, ids=str)
def test_faults_name_the_field_and_the_place(
    client: openai.OpenAI,
    provider: FakeProvider,
    fields: dict[str, Any],
    param: str,
    noun: str,
    kind: str,
    stream: bool,
) -> None:
    assert kind in get_args(ErrorKind)
    provider.refusal = ProviderError(kind, "not like this.", pointer="/properties/z")  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**LEAST["chat"], extra_body=fields, stream=stream)
    assert (refusal.value.param, refusal.value.code) == (param, CODES[kind].format(noun))
    assert f"Invalid {noun} in '{param}' at /properties/z: not like this." in refusal.value.message


def test_a_schema_in_broken_utf8_is_refused(http: httpx.Client, provider: FakeProvider) -> None:
    body = b'{"model":"%s","prompt":"a","guided_json":{"const":"\xff"}}' % MODEL.encode()
    answer = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_utf8")
    assert not provider.requests
