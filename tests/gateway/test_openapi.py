"""The OpenAPI document says what the server does."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from gateway.app import assemble
from gateway.openapi import CONVERSATIONS, FILES, OPERATIONS, STORED, Operation
from gateway.unserved import UNSERVED
from schemas.config import Responses, Settings
from tests.gateway.fakes import MODEL, FakeProvider
from tests.gateway.test_parameters import LEAST
from tests.gateway.test_responses import TOOLS
from tests.gateway.test_tools import call_two

ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": LEAST["chat"],
    "/v1/route/explain": LEAST["chat"],
    "/v1/completions": LEAST["completions"],
    "/v1/responses": {**LEAST["responses"], "tools": TOOLS},
    "/v1/messages": LEAST["messages"],
    "/v1/messages/count_tokens": LEAST["count_tokens"],
    "/v1/decisions": LEAST["decisions"],
    "/v1/systemone": {"model": MODEL, "state": {"a": 1}, "questions": {"q": {"type": "noul", "instructions": "?"}}},
    "/v1/compile": {"model": MODEL, "structured_outputs": {"regex": "a"}},
    "/tokenize": {"model": MODEL, "prompt": "a"},
    "/detokenize": {"model": MODEL, "tokens": [65]},
}


@pytest.fixture
def document(http: httpx.Client) -> dict[str, Any]:
    answer = http.get("/schema")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def holds(document: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    return Draft202012Validator({**schema, "components": document["components"]}).is_valid(value)


def body(described: dict[str, Any]) -> dict[str, Any]:
    return described["content"]["application/json"]["schema"]


def test_every_reference_is_there(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.path)
def test_requests_and_answers_are_as_described(
    http: httpx.Client, provider: FakeProvider, document: dict[str, Any], op: Operation
) -> None:
    method = "post" if op.asked else "get"
    described = document["paths"][op.path][method]
    asked = ASKED.get(op.path)
    if asked is not None:
        schema = body(described["requestBody"])
        assert holds(document, schema, asked) and not holds(document, schema, {**asked, "foo": 1})
    if op.path == "/v1/responses":
        provider.script = call_two
    answer = http.request(method, op.path.replace("{model}", MODEL), json=asked)
    assert answer.status_code == 200 and holds(document, body(described["responses"]["200"]), answer.json())
    wrong: Any = {**(asked or {}), "model": "nope"}
    refusal = http.request(method, op.path.replace("{model}", "nope"), json=wrong)
    if refusal.status_code != 200:
        assert holds(document, body(described["responses"]["default"]), refusal.json())


def test_what_is_stored_is_described_by_method(http: httpx.Client, document: dict[str, Any]) -> None:
    for op in STORED:
        described = document["paths"][op.path][op.method]
        (parameter,) = described["parameters"]
        assert (parameter["name"], parameter["in"], parameter["required"]) == ("response", "path", True)
        refusal = http.request(op.method, op.path.replace("{response}", "resp_1"))
        assert refusal.status_code == 404 and holds(document, body(described["responses"]["default"]), refusal.json())
    assert set(document["paths"]["/v1/responses/{response}"]) == {"get", "delete"}


def test_files_and_batches_are_described_by_method(http: httpx.Client, document: dict[str, Any]) -> None:
    for op in FILES:
        described = document["paths"][op.path][op.method]
        answer = http.request(op.method, re.sub(r"{\w+}", "none", op.path), json={"input_file_id": "none"})
        wanted = "200" if op.method == "get" and "{" not in op.path else "default"
        assert (answer.status_code == 200) == (wanted == "200")
        assert holds(document, body(described["responses"][wanted]), answer.json())


def test_conversations_are_described_by_method(http: httpx.Client, document: dict[str, Any]) -> None:
    for op in CONVERSATIONS:
        described = document["paths"][op.path][op.method]
        answer = http.request(op.method, re.sub(r"{\w+}", "none", op.path), json={})
        assert answer.status_code == 404 and holds(document, body(described["responses"]["default"]), answer.json())


def test_the_page_shows_every_operation(http: httpx.Client) -> None:
    answer = http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    for op in OPERATIONS:
        assert op.path in answer.text
    ids = set(re.findall(r"<h3 id=([\w.]+)>", answer.text))
    assert set(re.findall(r"href=#([\w.]+)", answer.text)) <= ids and "<script" not in answer.text


def test_every_route_is_described() -> None:
    app = assemble(FakeProvider(), Settings(responses=Responses(store=True))).app
    served = {(re.sub(r"\{[^}]*\}", "{}", route.path), method) for route in app.routes for method in route.methods}
    operations = (*OPERATIONS, *STORED, *FILES, *CONVERSATIONS)
    described = {(re.sub(r"\{[^}]*\}", "{}", op.path), op.method.upper()) for op in operations}
    pages = {"/health", "/ready", "/metrics", "/schema", "/docs", *(f"/v1{path}" for path in UNSERVED)}
    assert {(path, method) for path, method in served if path not in pages and method != "OPTIONS"} == described
