"""What llguidance takes, as `ask_llguidance.py` has stored it, is what is taken here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grammar.constraint import Lark
from grammar.controls import spelled
from grammar.lark.compile import compile_lark
from tests.fsm.parsing import Configuration, Heads
from tests.grammar.lark.ask_llguidance import GRAMMARS, STORED, texts

STORED_VERDICTS: dict[str, Any] = json.loads(STORED.read_text())
ACCEPTED = {one["name"]: {tuple(text) for text in one["accepted"]} for one in STORED_VERDICTS["verdicts"]}
NAMES = ("<|tool|>", "<|/tool|>", "<|user|>", "<|system|>", "<|assistant|>")
CONTROLS = {name: 256 + i for i, name in enumerate(NAMES)}


@pytest.mark.parametrize("name", GRAMMARS)
def test_the_same_texts_are_taken(name: str) -> None:
    grammar, alphabet, length = GRAMMARS[name]
    assert all(control in STORED_VERDICTS["controls"] for control in NAMES)
    heads = Heads(compile_lark(Lark(grammar), [True] * 256, 100_000, CONTROLS)[0])
    known: dict[tuple[int, ...], Configuration] = {(): heads.start}

    def after(text: tuple[int, ...]) -> Configuration:
        if text not in known:
            here, token = after(text[:-1]), text[-1]
            known[text] = heads.run(bytes([token]) if token < 256 else spelled(token), here) if here else here
        return known[text]

    assert ACCEPTED[name]
    for text in map(tuple, texts(alphabet, length, "control" in name)):
        assert heads.accepting(after(text)) == (text in ACCEPTED[name]), text
