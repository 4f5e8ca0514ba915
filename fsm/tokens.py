"""A vocabulary as bytes: what every token id adds to the text, in the middle of a sequence.

Constraints are decided on bytes, so the bytes must be exact. A tokenizer states them by its *decoder*, which is
interpreted here step by step, once, for each token by itself:

    ByteLevel                one character of GPT-2's alphabet a byte; a token with any other character is its own UTF-8
    Replace, Metaspace       SentencePiece's "▁" becomes a space
    ByteFallback             "<0xNN>" is that byte
    Fuse                     no effect on a single token
    Strip                    before Fuse: on each token; after Fuse it touches the two ends of the text only

Decoders that strip the space before the first word (Llama 2's Strip, Metaspace's prepend scheme) do so for the start of
a text. A generated answer continues a prompt, so the table keeps that space: ``▁Hello`` is ``b" Hello"`` wherever it
stands, and the text of an answer is the concatenation of its tokens' bytes. Decoders for which no token has bytes of
its own (WordPiece, CTC, BPE word suffixes, or none at all, which joins tokens with spaces) are refused by name.

Added tokens are ordinary text unless they are flagged special; a constraint may ask for a special one by its name or id
(`grammar.controls`). Of the others, one that the model's own vocabulary also holds is
spelled as that vocabulary spells it (Gemma adds ``▁▁``, meaning two spaces); any other is literal text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from hashlib import blake2b
from operator import methodcaller
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fsm.trie import TokenTrie
from grammar.controls import HIGHEST, MARK, spelled


class UnknownTokenizer(ValueError):
    """The bytes of the tokenizer's tokens cannot be told; the message names the part that is not understood."""


class Serializable(Protocol):
    """A Hugging Face ``tokenizers.Tokenizer``: all that is read of it is its tokenizer.json."""

    def to_str(self) -> str: ...


class TokenTable:
    """The bytes of each token of a vocabulary of V ids. Never changes after construction; do not write to its arrays.

    ``data``: uint8[N], all tokens' bytes, one after another. ``offset``: int32[V + 1]; token i is
    ``data[offset[i] : offset[i + 1]]``, empty for ids that match no text. ``special``: bool[V], control tokens and the
    end-of-sequence ids; ids that are merely unused (padding of the embedding, empty tokens) are empty, not special.
    ``spellable``: bool[256], bytes that are an ordinary token by themselves. ``controls``: the special tokens that a
    constraint may ask for, by name; not the end-of-sequence ids. ``read``, ``read_offset``: as ``data`` and ``offset``,
    what machines read of each token: the bytes of text, and `grammar.controls` for ``controls``. ``max_token_bytes``:
    the most that is read of one token. ``fingerprint``: 16 bytes, equal for equal tables.
    """

    def __init__(
        self,
        tokens: Sequence[bytes | None],
        eos_ids: Iterable[int],
        special_ids: Iterable[int] = (),
        controls: Mapping[str, int] | None = None,
    ) -> None:
        self.vocab_size = len(tokens)
        self.eos_ids = tuple(sorted(set(eos_ids)))
        self.special: NDArray[np.bool_] = np.zeros(self.vocab_size, np.bool_)
        for name, ids in (("end-of-sequence", self.eos_ids), ("special", tuple(special_ids))):
            for i in ids:
                if not 0 <= i < self.vocab_size:
                    raise ValueError(f"{name} id {i} is not below the vocabulary size {self.vocab_size}")
                self.special[i] = True

        pieces = [
            b"" if token is None or control else token
            for token, control in zip(tokens, self.special.tolist(), strict=True)
        ]
        self.controls = {
            name: i
            for name, i in sorted((controls or {}).items())
            if self.special[i] and i not in self.eos_ids and i <= HIGHEST
        }
        self.data, self.offset = _joined(pieces)
        read = [b"" if MARK in piece else piece for piece in pieces]
        for i in self.controls.values():
            read[i] = spelled(i)
        self.read, self.read_offset = _joined(read)
        self.max_token_bytes = max(map(len, read), default=0)
        self.spellable: NDArray[np.bool_] = np.zeros(256, np.bool_)
        self.spellable[[piece[0] for piece in read if len(piece) == 1]] = True

        digest = blake2b(digest_size=16)
        for array in (self.offset, self.data, self.read_offset, self.special, np.array(self.eos_ids, np.int32)):
            digest.update(len(array).to_bytes(8, "little"))
            digest.update(array.tobytes())
        self.fingerprint = digest.digest()

    @classmethod
    def from_bytes(
        cls,
        tokens: Sequence[bytes | None],
        eos_ids: Iterable[int],
        special_ids: Iterable[int] = (),
        controls: Mapping[str, int] | None = None,
    ) -> TokenTable:
        """A table of raw byte strings by id, as tiktoken's rank files hold them.

        None and the empty string are ids that match no text; ``special_ids`` and ``eos_ids`` match none whatever their
        bytes. ``controls``: names of special ids. ValueError for an id outside the vocabulary.
        """
        return cls(tokens, eos_ids, special_ids, controls)

    @classmethod
    def from_tokenizer(
        cls, tokenizer: Any, *, vocab_size: int | None = None, eos_ids: Iterable[int] | None = None
    ) -> TokenTable:
        """The table of a transformers fast tokenizer or a bare ``tokenizers.Tokenizer``.

        ``vocab_size``: width of the model's logits where it is padded beyond the highest token id. ``eos_ids``: by
        default the tokenizer's own ``eos_token_id``. UnknownTokenizer if the bytes of its tokens cannot be told;
        ValueError for a vocabulary size below the highest id, or no end-of-sequence id.
        """
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(backend, "to_str"):
            raise UnknownTokenizer(
                f"{type(tokenizer).__name__} is neither a transformers fast tokenizer nor a tokenizers.Tokenizer; "
                "TokenTable.from_bytes takes its tokens as byte strings"
            )
        if eos_ids is None:
            own = getattr(tokenizer, "eos_token_id", None)
            if own is None:
                raise ValueError(f"{type(tokenizer).__name__} names no end-of-sequence token: pass eos_ids")
            eos_ids = (own,)
        spelling = json.loads(cast(Serializable, backend).to_str())
        tokens, controls = _spell(spelling)
        special_ids = {*controls.values(), *(i for i in getattr(tokenizer, "all_special_ids", ()) if i is not None)}
        if vocab_size is not None:
            if vocab_size < len(tokens):
                raise ValueError(f"vocab_size {vocab_size} is below the tokenizer's highest id {len(tokens) - 1} + 1")
            tokens += [None] * (vocab_size - len(tokens))
        return cls(tokens, eos_ids, special_ids, controls)

    def bytes_of(self, token: int) -> bytes | None:
        """The bytes of an ordinary token; None for control tokens and unused ids. IndexError outside 0..V-1."""
        if not 0 <= token < self.vocab_size:
            raise IndexError(f"token id {token} is not below the vocabulary size {self.vocab_size}")
        return self.data[self.offset[token] : self.offset[token + 1]].tobytes() or None

    @cached_property
    def ids_of(self) -> dict[bytes, int]:
        """The lowest id of each token that machines read something of, by that."""
        ends = self.read_offset.tolist()
        data = self.read.tobytes()
        return {data[ends[i] : ends[i + 1]]: i for i in reversed(range(self.vocab_size)) if ends[i] < ends[i + 1]}

    @cached_property
    def trie(self) -> TokenTrie:
        """The trie of all tokens that machines read something of, built on first use."""
        return TokenTrie(self.read, self.read_offset)

    def __repr__(self) -> str:
        return f"TokenTable({self.vocab_size} ids, {int(self.special.sum())} special, {self.fingerprint.hex()[:8]})"


