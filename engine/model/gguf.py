"""GGUF model files, versions 2 and 3, read in place: metadata as Python values, tensors as views of the memory map.

Replaces the `gguf` package at run time (which takes seconds to open a file, since it builds an array for every string
of the vocabulary); the tests hold this reader against it. The format is specified in ggml's docs/gguf.md:

    header     "GGUF", version u32, tensor count u64, pair count u64
    pairs      key string, type u32, value                    string = length u64, UTF-8 bytes
    tensors    name string, n dims u32, dims u64 × n, type u32, offset u64
    padding    to general.alignment (32 unless said otherwise)
    data       tensors at their offsets

Dimensions are stored fastest first; here a `shape` is row-major (rows first), as torch and numpy have it. Quantized
rows are runs of *blocks*, each holding its own scale (ggml-common.h); a block never crosses a row. Little-endian only;
arrays of arrays, which no model file uses, are refused.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.model.errors import ModelFileError, UnsupportedModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32

STRING, ARRAY = 8, 9
SCALARS = {
    0: Struct("<B"),
    1: Struct("<b"),
    2: Struct("<H"),
    3: Struct("<h"),
    4: Struct("<I"),
    5: Struct("<i"),
    6: Struct("<f"),
    7: Struct("<?"),
    10: Struct("<Q"),
    11: Struct("<q"),
    12: Struct("<d"),
}
"""Value type → its encoding, strings and arrays aside."""

U32 = SCALARS[4]
U64 = SCALARS[10]

TENSOR_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
"""ggml type → name, elements a block, bytes a block."""

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Values in the metadata array `tokenizer.ggml.token_type`."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of a file; nothing is copied or decoded until `dequantize`."""

    name: str
    shape: tuple[int, ...]
    """Row-major: the last dimension is contiguous and holds whole blocks."""
    type: str
    """ggml's name of the element type, such as "Q4_1"."""
    data: NDArray[np.uint8]
    """[product of shape[:-1], bytes a row], read-only view of the memory map."""


class GgufFile:
    """A GGUF file, mapped read-only; the map lives as long as this object or any tensor's `data`.

    Opening reads the header only. ModelFileError: the file is missing, cut off or malformed. UnsupportedModelError:
    another version of the format, or a tensor type that has no known layout.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, GgufTensor] = {}
        reader = _Reader(self.path, _map(self.path))
        counts = reader.header()
        for _ in range(counts[1]):
            key, value = reader.pair()
            if key in self.metadata:
                raise reader.malformed(f"metadata key {key!r} appears twice")
            self.metadata[key] = value
        alignment = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise ModelFileError(f"{self.path}: general.alignment is {alignment!r}, not a power of two")
        infos = [reader.tensor_info() for _ in range(counts[0])]
        start = -(-reader.at // alignment) * alignment
        for name, shape, kind, offset in infos:
            if name in self.tensors:
                raise reader.malformed(f"tensor {name!r} appears twice")
            if offset % alignment:
                raise reader.malformed(f"tensor {name!r} is at offset {offset}, not a multiple of {alignment}")
            self.tensors[name] = reader.tensor(name, shape, kind, start + offset)

    def dequantize(self, tensor: GgufTensor) -> NDArray[np.float32]:
        """The tensor's values, float32, in its shape; a fresh array.

        UnsupportedModelError if its type is not one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K.
        """
        decode = _DECODERS.get(tensor.type)
        if decode is None:
            known = ", ".join(_DECODERS)
            raise UnsupportedModelError(
                f"{self.path}: tensor {tensor.name!r} has type {tensor.type}; types that can be read are {known}"
            )
        return decode(tensor.data).reshape(tensor.shape)


def _map(path: str) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelFileError(f"{path}: the file is empty") from error


class _Reader:
    """A cursor over the header; every read checks the file's end and names what it was reading."""

    def __init__(self, path: str, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.at = 0
        self.reading = "the header"

    def malformed(self, what: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {what}")

    def take(self, n_bytes: int) -> int:
        """Step over ``n_bytes``; returns where they start."""
        start = self.at
        if n_bytes > self.size - start:
            raise self.malformed(
                f"the file ends inside {self.reading}: {n_bytes} bytes needed at {start}, {self.size - start} left"
            )
        self.at = start + n_bytes
        return start

    def scalar(self, encoding: Struct) -> Any:
        return encoding.unpack_from(self.data, self.take(encoding.size))[0]

    def string(self) -> str:
        start = self.take(self.scalar(U64))
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError as error:
            raise self.malformed(f"{self.reading} is not UTF-8 at byte {start + error.start}") from error

    def header(self) -> tuple[int, int]:
        """Number of tensors and of metadata pairs."""
        start = self.take(4)
        if self.data[start : self.at] != MAGIC:
            raise self.malformed("not a GGUF file: it does not start with 'GGUF'")
        version = self.scalar(U32)
        if version not in VERSIONS:
            # A big-endian file shows its version in the upper half.
            what = "is big-endian" if version and not version & 0xFFFF else f"has GGUF version {version}"
            raise UnsupportedModelError(f"{self.path}: the file {what}; little-endian versions 2 and 3 can be read")
        return self.scalar(U64), self.scalar(U64)

    def pair(self) -> tuple[str, Any]:
        self.reading = "a metadata key"
        key = self.string()
        self.reading = f"metadata key {key!r}"
        kind = self.scalar(U32)
        return key, self.array() if kind == ARRAY else self.value(kind)

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        encoding = SCALARS.get(kind)
        if encoding is None:
            raise self.malformed(f"{self.reading} has unknown value type {kind}")
        return self.scalar(encoding)

    def array(self) -> list[Any]:
        kind = self.scalar(U32)
        count = self.scalar(U64)
        if kind == STRING:
            # Each string takes 8 bytes at least, so a count the file cannot hold is caught before the loop.
            if count * U64.size > self.size - self.at:
                raise self.malformed(f"{self.reading} claims {count} strings, more than the file can hold")
            return [self.string() for _ in range(count)]
        encoding = SCALARS.get(kind)
        if encoding is None:
            raise self.malformed(f"{self.reading} is an array of unknown type {kind}")
        start = self.take(count * encoding.size)
        return [value for (value,) in encoding.iter_unpack(self.data[start : self.at])]

    def tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, row-major shape, ggml type, offset into the data section."""
        self.reading = "a tensor's name"
        name = self.string()
        self.reading = f"the description of tensor {name!r}"
        n_dimensions = self.scalar(U32)
        if not 1 <= n_dimensions <= MAX_DIMENSIONS:
            raise self.malformed(f"tensor {name!r} has {n_dimensions} dimensions; 1 to {MAX_DIMENSIONS} are possible")
        dimensions = [self.scalar(U64) for _ in range(n_dimensions)]
        if 0 in dimensions:
            raise self.malformed(f"tensor {name!r} has a dimension of 0")
        return name, tuple(reversed(dimensions)), self.scalar(U32), self.scalar(U64)

    def tensor(self, name: str, shape: tuple[int, ...], kind: int, start: int) -> GgufTensor:
        if kind not in TENSOR_TYPES:
            raise UnsupportedModelError(f"{self.path}: tensor {name!r} has unknown ggml type {kind}")
        type_name, block_elements, block_bytes = TENSOR_TYPES[kind]
        if shape[-1] % block_elements:
            raise self.malformed(
                f"tensor {name!r} has rows of {shape[-1]} elements, not a multiple of {type_name}'s {block_elements}"
            )
        rows = math.prod(shape[:-1])
        row_bytes = shape[-1] // block_elements * block_bytes
        if start + rows * row_bytes > self.size:
            raise self.malformed(
                f"tensor {name!r} needs bytes {start} to {start + rows * row_bytes}, but the file has {self.size}"
            )
        data = np.frombuffer(self.data, np.uint8, rows * row_bytes, start).reshape(rows, row_bytes)
        return GgufTensor(name, shape, type_name, data)


def _blocks(data: NDArray[np.uint8], block_bytes: int) -> NDArray[np.uint8]:
    return data.reshape(-1, block_bytes)


def _halves(blocks: NDArray[np.uint8], start: int) -> NDArray[np.float32]:
    """The float16 that stands at byte ``start`` of every block, [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def nibbles(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[blocks, 16] bytes → [blocks, 32] values 0..15: the low halves of all bytes, then the high ones."""
    values = np.empty((len(packed), 32), np.float32)
    values[:, :16] = packed & 15
    values[:, 16:] = packed >> 4
    return values


def _decode_f32(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    return data.view("<f4").copy()


def _decode_f16(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    return data.view("<f2").astype(np.float32)


def _decode_bf16(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _decode_q4_0(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    blocks = _blocks(data, 18)
    values = nibbles(blocks[:, 2:])
    values -= 8
    values *= _halves(blocks, 0)
    return values


def _decode_q4_1(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    blocks = _blocks(data, 20)
    values = nibbles(blocks[:, 4:])
    values *= _halves(blocks, 0)
    values += _halves(blocks, 2)
    return values


def _decode_q8_0(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    blocks = _blocks(data, 34)
    values = blocks[:, 2:].view(np.int8).astype(np.float32)
    values *= _halves(blocks, 0)
    return values


def fifth_bits(words: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[blocks, 4] bytes, bit i for number i → [blocks, 32] of 0 or 16."""
    return np.unpackbits(words, axis=1, bitorder="little").astype(np.float32) * 16


def _decode_q5_0(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    blocks = _blocks(data, 22)
    values = nibbles(blocks[:, 6:])
    values += fifth_bits(blocks[:, 2:6])
    values -= 16
    values *= _halves(blocks, 0)
    return values


def _decode_q5_1(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    blocks = _blocks(data, 24)
    values = nibbles(blocks[:, 8:])
    values += fifth_bits(blocks[:, 4:8])
    values *= _halves(blocks, 0)
    values += _halves(blocks, 2)
    return values


def k_factors(blocks: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and minimum, [blocks, 8] each, of the eight runs of 32 in a Q4_K or Q5_K block; w = scale · q - minimum.

    Six bits each, in 12 bytes after the block's two halves: the first four whole in bytes 0 to 3 (scales) and 4 to 7
    (minima); the low four bits of the others in bytes 8 to 11, their high two on top of the first eight bytes.
    """
    packed = blocks[:, 4:16]
    low, top = packed[:, :8] & 63, packed[:, :8] >> 6
    late = np.concatenate((packed[:, 8:] & 15, packed[:, 8:] >> 4), axis=1) | top << 4
    scales = np.concatenate((low[:, :4], late[:, :4]), axis=1).astype(np.float32)
    minima = np.concatenate((low[:, 4:], late[:, 4:]), axis=1).astype(np.float32)
    return scales * _halves(blocks, 0), minima * _halves(blocks, 2)


def k_nibbles(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[blocks, 128] bytes → [blocks, 8, 32]: runs 2i and 2i + 1 are low and high halves of bytes 32i to 32i + 31."""
    pairs = packed.reshape(-1, 4, 1, 32) >> np.array([0, 4], np.uint8)[:, None] & np.uint8(15)
    return pairs.reshape(-1, 8, 32).astype(np.uint8, copy=False)


def _decode_q4_k(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    blocks = _blocks(data, 144)
    scales, minima = k_factors(blocks)
    return scales[..., None] * k_nibbles(blocks[:, 16:]) - minima[..., None]


def _decode_q5_k(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    blocks = _blocks(data, 176)
    scales, minima = k_factors(blocks)
    # Byte j of the 32 holds the fifth bits of number j of all eight runs.
    fifth = np.unpackbits(blocks[:, 16:48, None], axis=2, bitorder="little").swapaxes(1, 2)
    return scales[..., None] * (k_nibbles(blocks[:, 48:]) + (fifth << 4)) - minima[..., None]


def _decode_q6_k(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Two halves of 128: run i of four has its low bits in bytes 32 (i mod 2) .. of 64, its high two in those of 32."""
    blocks = _blocks(data, 210)
    low = blocks[:, :128].reshape(-1, 2, 1, 64) >> np.array([0, 4], np.uint8)[:, None] & 15
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    numbers = (low.reshape(-1, 2, 4, 32) | high << 4).reshape(-1, 16, 16).astype(np.float32)
    numbers -= 32
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32) * _halves(blocks, 208)
    numbers *= scales[..., None]
    return numbers


_DECODERS = {
    "F32": _decode_f32,
    "F16": _decode_f16,
    "BF16": _decode_bf16,
    "Q4_0": _decode_q4_0,
    "Q4_1": _decode_q4_1,
    "Q5_0": _decode_q5_0,
    "Q5_1": _decode_q5_1,
    "Q8_0": _decode_q8_0,
    "Q4_K": _decode_q4_k,
    "Q5_K": _decode_q5_k,
    "Q6_K": _decode_q6_k,
}
