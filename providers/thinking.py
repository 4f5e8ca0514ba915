"""Models that think before they answer: where a prompt has them do so, how an answer's constraint waits for it, and
their thoughts out of their text.

    <think>⏎ thoughts ⏎</think>⏎⏎ the answer      Qwen 3, SmolLM 3, DeepSeek R1 and models made of them

What the rendered prompt ends with says what comes. After the opening mark the answer begins inside of the thoughts;
after the closing one there are none; after neither, a template that knows the marks leaves it to the model to open
them, which a constraint makes it do. Whether a template can be told not to is its variable ``enable_thinking``.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from providers.base import ProviderError
from providers.call_plan import form_of
from schemas.constraint import (
    ChoiceSpec,
    ConstraintSpec,
    JsonObjectSpec,
    JsonSchemaSpec,
    RegexSpec,
    StructuralTagSpec,
)

OPEN, CLOSE = "<think>", "</think>"
SWITCH = "enable_thinking"
AFTER = "\n\n"
"""Between thoughts and a constrained answer, as the templates write it."""

Stage = Literal["never", "ahead", "begun"]
"""Thoughts are not to come, are ahead, or were begun by the prompt."""

_ANSWER = re.compile(r"/format/elements/2(?P<rest>.*)", re.DOTALL)


def stage_of(template: str, prompt: str) -> Stage:
    """``template``: Jinja source. ``prompt``: what it rendered, up to where the answer begins."""
    end = prompt.rstrip()
    if end.endswith(OPEN):
        return "begun"
    if end.endswith(CLOSE) or OPEN not in template or not _opens(template):
        return "never"
    return "ahead"


def _opens(template: str) -> bool:
    """Whether a model of this template opens its thoughts by itself. One whose template only strips the thoughts of
    earlier turns need not."""
    return SWITCH in template


def after_thoughts(stage: Stage, constraint: ConstraintSpec) -> StructuralTagSpec | None:
    """``constraint`` of the answer, which thoughts come before; None where the two cannot be combined."""
    try:
        answer = form_of(constraint)
    except ProviderError:
        return None
    begin = "" if stage == "begun" else OPEN
    thoughts: dict[str, Any] = {"type": "tag", "begin": begin, "content": {"type": "any_text"}, "end": CLOSE}
    elements = [thoughts, {"type": "const_string", "value": AFTER}, answer]
    document = {"type": "structural_tag", "format": {"type": "sequence", "elements": elements}}
    return StructuralTagSpec(msgspec.json.encode(document).decode())


def blame_answer(error: ProviderError, constraint: ConstraintSpec) -> ProviderError:
    """A refusal of what `after_thoughts` made, told of ``constraint``."""
    found = _ANSWER.fullmatch(error.pointer)
    if found is None:
        return error
    rest = found["rest"]
    match constraint:
        case StructuralTagSpec():
            pointer = f"/format{rest}"
        case JsonSchemaSpec() | JsonObjectSpec():
            pointer = rest.removeprefix("/json_schema")
        case RegexSpec() | ChoiceSpec():
            pointer = ""
        case _:
            pointer = rest
    return ProviderError(error.kind, error.message, pointer=pointer, param=error.param, tool=error.tool)


class ThoughtReader:
    """Tells thoughts from the answer in a text that grows. What could still become a mark is held back, and so is the
    white space around thoughts, which belongs to nobody."""

    def __init__(self, stage: Literal["ahead", "begun"]) -> None:
        self.place: Literal["ahead", "inside", "after", "answer"] = "ahead" if stage == "ahead" else "inside"
        self._held = ""
        self._silent = True

    def feed(self, text: str) -> tuple[str, str]:
        """(thoughts, answer) that are now known."""
        if self.place == "answer":
            return "", text
        self._held += text
        if self.place == "ahead":
            self._look_ahead()
        thoughts = self._think() if self.place == "inside" else ""
        if self.place == "after":
            self._held = self._held.lstrip()
            if self._held:
                self.place = "answer"
        return thoughts, self._take() if self.place == "answer" else ""

    def flush(self) -> tuple[str, str]:
        """What was held back, when the choice has ended."""
        held = self._take()
        match self.place:
            case "inside":
                return held.rstrip(), ""
            case "after":
                return "", ""
            case _:
                return "", held

    def _look_ahead(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self.place, self._held = "inside", begun.removeprefix(OPEN)
        elif not OPEN.startswith(begun):
            self.place = "answer"

    def _think(self) -> str:
        if self._silent:
            self._held = self._held.lstrip()
        end = self._held.find(CLOSE)
        if end >= 0:
            thoughts, self._held = self._held[:end].rstrip(), self._held[end + len(CLOSE) :]
            self.place = "after"
            return thoughts
        known = self._held[: len(self._held) - _possible_mark(self._held)].rstrip()
        self._held = self._held[len(known) :]
        self._silent = self._silent and not known
        return known

    def _take(self) -> str:
        held, self._held = self._held, ""
        return held


def _possible_mark(text: str) -> int:
    """Length of the longest end of ``text`` that begins the closing mark."""
    longest = min(len(CLOSE) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if CLOSE.startswith(text[-n:])), 0)
