"""Prefixes that stay in the engine's cache: from the settings to the tokens that chats begin with."""

from __future__ import annotations

from pathlib import Path

from engine.model.errors import ChatTemplateError
from providers.base import Message, ProviderError
from providers.preparing import Preparer
from schemas.tenants import PinnedPrefix


def pinned_tokens(pin: PinnedPrefix, preparer: Preparer, place: str) -> list[int]:
    """Ids with which every chat begins that has the system message of ``pin`` and no tools. ProviderError, naming
    ``place``, where there are none."""
    prompter = preparer.templated()
    try:
        text = Path(pin.file).read_text("utf-8") if pin.file is not None else pin.system or ""
        return prompter.beginning(Message("system", text))
    except (OSError, UnicodeDecodeError, ChatTemplateError) as error:
        raise ProviderError("invalid_request", f"{place}: {error}") from error
