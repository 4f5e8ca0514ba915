"""Questions as prompts: what a decision asks of an engine, and the bounds on it.

All prompts of a request begin alike, with the turns and the input, and end with their own question: the engine's prefix
cache computes the beginning once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from engine.model.errors import ChatTemplateError
from providers.base import ProviderError, Question, WeighRequest
from providers.preparing import Preparer
from providers.weighing import Text, branches

MAX_SCORES = 20_000
"""Of one request. A question with n options asks for n - 1 at most, and mostly for far fewer."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """For each question its ``prompts`` and its ``options`` as ids. ``tokens``: of all prompts, what is shared counted
    once."""

    prompts: list[list[int]]
    options: list[list[Text]]
    tokens: int


def lay_out(request: WeighRequest, preparer: Preparer, room: int) -> Prompts:
    """``room``: tokens that a prompt and an option may have together. Raises `ProviderError`."""
    tokenizer = preparer.tokenizer
    try:
        before, after = preparer.templated().around(request.prompt)
    except ChatTemplateError as error:
        raise ProviderError("invalid_request", str(error), param="messages") from error
    prompts: list[list[int]] = []
    options: list[list[Text]] = []
    for question in request.questions:
        own = tokenizer.encode(question.text, special=False)
        texts = [tuple(tokenizer.encode(option, special=False)) for option in question.options]
        shared, longest = len(before) + len(after), max(map(len, texts))
        if shared + len(own) + longest > room:
            message = (
                f"This model's maximum context length is {room} tokens; the input needs {shared}, a question "
                f"{len(own)}, and one of its options {longest}."
            )
            param = question.place if len(own) + longest > shared else None
            raise ProviderError("context_length", message, param=param)
        _check_different(question, texts)
        prompts.append([*before, *own, *after])
        options.append(texts)
    scores = sum(len(branches(texts)) for texts in options)
    if scores > MAX_SCORES:
        message = f"The options of all questions branch in {scores} places; a request may have {MAX_SCORES}."
        raise ProviderError("invalid_request", message, param="questions")
    again = (len(prompts) - 1) * (len(before) + len(after))
    return Prompts(prompts, options, sum(map(len, prompts)) - again)


def _check_different(question: Question, texts: list[Text]) -> None:
    (text, times), *_ = Counter(texts).most_common(1)
    if times > 1:
        same = " and ".join(
            repr(option) for option, other in zip(question.options, texts, strict=True) if other == text
        )
        message = f"The options {same} are one text to the model's tokenizer."
        raise ProviderError("invalid_request", message, param=question.place)
