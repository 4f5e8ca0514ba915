"""Safetensors (github.com/huggingface/safetensors), read in place and written: header length u64, JSON header, data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.model.errors import ModelFileError, UnsupportedModelError

FLOATS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
INTEGERS: dict[str, np.dtype[Any]] = {
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
ELEMENTS = FLOATS | INTEGERS
NAMES = {kind: name for name, kind in ELEMENTS.items() if name != "BF16"}


class _TensorInfo(msgspec.Struct):
    """A tensor in a header; offsets are relative to the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class SafetensorsFile:
    """One file, memory-mapped. ``shapes`` and ``types`` give what is in it.

    ModelFileError: it is missing, cut off or malformed. UnsupportedModelError: an element type that is not known.
    """

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
        self.types = {name: info.dtype for name, info in self._tensors.items()}

    def _check(self, name: str, info: _TensorInfo) -> None:
        kind = ELEMENTS.get(info.dtype)
        if kind is None:
            raise UnsupportedModelError(
                f"{self.path}: tensor {name!r} has type {info.dtype}; types that can be read are {', '.join(ELEMENTS)}"
            )
        begin, end = info.data_offsets
        if begin < 0 or end > len(self._bytes) - self._data or end - begin != math.prod(info.shape) * kind.itemsize:
            raise ModelFileError(
                f"{self.path}: tensor {name!r} of shape {list(info.shape)} ({info.dtype}) "
                f"does not fit its bytes {begin} to {end}"
            )

    def read(self, name: str) -> NDArray[Any]:
        """A fresh array: float32 for all floats, integers in their own type."""
        info = self._tensors[name]
        begin, end = (self._data + offset for offset in info.data_offsets)
        raw = self._bytes[begin:end].view(ELEMENTS[info.dtype]).reshape(info.shape)
        if info.dtype == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32) if info.dtype in FLOATS else np.array(raw)


def write(path: str, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write a file of float16, float32 and integer arrays, the widest elements first, so that all are aligned."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    at = 0
    for name, values in ordered.items():
        header[name] = {"dtype": NAMES[values.dtype], "shape": values.shape, "data_offsets": (at, at + values.nbytes)}
        at += values.nbytes
    encoded = msgspec.json.encode(header)
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for values in ordered.values():
            file.write(np.ascontiguousarray(values).tobytes())
