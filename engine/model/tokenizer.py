"""Text to token ids and back, with every token's exact bytes; torch-free and quick to load, for the HTTP side.

The `tokenizers` package does the encoding. A GGUF file holds a vocabulary, merges (or scores) and the name of a
pre-tokenizer, from which `from_gguf` builds what the model's own `tokenizer.json` would be: byte-level BPE ("gpt2"), or
SentencePiece's BPE with byte fallback ("llama"). `from_folder` reads a `tokenizer.json`.

Decoding is done here and is plain: the text of a sequence is the concatenation of its tokens' bytes, special tokens
being empty. Unlike transformers' decode it strips no leading space from SentencePiece text, because the text must be
the bytes that a constraint was enforced on.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.folder_config import folder_eos_ids
from engine.model.gguf import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, GgufFile
from engine.model.gguf_config import gguf_eos_ids

SPACE = "\u2581"
"""SentencePiece's spelling of a space."""

WRITTEN = frozenset({"[TOOL_CALLS]", "[ARGS]", "<tool_call>", "</tool_call>"})
"""Control tokens that models write and that are a part of the answer's text: the marks of tool calls. In a prompt they
are control tokens all the same."""

_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3_SPLIT = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT = _LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")

_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT4O_SPLIT = _CASED % (_CONTRACTIONS + "?", _CONTRACTIONS + "?") + r"|\p{N}{1,3}" + _REST
_TEKKEN_SPLIT = _CASED % ("", "") + r"|\p{N}" + _REST
"""OpenAI's o200k (Phi-4-mini has its cut) and Mistral's Tekken: words are cut where upper case follows lower."""


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable Latin-1 stands for itself, the other bytes for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


_ALPHABET = _byte_alphabet()


class Tokenizer:
    """A model's tokenizer. Safe to use from several threads; make one with `from_gguf` or `from_folder`."""

    def __init__(self, backend: tokenizers.Tokenizer, vocabulary: list[bytes | None], eos_ids: tuple[int, ...]) -> None:
        self.vocabulary = vocabulary
        """Token id → its bytes; None for special tokens that are not `WRITTEN` and for ids that are not in use."""
        self.eos_ids = eos_ids
        """Ids that end a generation, ascending."""
        self.special_ids = tuple(
            sorted(token_id for token_id, token in backend.get_added_tokens_decoder().items() if token.special)
        )
        """Ids of control tokens, ascending: they are no text."""
        self.special_names = tuple(backend.id_to_token(i) or "" for i in self.special_ids)
        """How text would spell them, in the same order."""
        for i, name in zip(self.special_ids, self.special_names, strict=True):
            if name in WRITTEN:
                vocabulary[i] = name.encode()
        self._backend = backend

    @property
    def vocab_size(self) -> int:
        """The highest id + 1. A model's logits may have more entries, which stand for nothing."""
        return len(self.vocabulary)

    def encode(self, text: str, special: bool = True, *, begin: bool = False) -> list[int]:
        """Ids of ``text``. With ``special``, special tokens spelled in the text become their ids; without, they stay
        text.

        ``begin`` adds what the model wants around a plain text (usually its beginning-of-sequence token, or nothing):
        right for a raw completion, wrong for a rendered chat template, which spells everything itself.
        """
        backend = self._backend if special else self._literal
        return backend.encode(text, add_special_tokens=begin).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``; bytes that are no UTF-8 become U+FFFD. IndexError: an id outside the vocabulary."""
        return b"".join(self.vocabulary[i] or b"" for i in ids).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes | None:
        """What the token adds to the text; None for a special token or an unused id. IndexError: outside the
        vocabulary.
        """
        return self.vocabulary[token_id]

    def token_text(self, token_id: int) -> str:
        """A token as people read it: its own text (broken UTF-8 as U+FFFD), or a special token's name."""
        spelled = self.vocabulary[token_id]
        if spelled is not None:
            return spelled.decode(errors="replace")
        return self._backend.id_to_token(token_id) or ""

    def to_json(self) -> str:
        """What a `tokenizer.json` of this tokenizer holds."""
        return self._backend.to_str()

    def token_id(self, text: str) -> int | None:
        """The id of a token by its name in the vocabulary, such as "<|im_end|>"."""
        return self._backend.token_to_id(text)

    @cached_property
    def _literal(self) -> tokenizers.Tokenizer:
        """The same tokenizer, blind to special tokens (a switch of `tokenizers`, not an argument: hence a second
        object).
        """
        literal = tokenizers.Tokenizer.from_str(self._backend.to_str())
        literal.encode_special_tokens = True
        return literal

    @classmethod
    def from_gguf(cls, file: GgufFile) -> Tokenizer:
        """ModelFileError: metadata is missing or malformed. UnsupportedModelError: a tokenizer not known here."""
        kind = file.metadata.get("tokenizer.ggml.model")
        tokens = _strings(file, "tokenizer.ggml.tokens")
        types = file.metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
        if not isinstance(types, list) or len(types) != len(tokens):
            raise ModelFileError(f"{file.path}: tokenizer.ggml.token_type is not one type a token")
        for name in ("bos", "eos", "unknown"):
            token_id = file.metadata.get(f"tokenizer.ggml.{name}_token_id", 0)
            if not isinstance(token_id, int) or not 0 <= token_id < len(tokens):
                raise ModelFileError(
                    f"{file.path}: tokenizer.ggml.{name}_token_id is {token_id!r}, outside the {len(tokens)} tokens"
                )
        if kind == "gpt2":
            backend = _byte_level(file, tokens)
        elif kind == "llama":
            backend = _sentencepiece(file, tokens, types)
        else:
            raise UnsupportedModelError(
                f"{file.path}: tokenizer.ggml.model {kind!r} is not supported; 'gpt2' and 'llama' are"
            )
        special = [token for token, type_ in zip(tokens, types, strict=True) if type_ == CONTROL]
        backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
        whole = [token for token, type_ in zip(tokens, types, strict=True) if type_ == USER_DEFINED]
        backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in whole])
        _add_ends(file, backend, tokens, default_bos=kind == "llama")
        spell = _spell_byte_level if kind == "gpt2" else _spell_sentencepiece
        try:
            vocabulary = [spell(token, type_) for token, type_ in zip(tokens, types, strict=True)]
        except ValueError as error:
            raise ModelFileError(f"{file.path}: tokenizer.ggml.tokens: {error}") from error
        return cls(backend, vocabulary, gguf_eos_ids(file))

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> Tokenizer:
        """From ``folder/tokenizer.json``, with the end ids of the configs beside it; errors as `from_gguf`."""
        folder = os.fspath(folder)
        path = os.path.join(folder, "tokenizer.json")
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            backend = tokenizers.Tokenizer.from_str(text)
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
        except Exception as error:  # tokenizers raises bare Exception on a malformed file
            raise ModelFileError(f"{path}: {error}") from error
        return cls(backend, _vocabulary(path, backend, json.loads(text)), folder_eos_ids(folder))


