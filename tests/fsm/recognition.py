"""Constraints as recognisers of token sequences: every token must be allowed by the mask before it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

from fsm.program import Program, compile_constraint
from fsm.runtime import Runtime
from fsm.tokens import TokenTable
from grammar.constraint import Constraint


def compact(value: Any) -> str:
    """A decoded JSON value without whitespace."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def byte_complete(texts: Iterable[str], pieces: int, rng: random.Random) -> TokenTable:
    """All bytes, and random pieces of up to 12 bytes of some texts; the last id ends a sequence."""
    tokens: dict[bytes, None] = dict.fromkeys(bytes([byte]) for byte in range(256))
    spelled = [text.encode() for text in texts if len(text) > 1]
    for _ in range(pieces):
        text = rng.choice(spelled)
        start = rng.randrange(len(text) - 1)
        tokens[text[start : start + rng.randint(2, 12)]] = None
    return TokenTable.from_bytes([*tokens, None], [len(tokens)])


class Splitter:
    """Cuts texts into tokens of a byte-complete table, at random."""

    def __init__(self, table: TokenTable, rng: random.Random) -> None:
        self._ids = {spelled: i for i in range(table.vocab_size) if (spelled := table.bytes_of(i))}
        self._longest = table.max_token_bytes
        self._rng = rng

    def __call__(self, text: str) -> list[int]:
        rest, ids = text.encode(), list[int]()
        while rest:
            fitting = [n for n in range(1, min(self._longest, len(rest)) + 1) if rest[:n] in self._ids]
            length = self._rng.choice(fitting)
            ids.append(self._ids[rest[:length]])
            rest = rest[length:]
        return ids


class Recogniser:
    """Programs over one vocabulary that share their rows."""

    def __init__(self, table: TokenTable) -> None:
        self.table = table
        self._runtime = Runtime(table)

    def compile(self, constraint: Constraint) -> Program:
        """ConstraintError as `compile_constraint`."""
        return compile_constraint(constraint, self.table, runtime=self._runtime)

    def forget(self, program: Program) -> None:
        self._runtime.drop(program.number)

    def accepts(self, program: Program, ids: Sequence[int]) -> bool:
        """Whether all tokens are allowed one after another, and then the end."""
        matcher = program.matcher()
        for token in ids:
            allowed = bool(matcher.mask()[token // 32] >> (token % 32) & 1)
            assert matcher.advance(token) == allowed, "the mask and the step disagree"
            if not allowed:
                return False
        mask = matcher.mask()
        ends = {bool(mask[eos // 32] >> (eos % 32) & 1) for eos in self.table.eos_ids}
        assert ends == {matcher.accepting}, "the end is allowed exactly where the text is complete"
        return matcher.accepting
