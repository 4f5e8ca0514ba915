"""Decisions through the official client, and in the shape of System One."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.deciding import certainty, expected, nearness
from providers.base import ProviderError
from tests.gateway.fakes import MODEL, FakeProvider

QUESTIONS: list[Any] = [
    {"type": "predicate", "name": "late", "instructions": "The parcel is late."},
    {
        "type": "choice",
        "instructions": [{"type": "input_text", "text": "Which team?"}, {"type": "input_json", "data": {"a": [1]}}],
        "choices": [{"value": "billing", "description": "Payments"}, {"value": "true"}, {"value": True}],
    },
    {"type": "score", "name": "rage", "instructions": "How angry?", "levels": [{"label": "calm"}, {"label": "livid"}]},
]


def test_answers(client: openai.OpenAI, provider: FakeProvider) -> None:
    decision = client.decisions.create(model=MODEL, input="Where is it?", questions=QUESTIONS)
    late, team, rage = decision.answers
    assert late.type == "predicate" and (late.name, late.probability) == ("late", 0.5)
    assert team.type == "choice" and (team.name, team.choice) == (None, "billing")
    assert [(p.value, p.probability) for p in team.probabilities] == [("billing", 0.5), ("true", 0.25), (True, 0.25)]
    assert rage.type == "score" and rage.score == 0.5
    assert [(p.value, p.label) for p in rage.probabilities] == [(0, "calm"), (1, "livid")]
    usage = decision.usage
    assert (usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens) == (11, 3, 0)
    (asked,) = provider.weighed
    assert "Where is it?" in asked.prompt[-1].content and asked.model == MODEL
    assert [question.options for question in asked.questions] == [
        ("true", "false"), ('"billing"', '"true"', "true"), ("0", "1"),
    ]  # fmt: skip
    assert 'Which team?\n{"a":[1]}' in asked.questions[1].text and '"billing": Payments' in asked.questions[1].text


def test_a_conversation_is_told(client: openai.OpenAI, provider: FakeProvider) -> None:
    items: list[Any] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_json", "data": {"n": 1.0}}]},
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "Nothing"},
        {"type": "custom_tool_call", "call_id": "b", "name": "sum", "input": "1+1"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
    ]
    client.decisions.create(model=MODEL, input=items, questions=QUESTIONS[:1])
    told = ["system: Be kind.", 'user: Hi\n{"n":1.0}', "assistant calls look: {}", "look returns: Nothing"]
    assert provider.weighed[0].prompt[-1].content.strip() == "\n\n".join(
        [*told, "assistant calls sum: 1+1", "sum returns: 2"]
    )


def question(**fields: Any) -> dict[str, Any]:
    return {"input": "x", "questions": [{"instructions": "?", **fields}]}


LOST = {"type": "function_call_output", "call_id": "a", "output": ""}
IMAGE = {"role": "user", "content": [{"type": "input_image"}]}
VALUES = [{"value": str(i)} for i in range(256)]
REFUSED = [
    ({"input": "x", "questions": []}, "questions"),
    ({"input": "x", "questions": QUESTIONS[:1] * 401}, "questions"),
    ({"input": [], "questions": QUESTIONS}, "input"),
    (question(type="guess"), "questions[0].type"),
    (question(type="choice", choices=VALUES[:1]), "questions[0].choices"),
    (question(type="choice", choices=VALUES), "questions[0].choices"),
    (question(type="choice", choices=[VALUES[0], VALUES[1], VALUES[0]]), "questions[0].choices[2].value"),
    (question(type="choice", choices=[{"value": 1}, {"value": 2}]), "questions[0].choices[0].value"),
    (question(type="score", levels=[{"label": "a"}]), "questions[0].levels"),
    ({"input": [LOST], "questions": QUESTIONS}, "input[0].call_id"),
    ({"input": [IMAGE], "questions": QUESTIONS}, "input[0].content[0].type"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(client: openai.OpenAI, provider: FakeProvider, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.decisions.create(model=MODEL, **fields)
    assert refusal.value.param == param and not provider.weighed


def test_failures_are_told(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.refusal = ProviderError("context_length", "Too long.")
    with pytest.raises(openai.BadRequestError) as refusal:
        client.decisions.create(model=MODEL, input="x", questions=QUESTIONS)
    assert (refusal.value.param, refusal.value.code) == ("input", "context_length_exceeded")


SYSTEM_ONE: dict[str, Any] = {
    "late": {"type": "noul", "instructions": "Is it late?", "criteria": {"true": "Past its day"}},
    "team": {"type": "choice", "instructions": "Which?", "criteria": {"billing": "Payments", "other": None, "bug": ""}},
    "rage": {"type": "score", "instructions": "How angry?", "criteria": ["calm", "cross", "livid"]},
}


def test_system_one(http: httpx.Client, provider: FakeProvider) -> None:
    body = {"model": MODEL, "state": {"order": 7}, "questions": SYSTEM_ONE}
    answer = http.post("/v1/systemone", json=body).json()
    assert answer == {
        "model": MODEL,
        "answers": {
            "late": {"type": "noul", "noul": 0.5},
            "team": {
                "type": "choice",
                "choice": "billing",
                "confidence": 0.25,
                "probabilities": {"billing": 0.5, "other": 0.25, "bug": 0.25},
            },
            "rage": {
                "type": "score",
                "score": 0.75,
                "confidence": 0.0,
                "probabilities": {"0": 0.5, "1": 0.25, "2": 0.25},
                "legend": {"0": "calm", "1": "cross", "2": "livid"},
            },
        },
        "usage": {"input_tokens": 11, "output_tokens": 0},
    }
    assert '{"order":7}' in provider.weighed[0].prompt[-1].content
    http.post("/v1/systemone", json={**body, "state": "Plain <text>", "questions": {"q": SYSTEM_ONE["late"]}})
    assert provider.weighed[1].prompt[-1].content == "Plain <text>\n\n"
    assert "- true: Past its day\n- false" in provider.weighed[1].questions[0].text
    twice = {"q": {"type": "choice", "instructions": "?", "criteria": ["a", "a"]}}
    refusal = http.post("/v1/systemone", json={**body, "questions": twice})
    assert refusal.status_code == 400 and refusal.json()["error"]["param"] == "questions.q.criteria"


ASKED: dict[str, dict[str, Any]] = {
    "/v1/decisions": {"model": MODEL, "input": "Hello", "questions": QUESTIONS},
    "/v1/systemone": {"model": MODEL, "state": "Hello", "questions": SYSTEM_ONE},
}
paths = pytest.mark.parametrize("path", list(ASKED))


@paths
def test_answers_say_who_gave_them(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json={**ASKED[path], "sluice": {"policy": {"local_only": True, "max_usd": "0"}}})
    assert answer.status_code == 200
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-sluice-")}
    assert (told["x-sluice-provider"], told["x-sluice-model"], told["x-sluice-cost-usd"]) == ("local", MODEL, "0")


@paths
@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({}, {"deny_providers": ["local"]}),
        ({"sluice": {"policy": {"allow_models": ["local/other"]}}}, {}),
        ({"provider": {"ignore": ["local"]}}, {}),
    ],
)
def test_policies_hold_wherever_they_come_from(
    http: httpx.Client, provider: FakeProvider, path: str, fields: dict[str, Any], header: dict[str, Any]
) -> None:
    refusal = http.post(path, json={**ASKED[path], **fields}, headers={"x-sluice-policy": json.dumps(header)})
    error = refusal.json()["error"]
    assert (refusal.status_code, error["code"], error["param"]) == (400, "policy_excludes_all", "sluice.policy")
    assert not provider.weighed


@paths
@pytest.mark.parametrize(
    ("fields", "header", "param"),
    [
        ({}, '{"local": true}', "x-sluice-policy.local"),
        ({}, "[", "x-sluice-policy"),
        ({"sluice": {"fields": True}}, "{}", "sluice.fields"),
        ({"provider": {"quantizations": []}}, "{}", "provider.quantizations"),
    ],
)
def test_what_is_wrong_with_a_policy_is_named(
    http: httpx.Client, path: str, fields: dict[str, Any], header: str, param: str
) -> None:
    refusal = http.post(path, json={**ASKED[path], **fields}, headers={"x-sluice-policy": header})
    assert refusal.status_code == 400 and refusal.json()["error"]["param"] == param


@paths
def test_personal_data_is_refused_by_its_place_alone(http: httpx.Client, provider: FakeProvider, path: str) -> None:
    body, header = json.dumps(ASKED[path]), {"x-sluice-policy": '{"pii": "block"}', "content-type": "application/json"}
    for word, place in [("Hello", ("input", "state")), ("How angry?", ("questions[2]", "questions.rage"))]:
        refusal = http.post(path, content=body.replace(word, "jane.doe@corp.example"), headers=header)
        assert refusal.status_code == 400 and refusal.json()["error"]["param"] in place
        assert "email" in refusal.text and "jane" not in refusal.text
    assert not provider.weighed
    assert http.post(path, content=body, headers=header).status_code == 200


weights = st.lists(st.floats(0.001, 1), min_size=2, max_size=9).map(lambda ws: [w / sum(ws) for w in ws])


@given(probabilities=weights)
def test_confidence_is_between_alike_and_certain(probabilities: list[float]) -> None:
    n = len(probabilities)
    assert 0 <= certainty(probabilities) <= 1 and 0 <= nearness(probabilities) <= 1
    assert 0 <= expected(probabilities) <= n - 1
    sure, alike = [0.0] * (n - 1) + [1.0], [1 / n] * n
    assert certainty(sure) == nearness(sure) == 1 and expected(sure) == n - 1
    assert math.isclose(certainty(alike), 0, abs_tol=1e-9) and math.isclose(nearness(alike), 0, abs_tol=1e-9)
