"""How many bytes a decoder takes, and how many a step reads, from its configuration alone. Imports no torch.

    weights   each matrix in the format in which its runner holds it; norms and biases in floats
    cache     2 · layers · key heads · (head size · bytes a number + scale) bytes a token, in blocks of tokens
    a step    all weights but the embedding's other rows, and the cache of every sequence, each once

What a file stores and what a runner holds differ: `held` says how. The tests hold these numbers against the runners'
own (`Runner.nbytes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.model.config import ModelConfig
from engine.model.gguf import TENSOR_TYPES
from engine.model.kv_groups import KvGroups

Device = Literal["cpu", "cuda", "reference"]
"""`CpuRunner`, `TritonRunner`, and `TorchRunner` in float32."""

KvFormat = Literal["fp32", "bf16", "int8", "fp8"]


@dataclass(frozen=True, slots=True)
class Format:
    """How a matrix is stored: ``bits`` for each ``numbers`` of a row, and ``row_bits`` once a row. Rows are padded to a
    multiple of ``rows``."""

    numbers: int
    bits: int
    row_bits: int = 0
    rows: int = 1

    def nbytes(self, rows: int, columns: int) -> int:
        padded = -(-rows // self.rows) * self.rows
        return -(-padded * (-(-columns // self.numbers) * self.bits + self.row_bits) // 8)

    @property
    def bits_a_weight(self) -> float:
        return self.bits / self.numbers


_GGUF = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
_FOUR_BITS = ("Q4_0", "Q4_1", "Q4_K", "int4-g32", "int4-g64", "int4-g128")

FORMATS: dict[str, Format] = {
    "fp32": Format(1, 32),
    "bf16": Format(1, 16),
    **{name: Format(numbers, 8 * size) for name, numbers, size in TENSOR_TYPES.values() if name in _GGUF},
    "int8": Format(1, 8, row_bits=32),
    **{f"int4-g{group}": Format(group, 4 * group + 16 + 4) for group in (32, 64, 128)},
}
"""Formats of weights by name: floats, GGUF's blocks, 8 bits with a scale a row, and 4 bits with a scale and a zero for
each group of 32, 64 or 128. GGUF's F32, F16 and BF16 are "fp32" and "bf16"."""

STORED = {"F32": "fp32", "F16": "bf16", "BF16": "bf16"}
"""What GGUF calls floats."""

_RECORDS_4 = Format(32, 8 * 20, rows=8)
_RECORDS_8 = Format(32, 8 * 34, rows=8)

_KV_BITS: dict[KvFormat, tuple[int, int]] = {"fp32": (32, 0), "bf16": (16, 0), "int8": (8, 32), "fp8": (8, 32)}
"""Of a number, and of the scale that each token has in each head."""


def held(name: str, device: Device) -> Format:
    """The format in which a runner holds a matrix that is stored as ``name``: the CPU's has two kinds of records, the
    GPU's keeps what it has kernels for and decodes the rest."""
    match device:
        case "reference":
            return FORMATS["fp32"]
        case "cpu":
            return _RECORDS_4 if name in _FOUR_BITS else _RECORDS_8
        case "cuda":
            return FORMATS["bf16"] if name == "fp32" else FORMATS[name]


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """``head``: 0 where the embedding is the head, as it lies there."""

    layers: int
    embedding: int
    head: int
    floats: int

    @property
    def total(self) -> int:
        return self.layers + self.embedding + self.head + self.floats

    @property
    def read(self) -> int:
        """By a step, whatever its size: of an embedding that is no head only the tokens' own rows, which count as
        nothing."""
        return self.layers + (self.head or self.embedding) + self.floats


def parameters(config: ModelConfig) -> int:
    """How many numbers there are to learn."""
    return sum(_size(shape) for shape in config.weight_shapes().values())


def weight_bytes(config: ModelConfig, device: Device, stored: Callable[[str], str]) -> WeightBytes:
    """``stored``: a matrix's name, ending in ".weight" → the name of its format in the file."""
    layers = floats = embedding = head = 0
    for name, shape in config.weight_shapes().items():
        if len(shape) == 1:
            floats += _size(shape) * (2 if device == "cuda" else 4)
            continue
        rows, columns = shape
        size = held(stored(name), device).nbytes(rows, columns)
        if name.startswith("model.layers."):
            layers += size
        elif name == "lm_head.weight":
            head = size
        elif device == "cuda":
            # The embedding is looked up in bf16; packed, it lies there once more as the head it is tied to.
            embedding = FORMATS["bf16"].nbytes(rows, columns)
            head = size if config.tied_embeddings and stored(name) not in ("fp32", "bf16") else head
        else:
            embedding = size
    return WeightBytes(layers, embedding, head, floats)


def kv_bytes_per_token(config: ModelConfig, kv: KvFormat) -> int:
    """Of all layers, and of what their groups leave empty; windows save nothing before a context has left them."""
    bits, scale = _KV_BITS[kv]
    groups = KvGroups.by_window(config)
    return 2 * len(groups.windows) * groups.places * config.kv_heads * (config.head_dim * bits + scale) // 8


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
