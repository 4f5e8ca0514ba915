"""``POST /v1/systemone``: the same decisions in the shape that System One models have."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from gateway import deciding
from gateway.body import read_struct
from gateway.errors import invalid
from gateway.metrics import Metrics
from gateway.models import find_model
from gateway.policy.asking import stated
from providers.base import Provider, Question, Weigher
from schemas.systemone import (
    Choice,
    ChoiceAnswer,
    Noul,
    NoulAnswer,
    Score,
    ScoreAnswer,
    Sides,
    SystemOneAnswer,
    SystemOneRequest,
    SystemOneUsage,
)

_decoder = msgspec.json.Decoder(SystemOneRequest)
_encode = msgspec.json.Encoder().encode


async def answer(
    request: Request[Any, Any, Any], provider: Provider, weigher: Weigher, metrics: Metrics, *, id: str
) -> bytes:
    """Raises `ApiError`."""
    fields = await read_struct(request, _decoder)
    card = find_model(provider, fields.model)
    questions = [_question(question, f"questions.{name}") for name, question in fields.questions.items()]
    weighed = await deciding.decide(
        request,
        weigher,
        metrics,
        card.name,
        _state(fields),
        questions,
        id=id,
        input_field="state",
        policy=stated(fields.sluice, fields.provider),
    )
    answers = {
        name: _answer(question, weights)
        for (name, question), weights in zip(fields.questions.items(), weighed.probabilities, strict=True)
    }
    return _encode(SystemOneAnswer(fields.model, answers, SystemOneUsage(weighed.usage.prompt)))


def _state(fields: SystemOneRequest) -> str:
    text = bytes(fields.state).decode()
    return msgspec.json.decode(fields.state, type=str) if text.startswith('"') else text


def _question(question: Noul | Choice | Score, place: str) -> Question:
    match question:
        case Noul(instructions, sides):
            sides = sides or Sides()
            return deciding.predicate(instructions, sides.yes, sides.no, place=place)
        case Choice(instructions):
            options = _options(question)
            if len(dict(options)) < len(options):
                param = f"{place}.criteria"
                raise invalid(f"'{param}' has an option twice.", param)
            return deciding.choice(instructions, options, place=place)
        case Score(instructions, levels):
            return deciding.score(instructions, levels, place=place)


def _options(question: Choice) -> list[tuple[str, str | None]]:
    criteria = question.criteria
    return list(criteria.items()) if isinstance(criteria, dict) else [(option, None) for option in criteria]


def _answer(question: Noul | Choice | Score, weights: tuple[float, ...]) -> NoulAnswer | ChoiceAnswer | ScoreAnswer:
    match question:
        case Noul():
            return NoulAnswer(weights[0])
        case Choice():
            names = [name for name, _ in _options(question)]
            likeliest = names[weights.index(max(weights))]
            return ChoiceAnswer(likeliest, deciding.certainty(weights), dict(zip(names, weights, strict=True)))
        case Score(_, levels):
            names = list(map(str, range(len(levels))))
            probabilities, legend = dict(zip(names, weights, strict=True)), dict(zip(names, levels, strict=True))
            return ScoreAnswer(deciding.expected(weights), deciding.nearness(weights), probabilities, legend)
