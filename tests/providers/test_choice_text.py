"""An answer has a bound on its calls, however its tokens come."""

from __future__ import annotations

from typing import Any

import pytest

from providers.base import CallBegun, CallDelta
from providers.choice_text import MAX_CALLS, ChoiceText
from providers.tool_calls import CallReader
from providers.tool_formats import HERMES, MISTRAL_ARGS, ToolFormat
from schemas.engine import Tokens
from tests.providers.bytewise import byte_tokenizer


@pytest.mark.parametrize("format", [HERMES, MISTRAL_ARGS], ids=lambda format: format.family)
@pytest.mark.parametrize("step", [1, 7, 64])
def test_calls_without_end_end(format: ToolFormat, step: int) -> None:
    tokenizer = byte_tokenizer("<|im_end|>")
    choice = ChoiceText(0, tokenizer, (), True, CallReader(format))
    one = tokenizer.encode(format.spell(("f", {"a": 1})) + "\n", special=False)
    ids, events = one * (MAX_CALLS + 5), list[Any]()
    for start in range(0, len(ids), step):
        events += choice.take(Tokens("r", 0, ids[start : start + step]))
        if choice.full:
            break
    assert choice.full and choice.tokens <= len(one) * MAX_CALLS + step + len(format.begin("f"))
    assert [event.number for event in events if isinstance(event, CallBegun)] == list(range(MAX_CALLS))
    arguments = ["".join(e.arguments for e in events if isinstance(e, CallDelta) and e.number == i) for i in range(128)]
    assert set(arguments) == {'{"a": 1}'}
