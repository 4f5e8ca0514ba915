"""Puts originals back in place of their placeholders, also where a placeholder comes in pieces.

What could be the beginning of a placeholder is held back until it is one or cannot be. What is given out does not
depend on how the text was cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


class Restorer:
    """For one text. ``originals``: placeholder → what it stands for; no placeholder is a part of another."""

    def __init__(self, originals: Mapping[str, str]) -> None:
        self._originals = originals
        self._pattern = re.compile("|".join(map(re.escape, originals)))
        self._begun = {placeholder[:n] for placeholder in originals for n in range(1, len(placeholder))}
        self._longest = max(map(len, self._begun), default=0)
        self._held = ""

    def take(self, text: str) -> str:
        """What can be said now of all that has been taken."""
        text, said, at = self._held + text, "", 0
        while True:
            match = self._pattern.search(text, at)
            hold = self._hold(text, at)
            if match is None or match.start() > hold:
                self._held = text[hold:]
                return said + text[at:hold]
            said += text[at : match.start()] + self._originals[match[0]]
            at = match.end()

    def rest(self) -> str:
        """The end of the text."""
        held, self._held = self._held, ""
        return held

    def _hold(self, text: str, at: int) -> int:
        """Where the longest end of ``text`` begins that a placeholder may begin with."""
        for i in range(max(at, len(text) - self._longest), len(text)):
            if text[i:] in self._begun:
                return i
        return len(text)
