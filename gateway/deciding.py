"""Questions with given answers, put to any model: how they are worded, and what their probabilities mean.

The input comes first and the question last, so that all questions share what is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Request

from gateway.access import record_of
from gateway.answer import unless_gone
from gateway.auth import Caller
from gateway.errors import from_provider
from gateway.ledger.refusals import allowance_headers
from gateway.metrics import Metrics
from gateway.policy.asking import with_header
from gateway.serving import cost_header, served_fields, served_headers
from providers.base import Message, ProviderError, Question, Weighed, Weigher, WeighRequest
from schemas.policy import Policy

SYSTEM = "You read an input and answer a question about it with one of the given answers, and nothing else."


def predicate(statement: str, yes: str | None = None, no: str | None = None, *, place: str) -> Question:
    """``yes``, ``no``: what each answer means. ``place``, here and below: where the client wrote it."""
    answers = _listed([("true", yes), ("false", no)])
    text = f"Is this so? {statement}\n\nAnswers:\n{answers}\n\nAnswer true or false."
    return Question(text, ("true", "false"), place)


def choice(instructions: str, options: Sequence[tuple[str, str | None]], *, place: str) -> Question:
    """``options``: different texts, with descriptions."""
    text = f"{instructions}\n\nAnswers:\n{_listed(options)}\n\nAnswer with one of them."
    return Question(text, tuple(option for option, _ in options), place)


def score(instructions: str, levels: Sequence[str], *, place: str) -> Question:
    numbered = _listed([(str(i), level) for i, level in enumerate(levels)])
    text = f"{instructions}\n\nLevels:\n{numbered}\n\nAnswer with the number of one of them."
    return Question(text, tuple(map(str, range(len(levels)))), place)


def _listed(options: Sequence[tuple[str, str | None]]) -> str:
    return "\n".join(f"- {option}: {means}" if means else f"- {option}" for option, means in options)


def certainty(probabilities: Sequence[float]) -> float:
    """0 where all options are alike, 1 where one has everything."""
    n = len(probabilities)
    return max(0.0, (n * max(probabilities) - 1) / (n - 1))


def nearness(probabilities: Sequence[float]) -> float:
    """1 less the mean distance from the likeliest level, in units of what it is where all levels are alike and the
    distance is from the middle."""
    n, top = len(probabilities), max(range(len(probabilities)), key=probabilities.__getitem__)
    distance = sum(p * abs(level - top) for level, p in enumerate(probabilities))
    alike = sum(abs(level - (n - 1) / 2) for level in range(n)) / n
    return max(0.0, 1 - distance / alike)


def expected(probabilities: Sequence[float]) -> float:
    """The mean level."""
    return sum(level * p for level, p in enumerate(probabilities))


async def decide(
    request: Request[Any, Any, Any],
    weigher: Weigher,
    metrics: Metrics,
    model: str,
    input: str,
    questions: Sequence[Question],
    *,
    id: str,
    input_field: str,
    policy: Policy,
) -> Weighed:
    """``policy``: what the body says. Raises `ApiError`."""
    record = record_of(request.scope)
    caller = record.caller or Caller()
    turns = (Message("system", SYSTEM), Message("user", f"{input}\n\n"))
    asked = WeighRequest(
        id,
        model,
        turns,
        tuple(questions),
        caller.tenant,
        caller.name,
        record.priority,
        policy=with_header(policy, request.headers),
        place=input_field,
    )
    record.fields["model"] = model
    try:
        weighed = await unless_gone(request.receive, weigher.weigh(asked), metrics)
    except ProviderError as error:
        raise from_provider(error, None, input_field) from error
    record.fields.update(prompt_tokens=weighed.usage.prompt, cached_tokens=weighed.usage.cached)
    record.headers.update(allowance_headers(weighed.allowances))
    if (served := weighed.served) is not None:
        record.headers.update(served_headers(served) | cost_header(served))
        record.fields.update(served_fields(served))
    return weighed
