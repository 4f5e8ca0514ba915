"""The trie of a vocabulary, held against what it stands for: the sorted set of all prefixes of its tokens."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsm.tokens import TokenTable
from fsm.trie import TokenTrie
from grammar.controls import MARK
from tests.fsm.vocabularies import byte_level, token_id

TOKENS = st.lists(
    st.none() | st.text("ab\x00", max_size=4).map(str.encode) | st.binary(max_size=3) | st.just(b"\xff" * 20),
    max_size=40,
)


def paths(trie: TokenTrie) -> list[bytes]:
    """The bytes that lead to each node, read off ``byte`` and ``depth`` as a walk does."""
    path = bytearray()
    found: list[bytes] = []
    for byte, depth in zip(trie.byte.tolist(), trie.depth.tolist(), strict=True):
        assert depth <= len(path)
        path[depth:] = bytes([byte])
        found.append(bytes(path))
    return found


@given(TOKENS)
@example([])
@example([None, b""])
@example([b"a", b"ab", b"ac", b"b", b"ab"])
def test_nodes_are_the_prefixes_of_all_tokens(tokens: list[bytes | None]) -> None:
    trie = TokenTable.from_bytes(tokens, []).trie
    ordinary = {i: token for i, token in enumerate(tokens) if token and b"\xff" not in token}
    prefixes = sorted({token[:n] for token in ordinary.values() for n in range(1, len(token) + 1)})
    assert paths(trie) == prefixes
    order = trie.order.tolist()
    assert order == sorted(ordinary, key=lambda i: (ordinary[i], i))
    assert len(trie.first) == len(trie) + 1
    for i, prefix in enumerate(prefixes):
        here = [token for token in order if ordinary[token] == prefix]
        below = [token for token in order if ordinary[token].startswith(prefix)]
        assert order[trie.first[i] : trie.first[i + 1]] == here
        assert order[trie.first[i] : trie.first[trie.skip[i]]] == below
        assert trie.skip[i] == i + sum(other.startswith(prefix) for other in prefixes)


def test_special_tokens_are_there_under_bytes_that_no_text_has() -> None:
    table = TokenTable.from_tokenizer(byte_level(), eos_ids=[token_id(byte_level(), "<|end|>")])
    special = set(table.trie.order[table.special[table.trie.order]].tolist())
    assert special == set(table.controls.values()) == set(table.special.nonzero()[0].tolist()) - set(table.eos_ids)
    marked = {i for i, read in ((i, _read(table, i)) for i in range(table.vocab_size)) if MARK in read}
    assert marked == special
    assert table.trie is table.trie


def _read(table: TokenTable, token: int) -> bytes:
    return table.read[table.read_offset[token] : table.read_offset[token + 1]].tobytes()


def test_endless_tokens_are_refused() -> None:
    assert len(TokenTable.from_bytes([b"x" * 65535], []).trie) == 65535
    with pytest.raises(ValueError, match="token 1 has 65536 bytes"):
        _ = TokenTable.from_bytes([b"x", b"x" * 65536], []).trie
