"""Small tokenizers of each family, made on the spot, and text to put them to the test."""

from __future__ import annotations

import json
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = [
    "The quick brown fox jumps over the lazy dog, 42 times; then it sleeps.",
    '{"name": "Ada", "tags": ["x", "y\\n"], "n": -1.5e+10, "ok": true, "none": null}',
    "  leading, trailing and    inner spaces \n\n\tand tabs\r\n ",
    "Grüße, naïve café, Ωmega, Привет мир, こんにちは世界, 你好，世界, שלום, नमस्ते",
    "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, combining é, NUL \x00, DEL \x7f, U+2028 \u2028, last \U0010ffff",
    "def f(x):\n    return x ** 2 if x >= 0 else -x  # comment\n",
]


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that the tokenizer has."""
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found


@cache
def byte_level() -> Tokenizer:
    """GPT-2's family: 256 byte tokens, merges; <|end|> and <|pad|> special, <tool> and ñandú added as ordinary text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=["<|end|>", "<|pad|>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 2, trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("ñandú", normalized=False)])
    return tokenizer


@cache
def sentencepiece() -> Tokenizer:
    """Gemma's family: spaces are ▁, unknown characters fall back to the bytes <0x00>..<0xFF>, no prefix space."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(TEXTS[:3] * 2, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *sorted(learned["vocab"], key=len)]
    pieces += ["▁" * n for n in (2, 3, 4) if "▁" * n not in learned["vocab"]]
    merges = [tuple(merge) for merge in learned["merges"]] + [("▁", "▁"), ("▁▁", "▁"), ("▁▁", "▁▁")]
    model = models.BPE(
        {piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("▁▁", normalized=False)])
    return tokenizer


@cache
def llama() -> Tokenizer:
    """`sentencepiece` as Llama 2 has it: a space before the text when encoding, none before it when decoding."""
    tokenizer = Tokenizer.from_str(sentencepiece().to_str())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer
