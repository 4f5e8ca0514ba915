"""The tokenizer: equal to transformers' on the embedded model and on every pre-tokenizer, exact in its bytes."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.gguf import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, GgufFile
from engine.model.tokenizer import SPACE, Detokenizer, Tokenizer, _byte_alphabet
from tests.engine.decoding import MODEL, PROMPTS, needs_model

PROBES = [
    "",
    " ",
    "   leading and trailing   ",
    "Hello, world!",
    "0 1 12 123 1234567890 3.14159 1e-9 0x1F",
    "½ ٣ 四 Ⅷ x² 10³",
    "don't you'll I'VE they're he'd we'm O'Neill",
    "def f(x):\n\tif x > 0:\n\t\treturn x ** 2  # squared\r\n\r\n\n\nclass A: pass",
    '{"name": "Ada", "tags": ["a", "b"], "n": -12.5e+3, "ok": true}',
    "naïve café Ångström Zażółć gęślą jaźń",
    "e\u0301 combining, \u212b normalizes",
    "日本語のテキスト、漢字とかな。 한국어 텍스트 ไทย हिन्दी עברית العربية",
    "emoji 😀👩‍👩‍👧‍👦🏳️‍🌈🇩🇪 and \U0010ffff \U000f1234",
    "\x00\x01\x7f\u200b\u00a0\u3000\ufeff",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|><|im_end|><|endoftext|> <|im_start|",
    "a" * 100 + " " * 100 + "!" * 100 + "\n" * 20,
    "CamelCase snake_case kebab-case SCREAMING_CASE x=y+z;a[b]->c::d",
    *(path.read_text() for path in sorted(PROMPTS.glob("*.txt"))),
]

texts = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from([*" \n\t'0159aeszAZéß漢😀.,-_{}", "<|im_end|>", "the", "  ", "'s"]), max_size=20).map(
        "".join
    ),
)


# ----------------------------------------------------------------------------------------------- the embedded model


@pytest.fixture(scope="module")
def embedded() -> Tokenizer:
    return Tokenizer.from_gguf(GgufFile(MODEL))


def transformers_tokenizer(metadata: dict[str, Any]) -> tokenizers.Tokenizer:
    """What transformers makes of the same metadata."""
    names = {"model": "tokenizer_type", "pre": "pre_tokenizer_type", "tokens": "tokens", "merges": "merges"}
    names |= {"token_type": "token_type", "scores": "scores"}
    found = {name: metadata.get(f"tokenizer.ggml.{key}") for key, name in names.items()}
    backend, _ = convert_gguf_tokenizer("llama", {name: value for name, value in found.items() if value is not None})
    return backend


def cut_alike(text: str) -> bool:
    """Whether leaving out SmolLM's cut around every number character makes no difference.

    transformers knows no cut of that name when it reads a GGUF. Digits in prose come out the same, since no merge joins
    them; two spaces before one do not, nor numbers beyond ASCII.
    """
    beyond = any(not c.isascii() and unicodedata.category(c).startswith("N") for c in text)
    return not beyond and re.search(r"\s\s[0-9]", text) is None


@needs_model
def test_ids_equal_transformers_on_the_embedded_model(embedded: Tokenizer) -> None:
    oracle = transformers_tokenizer(GgufFile(MODEL).metadata)
    untouched = list(filter(cut_alike, PROBES))
    assert len(untouched) > len(PROBES) - 5
    for probe in untouched:
        ids = embedded.encode(probe)
        assert ids == oracle.encode(probe, add_special_tokens=False).ids, probe
        assert embedded.decode(ids) == oracle.decode(ids, skip_special_tokens=True), probe

    oracle.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )

    @settings(max_examples=200, deadline=None)
    @given(text=st.one_of(texts, st.sampled_from(PROBES)))
    def any_text(text: str) -> None:
        assert embedded.encode(text) == oracle.encode(text, add_special_tokens=False).ids

    any_text()


@needs_model
@given(text=texts)
@settings(deadline=None)
def test_bytes_of_tokens_spell_the_text(embedded: Tokenizer, text: str) -> None:
    """Of what the vocabulary can spell: it lacks 21 bytes, and tokens for them would have to be dropped."""
    ids = embedded.encode(text, special=False)
    spelled = [embedded.token_bytes(token_id) for token_id in ids]
    alphabet = {piece for piece in embedded.vocabulary if piece is not None and len(piece) == 1}
    if all(bytes((byte,)) in alphabet for byte in text.encode()):
        assert b"".join(piece or b"?" for piece in spelled) == text.encode()
        assert embedded.decode(ids) == text


@needs_model
def test_the_embedded_vocabulary(embedded: Tokenizer) -> None:
    assert embedded.vocab_size == 49152 and len(embedded.vocabulary) == 49152
    assert embedded.eos_ids == (0, 2) and embedded.special_ids == tuple(range(17))
    assert embedded.token_id("<|im_end|>") == 2 and embedded.token_id("no such token") is None
    assert embedded.token_bytes(2) is None and embedded.token_text(2) == "<|im_end|>"
    assert embedded.token_bytes(embedded.encode(" hello")[0]) == b" hello"
    assert sum(piece is not None and len(piece) == 1 for piece in embedded.vocabulary) == 256 - 21


@needs_model
def test_special_tokens_in_a_text_can_stay_text(embedded: Tokenizer) -> None:
    text = "<|im_start|>system\nobey<|im_end|>"
    assert {1, 2} <= set(embedded.encode(text))
    literal = embedded.encode(text, special=False)
    assert not set(literal) & set(embedded.special_ids) and embedded.decode(literal) == text


@needs_model
def test_building_is_quick() -> None:
    """CPU time of one core, which a busy machine does not stretch: 0.25 s for all of it when measured."""
    start = time.process_time()
    Tokenizer.from_gguf(GgufFile(MODEL)).encode("Hello")
    assert time.process_time() - start < 1.0


# ------------------------------------------------------------------------------------------------------ detokenizing


@needs_model
@given(text=texts, cuts=st.lists(st.integers(1, 4), max_size=30))
@settings(deadline=None)
def test_deltas_never_split_a_character(embedded: Tokenizer, text: str, cuts: list[int]) -> None:
    ids = embedded.encode(text)
    whole = embedded.decode(ids)
    stream, deltas, at = Detokenizer(embedded), list[str](), 0
    for cut in [*cuts, len(ids)]:
        deltas.append(stream.feed(ids[at : at + cut]))
        at += cut
        assert whole.startswith("".join(deltas))
    assert "".join(deltas) + stream.flush() == whole
    if "\ufffd" not in whole:
        assert not any("\ufffd" in delta for delta in deltas)


@needs_model
@given(ids=st.lists(st.integers(0, 49151), max_size=30))
@settings(deadline=None)
def test_any_ids_stream_to_what_they_decode_to(embedded: Tokenizer, ids: list[int]) -> None:
    stream = Detokenizer(embedded)
    deltas = [stream.feed([token_id]) for token_id in ids]
    assert "".join(deltas) + stream.flush() == embedded.decode(ids)


@needs_model
def test_a_character_that_never_ends_is_flushed(embedded: Tokenizer) -> None:
    first = embedded.vocabulary.index(b"\xf0")
    stream = Detokenizer(embedded)
    assert stream.feed([first]) == "" and stream.flush() == "\ufffd"


# --------------------------------------------------------------------------------------- other byte-level vocabularies


@pytest.fixture(scope="module")
def byte_level() -> dict[str, Any]:
    """Metadata of a small vocabulary learned from the probes; merges may cross digits and spaces, so cuts matter."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_end|>"],
    )
    backend.train_from_iterator(PROBES, trainer)
    description = json.loads(backend.to_str())["model"]
    tokens = [*sorted(description["vocab"], key=description["vocab"].__getitem__), "<think>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * 2 + [NORMAL] * (len(tokens) - 3) + [USER_DEFINED],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in description["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


class Metadata(GgufFile):
    """A file of metadata alone."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self.path = "memory.gguf"
        self.metadata = metadata
        self.tensors = {}


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2"])
def test_ids_equal_transformers_for_every_way_to_cut(pre: str, byte_level: dict[str, Any]) -> None:
    metadata = byte_level | {"tokenizer.ggml.pre": pre}
    ours, oracle = Tokenizer.from_gguf(Metadata(metadata)), transformers_tokenizer(metadata)
    probes = [*PROBES, "a<think>b</think><|im_end|> <|endoftext|>"]
    if pre == "qwen2":
        # Qwen normalizes to NFC, which transformers leaves out when it reads a GGUF.
        oracle.normalizer = tokenizers.normalizers.NFC()
    for probe in probes:
        assert ours.encode(probe) == oracle.encode(probe, add_special_tokens=False).ids, probe


def test_smollm_cuts_digits_apart(byte_level: dict[str, Any]) -> None:
    """Also where the merges would join them; transformers does not know this cut."""
    ours = Tokenizer.from_gguf(Metadata(byte_level | {"tokenizer.ggml.pre": "smollm"}))
    assert [ours.token_bytes(i) for i in ours.encode("x 1234")][-4:] == [b"1", b"2", b"3", b"4"]
    assert ours.encode(" \u00bd") == [*ours.encode(" "), *ours.encode("\u00bd")]
    gpt2 = Tokenizer.from_gguf(Metadata(byte_level | {"tokenizer.ggml.pre": "gpt-2"}))
    assert len(gpt2.encode("1234567890")) < 10


CUTS = {
    "gpt-4o": {
        "HelloWorld's": ["Hello", "World's"], "ABCdef": ["ABCdef"], " don't": [" don't"], "1234": ["123", "4"],
        "x/\n/y": ["x", "/\n/", "y"], "日本語": ["日本語"], "Ünïcödé  end": ["Ünïcödé", " ", " end"],
    },
    "tekken": {
        "HelloWorld's": ["Hello", "World", "'s"], " don't": [" don", "'t"], "1234": ["1", "2", "3", "4"],
        "x/\n/y": ["x", "/\n/", "y"], "日本語": ["日本語"], "Ünïcödé  end": ["Ünïcödé", " ", " end"],
    },
    "dbrx": {
        "HelloWorld's": ["HelloWorld", "'s"], "1234": ["123", "4"], "a  b\n\n c": ["a", " ", " b", "\n\n", " c"]
    },
}  # fmt: skip
"""Text → its pieces, by the name of the cut."""


@pytest.mark.parametrize("pre", CUTS)
def test_text_is_cut_as_the_family_cuts_it(pre: str) -> None:
    """Every character pair is a merge, so that the pieces are the tokens: nothing is joined across a cut."""
    alphabet = {byte: char for char, byte in _byte_alphabet().items()}

    def spelled(text: str) -> str:
        return "".join(alphabet[byte] for byte in text.encode())

    words = {spelled(word) for text, pieces in CUTS[pre].items() for word in (text, *pieces)}
    begun = {word[:end] for word in words for end in range(2, len(word) + 1)}
    tokens = [*alphabet.values(), *sorted(begun, key=len)]
    metadata = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [f"{word[:-1]} {word[-1]}" for word in tokens[len(alphabet) :]],
        "tokenizer.ggml.eos_token_id": 0,
    }  # fmt: skip
    ours = Tokenizer.from_gguf(Metadata(metadata))
    for text, wanted in CUTS[pre].items():
        assert [ours.token_text(i) for i in ours.encode(text)] == wanted, text


def test_tokens_that_users_defined_are_text(byte_level: dict[str, Any]) -> None:
    ours = Tokenizer.from_gguf(Metadata(byte_level | {"tokenizer.ggml.pre": "gpt-2"}))
    (think,) = ours.encode("<think>", special=False)
    assert ours.token_bytes(think) == b"<think>" and think not in ours.special_ids
    assert ours.eos_ids == (0, 1) and ours.special_ids == (0, 1)


def test_the_marks_of_tool_calls_are_text_where_the_model_writes_them(byte_level: dict[str, Any]) -> None:
    tokens = [*byte_level["tokenizer.ggml.tokens"], "[TOOL_CALLS]"]
    types = [*byte_level["tokenizer.ggml.token_type"], CONTROL]
    more = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types, "tokenizer.ggml.pre": "gpt-2"}
    ours = Tokenizer.from_gguf(Metadata(byte_level | more))
    mark = len(tokens) - 1
    assert ours.encode("[TOOL_CALLS]") == [mark] and ours.decode([mark]) == "[TOOL_CALLS]"
    assert mark not in ours.encode("[TOOL_CALLS]", special=False)
    assert "[TOOL_CALLS]" in ours.special_names


@pytest.mark.parametrize(
    ("flags", "ends"), [({}, ([], [])), ({"bos": True}, ([0], [])), ({"bos": True, "eos": True}, ([0], [1]))]
)
def test_ends_are_added_where_the_file_wants_them(
    flags: dict[str, bool], ends: tuple[list[int], list[int]], byte_level: dict[str, Any]
) -> None:
    keys = {f"tokenizer.ggml.add_{end}_token": flag for end, flag in flags.items()}
    ours = Tokenizer.from_gguf(Metadata(byte_level | {"tokenizer.ggml.pre": "gpt-2"} | keys))
    assert ours.encode("hello", begin=True) == [*ends[0], *ours.encode("hello"), *ends[1]]


def test_a_saved_tokenizer_is_the_same_tokenizer(byte_level: dict[str, Any], tmp_path: Path) -> None:
    ours = Tokenizer.from_gguf(Metadata(byte_level | {"tokenizer.ggml.pre": "llama-bpe"}))
    oracle = transformers_tokenizer(byte_level | {"tokenizer.ggml.pre": "llama-bpe"})
    oracle.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps(FOLDER_CONFIG))
    folder = Tokenizer.from_folder(tmp_path)
    assert folder.vocabulary == ours.vocabulary and folder.special_ids == ours.special_ids
    assert folder.eos_ids == ours.eos_ids and folder.vocab_size == ours.vocab_size
    for probe in PROBES:
        ids = ours.encode(probe)
        assert folder.encode(probe) == ids and folder.decode(ids) == ours.decode(ids)


FOLDER_CONFIG = {
    "model_type": "llama",
    "vocab_size": 901,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "eos_token_id": [0, 1],
}


# ----------------------------------------------------------------------------------------------------- SentencePiece

PIECES = [SPACE, *"abcdé", "ab", "abc", "bc", "cd", SPACE + "a", SPACE + "ab", SPACE + SPACE, "aa", "aaa", "dab"]


def sentencepiece(scores: list[float]) -> dict[str, Any]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(PIECES)],
        "tokenizer.ggml.scores": [0.0] * 259 + scores,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def joined_greedily(text: str, scores: dict[str, float]) -> list[bytes]:
    """SentencePiece's BPE by its definition: join the best-scored neighbours, leftmost first, until none can be."""
    symbols = list(text)
    while True:
        pairs = [(-scores[a + b], i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in scores]
        if not pairs:
            break
        _, i = min(pairs)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    known = (
        (s.replace(SPACE, " ").encode(),) if s in scores else tuple(bytes((b,)) for b in s.encode()) for s in symbols
    )
    return [piece for pieces in known for piece in pieces]


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet="  aaabbccddéxñ😀", max_size=12),
    scores=st.permutations(range(len(PIECES))),
    prefix=st.booleans(),
)
def test_sentencepiece_joins_by_score(text: str, scores: list[int], prefix: bool) -> None:
    metadata = sentencepiece([-float(score) for score in scores]) | {"tokenizer.ggml.add_space_prefix": prefix}
    ours = Tokenizer.from_gguf(Metadata(metadata))
    by_piece = {piece: -float(score) for piece, score in zip(PIECES, scores, strict=True)}
    escaped = (" " if prefix and text else "") + text
    ids = ours.encode(text)
    assert [ours.token_bytes(i) for i in ids] == joined_greedily(escaped.replace(" ", SPACE), by_piece)
    assert ours.decode(ids) == escaped
    stream = Detokenizer(ours)
    assert "".join(stream.feed([i]) for i in ids) + stream.flush() == escaped


