"""Decisions with the real model: the same as what is drawn, and the same whatever else is asked."""

from __future__ import annotations

import math
from typing import Any

import httpx

from tests.e2e.conftest import MODEL, Server

QUESTIONS: list[Any] = [
    {"type": "predicate", "name": "pos", "instructions": "The review is positive."},
    {
        "type": "choice",
        "instructions": "What is the sentiment?",
        "choices": [{"value": "positive"}, {"value": "posh"}, {"value": "negative"}, {"value": "positive indeed"}],
    },
    {"type": "score", "instructions": "How warm is it?", "levels": [{"label": str(i)} for i in range(10)]},
]
REVIEW = "The film was wonderful, I loved every minute."


def probabilities(answer: Any) -> list[float]:
    if answer.type == "predicate":
        return [answer.probability, 1 - answer.probability]
    return [entry.probability for entry in answer.probabilities]


def test_decisions(server: Server) -> None:
    client = server.client()
    together = client.decisions.create(model=MODEL, input=REVIEW, questions=QUESTIONS).answers
    for question, answer in zip(QUESTIONS, together, strict=True):
        assert math.isclose(sum(probabilities(answer)), 1.0, rel_tol=1e-6)
        (alone,) = client.decisions.create(model=MODEL, input=REVIEW, questions=[question]).answers
        for one, other in zip(probabilities(answer), probabilities(alone), strict=True):
            assert math.isclose(one, other, rel_tol=1e-4)


def test_the_input_is_computed_once(server: Server) -> None:
    """Of a long input and many questions the engine computes what `usage` counts, where the input is there once; and of
    each question the end of the block that it begins in."""
    client, long = server.client(), " ".join(f"Line {i} says {i * 7}." for i in range(60))
    asked: list[Any] = [{"type": "predicate", "instructions": f"Line {i} is even."} for i in range(12)]

    def computed() -> float:
        names = ("sluice_engine_prompt_tokens_total", "sluice_engine_cached_tokens_total")
        return server.figure(names[0]) - server.figure(names[1])

    before, block, template = computed(), 16, 16
    usage = client.decisions.create(model=MODEL, input=long, questions=asked).usage
    assert 400 < computed() - before <= usage.input_tokens + len(asked) * (block + template)


def test_system_one(server: Server) -> None:
    criteria = {"billing": "Payments and refunds", "bug": "Software errors", "account": "Login"}
    questions = {"label": {"type": "choice", "instructions": "Which label fits?", "criteria": criteria}}
    body = {"model": MODEL, "state": {"ticket": "Our checkout returns errors."}, "questions": questions}
    answer = httpx.post(f"{server.url}/v1/systemone", json=body, timeout=60).json()["answers"]["label"]
    assert set(answer["probabilities"]) == set(criteria) and answer["choice"] in criteria
    assert math.isclose(sum(answer["probabilities"].values()), 1.0, rel_tol=1e-6)


def test_a_schema_that_cannot_be_enforced_is_checked(server: Server) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": r"(.)\1"}}, "required": ["a"]}
    form: dict[str, Any] = {"name": "x", "schema": {**schema, "additionalProperties": False}}
    ask: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 40}
    ask["messages"] = [{"role": "user", "content": 'Answer {"a": "oo"}'}]
    answers = [
        httpx.post(
            f"{server.url}/v1/chat/completions",
            json={**ask, "response_format": {"type": "json_schema", "json_schema": {**form, "strict": strict}}},
            timeout=60,
        )
        for strict in (True, False)
    ]
    assert answers[0].status_code == 400 and answers[0].json()["error"]["code"] == "unsupported_schema"
    assert answers[1].status_code in (200, 502)
    if answers[1].status_code == 200:
        assert answers[1].headers["x-sluice-enforced"] == "validated"
