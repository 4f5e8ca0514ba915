"""Quantized checkpoints in safetensors: three published layouts, decoded to `Grid`s.

    gptq                qweight int32 [inputs · bits / 32, outputs], fields of a word along the inputs;
                        qzeros int32 [groups, outputs · bits / 32], less one in "gptq" and plain in "gptq_v2";
                        scales [groups, outputs]; g_idx int32 [inputs], the group of an input (act-order)
                        Frantar et al., arXiv:2210.17323; the layout is AutoGPTQ's
    awq                 qweight int32 [inputs, outputs / 8], fields of a word in the order 0 2 4 6 1 3 5 7;
                        qzeros int32 [groups, outputs / 8]; scales [groups, outputs]
                        Lin et al., arXiv:2306.00978; the layout is AutoAWQ's "gemm"
    compressed-tensors  "pack-quantized": weight_packed int32 [outputs, inputs · bits / 32], each field plus
                        2^(bits-1); weight_scale [outputs, groups]; weight_zero_point packed along the outputs;
                        weight_g_idx; weight_shape
                        "int-quantized": weight int8 [outputs, inputs], weight_scale, weight_zero_point int8

Fields of 3 bits and the like lie densely, across the borders of words; older writers of compressed-tensors left the
rest of a word empty instead, which shows in the number of words.

Activations are the runner's business: those of a W8A8 checkpoint are rounded by blocks of 32 where the CPU kernels
run, and not at all in precision "reference". Other methods (bitsandbytes, fp8, ...) are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.grid import Grid

Method = Literal["gptq", "gptq_v2", "awq", "pack-quantized", "int-quantized"]
Read = Callable[[str], NDArray[Any]]
"""A tensor by name, in the type it is stored in; bfloat16 as float32."""

AWQ_ORDER = np.array([0, 2, 4, 6, 1, 3, 5, 7])
"""Which output stands in field i of a word."""

PARTS: dict[Method, tuple[str, ...]] = {
    "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "gptq_v2": ("qweight", "qzeros", "scales", "g_idx"),
    "awq": ("qweight", "qzeros", "scales"),
    "pack-quantized": ("weight_packed", "weight_scale", "weight_zero_point", "weight_g_idx", "weight_shape"),
    "int-quantized": ("weight", "weight_scale", "weight_zero_point"),
}
"""Tensors of one linear layer; the first two or three are always there."""

MARK = {"gptq": "qweight", "gptq_v2": "qweight", "awq": "qweight"}
"""The tensor whose presence says that a layer is quantized; "weight_scale" for compressed-tensors."""


class Quantization(msgspec.Struct, frozen=True):
    """How the linear layers of a checkpoint are stored. The size of groups follows from the tensors."""

    method: Method
    bits: int

    @property
    def mark(self) -> str:
        return MARK.get(self.method, "weight_scale")


# ------------------------------------------------------------------------------------------------------ description


class _Flat(msgspec.Struct, kw_only=True):
    """`quantization_config` of GPTQ and AWQ. What only says how the checkpoint was made is not read."""

    bits: int = 4
    checkpoint_format: str = "gptq"
    version: str = "gemm"


class _Numbers(msgspec.Struct, kw_only=True):
    """Weights or activations of a compressed-tensors group."""

    num_bits: int = 8
    type: str = "int"
    dynamic: bool | str = False


class _Group(msgspec.Struct, kw_only=True):
    weights: _Numbers | None = None
    input_activations: _Numbers | None = None
    output_activations: _Numbers | None = None
    format: str | None = None


class _Compressed(msgspec.Struct, kw_only=True):
    """`quantization_config` of compressed-tensors. Which layers it covers is seen in the file."""

    config_groups: dict[str, _Group]
    format: str
    kv_cache_scheme: dict[str, Any] | None = None
    sparsity_config: dict[str, Any] | None = None
    transform_config: dict[str, Any] | None = None


def quantization_of(found: dict[str, Any], path: str) -> Quantization:
    """From a `quantization_config`. UnsupportedModelError, naming ``path`` and the key: a way that is not read."""
    method = found.get("quant_method")
    try:
        match method:
            case "gptq" | "awq":
                return _flat(method, msgspec.convert(found, _Flat), path)
            case "compressed-tensors":
                return _compressed(msgspec.convert(found, _Compressed), path)
    except msgspec.ValidationError as error:
        raise ModelFileError(f"{path}: in quantization_config: {error}") from error
    raise UnsupportedModelError(
        f"{path}: quantization_config (quant_method {method!r}) is not supported; gptq, awq and compressed-tensors are"
    )


def _flat(method: Literal["gptq", "awq"], found: _Flat, path: str) -> Quantization:
    widths = (2, 3, 4, 8) if method == "gptq" else (4,)
    if found.bits not in widths:
        raise UnsupportedModelError(f"{path}: quantization_config: {method} of {found.bits} bits is not supported")
    if method == "awq":
        if found.version.lower() != "gemm":
            raise UnsupportedModelError(
                f"{path}: quantization_config: version {found.version!r} is not supported; 'gemm' is"
            )
        return Quantization("awq", 4)
    match found.checkpoint_format:
        case "gptq" | "gptq_v2" as layout:
            return Quantization(layout, found.bits)
        case other:
            raise UnsupportedModelError(f"{path}: quantization_config: checkpoint_format {other!r} is not supported")


def _compressed(found: _Compressed, path: str) -> Quantization:
    for name in ("kv_cache_scheme", "sparsity_config", "transform_config"):
        value = getattr(found, name)
        if value and value.get("format") != "dense":
            raise UnsupportedModelError(f"{path}: quantization_config: {name} is not supported")
    schemes = list(found.config_groups.values())
    if len(schemes) != 1 or schemes[0].weights is None:
        raise UnsupportedModelError(
            f"{path}: quantization_config: config_groups must be one group with weights, not {len(schemes)} groups"
        )
    weights, inputs = schemes[0].weights, schemes[0].input_activations
    if schemes[0].output_activations is not None or (inputs is not None and inputs.dynamic is False):
        raise UnsupportedModelError(f"{path}: quantization_config: fixed scales of activations are not supported")
    layout = schemes[0].format or found.format
    if weights.type != "int" or layout not in ("pack-quantized", "int-quantized") or not 1 < weights.num_bits <= 8:
        raise UnsupportedModelError(
            f"{path}: quantization_config: {weights.num_bits} bits of type {weights.type!r} in format {layout!r} are "
            "not supported; 2 to 8 bits of type 'int' in 'pack-quantized' and 'int-quantized' are"
        )
    return Quantization(layout, weights.num_bits)


# ---------------------------------------------------------------------------------------------------------- tensors


def stored_shape(scheme: Quantization, module: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """[outputs, inputs] of a quantized layer, from the shapes of its tensors alone."""
    match scheme.method:
        case "gptq" | "gptq_v2":
            rows, outputs = shapes[f"{module}.qweight"]
            return outputs, rows * 32 // scheme.bits
        case "awq":
            inputs, words = shapes[f"{module}.qweight"]
            return words * 8, inputs
        case "int-quantized":
            return shapes[f"{module}.weight"]
        case "pack-quantized":
            # The words of a row may be padded; only the file's own weight_shape says by how much.
            outputs, words = shapes[f"{module}.weight_packed"]
            return outputs, words * 32 // scheme.bits


def read_grid(scheme: Quantization, module: str, read: Read, has: Callable[[str], bool]) -> Grid:
    """Layer ``module`` of a checkpoint. ModelFileError: its tensors do not fit together."""
    tensors = {part: read(f"{module}.{part}") for part in PARTS[scheme.method] if has(f"{module}.{part}")}
    try:
        match scheme.method:
            case "gptq" | "gptq_v2":
                grid = _gptq(scheme, tensors)
            case "awq":
                grid = _awq(scheme, tensors)
            case "pack-quantized":
                grid = _pack_quantized(scheme, tensors)
            case "int-quantized":
                grid = _int_quantized(scheme, tensors)
    except KeyError as error:
        raise ModelFileError(f"layer {module!r} has no tensor {error.args[0]!r}") from error
    except ValueError as error:
        raise ModelFileError(f"layer {module!r}: {error}") from error
    rows, columns = grid.shape
    groups = grid.scales.shape[1]
    fits = grid.scales.shape == grid.zeros.shape == (rows, groups)
    if grid.group_of is None:
        fits = fits and groups > 0 and columns % groups == 0
    else:
        fits = fits and len(grid.group_of) == columns and 0 <= grid.group_of.min() and grid.group_of.max() < groups
    if not fits:
        raise ModelFileError(
            f"layer {module!r}: scales {list(grid.scales.shape)} and zeros {list(grid.zeros.shape)} do not fit numbers "
            f"of {rows} x {columns}"
        )
    return grid


def _gptq(scheme: Quantization, tensors: dict[str, NDArray[Any]]) -> Grid:
    bits, offset = scheme.bits, 1 << (scheme.bits - 1)
    scales = tensors["scales"].T
    inputs = len(tensors["qweight"]) * 32 // bits
    numbers = unpack_words(tensors["qweight"].T, bits, inputs) - offset
    zeros = unpack_words(tensors["qzeros"], bits, len(scales)).T + (1 if scheme.method == "gptq" else 0) - offset
    return _grid(bits, numbers, scales, zeros, tensors.get("g_idx"))


def _awq(scheme: Quantization, tensors: dict[str, NDArray[Any]]) -> Grid:
    def fields(words: NDArray[Any]) -> NDArray[np.int32]:
        """[n, outputs], each where it belongs."""
        found = unpack_words(words, 4, words.shape[1] * 8).reshape(len(words), -1, 8)
        placed = np.empty_like(found)
        placed[..., AWQ_ORDER] = found
        return placed.reshape(len(words), -1)

    return _grid(4, fields(tensors["qweight"]).T - 8, tensors["scales"].T, fields(tensors["qzeros"]).T - 8, None)


def _pack_quantized(scheme: Quantization, tensors: dict[str, NDArray[Any]]) -> Grid:
    offset = 1 << (scheme.bits - 1)
    scales = tensors["weight_scale"]
    rows, columns = tensors["weight_shape"].tolist()
    numbers = unpack_words(tensors["weight_packed"], scheme.bits, columns) - offset
    zeros = np.zeros(scales.shape, np.int32)
    if "weight_zero_point" in tensors:
        zeros = unpack_words(tensors["weight_zero_point"].T, scheme.bits, rows).T - offset
    return _grid(scheme.bits, numbers, scales, zeros, tensors.get("weight_g_idx"))


def _int_quantized(scheme: Quantization, tensors: dict[str, NDArray[Any]]) -> Grid:
    numbers, scales = tensors["weight"], tensors["weight_scale"]
    zeros = tensors.get("weight_zero_point", np.zeros(scales.shape, np.int8))
    if scales.ndim < 2 or len(scales) == 1:  # one for the whole matrix
        scales, zeros = (np.broadcast_to(part.reshape(1, 1), (len(numbers), 1)) for part in (scales, zeros))
    return _grid(scheme.bits, numbers, scales, zeros, None)


def _grid(
    bits: int, numbers: NDArray[Any], scales: NDArray[Any], zeros: NDArray[Any], order: NDArray[Any] | None
) -> Grid:
    columns, groups = numbers.shape[1], scales.shape[1]
    if order is not None and columns % groups == 0:
        in_order = np.arange(columns) // (columns // groups)
        order = None if np.array_equal(order, in_order) else order
    return Grid(
        bits,
        np.ascontiguousarray(numbers, np.int8),
        np.ascontiguousarray(scales, np.float32),
        np.ascontiguousarray(zeros, np.int16),
        None if order is None else order.astype(np.int32),
    )


def unpack_words(words: NDArray[Any], bits: int, count: int) -> NDArray[np.int32]:
    """int32 [n, words] → [n, count] fields of ``bits``, the lowest bits first. ValueError: another number of words."""
    words = np.ascontiguousarray(words)
    dense, spaced = -(-count * bits // 32), -(-count // (32 // bits))
    if words.shape[1] not in (dense, spaced):
        raise ValueError(f"{count} fields of {bits} bits are {dense} words, not {words.shape[1]}")
    if 32 % bits == 0 or words.shape[1] != dense:
        places = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
        fields = (words.view(np.uint32)[..., None] >> places) & np.uint32((1 << bits) - 1)
        return fields.reshape(len(words), -1)[:, :count].astype(np.int32)
    stream = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little", count=count * bits)
    return stream.reshape(len(words), count, bits) @ (1 << np.arange(bits, dtype=np.int32))


def pack_words(numbers: NDArray[Any], bits: int) -> NDArray[np.int32]:
    """The inverse: [n, columns] of 0 .. 2^bits - 1 → int32 [n, ceil(columns · bits / 32)], densely."""
    rows, columns = numbers.shape
    stream = np.zeros((rows, -(-columns * bits // 32) * 32), np.uint8)
    stream[:, : columns * bits] = (numbers[..., None] >> np.arange(bits) & 1).reshape(rows, -1)
    return np.packbits(stream, axis=1, bitorder="little").view(np.int32)
