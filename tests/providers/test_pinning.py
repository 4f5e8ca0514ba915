"""Pinned prefixes: the text of the settings, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.model.chat_template import ChatTemplate
from providers.base import Message, ProviderError
from providers.pinning import pinned_tokens
from providers.preparing import Preparer
from providers.prompting import Prompter
from schemas.tenants import PinnedPrefix
from tests.providers.bytewise import byte_tokenizer

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def preparer(template: str | None = TEMPLATE) -> Preparer:
    tokenizer = byte_tokenizer()
    return Preparer("m", tokenizer, Prompter(tokenizer, ChatTemplate(template, {})) if template else None)


def test_a_text_or_a_file_becomes_the_beginning_of_chats(tmp_path: Path) -> None:
    path = tmp_path / "support.txt"
    path.write_text("Help kindly.")
    found = [
        pinned_tokens(pin, preparer(), "pins[0]")
        for pin in (PinnedPrefix(model="m", system="Help kindly."), PinnedPrefix(model="m", file=str(path)))
    ]
    ours = preparer()
    chat = ours.templated().tokens((Message("system", "Help kindly."), Message("user", "Where is my parcel?")))
    assert found[0] == found[1] == chat[: len(found[0])]
    assert ours.tokenizer.decode(found[0]) == "<system>Help kindly.<user>"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"pins\[3\]: .*none\.txt"):
        pinned_tokens(PinnedPrefix(model="m", file=str(tmp_path / "none.txt")), preparer(), "pins[3]")
    with pytest.raises(ProviderError, match="no chat template"):
        pinned_tokens(PinnedPrefix(model="m", system="x"), preparer(None), "pins[0]")
