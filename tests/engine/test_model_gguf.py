"""The GGUF reader against the gguf package, and against files that are broken in every way a header can be."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.model.errors import ModelError, ModelFileError, UnsupportedModelError
from engine.model.gguf import GgufFile
from tests.engine.decoding import MODEL, needs_model

gguf = pytest.importorskip("gguf")
quants = pytest.importorskip("gguf.quants")

DECODED = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
BLOCKS = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
"""Bytes of a block."""


def write(path: Path, tensors: dict[str, tuple[NDArray[np.float32], str]], **metadata: Any) -> Path:
    """A file by the gguf package: tensors with the type each is to be stored in, and values of every metadata type."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata.items():
        writer.add_key_value(key, *value)
    for name, (values, kind) in tensors.items():
        kind = gguf.GGMLQuantizationType[kind]
        data = values if kind.name in ("F32", "F16") else quants.quantize(values, kind)
        if kind.name == "F16":
            data = values.astype(np.float16)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", DECODED)
def test_dequantized_values_equal_the_gguf_package(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors: dict[str, tuple[NDArray[np.float32], str]] = {
        name: ((random.standard_normal(shape) * 3).astype(np.float32), kind)
        for name, shape in {"vector": (64,), "matrix": (5, 96), "cube": (2, 3, 32)}.items()
    }
    path = write(tmp_path / "a.gguf", tensors)
    file = GgufFile(path)
    oracle = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, (values, _) in tensors.items():
        tensor = file.tensors[name]
        assert (tensor.name, tensor.type, tensor.shape) == (name, kind, values.shape)
        assert tensor.data.dtype == np.uint8 and tensor.data.shape[0] == values.size // values.shape[-1]
        found = file.dequantize(tensor)
        wanted = quants.dequantize(oracle[name].data, oracle[name].tensor_type).reshape(values.shape)
        assert found.dtype == np.float32 and found.shape == values.shape
        np.testing.assert_array_equal(found, wanted)


@given(raw=st.binary(min_size=420, max_size=420), kind=st.sampled_from(sorted(BLOCKS.items())))
def test_any_block_decodes_as_the_gguf_package_says(
    raw: bytes, kind: tuple[str, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Scales that quantizing would never write: negative, subnormal, infinite, NaN."""
    name, size = kind
    blocks = np.frombuffer(raw[: len(raw) // size * size], np.uint8)
    path = tmp_path_factory.getbasetemp() / "blocks.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("t", blocks.reshape(1, -1).copy(), raw_dtype=gguf.GGMLQuantizationType[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile(path)
    with np.errstate(all="ignore"):
        wanted = quants.dequantize(blocks.reshape(1, -1), gguf.GGMLQuantizationType[name])
        np.testing.assert_array_equal(file.dequantize(file.tensors["t"]), wanted)


def test_metadata_of_every_type(tmp_path: Path) -> None:
    kind = gguf.GGUFValueType
    values: dict[str, tuple[Any, ...]] = {
        "u8": (255, kind.UINT8),
        "i8": (-128, kind.INT8),
        "u16": (65535, kind.UINT16),
        "i16": (-32768, kind.INT16),
        "u32": (2**32 - 1, kind.UINT32),
        "i32": (-(2**31), kind.INT32),
        "u64": (2**64 - 1, kind.UINT64),
        "i64": (-(2**63), kind.INT64),
        "f32": (0.5, kind.FLOAT32),
        "f64": (0.1, kind.FLOAT64),
        "yes": (True, kind.BOOL),
        "text": ("naïve 😀", kind.STRING),
        "words": (["", "a", "é"], kind.ARRAY, kind.STRING),
        "numbers": ([1.5, -2.0], kind.ARRAY, kind.FLOAT32),
        "flags": ([True, False], kind.ARRAY, kind.BOOL),
    }
    metadata = GgufFile(write(tmp_path / "a.gguf", {}, **values)).metadata
    assert metadata == {"general.architecture": "llama"} | {key: value[0] for key, value in values.items()}
    assert type(metadata["yes"]) is bool and type(metadata["u8"]) is int


@pytest.mark.slow
@needs_model
def test_the_embedded_model_equals_the_gguf_package() -> None:
    file = GgufFile(MODEL)
    reader = gguf.GGUFReader(MODEL)
    assert list(file.tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        found = file.tensors[tensor.name]
        assert found.shape == tuple(reversed(tensor.shape.tolist()))
        assert found.data.tobytes() == tensor.data.tobytes()
    for key in ("llama.context_length", "llama.rope.freq_base", "tokenizer.ggml.merges", "tokenizer.ggml.token_type"):
        assert file.metadata[key] == reader.fields[key].contents()


def test_a_type_without_a_decoder_is_refused_by_name(tmp_path: Path) -> None:
    """It can still be looked at: the raw blocks are there."""
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.x", np.zeros((3, 136), np.uint8), raw_dtype=gguf.GGMLQuantizationType.IQ4_XS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile(path)
    tensor = file.tensors["blk.0.x"]
    assert tensor.shape == (3, 256) and tensor.data.shape == (3, 136)
    with pytest.raises(UnsupportedModelError, match=r"'blk\.0\.x' has type IQ4_XS"):
        file.dequantize(tensor)


# ------------------------------------------------------------------------------------------------------- broken files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A valid file of a few hundred bytes."""
    kind = gguf.GGUFValueType
    path = write(
        tmp_path_factory.mktemp("whole") / "a.gguf",
        {"a": (np.ones((2, 32), np.float32), "Q4_1"), "b": (np.ones(3, np.float32), "F32")},
        words=(["one", "two"], kind.ARRAY, kind.STRING),
        numbers=([1, 2, 3], kind.ARRAY, kind.INT32),
        epsilon=(1e-5, kind.FLOAT32),
    )
    return path.read_bytes()


def opened(raw: bytes, folder: Path) -> GgufFile:
    path = folder / "broken.gguf"
    path.write_bytes(raw)
    return GgufFile(path)


fuzz = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(data=st.data())
def test_a_file_cut_anywhere_is_malformed(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    # The last tensor's 12 bytes are followed by padding to 32.
    cut = data.draw(st.integers(0, len(whole) - 21))
    with pytest.raises(ModelFileError):
        opened(whole[:cut], tmp_path)


@fuzz
@given(data=st.data())
def test_no_byte_changed_causes_anything_but_a_model_error(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        file = opened(bytes(raw), tmp_path)
    except ModelError:
        return
    for tensor in file.tensors.values():
        if tensor.type in DECODED:
            with np.errstate(all="ignore"):
                assert file.dequantize(tensor).shape == tensor.shape


def header(version: int, tensors: int, pairs: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def tensor(name: bytes, dimensions: list[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


PAIR = text(b"k") + struct.pack("<IB", 0, 7)

BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "another format": (b"PK\x03\x04" + bytes(60), "does not start with 'GGUF'"),
    "count beyond the file": (header(3, 0, 2**63), "ends inside a metadata key"),
    "key twice": (header(3, 0, 2) + PAIR * 2, "'k' appears twice"),
    "key not UTF-8": (header(3, 0, 1) + text(b"\xff") + bytes(8), "a metadata key is not UTF-8 at byte 32"),
    "value not UTF-8": (header(3, 0, 1) + text(b"k") + struct.pack("<I", 8) + text(b"a\xff"), "'k' is not UTF-8"),
    "unknown value type": (header(3, 0, 1) + text(b"k") + struct.pack("<I", 13), "'k' has unknown value type 13"),
    "array of arrays": (
        header(3, 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 9, 1),
        "'k' is an array of unknown type 9",
    ),
    "long array": (header(3, 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 10, 2**60), "ends inside metadata key 'k'"),
    "many strings": (
        header(3, 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 8, 2**60),
        "'k' claims 1152921504606846976 strings",
    ),
    "odd alignment": (
        header(3, 0, 1) + text(b"general.alignment") + struct.pack("<II", 4, 24),
        "general.alignment is 24, not a power of two",
    ),
    "five dimensions": (header(3, 1, 0) + tensor(b"t", [1] * 5, 0, 0), "'t' has 5 dimensions"),
    "no elements": (header(3, 1, 0) + tensor(b"t", [0], 0, 0), "'t' has a dimension of 0"),
    "broken block": (
        header(3, 1, 0) + tensor(b"t", [33], 3, 0),
        "'t' has rows of 33 elements, not a multiple of Q4_1's 32",
    ),
    "misaligned": (header(3, 1, 0) + tensor(b"t", [1], 0, 4) + bytes(99), "'t' is at offset 4, not a multiple of 32"),
    "beyond the end": (
        header(3, 1, 0) + tensor(b"t", [99], 0, 0) + bytes(99),
        "'t' needs bytes 64 to 460, but the file has",
    ),
    "tensor twice": (header(3, 2, 0) + tensor(b"t", [1], 0, 0) * 2 + bytes(99), "tensor 't' appears twice"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_error_names_what_is_wrong(case: str, tmp_path: Path) -> None:
    raw, message = BROKEN[case]
    with pytest.raises(ModelFileError) as caught:
        opened(raw, tmp_path)
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("version", "message"), [(1, "has GGUF version 1"), (4, "has GGUF version 4"), (3 << 24, "is big-endian")]
)
def test_other_versions_are_refused(version: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        opened(header(version, 0, 0), tmp_path)


def test_an_unknown_tensor_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="'t' has unknown ggml type 99"):
        opened(header(3, 1, 0) + tensor(b"t", [1], 99, 0), tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.gguf: cannot be read: No such file"):
        GgufFile(tmp_path / "none.gguf")
