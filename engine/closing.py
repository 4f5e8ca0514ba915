"""Answers that come to an end within their tokens: `Submit.close`.

Such a sequence always knows a *way*: tokens that complete its text, never more than it has left. A token that was drawn
is taken if it is the first of them, or if another way, short enough, leads on from it; otherwise the first token of the
way is taken in its place. So no text is cut, and none is bent before it would have been.

Ways are searched for in pieces, a few in each step of the loop: a sequence whose search is not done yet is parked, and
nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Generator

from engine.base import MISS, OK, Masks
from engine.mask_columns import MaskColumns
from engine.sequence import Sequence

BUSY, TOO_FAR = 4, 5
"""Verdicts beside those of `Masks`: the search goes on in the next step; the rest does not fit."""

PIECES = 4
"""Pieces of searches that one step does."""

Way = tuple[int, ...]


class Closer:
    """Finds and keeps the ways of one loop's sequences."""

    def __init__(self, masks: Masks, columns: MaskColumns) -> None:
        self._masks = masks
        self._columns = columns
        self._searches: dict[Sequence, Generator[bool, None, Way | None]] = {}
        self._left = PIECES

    def new_step(self) -> None:
        self._left = PIECES

    def begin(self, sequence: Sequence) -> int:
        """Look for the way from the start of the text: OK, MISS, BUSY, or TOO_FAR where none is short enough;
        `Sequence.way` is then what was found."""
        verdict, way = self._find(sequence, sequence.state)
        if verdict != OK:
            return verdict
        sequence.way = way
        return OK if way is not None and len(way) <= sequence.group.request.max_tokens else TOO_FAR

    def keep(self, sequence: Sequence, token: int, state: int) -> tuple[int, int, int]:
        """What is taken where ``token`` was drawn, which leads to ``state``: (OK, a token, its state). MISS and BUSY:
        that is not known yet. TOO_FAR: nothing, the text is complete."""
        assert sequence.way is not None
        if sequence.way[:1] != (token,):
            verdict, way = self._find(sequence, state)
            if verdict != OK:
                return verdict, token, state
            if way is not None and len(way) <= sequence.group.longest - len(sequence.tokens) - 1:
                sequence.way = way
                return OK, token, state
            if not sequence.way:
                return TOO_FAR, token, state
            token = sequence.way[0]
            (state,), (verdict,) = self._columns.advance([sequence], [token])
            assert verdict == OK, "a way leads through states that are expanded"
        sequence.way = sequence.way[1:]
        return OK, token, state

    def forget(self, sequence: Sequence) -> None:
        """Drop what is searched for ``sequence``."""
        self._searches.pop(sequence, None)

    def _find(self, sequence: Sequence, state: int) -> tuple[int, Way | None]:
        search = self._searches.pop(sequence, None) or self._masks.way(sequence.group.program, state)
        while self._left > 0:
            try:
                waits = next(search)
            except StopIteration as end:
                return OK, end.value
            self._left -= 1
            if waits:
                self._searches[sequence] = search
                return MISS, None
        self._searches[sequence] = search
        return BUSY, None


def too_long(sequence: Sequence) -> str:
    """Why a sequence cannot begin, with both numbers."""
    asked = sequence.group.request.max_tokens
    found = "none was found" if sequence.way is None else f"the shortest that was found takes {len(sequence.way)}"
    return f"max_tokens: a complete answer is asked for in {asked} tokens; {found}"
