"""Weights under one naming, Hugging Face's, whichever file they come from: mappings of name → float32 array.

Values are read when they are asked for and not kept, so that a runner can convert them one at a time. Opening compares
the files with `ModelConfig.weight_shapes`: a weight that is missing, misshapen or left over is an error that names it,
since a model with a part that nobody reads (a LoRA, a second set of experts) would answer wrongly.

Which rows of which tensor a weight is: `engine.model.layout`. Quantized layers can be had as they are packed, too:
`GgufWeights.packed`, `SafetensorsWeights.grid`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.model.checkpoint import PARTS, Quantization, read_grid, stored_shape
from engine.model.config import ModelConfig
from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.gguf import GgufFile, GgufTensor
from engine.model.grid import Grid
from engine.model.layout import Stored, folder_layout, gguf_layout
from engine.model.safetensors import FLOATS, SafetensorsFile

Weights = Mapping[str, NDArray[np.float32]]
"""Name → a fresh float32 array in row-major order."""

_CONFIG_TENSORS = frozenset(("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"))
"""Tensors that `config_from_gguf` has read; they are no weights."""


class GgufWeights(Mapping[str, NDArray[np.float32]]):
    """The weights of a GGUF file, dequantized on access."""

    def __init__(self, file: GgufFile, config: ModelConfig) -> None:
        self._file = file
        self._places = gguf_layout(config)
        shapes = {name: tensor.shape for name, tensor in file.tensors.items() if name not in _CONFIG_TENSORS}
        _match(file.path, shapes, self._places, config)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        place = self._places[name]
        values = self._file.dequantize(self._file.tensors[place.name])
        return values if place.rows is None else values[place.rows]

    def packed(self, name: str) -> GgufTensor:
        """The weight as the file packs it, its rows in the decoder's order: what a quantized kernel repacks."""
        place = self._places[name]
        tensor = self._file.tensors[place.name]
        if place.rows is None:
            return tensor
        return replace(tensor, data=tensor.data[place.rows], shape=(len(place.rows), *tensor.shape[1:]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _Index(msgspec.Struct):
    """`model.safetensors.index.json`: which shard holds which tensor."""

    weight_map: dict[str, str]


class SafetensorsWeights(Mapping[str, NDArray[np.float32]]):
    """The weights of a model folder, read on access; quantized layers are dequantized."""

    def __init__(self, folder: str, config: ModelConfig, quantization: Quantization | None = None) -> None:
        self._files = _tensor_files(folder)
        self._quantization = quantization
        self._places = folder_layout(config)
        if config.tied_embeddings:
            # Some writers store the shared matrix under both names.
            self._files.pop("lm_head.weight", None)
        for name in [name for name in self._files if name.endswith(".rotary_emb.inv_freq")]:
            # A buffer that transformers saved until 4.31; it follows from the config.
            del self._files[name]
        shapes = {name: file.shapes[name] for name, file in self._files.items()}
        self._quantized: set[str] = set()
        if quantization is not None:
            self._quantized = self._fold(quantization, shapes)
            self._drop_empty_biases(shapes)
        for name in shapes:
            kind = self._files[name].types[name] if name in self._files else "F32"
            if kind not in FLOATS and _module(name) not in self._quantized:
                raise UnsupportedModelError(
                    f"{self._files[name].path}: tensor {name!r} has type {kind}; weights can be {', '.join(FLOATS)}"
                )
        _match(folder, shapes, self._places, config)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        place = self._places[name]
        if _module(place.name) in self._quantized and place.name.endswith(".weight"):
            grid = self.grid(name)
            assert grid is not None
            return grid.dense()
        values = self._read(place.name).astype(np.float32, copy=False)
        if place.less_one:
            values = values + np.float32(1)
        return values if place.rows is None else values[place.rows]

    def grid(self, name: str) -> Grid | None:
        """A quantized layer's weight as integers; None for one that is stored in floats."""
        place = self._places[name]
        module = _module(place.name)
        if self._quantization is None or module not in self._quantized:
            return None
        try:
            grid = read_grid(self._quantization, module, self._read, self._files.__contains__)
        except ModelFileError as error:
            path = next(file.path for stored, file in self._files.items() if _module(stored) == module)
            raise ModelFileError(f"{path}: {error}") from error
        return grid if place.rows is None else grid.take(place.rows)

    def _read(self, name: str) -> NDArray[np.generic]:
        return self._files[name].read(name)

    def _fold(self, scheme: Quantization, shapes: dict[str, tuple[int, ...]]) -> set[str]:
        """The quantized layers. In ``shapes`` the tensors of each become the one weight that they stand for."""
        modules = [_module(name) for name in shapes if name.endswith("." + scheme.mark)]
        for module in modules:
            held = stored_shape(scheme, module, shapes)
            if f"{module}.weight_shape" in shapes:
                held = tuple(self._read(f"{module}.weight_shape").tolist())
            for part in PARTS[scheme.method]:
                shapes.pop(f"{module}.{part}", None)
            shapes[f"{module}.weight"] = held
        return set(modules)

    def _drop_empty_biases(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """AutoGPTQ writes a bias of zeros for every layer that has none."""
        known = {place.name for place in self._places.values()}
        for name in [name for name in shapes if name.endswith(".bias") and name not in known]:
            if not self._read(name).any():
                del shapes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _tensor_files(folder: str) -> dict[str, SafetensorsFile]:
    """Tensor → the file it is in, over all shards."""
    index = os.path.join(folder, "model.safetensors.index.json")
    names = sorted(_shard_names(index)) if os.path.exists(index) else ["model.safetensors"]
    files: dict[str, SafetensorsFile] = {}
    for shard in (SafetensorsFile(os.path.join(folder, name)) for name in names):
        for name in shard.shapes:
            if name in files:
                raise ModelFileError(f"{shard.path}: tensor {name!r} is also in {files[name].path}")
            files[name] = shard
    return files


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


def _match(path: str, found: Mapping[str, tuple[int, ...]], places: Mapping[str, Stored], config: ModelConfig) -> None:
    """Every weight is there with its shape, and nothing else is."""
    expected: dict[str, tuple[int, ...]] = {}
    for weight, shape in config.weight_shapes().items():
        stored = places[weight].name
        if stored not in found:
            raise ModelFileError(f"{path}: weight {stored!r} is missing")
        others = expected.get(stored)
        expected[stored] = shape if others is None else (others[0] + shape[0], *shape[1:])
    for name, shape in found.items():
        if name not in expected:
            raise UnsupportedModelError(
                f"{path}: tensor {name!r} is no part of a {config.family} decoder of this configuration"
            )
        if shape != expected[name]:
            raise ModelFileError(f"{path}: weight {name!r} has shape {list(shape)}, expected {list(expected[name])}")
