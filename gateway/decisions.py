"""``POST /v1/decisions``: OpenAI's Decisions, on any model."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from litestar import Request

from gateway import deciding
from gateway.body import read_fields
from gateway.conversation import PART_SEPARATOR
from gateway.errors import invalid
from gateway.items import read_item
from gateway.metrics import Metrics
from gateway.models import find_model
from gateway.policy.asking import stated
from gateway.response_shape import usage_fields
from providers.base import Provider, Question, Weigher
from schemas.openai.decisions import (
    DECISION_ITEMS,
    Choice,
    ChoiceAnswer,
    ChoiceProbability,
    CustomCallItem,
    CustomOutputItem,
    Decision,
    DecisionQuestion,
    DecisionRequest,
    FunctionCallItem,
    FunctionOutputItem,
    InputJson,
    LevelProbability,
    MessageItem,
    Option,
    Predicate,
    PredicateAnswer,
    Score,
    ScoreAnswer,
)
from schemas.openai.messages import RefusalPart
from schemas.openai.responses import InputText, OutputText

Part = InputText | OutputText | RefusalPart | InputJson

_decoder = msgspec.json.Decoder(DecisionRequest)
_encode = msgspec.json.Encoder().encode


async def decide(
    request: Request[Any, Any, Any], provider: Provider, weigher: Weigher, metrics: Metrics, *, id: str
) -> bytes:
    """Raises `ApiError`."""
    fields = await read_fields(request, _decoder, "decisions")
    card = find_model(provider, fields.model)
    questions = [_question(question, f"questions[{i}]") for i, question in enumerate(fields.questions)]
    weighed = await deciding.decide(
        request,
        weigher,
        metrics,
        card.name,
        _input(fields),
        questions,
        id=id,
        input_field="input",
        policy=stated(fields.sluice, fields.provider),
    )
    answers = list(map(_answer, fields.questions, weighed.probabilities))
    return _encode(Decision(fields.model, answers, usage_fields(weighed.usage)))


def _question(question: DecisionQuestion, place: str) -> Question:
    told = _text(question.instructions)
    match question:
        case Predicate():
            return deciding.predicate(told, place=place)
        case Choice(choices=choices):
            return deciding.choice(told, _options(choices, f"{place}.choices"), place=place)
        case Score(levels=levels):
            described = (
                f"{level.label} ({level.description})" if level.description else level.label for level in levels
            )
            return deciding.score(told, list(described), place=place)


def _options(choices: list[Option], place: str) -> list[tuple[str, str | None]]:
    seen: set[tuple[type, str | bool]] = set()
    for i, option in enumerate(choices):
        if (type(option.value), option.value) in seen:
            param = f"{place}[{i}].value"
            raise invalid(f"'{param}' is {json.dumps(option.value)}, as another choice is.", param)
        seen.add((type(option.value), option.value))
    spelled = [option.value if isinstance(option.value, str) else json.dumps(option.value) for option in choices]
    if len(set(spelled)) < len(spelled):
        # "true" and true: told apart by their quotes.
        spelled = [json.dumps(option.value, ensure_ascii=False) for option in choices]
    return [(text, option.description) for text, option in zip(spelled, choices, strict=True)]


def _answer(question: DecisionQuestion, weights: tuple[float, ...]) -> PredicateAnswer | ChoiceAnswer | ScoreAnswer:
    match question:
        case Predicate(name=name):
            return PredicateAnswer(name, weights[0])
        case Choice(name=name, choices=choices):
            likeliest = choices[weights.index(max(weights))].value
            listed = [ChoiceProbability(option.value, p) for option, p in zip(choices, weights, strict=True)]
            return ChoiceAnswer(name, likeliest, deciding.certainty(weights), listed)
        case Score(name=name, levels=levels):
            each = enumerate(zip(levels, weights, strict=True))
            listed = [LevelProbability(i, level.label, p) for i, (level, p) in each]
            return ScoreAnswer(name, deciding.expected(weights), deciding.nearness(weights), listed)


def _input(fields: DecisionRequest) -> str:
    """A conversation as a text: it is what the questions are about, not what the model takes part in."""
    if isinstance(fields.input, str):
        return fields.input
    called: dict[str, str] = {}
    told: list[str] = []
    for i, raw in enumerate(fields.input):
        match read_item(raw, f"input[{i}]", DECISION_ITEMS):
            case MessageItem(role, content):
                told.append(f"{role}: {_text(content)}")
            case FunctionCallItem(call_id=id, name=name) as item:
                called[id] = name
                told.append(f"assistant calls {name}: {item.arguments}")
            case CustomCallItem(call_id=id, name=name) as item:
                called[id] = name
                told.append(f"assistant calls {name}: {item.input}")
            case FunctionOutputItem(call_id=id, output=output) | CustomOutputItem(call_id=id, output=output):
                if id not in called:
                    param = f"input[{i}].call_id"
                    raise invalid(f"'{param}' is '{id}', and no item before it has that call_id.", param)
                told.append(f"{called[id]} returns: {_text(output)}")
    return "\n\n".join(told)


def _text(content: str | list[Part] | list[InputText] | list[InputText | InputJson]) -> str:
    return content if isinstance(content, str) else PART_SEPARATOR.join(map(_part, content))


def _part(part: Part) -> str:
    match part:
        case InputJson(data):
            return bytes(data).decode()
        case RefusalPart(refusal):
            return refusal
        case _:
            return part.text
