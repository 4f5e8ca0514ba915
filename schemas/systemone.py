"""``POST /v1/systemone``: questions by name about a state, as System One models and their clients have them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from schemas.extension import PolicyExtension
from schemas.openai.decisions import MAX_CHOICES, MAX_LEVELS, MAX_QUESTIONS
from schemas.policy import ProviderPreferences

Instructions = Annotated[str, Meta(min_length=1)]


class Sides(msgspec.Struct, forbid_unknown_fields=True, rename={"yes": "true", "no": "false"}):
    """What each answer means."""

    yes: str | None = None
    no: str | None = None


class Noul(msgspec.Struct, tag_field="type", tag="noul", forbid_unknown_fields=True):
    """Yes or no?"""

    instructions: Instructions
    criteria: Sides | None = None


class Choice(msgspec.Struct, tag_field="type", tag="choice", forbid_unknown_fields=True):
    """``criteria``: options, or options with their descriptions."""

    instructions: Instructions
    criteria: (
        Annotated[list[str], Meta(min_length=2, max_length=MAX_CHOICES)]
        | Annotated[dict[str, str | None], Meta(min_length=2, max_length=MAX_CHOICES)]
    )


class Score(msgspec.Struct, tag_field="type", tag="score", forbid_unknown_fields=True):
    """``criteria``: the levels, from 0 on."""

    instructions: Instructions
    criteria: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=2, max_length=MAX_LEVELS)]


class SystemOneRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``state``: a text, or JSON that is shown to the model as it was sent."""

    model: str
    state: Raw
    questions: Annotated[dict[str, Noul | Choice | Score], Meta(min_length=1, max_length=MAX_QUESTIONS)]
    images: Annotated[list[Raw], Meta(max_length=0)] | None = None
    sluice: PolicyExtension | None = None
    provider: ProviderPreferences | None = None


class NoulAnswer(msgspec.Struct, tag_field="type", tag="noul"):
    """``noul``: the probability of yes."""

    noul: float


class ChoiceAnswer(msgspec.Struct, tag_field="type", tag="choice"):
    choice: str
    confidence: float
    probabilities: dict[str, float]


class ScoreAnswer(msgspec.Struct, tag_field="type", tag="score"):
    """``probabilities`` and ``legend`` are by level: "0", "1" and so on."""

    score: float
    confidence: float
    probabilities: dict[str, float]
    legend: dict[str, str]


class SystemOneUsage(msgspec.Struct):
    input_tokens: int
    output_tokens: int = 0


class SystemOneAnswer(msgspec.Struct):
    model: str
    answers: dict[str, NoulAnswer | ChoiceAnswer | ScoreAnswer]
    usage: SystemOneUsage