def test_sentencepiece_ends_and_bytes(tmp_path: Path) -> None:
    metadata = sentencepiece([-float(i) for i in range(len(PIECES))])
    ours = Tokenizer.from_gguf(Metadata(metadata))
    assert ours.encode("ab", begin=True) == [1, *ours.encode("ab")] and ours.eos_ids == (2,)
    assert ours.token_bytes(3 + 0xFF) == b"\xff" and ours.token_bytes(0) is None and ours.token_bytes(1) is None
    oracle = transformers_tokenizer(metadata)
    oracle.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    description = json.loads(oracle.to_str())
    description["model"]["unk_token"] = "<unk>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    (tmp_path / "config.json").write_text(json.dumps(FOLDER_CONFIG | {"eos_token_id": 2}))
    assert Tokenizer.from_folder(tmp_path).vocabulary == ours.vocabulary
    metadata["tokenizer.ggml.tokens"][3] = "<0xZZ>"
    with pytest.raises(ModelFileError, match="byte token '<0xZZ>' is not spelled"):
        Tokenizer.from_gguf(Metadata(metadata))


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"tokenizer.ggml.model": "t5"}, UnsupportedModelError, "tokenizer.ggml.model 't5' is not supported"),
        ({"tokenizer.ggml.pre": "viking"}, UnsupportedModelError, "tokenizer.ggml.pre 'viking' is not supported"),
        ({"tokenizer.ggml.tokens": None}, ModelFileError, "'tokenizer.ggml.tokens' is missing"),
        ({"tokenizer.ggml.merges": ["a zzz"]}, ModelFileError, "tokenizer.ggml.merges"),
        ({"tokenizer.ggml.token_type": [1]}, ModelFileError, "token_type is not one type a token"),
        ({"tokenizer.ggml.bos_token_id": 10**6}, ModelFileError, "bos_token_id is 1000000, outside the"),
        ({"tokenizer.ggml.model": "llama"}, ModelFileError, "tokenizer.ggml.scores is missing"),
    ],
)
def test_what_cannot_be_built_is_named(
    changes: dict[str, Any], error: type[Exception], message: str, byte_level: dict[str, Any]
) -> None:
    with pytest.raises(error) as caught:
        Tokenizer.from_gguf(Metadata(byte_level | {"tokenizer.ggml.pre": "gpt-2"} | changes))
    assert message in str(caught.value)


def test_a_folder_without_a_usable_tokenizer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ModelFileError, match=r"tokenizer\.json: cannot be read"):
        Tokenizer.from_folder(tmp_path)
    path.write_text("{")
    with pytest.raises(ModelFileError, match=r"tokenizer\.json: "):
        Tokenizer.from_folder(tmp_path)
    tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(path))
    with pytest.raises(UnsupportedModelError, match="neither byte-level nor byte fallback"):
        Tokenizer.from_folder(tmp_path)
