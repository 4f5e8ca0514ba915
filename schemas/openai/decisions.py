"""``POST /v1/decisions``: questions about an input, and their answers as probabilities (openai SDK 3 types)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw

from schemas.extension import PolicyExtension
from schemas.openai.messages import RefusalPart
from schemas.openai.response_events import ResponseUsage
from schemas.openai.responses import (
    CustomCallItem,
    CustomOutputItem,
    FunctionCallItem,
    FunctionOutputItem,
    InputText,
    OutputText,
)
from schemas.policy import ProviderPreferences

MAX_QUESTIONS = 400
MAX_CHOICES = 255
MAX_LEVELS = 10


class InputJson(msgspec.Struct, tag_field="type", tag="input_json", forbid_unknown_fields=True):
    """JSON that is shown to the model as it was sent."""

    data: Raw


Instructions = Annotated[str, Meta(min_length=1)] | Annotated[list[InputText | InputJson], Meta(min_length=1)]


class Predicate(msgspec.Struct, tag_field="type", tag="predicate", forbid_unknown_fields=True):
    """How likely is it that a statement about the input is true?"""

    instructions: Instructions
    name: str | None = None


class Option(msgspec.Struct, forbid_unknown_fields=True):
    """``true`` and ``"true"`` are two values."""

    value: str | bool
    description: str | None = None


class Choice(msgspec.Struct, tag_field="type", tag="choice", forbid_unknown_fields=True):
    """Which of some options is it?"""

    instructions: Instructions
    choices: Annotated[list[Option], Meta(min_length=2, max_length=MAX_CHOICES)]
    name: str | None = None


class Level(msgspec.Struct, forbid_unknown_fields=True):
    label: Annotated[str, Meta(min_length=1)]
    description: str | None = None


class Score(msgspec.Struct, tag_field="type", tag="score", forbid_unknown_fields=True):
    """Which of some ordered levels is it? They count from 0."""

    instructions: Instructions
    levels: Annotated[list[Level], Meta(min_length=2, max_length=MAX_LEVELS)]
    name: str | None = None


DecisionQuestion = Predicate | Choice | Score


class DecisionRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The last three change no answer: the cache knows its prefixes by itself, and nobody is monitored."""

    model: str
    input: str | Annotated[list[Raw], Meta(min_length=1)]
    questions: Annotated[list[DecisionQuestion], Meta(min_length=1, max_length=MAX_QUESTIONS)]
    sluice: PolicyExtension | None = None
    provider: ProviderPreferences | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: object = None
    safety_identifier: str | None = None


class MessageItem(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText | OutputText | RefusalPart | InputJson]
    type: Literal["message"] = "message"
    phase: str | None = None


DecisionItem = MessageItem | FunctionCallItem | FunctionOutputItem | CustomCallItem | CustomOutputItem
DECISION_ITEMS: dict[str, type[DecisionItem]] = {
    "message": MessageItem,
    "function_call": FunctionCallItem,
    "function_call_output": FunctionOutputItem,
    "custom_tool_call": CustomCallItem,
    "custom_tool_call_output": CustomOutputItem,
}


class PredicateAnswer(msgspec.Struct, tag_field="type", tag="predicate"):
    name: str | None
    probability: float


class ChoiceProbability(msgspec.Struct):
    value: str | bool
    probability: float


class ChoiceAnswer(msgspec.Struct, tag_field="type", tag="choice"):
    """``confidence``: 0 where all options are alike, 1 where one is certain."""

    name: str | None
    choice: str | bool
    confidence: float
    probabilities: list[ChoiceProbability]


class LevelProbability(msgspec.Struct):
    value: int
    label: str
    probability: float


class ScoreAnswer(msgspec.Struct, tag_field="type", tag="score"):
    """``score``: the expected level. ``confidence``: 1 where one level is certain, 0 where the others are as far from
    it as if all were alike."""

    name: str | None
    score: float
    confidence: float
    probabilities: list[LevelProbability]


class Decision(msgspec.Struct):
    """``answers`` in the order of the questions."""

    model: str
    answers: list[PredicateAnswer | ChoiceAnswer | ScoreAnswer]
    usage: ResponseUsage
