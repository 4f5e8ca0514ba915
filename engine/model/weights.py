"""Weights under one naming, Hugging Face's, whichever file they come from: mappings of name → float32 array.

Values are read when they are asked for and not kept, so that a runner can convert them one at a time. Opening compares
the files with `ModelConfig.weight_shapes`: a weight that is missing, misshapen or left over is an error that names it,
since a model with a part that nobody reads (a LoRA, a second set of experts) would answer wrongly.

Safetensors (github.com/huggingface/safetensors) is read here too: header length u64, JSON header, data; a folder holds
one `model.safetensors` or the shards listed in `model.safetensors.index.json`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.model.config import ModelConfig
from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.gguf import GgufFile, GgufTensor, unpermute_rotary

Weights = Mapping[str, NDArray[np.float32]]
"""Name → a fresh float32 array in row-major order."""

_GGUF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GGUF_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_CONFIG_TENSORS = frozenset(("rope_freqs.weight",))
"""Tensors that `config_from_gguf` has read; they are no weights."""


class GgufWeights(Mapping[str, NDArray[np.float32]]):
    """The weights of a GGUF file, dequantized on access; query and key rows are in Hugging Face order."""

    def __init__(self, file: GgufFile, config: ModelConfig) -> None:
        self._file = file
        self._heads = {"q_proj": config.heads, "k_proj": config.kv_heads}
        self._tensors = {
            _canonical(name): tensor for name, tensor in file.tensors.items() if name not in _CONFIG_TENSORS
        }
        _match(file.path, {name: tensor.shape for name, tensor in self._tensors.items()}, config)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        tensor = self._tensors[name]
        values = self._file.dequantize(tensor)
        heads = self._rotary_heads(name)
        return values if heads is None else unpermute_rotary(values, heads)

    def packed(self, name: str) -> GgufTensor:
        """The weight as the file packs it, its rows in Hugging Face order: what a quantized kernel repacks."""
        tensor = self._tensors[name]
        heads = self._rotary_heads(name)
        return tensor if heads is None else replace(tensor, data=unpermute_rotary(tensor.data, heads))

    def _rotary_heads(self, name: str) -> int | None:
        parts = name.split(".")
        return self._heads.get(parts[-2]) if len(parts) > 1 else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _canonical(name: str) -> str:
    """Hugging Face name of a GGUF tensor; a name that is not known stays as it is, and `_match` refuses it."""
    block = _GGUF_BLOCK.fullmatch(name)
    if block is not None and block[2] in _GGUF_NAMES:
        return f"model.layers.{block[1]}.{_GGUF_NAMES[block[2]]}.{block[3]}"
    stem, _, kind = name.rpartition(".")
    return f"{_GGUF_NAMES[stem]}.{kind}" if stem in _GGUF_NAMES else name


class _TensorInfo(msgspec.Struct):
    """A tensor in a safetensors header; offsets are relative to the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct):
    """`model.safetensors.index.json`: which shard holds which tensor."""

    weight_map: dict[str, str]


_ELEMENTS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class SafetensorsFile:
    """One safetensors file, memory-mapped. ``shapes`` gives what is in it; ``read`` decodes one tensor to float32."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._bytes = np.memmap(path, np.uint8, mode="r")
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ModelFileError(f"{path}: the file is empty") from error
        header_bytes = int.from_bytes(self._bytes[:8].tobytes(), "little")
        self._data = 8 + header_bytes
        if self._data > len(self._bytes):
            raise ModelFileError(f"{path}: the header needs {header_bytes} bytes, but the file has {len(self._bytes)}")
        try:
            header = msgspec.json.decode(self._bytes[8 : self._data].tobytes(), type=dict[str, Any])
            header.pop("__metadata__", None)
            self._tensors = msgspec.convert(header, dict[str, _TensorInfo])
        except msgspec.DecodeError as error:
            raise ModelFileError(f"{path}: the header is malformed: {error}") from error
        for name, info in self._tensors.items():
            self._check(name, info)
        self.shapes = {name: info.shape for name, info in self._tensors.items()}

    def _check(self, name: str, info: _TensorInfo) -> None:
        kind = _ELEMENTS.get(info.dtype)
        if kind is None:
            raise UnsupportedModelError(
                f"{self.path}: tensor {name!r} has type {info.dtype}; types that can be read are {', '.join(_ELEMENTS)}"
            )
        begin, end = info.data_offsets
        if begin < 0 or end > len(self._bytes) - self._data or end - begin != math.prod(info.shape) * kind.itemsize:
            raise ModelFileError(
                f"{self.path}: tensor {name!r} of shape {list(info.shape)} ({info.dtype}) "
                f"does not fit its bytes {begin} to {end}"
            )

    def read(self, name: str) -> NDArray[np.float32]:
        info = self._tensors[name]
        begin, end = (self._data + offset for offset in info.data_offsets)
        raw = self._bytes[begin:end].view(_ELEMENTS[info.dtype]).reshape(info.shape)
        if info.dtype == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32)


class SafetensorsWeights(Mapping[str, NDArray[np.float32]]):
    """The weights of a model folder, read on access."""

    def __init__(self, folder: str, config: ModelConfig) -> None:
        index = os.path.join(folder, "model.safetensors.index.json")
        single = os.path.join(folder, "model.safetensors")
        if os.path.exists(index):
            shards = {name: SafetensorsFile(os.path.join(folder, name)) for name in sorted(_shard_names(index))}
        else:
            shards = {single: SafetensorsFile(single)}
        self._files: dict[str, SafetensorsFile] = {}
        for shard in shards.values():
            for name in shard.shapes:
                if name in self._files:
                    raise ModelFileError(f"{shard.path}: tensor {name!r} is also in {self._files[name].path}")
                self._files[name] = shard
        if config.tied_embeddings:
            # Some writers store the shared matrix under both names.
            self._files.pop("lm_head.weight", None)
        for name in [name for name in self._files if name.endswith(".rotary_emb.inv_freq")]:
            # A buffer that transformers saved until 4.31; it follows from the config.
            del self._files[name]
        _match(folder, {name: shard.shapes[name] for name, shard in self._files.items()}, config)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._files[name].read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _shard_names(index: str) -> set[str]:
    with open(index, "rb") as file:
        try:
            names = set(msgspec.json.decode(file.read(), type=_Index).weight_map.values())
        except msgspec.DecodeError as error:
            raise ModelFileError(f"{index}: {error}") from error
    for name in names:
        if os.path.basename(name) != name:
            raise ModelFileError(f"{index}: shard {name!r} lies outside the folder")
    return names


def _match(path: str, found: Mapping[str, tuple[int, ...]], config: ModelConfig) -> None:
    expected = config.weight_shapes()
    for name, shape in expected.items():
        if name not in found:
            raise ModelFileError(f"{path}: weight {name!r} is missing")
        if found[name] != shape:
            raise ModelFileError(f"{path}: weight {name!r} has shape {list(found[name])}, expected {list(shape)}")
    for name in found:
        if name not in expected:
            raise UnsupportedModelError(f"{path}: tensor {name!r} is no part of a Llama decoder of this configuration")
