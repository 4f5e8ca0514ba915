"""What the tokens of a vocabulary do inside JSON strings and keys, known once for all schemas.

Most tokens of most masks are letters inside a string. A token without a quote cannot leave the string that it begins
in, so whether it is allowed there depends on the string alone:

    inside a plain string    on how many characters may still come: the rows of `string`, one a limit
    inside a free key        on nothing: the row `key`, as long as an additional key may come at all

What is left to walk are the few hundred tokens that hold a quote (`quoting`), which may lead anywhere. The exactness of
such a mask is that of its parts: no assumption is made about what follows the string.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fsm.tokens import TokenTable
from fsm.trie import TokenTrie
from grammar.json_schema.lexicon import Lexicon, key_strings, plain_strings

QUOTE = 0x22
_NEVER = np.iinfo(np.uint16).max


class Profiles:
    """``quoting``: the trie of the tokens with a quote. ``quoted``: that of what single tokens hold between two quotes,
    the closing one included: the keys that a token can spell whole."""

    def __init__(self, table: TokenTable) -> None:
        spellable = table.spellable.tolist()
        self.quoting = _quoting(table)
        self.quoted = _quoted(table)
        self._characters = _characters(table, plain_strings(spellable))
        self._strings: dict[int, NDArray[np.uint32]] = {}
        self._longest = int(self._characters[self._characters < _NEVER].max(initial=0))
        self.key = _bits(_characters(table, key_strings(spellable)) < _NEVER)
        """uint32[W]: tokens that may come between two characters of a key."""

    def string(self, left: int) -> NDArray[np.uint32]:
        """uint32[W]: tokens without a quote that may come between two characters of a plain string, of which ``left``
        (below 0: any number) may still come. Do not write to it."""
        left = self._longest if left < 0 else min(left, self._longest)
        row = self._strings.get(left)
        if row is None:
            row = self._strings[left] = _bits(self._characters <= left)
        return row


def _characters(table: TokenTable, lexicon: Lexicon) -> NDArray[np.uint16]:
    """uint16[V]: the characters that a token begins between two characters of a string of ``lexicon``; `_NEVER` for
    those that may not come there or hold a quote."""
    after = np.full((max(lexicon.table) + 1, 256), -1, np.int16)
    for state, ranges in lexicon.table.items():
        for lo, hi, to in ranges:
            after[state, lo : hi + 1] = to
    after[:, QUOTE] = -1
    counts = np.empty(table.vocab_size, np.uint16)
    _count_characters(after, table.data, table.offset, counts)
    return counts


@njit("void(int16[:,::1], uint8[::1], int32[::1], uint16[::1])", nogil=True, cache=True)
def _count_characters(
    after: NDArray[np.int16], data: NDArray[np.uint8], offset: NDArray[np.int32], counts: NDArray[np.uint16]
) -> None:
    for token in range(len(counts)):
        state, begun = 0, 0
        for i in range(offset[token], offset[token + 1]):
            begun += state == 0
            state = after[state, data[i]]
            if state < 0:
                break
        empty = offset[token] == offset[token + 1]
        counts[token] = _NEVER if state < 0 or empty else begun


def _bits(allowed: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """bool[V] as uint32[ceil(V / 32)]."""
    padded = np.zeros((len(allowed) + 31) // 32 * 32, np.bool_)
    padded[: len(allowed)] = allowed
    return np.packbits(padded, bitorder="little").view(np.uint32)


def _quoted(table: TokenTable) -> TokenTrie:
    texts: set[bytes] = set()
    for i in np.flatnonzero(np.diff(table.offset) >= 2).tolist():
        token = table.bytes_of(i) or b""
        if token.count(QUOTE) >= 2:
            quotes = [place for place, byte in enumerate(token) if byte == QUOTE]
            texts |= {token[start + 1 : stop + 1] for n, start in enumerate(quotes) for stop in quotes[n + 1 :]}
    pieces = sorted(texts)
    offset = np.cumsum([0, *map(len, pieces)]).astype(np.int32)
    return TokenTrie(np.frombuffer(b"".join(pieces), np.uint8).copy(), offset)


def _quoting(table: TokenTable) -> TokenTrie:
    """The trie of the tokens that hold a quote, under their own ids."""
    quotes = np.zeros(len(table.data) + 1, np.int32)
    np.cumsum(table.data == QUOTE, out=quotes[1:])
    kept = quotes[table.offset[1:]] > quotes[table.offset[:-1]]
    lengths = np.diff(table.offset)
    data = table.data[np.repeat(kept, lengths)]
    return TokenTrie(data, np.concatenate(([0], np.cumsum(np.where(kept, lengths, 0)))).astype(np.int32))
