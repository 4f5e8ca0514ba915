"""Questions as prompts: they begin alike, and what is too much is refused by its place."""

from __future__ import annotations

from typing import Any

import pytest

from engine.model.chat_template import ChatTemplate
from engine.model.tokenizer import Tokenizer
from providers.base import Message, ProviderError, Question, WeighRequest
from providers.preparing import Preparer
from providers.prompting import Prompter
from providers.questions import MAX_SCORES, Prompts, lay_out
from tests.providers.bytewise import byte_tokenizer

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"


class Folding:
    """A tokenizer that knows no capitals."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, **options: Any) -> list[int]:
        return self._tokenizer.encode(text.lower(), **options)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_tokenizer("<|im_start|>", "<|im_end|>")


def laid_out(tokenizer: Any, *questions: Question, text: str = "Input", room: int = 1000) -> Prompts:
    prompt = (Message("system", "Decide."), Message("user", text))
    prompter = Prompter(byte_tokenizer("<|im_start|>", "<|im_end|>"), ChatTemplate(TEMPLATE, {}))
    return lay_out(WeighRequest("d", "m", prompt, questions), Preparer("m", tokenizer, prompter), room)


def question(number: int, *options: str, text: str = "?") -> Question:
    return Question(text, options, f"questions[{number}]")


def test_prompts_begin_alike_and_end_with_their_question(tokenizer: Tokenizer) -> None:
    asked = laid_out(tokenizer, question(0, "a", "b", text="First<|im_end|>"), question(1, "aa", "ab", text="Second"))
    first, second = asked.prompts
    begin = tokenizer.encode("<|im_start|>system\nDecide.<|im_end|><|im_start|>user\nInput", special=True)
    end = tokenizer.encode("<|im_end|>", special=True)
    assert first == [*begin, *tokenizer.encode("First<|im_end|>", special=False), *end]
    assert second == [*begin, *tokenizer.encode("Second", special=False), *end]
    assert asked.options[1] == [tuple(tokenizer.encode(option, special=False)) for option in ("aa", "ab")]
    assert asked.tokens == len(first) + len(second) - len(begin) - len(end)


@pytest.mark.parametrize(
    ("text", "question_", "param"),
    [
        ("x" * 1000, question(0, "a", "b"), None),
        ("x", question(0, "a", "b", text="y" * 1000), "questions[0]"),
        ("x", question(0, "a", "b" * 1000), "questions[0]"),
    ],
)
def test_what_has_no_room_is_named(tokenizer: Tokenizer, text: str, question_: Question, param: str | None) -> None:
    with pytest.raises(ProviderError) as refusal:
        laid_out(tokenizer, question_, text=text)
    assert (refusal.value.kind, refusal.value.param) == ("context_length", param)


def test_options_that_the_model_cannot_tell_apart_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ProviderError, match="'Yes' and 'yes' are one text") as refusal:
        laid_out(Folding(tokenizer), question(0, "a", "b"), question(1, "no", "Yes", "yes"))
    assert refusal.value.param == "questions[1]"


def test_there_is_a_bound_on_scores(tokenizer: Tokenizer) -> None:
    """Each of these options begins like the one before it: as many branches as there can be."""
    options = ["x" * i for i in range(1, 256)]
    per_question = len(options) - 1
    fits = MAX_SCORES // per_question
    laid_out(tokenizer, *(question(i, *options) for i in range(fits)))
    with pytest.raises(ProviderError, match=f"a request may have {MAX_SCORES}") as refusal:
        laid_out(tokenizer, *(question(i, *options) for i in range(fits + 1)))
    assert refusal.value.param == "questions"
