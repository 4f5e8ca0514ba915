"""What a constraint promises, asked before anything is generated."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from providers.base import ErrorKind, ProviderError
from schemas.constraint import ChoiceSpec, JsonObjectSpec, JsonSchemaSpec, RegexSpec
from tests.gateway.fakes import MODEL, FakeProvider
from tests.gateway.test_constraint import CODES

ASKED = [
    ({"response_format": {"type": "json_object"}}, JsonObjectSpec()),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"const": 1}}}},
        JsonSchemaSpec('{"const":1}'),
    ),
    ({"structured_outputs": {"regex": "a+"}}, RegexSpec("a+")),
    ({"structured_outputs": {"choice": ["a"]}}, ChoiceSpec(["a"])),
]


@pytest.mark.parametrize(("fields", "spec"), ASKED, ids=str)
def test_contract(http: httpx.Client, provider: FakeProvider, fields: dict[str, Any], spec: object) -> None:
    answer = http.post("/v1/compile", json={"model": MODEL, **fields})
    assert answer.status_code == 200 and provider.inspected == spec and not provider.requests
    assert answer.json() == {
        "contract": "sound_subset",
        "reasons": ["because"],
        "limits": {"digits": 19, "depth": "none"},
        "compile_ms": 12.3,
        "object": "sluice.constraint",
    }


@pytest.mark.parametrize("kind", CODES)
def test_a_refusal_is_an_answer(http: httpx.Client, provider: FakeProvider, kind: ErrorKind) -> None:
    provider.refusal = ProviderError(kind, "not like this", pointer="1:4")
    answer = http.post("/v1/compile", json={"model": MODEL, "structured_outputs": {"regex": "a("}})
    assert answer.status_code == 200
    refusal = {"code": CODES[kind].format("regex"), "message": "not like this", "pointer": "1:4"}
    assert answer.json() == {"contract": "refused", "refusal": refusal, "object": "sluice.constraint"}


def test_other_failures_are_errors(http: httpx.Client, provider: FakeProvider) -> None:
    provider.refusal = ProviderError("unavailable", "The engine is gone.")
    answer = http.post("/v1/compile", json={"model": MODEL, "structured_outputs": {"regex": "a"}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "response_format"),
        ({"response_format": {"type": "text"}}, "response_format"),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs.regex",
        ),
        ({"guided_regex": "a"}, "guided_regex"),
    ],
)
def test_refused(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    answer = http.post("/v1/compile", json={"model": MODEL, **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
