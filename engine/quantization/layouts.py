"""How the tensors of a quantized layer lie in a file, and what `config.json` says of them; `engine.model.checkpoint`,
which describes each layout, reads them.

    compressed-tensors  any bits, and 8-bit activations; read by vLLM and transformers
    gptq                2, 3, 4 and 8 bits; by vLLM, SGLang, GPTQModel and exllama. Symmetric grids in the first version
                        of the format, whose zeros are stored less one; others, whose zero may be 0, in "gptq_v2"
    awq                 4 bits, always with zeros; by vLLM, SGLang and AutoAWQ

Where GPTQ's groups follow the order of its columns, each input's group is stored beside: g_idx, or weight_g_idx.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.model.checkpoint import AWQ_ORDER, pack_words
from engine.model.config import ModelConfig
from engine.model.errors import UnsupportedModelError
from engine.model.grid import Grid
from engine.quantization.gptq import DAMPING
from engine.quantization.pipeline import Recipe

Tensors = dict[str, NDArray[Any]]


def check_layout(config: ModelConfig, recipe: Recipe) -> None:
    """UnsupportedModelError, naming what is in the way, if a layout cannot hold what the recipe makes."""
    layout, bits = recipe.layout, recipe.scheme.bits
    if layout == "compressed-tensors":
        return
    if recipe.method == "smoothquant":
        raise UnsupportedModelError(f"the layout of {layout} has no 8-bit activations; that of compressed-tensors has")
    if bits not in ((2, 3, 4, 8) if layout == "gptq" else (4,)):
        raise UnsupportedModelError(f"the layout of {layout} has no {bits} bits; that of compressed-tensors has")
    if layout == "awq" and _by_group(recipe):
        raise UnsupportedModelError("the layout of awq has no order of groups: --act-order static or none")
    for name, shape in config.weight_shapes().items():
        if name.endswith("_proj.weight") and any(size * bits % 32 for size in shape):
            raise UnsupportedModelError(
                f"{bits} bits of {shape[1]} inputs and {shape[0]} outputs of {name} fill no whole words"
            )


def layer_tensors(grid: Grid, recipe: Recipe) -> Tensors:
    """The tensors of one layer, by the end of their name."""
    match recipe.layout:
        case "gptq":
            return _gptq(grid, recipe)
        case "awq":
            return _awq(grid)
        case "compressed-tensors":
            return _compressed(grid, recipe)


def quantization_config(recipe: Recipe) -> dict[str, Any]:
    """`quantization_config`, as the layout's own writers spell it."""
    match recipe.layout:
        case "gptq":
            return _gptq_config(recipe)
        case "awq":
            return {
                "quant_method": "awq", "bits": 4, "group_size": recipe.scheme.group, "zero_point": True,
                "version": "gemm", "modules_to_not_convert": None,
            }  # fmt: skip
        case "compressed-tensors":
            return _compressed_config(recipe)


def _by_group(recipe: Recipe) -> bool:
    return recipe.method == "gptq" and recipe.act_order == "group"


# ----------------------------------------------------------------------------------------------------------------- gptq


def _gptq(grid: Grid, recipe: Recipe) -> Tensors:
    offset = 1 << (grid.bits - 1)
    less = 1 if recipe.scheme.symmetric else 0
    return {
        "qweight": np.ascontiguousarray(pack_words(grid.numbers.astype(np.int32) + offset, grid.bits).T),
        "qzeros": pack_words(grid.zeros.T.astype(np.int32) + (offset - less), grid.bits),
        "scales": np.ascontiguousarray(grid.scales.T.astype(np.float16)),
        "g_idx": grid.groups(),
    }


def _gptq_config(recipe: Recipe) -> dict[str, Any]:
    scheme = recipe.scheme
    return {
        "quant_method": "gptq", "bits": scheme.bits, "group_size": scheme.group, "sym": scheme.symmetric,
        "desc_act": _by_group(recipe), "static_groups": recipe.method == "gptq" and recipe.act_order == "static",
        "true_sequential": False, "damp_percent": DAMPING, "lm_head": False,
        "checkpoint_format": "gptq" if scheme.symmetric else "gptq_v2",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------ awq


def _awq(grid: Grid) -> Tensors:
    def fields(numbers: NDArray[Any]) -> NDArray[np.int32]:
        """[n, outputs] of -8 .. 7 → [n, outputs / 8] words, their fields in AWQ's order."""
        shifted = numbers.astype(np.int32) + 8
        return pack_words(shifted.reshape(len(shifted), -1, 8)[..., AWQ_ORDER].reshape(len(shifted), -1), 4)

    return {
        "qweight": fields(grid.numbers.T),
        "qzeros": fields(grid.zeros.T),
        "scales": np.ascontiguousarray(grid.scales.T.astype(np.float16)),
    }


# --------------------------------------------------------------------------------------------------- compressed-tensors


def _compressed(grid: Grid, recipe: Recipe) -> Tensors:
    scales = grid.scales.astype(np.float16)
    if recipe.method == "smoothquant":
        return {"weight": grid.numbers, "weight_scale": scales}
    offset = 1 << (grid.bits - 1)
    parts: Tensors = {
        "weight_packed": pack_words(grid.numbers.astype(np.int32) + offset, grid.bits),
        "weight_scale": scales,
        "weight_shape": np.array(grid.shape, np.int64),
    }
    if not recipe.scheme.symmetric:
        zeros = grid.zeros.astype(np.int32) + offset
        parts["weight_zero_point"] = np.ascontiguousarray(pack_words(zeros.T, grid.bits).T)
    if _by_group(recipe):
        parts["weight_g_idx"] = grid.groups()
    return parts


def _compressed_config(recipe: Recipe) -> dict[str, Any]:
    scheme = recipe.scheme
    grouped = scheme.group > 0
    ordered = recipe.act_order if recipe.method == "gptq" and recipe.act_order != "none" else None
    weights = {
        "num_bits": scheme.bits, "type": "int", "symmetric": scheme.symmetric, "dynamic": False,
        "strategy": "group" if grouped else "channel", "group_size": scheme.group if grouped else None,
        "actorder": ordered, "observer": "minmax",
    }  # fmt: skip
    inputs = {
        "num_bits": 8, "type": "int", "symmetric": True, "dynamic": True, "strategy": "token", "group_size": None
    }  # fmt: skip
    activations = recipe.method == "smoothquant"
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized" if activations else "pack-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": weights,
                "input_activations": inputs if activations else None,
                "output_activations": None,
            }
        },
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quantization_status": "compressed",
    }
