"""Control tokens (``<|python_tag|>``) as a byte machine reads them: a mark that no text has, and the token's id.

A machine reads bytes, and a control token has none: what it says is said by its id, whatever its name looks like. So
one that a constraint may ask for is given bytes that UTF-8 (RFC 3629) does not know. A vocabulary spells it so
(`fsm.tokens`), a grammar reads it so, and the walk over the tokens needs to know nothing of it.

    MARK, then the id in three bytes, the highest first
"""

from __future__ import annotations

from collections.abc import Iterable

from grammar.utf8 import DONE, ByteNode

MARK = 0xFF
"""In no text of UTF-8."""

HIGHEST = 2**24 - 1
"""The highest id that can be spelled."""


def spelled(token: int) -> bytes:
    """The four bytes that stand for a control token."""
    return bytes([MARK]) + token.to_bytes(3, "big")


def reading(tokens: Iterable[int]) -> ByteNode:
    """The automaton that reads one of some control tokens."""
    return _node(sorted(map(spelled, set(tokens))), 0)


def _node(spellings: list[bytes], depth: int) -> ByteNode:
    if depth == 4:
        return DONE
    after: dict[int, list[bytes]] = {}
    for one in spellings:
        after.setdefault(one[depth], []).append(one)
    return ByteNode(tuple((byte, byte, _node(rest, depth + 1)) for byte, rest in after.items()))