def _joined(pieces: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Byte strings one after another, and where each begins and the last one ends."""
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    if lengths.sum() > np.iinfo(np.int32).max:
        raise ValueError(f"the tokens take {lengths.sum()} bytes together, more than 2 GiB")
    data = np.frombuffer(b"".join(pieces), np.uint8).copy()
    return data, np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)


def _spell(tokenizer: dict[str, Any]) -> tuple[list[bytes | None], dict[str, int]]:
    """Bytes by token id, and the control tokens by name, of a parsed tokenizer.json."""
    model: dict[str, Any] = tokenizer["model"]
    listed: dict[str, int] | list[list[Any]] = model["vocab"]
    if isinstance(listed, dict):
        pieces = {i: piece for piece, i in listed.items()}
        unknown = listed.get(model.get("unk_token") or "")
    else:
        pieces = {i: piece for i, (piece, _score) in enumerate(listed)}
        unknown = model.get("unk_id")
    added: list[dict[str, Any]] = tokenizer["added_tokens"]
    size = 1 + max([*pieces, *(token["id"] for token in added)], default=-1)

    decode = _decoder(tokenizer["decoder"])
    tokens: list[bytes | None] = [None] * size
    for i, piece in pieces.items():
        tokens[i] = decode(piece)
    controls = {} if unknown is None else {pieces[unknown]: unknown}
    for token in added:
        if token["special"]:
            controls[token["content"]] = token["id"]
        elif pieces.get(token["id"]) != token["content"]:
            tokens[token["id"]] = token["content"].encode()
    return tokens, controls


def _decoder(decoder: dict[str, Any] | None) -> Callable[[str], bytes]:
    """What a tokenizer.json's ``decoder`` makes of one token in mid-sequence."""
    if decoder is None:
        raise UnknownTokenizer("the tokenizer has no decoder: it would join its tokens with spaces")
    edits: list[Callable[[str], str]] = []
    encode: Callable[[str], bytes] = str.encode
    whole = False  # the steps so far have joined the tokens into one text
    for step in decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]:
        kind = step["type"]
        if kind == "Fuse":
            whole = True
        elif kind == "Strip" and whole:
            continue
        elif whole:
            raise UnknownTokenizer(f"decoder step {kind} comes after the tokens are joined to one text")
        elif kind == "ByteLevel":
            encode, whole = _byte_level, True
        elif kind == "ByteFallback":
            encode, whole = _byte_fallback, True
        elif kind == "Strip":
            edits.append(partial(_strip, content=step["content"], start=step["start"], stop=step["stop"]))
        elif kind == "Metaspace":
            edits.append(methodcaller("replace", step["replacement"], " "))
        elif kind == "Replace" and "String" in step["pattern"]:
            edits.append(methodcaller("replace", step["pattern"]["String"], step["content"]))
        elif kind == "Replace":
            raise UnknownTokenizer(f"decoder step Replace has a regex pattern, {step['pattern']['Regex']!r}")
        else:
            raise UnknownTokenizer(f"decoder step {kind} gives tokens no bytes of their own")

    def decode(piece: str) -> bytes:
        for edit in edits:
            piece = edit(piece)
        return encode(piece)

    return decode


def _strip(piece: str, content: str, start: int, stop: int) -> str:
    """``piece`` without up to ``start`` leading and ``stop`` trailing characters ``content``."""
    leading = min(start, len(piece) - len(piece.lstrip(content)))
    piece = piece[leading:]
    return piece[: len(piece) - min(stop, len(piece) - len(piece.rstrip(content)))]


def _byte_fallback(piece: str) -> bytes:
    found = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(found[1], 16)]) if found else piece.encode()


def _byte_level(piece: str) -> bytes:
    try:
        return bytes(map(_BYTE_LEVEL_ALPHABET.__getitem__, piece))
    except KeyError:
        return piece.encode()


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable alphabet: Latin-1's visible characters stand for themselves, the others for U+0100 and on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [b for b in range(256) if b not in visible]
    return {chr(b): b for b in visible} | {chr(0x100 + n): b for n, b in enumerate(hidden)}


_BYTE_LEVEL_ALPHABET = _byte_level_alphabet()
_BYTE_PIECE = re.compile("<0x([0-9A-Fa-f]{2})>")
