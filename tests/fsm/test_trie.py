"""The trie of a vocabulary, held against what it stands for: the sorted set of all prefixes of its tokens."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsm.tokens import TokenTable
from fsm.trie import TokenTrie
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
    ordinary = {i: token for i, token in enumerate(tokens) if token}
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


def test_special_tokens_are_left_out() -> None:
    table = TokenTable.from_tokenizer(byte_level(), eos_ids=[token_id(byte_level(), "<|end|>")])
    assert not table.special[table.trie.order].any()
    assert len(table.trie.order) == table.vocab_size - int(table.special.sum())
    assert table.trie is table.trie


def test_endless_tokens_are_refused() -> None:
    assert len(TokenTable.from_bytes([b"x" * 65535], []).trie) == 65535
    with pytest.raises(ValueError, match="token 1 has 65536 bytes"):
        _ = TokenTable.from_bytes([b"x", b"x" * 65536], []).trie