class Detokenizer:
    """The text of one growing sequence, in deltas that never split a character.

    The joined deltas and the flush equal `Tokenizer.decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._vocabulary = tokenizer.vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, ids: Iterable[int]) -> str:
        """The characters that ``ids`` complete; may be empty."""
        return self._decoder.decode(b"".join(self._vocabulary[i] or b"" for i in ids))

    def flush(self) -> str:
        """What is left at the end of the sequence: "", or U+FFFD for a character that was never finished."""
        return self._decoder.decode(b"", final=True)


def _strings(file: GgufFile, key: str) -> list[str]:
    value = file.metadata.get(key)
    if not isinstance(value, list) or not value or not isinstance(value[0], str):
        raise ModelFileError(f"{file.path}: metadata key {key!r} is missing or not a list of strings")
    return value


def _split(pattern: str) -> list[pre_tokenizers.PreTokenizer]:
    return [
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


def _byte_level(file: GgufFile, tokens: list[str]) -> tokenizers.Tokenizer:
    """Byte-level BPE; `tokenizer.ggml.pre` names how text is cut before merging, as in llama.cpp's llama-vocab.cpp."""
    pre = file.metadata.get("tokenizer.ggml.pre")
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    cuts: dict[Any, list[pre_tokenizers.PreTokenizer]] = {
        "gpt-2": [gpt2],
        "smollm": [pre_tokenizers.Digits(individual_digits=True), gpt2],
        "llama-bpe": _split(_LLAMA3_SPLIT),
        "dbrx": _split(_LLAMA3_SPLIT),
        "smaug-bpe": _split(_LLAMA3_SPLIT),
        "qwen2": _split(_QWEN2_SPLIT),
        "gpt-4o": _split(_GPT4O_SPLIT),
        "tekken": _split(_TEKKEN_SPLIT),
    }
    if pre not in cuts:
        raise UnsupportedModelError(f"{file.path}: tokenizer.ggml.pre {pre!r} is not supported; {', '.join(cuts)} are")
    merges: list[tuple[str, str]] = []
    for merge in _strings(file, "tokenizer.ggml.merges"):
        left, _, right = merge.partition(" ")
        merges.append((left, right))
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    # Llama 3 and Tekken take a word that is a token whole, even where its merges would not lead there.
    try:
        model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre in ("llama-bpe", "tekken"))
    except Exception as error:  # tokenizers raises bare Exception when a merge names no token
        raise ModelFileError(f"{file.path}: tokenizer.ggml.merges: {error}") from error
    backend = tokenizers.Tokenizer(model)
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(cuts[pre])
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(file: GgufFile, tokens: list[str], types: list[int]) -> tokenizers.Tokenizer:
    """SentencePiece BPE: repeatedly join the neighbours whose union has the best score; unknown characters become
    bytes.

    Merges are implied by the vocabulary: each way to cut a piece into two pieces, ranked by the piece's score.
    """
    scores = file.metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise ModelFileError(f"{file.path}: tokenizer.ggml.scores is missing or not one score a token")
    pieces = {
        token: (score, token_id)
        for token_id, (token, score, kind) in enumerate(zip(tokens, scores, types, strict=True))
        if kind in (NORMAL, USER_DEFINED)
    }
    ranked: list[tuple[float, int, int, str, str]] = []
    for piece, (score, token_id) in pieces.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in pieces and right in pieces:
                ranked.append((-score, token_id, cut, left, right))
    ranked.sort()
    unknown = file.metadata.get("tokenizer.ggml.unknown_token_id", 0)
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab={token: token_id for token_id, token in enumerate(tokens)},
            merges=[(left, right) for *_, left, right in ranked],
            unk_token=tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", SPACE)
    prefix = file.metadata.get("tokenizer.ggml.add_space_prefix", True)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def _add_ends(file: GgufFile, backend: tokenizers.Tokenizer, tokens: list[str], default_bos: bool) -> None:
    """What `encode(begin=True)` puts around a text; a SentencePiece file that does not say wants its first token."""
    template = ["$A"]
    used: list[tuple[str, int]] = []
    for end, default in (("bos", default_bos), ("eos", False)):
        token_id = file.metadata.get(f"tokenizer.ggml.{end}_token_id")
        if file.metadata.get(f"tokenizer.ggml.add_{end}_token", default) and token_id is not None:
            used.append((tokens[token_id], token_id))
            template = [tokens[token_id], *template] if end == "bos" else [*template, tokens[token_id]]
    if used:
        backend.post_processor = tokenizers.processors.TemplateProcessing(single=template, special_tokens=used)


