"""A tokenizer whose tokens are bytes, and the special ones."""

from __future__ import annotations

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from engine.model.tokenizer import Tokenizer


def byte_tokenizer(*special: str) -> Tokenizer:
    """``special``: their names; the first one ends sequences."""
    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Backend(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    decoder = decoders.ByteLevel()
    backend.decoder = decoder
    backend.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    vocabulary: list[bytes | None] = [decoder.decode([letter]).encode("latin-1", "replace") for letter in alphabet]
    return Tokenizer(backend, vocabulary + [None] * len(special), (256,))
