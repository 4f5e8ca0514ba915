"""Tokens that nobody needs to be asked for: where a constraint leaves no choice, its text is appended as it stands.

    {"name": "Ann|   the model says `"`, then only `, "age": ` can follow     ─▶ five tokens, one forward pass for all

The text is spelled as the tokenizer would spell it. Its end is held back, from where a run of letters, digits, spaces
or signs begins, since what the model says next may become one token with it; the mask then leaves no choice about the
bytes, and the model says how they are cut. A model that is asked may cut forced text in another way; its answer can
differ from one with runs after that, since it has seen other tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fsm.runtime import Runtime

MANY = 10_000
"""Texts whose spelling is remembered."""

WIDEST = 64
"""Tokens that a mask allows at most where a text is forced: those that begin it."""

_END = re.compile(r"(?:[^\W\d]+|\d+|\s+|[^\w\s]+)\Z")

Run = tuple[int, ...]


class ForcedRuns:
    """``encode`` spells text in the middle of a text: without special tokens, and nothing added at its beginning."""

    def __init__(self, runtime: Runtime, encode: Callable[[str], list[int]]) -> None:
        self._runtime = runtime
        self._encode = encode
        self._runs: dict[bytes, tuple[Run, bytes]] = {}
        encode(" ")  # what a tokenizer does at its first text must not wait for a request

    def after(self, program: int, state: int, row: int) -> tuple[Run, int] | None:
        """The tokens that follow in any case, and the state after them; None on a miss. ``row``: the mask of the next
        token."""
        if program == 0 or self._runtime.pool.count[row] > WIDEST:
            return (), state
        text = self._runtime.forced(program, state)
        if text is None:
            return None
        if not text:
            return (), state
        if (known := self._runs.get(text)) is None:
            if len(self._runs) == MANY:
                self._runs.clear()
            known = self._runs[text] = self._spell(text)
        run, spelled = known
        return run, self._runtime.after_text(program, state, spelled) if run else state

    def _spell(self, text: bytes) -> tuple[Run, bytes]:
        """The tokens of all but the end of ``text``, and their bytes."""
        whole = text.decode(errors="ignore")
        kept = len(_END.sub("", whole).encode())
        run: list[int] = []
        spelled = b""
        for token in self._encode(whole):
            longer = spelled + (self._runtime.table.bytes_of(token) or b"")
            if len(longer) > kept or not text.startswith(longer):
                break
            run.append(token)
            spelled = longer
        return tuple(run), spelled