def _spell_byte_level(token: str, kind: int) -> bytes | None:
    if kind in (CONTROL, UNKNOWN, UNUSED):
        return None
    if kind == USER_DEFINED or any(c not in _ALPHABET for c in token):
        return token.encode()
    return bytes(_ALPHABET[c] for c in token)


def _spell_sentencepiece(token: str, kind: int) -> bytes | None:
    """ValueError: a byte token that is not spelled <0x00> to <0xFF>."""
    if kind in (CONTROL, UNKNOWN, UNUSED):
        return None
    if kind == BYTE:
        if _BYTE_TOKEN.fullmatch(token) is None:
            raise ValueError(f"byte token {token!r} is not spelled <0x00> to <0xFF>")
        return bytes((int(token[3:5], 16),))
    return token.replace(SPACE, " ").encode()


def _vocabulary(path: str, backend: tokenizers.Tokenizer, description: dict[str, Any]) -> list[bytes | None]:
    """Bytes of every id of a `tokenizer.json`, whose decoder tells which of the two spellings it uses."""
    decoder = description.get("decoder") or {}
    steps = {step.get("type") for step in decoder.get("decoders", [decoder])}
    if "ByteLevel" in steps:
        spell = _spell_byte_level
    elif {"ByteFallback", "Replace"} <= steps:
        spell = _spell_sentencepiece
    else:
        raise UnsupportedModelError(f"{path}: decoder {decoder.get('type')!r} is neither byte-level nor byte fallback")
    added = backend.get_added_tokens_decoder()
    ids = backend.get_vocab(with_added_tokens=True)
    unknown = description["model"].get("unk_token")
    vocabulary: list[bytes | None] = [None] * (max(ids.values()) + 1)
    for token, token_id in ids.items():
        if token_id in added:
            kind = CONTROL if added[token_id].special else USER_DEFINED
        elif token == unknown:
            kind = UNKNOWN
        elif spell is _spell_sentencepiece and _BYTE_TOKEN.fullmatch(token):
            kind = BYTE
        else:
            kind = NORMAL
        vocabulary[token_id] = spell(token, kind)
    return vocabulary
