"""A model's linear layers onto a grid, one decoder layer after the other.

    rtn          every weight to the nearest number
    gptq         `engine.quantization.gptq`
    awq          scales folded into norms and projections, then clipped ranges   `engine.quantization.scaling`
    smoothquant  scales folded into norms, then rounding at 8 bits a row, for 8-bit activations

Embedding and head stay as they are. The runner that was calibrated runs the quantized model afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.decoder import Layer, Linear, TorchRunner
from engine.model.config import ModelConfig
from engine.model.grid import Grid
from engine.quantization.calibration import INPUTS, Calibration, Moments
from engine.quantization.gptq import ActOrder, gptq
from engine.quantization.rounding import Scheme, round_to_nearest
from engine.quantization.scaling import awq_scales, clipped, smooth_scales

Method = Literal["rtn", "gptq", "awq", "smoothquant"]
Layout = Literal["compressed-tensors", "gptq", "awq"]
Changed = dict[str, Grid | NDArray[np.float32]]
"""Weights by Hugging Face name: quantized matrices, and the norms and biases that scales were folded into."""

STACKS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""The projections that lie in one matrix of a `Layer`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    method: Method
    scheme: Scheme
    act_order: ActOrder = "static"
    """GPTQ's."""
    alpha: float = 0.5
    """SmoothQuant's."""
    layout: Layout = "compressed-tensors"
    """Of the file that is written."""


@torch.inference_mode()
def quantize_layers(
    runner: TorchRunner,
    windows: Sequence[Sequence[int]],
    recipe: Recipe,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Changed:
    """Quantize all layers of ``runner``, in place. ``windows``: calibration text, token ids; not used by rtn.

    ``progress(done, total)`` is called after each layer.
    """
    calibration = None if recipe.method == "rtn" else Calibration(runner, windows)
    changed: Changed = {}
    for index, layer in enumerate(runner.layers):
        moments = {} if calibration is None else calibration.observe(layer)
        layer = _scaled(layer, moments, recipe, runner.config)
        grids = {name: _rounded(getattr(layer, name).weight, moments.get(name), recipe) for name in INPUTS}
        layer = replace(
            layer,
            **{name: Linear(torch.from_numpy(grid.dense()), getattr(layer, name).bias) for name, grid in grids.items()},
        )
        runner.layers[index] = layer
        changed |= _named(f"model.layers.{index}.", layer, grids, runner.config)
        if calibration is not None:
            calibration.advance(layer)
        progress(index + 1, len(runner.layers))
    return changed


def _rounded(weights: Tensor, moments: Moments | None, recipe: Recipe) -> Grid:
    if moments is None or recipe.method == "smoothquant":
        return round_to_nearest(weights, recipe.scheme)
    if recipe.method == "gptq":
        return gptq(weights, moments.second, recipe.scheme, act_order=recipe.act_order)
    return clipped(weights, moments.second, recipe.scheme)


def _scaled(layer: Layer, moments: dict[str, Moments], recipe: Recipe, config: ModelConfig) -> Layer:
    """The same layer with scales moved from its inputs to its weights; ``moments`` follow."""
    if recipe.method not in ("awq", "smoothquant"):
        return layer

    def scales(name: str, linear: Linear) -> Tensor:
        seen = moments[name]
        if recipe.method == "smoothquant":
            return smooth_scales(linear.weight, seen.peak, recipe.alpha)
        return awq_scales(linear.weight, seen.magnitude, seen.second, recipe.scheme)

    def moved(name: str, linear: Linear) -> tuple[Linear, Tensor]:
        found = scales(name, linear)
        moments[name].second = moments[name].scaled(found)
        return Linear(linear.weight * found, linear.bias), found

    qkv, by_qkv = moved("qkv", layer.qkv)
    gate_up, by_gate_up = moved("gate_up", layer.gate_up)
    layer = replace(
        layer,
        attention_norm=layer.attention_norm / by_qkv,
        mlp_norm=layer.mlp_norm / by_gate_up,
        qkv=qkv,
        gate_up=gate_up,
    )
    if recipe.method == "smoothquant":
        return layer
    down, by_down = moved("down", layer.down)
    layer = replace(layer, down=down, gate_up=_rows_divided(layer.gate_up, by_down))
    if config.heads == config.kv_heads:  # a value that several heads share cannot be scaled for each of them
        output, by_output = moved("output", layer.output)
        layer = replace(layer, output=output, qkv=_rows_divided(layer.qkv, by_output))
    return layer


def _rows_divided(linear: Linear, scales: Tensor) -> Linear:
    """Its last outputs divided by ``scales``: the up projections, or the values."""
    weight = linear.weight.clone()
    weight[-len(scales) :] /= scales[:, None]
    if linear.bias is None:
        return Linear(weight, None)
    bias = linear.bias.clone()
    bias[-len(scales) :] /= scales
    return Linear(weight, bias)


def _named(prefix: str, layer: Layer, grids: dict[str, Grid], config: ModelConfig) -> Changed:
    shapes = config.weight_shapes()
    found: Changed = {
        f"{prefix}input_layernorm.weight": layer.attention_norm.numpy(),
        f"{prefix}{config.mlp_norm}.weight": layer.mlp_norm.numpy(),
    }
    for stack, names in STACKS.items():
        bias = getattr(layer, stack).bias
        start = 0
        for name in names:
            rows = np.arange(start, start + shapes[f"{prefix}{name}.weight"][0])
            found[f"{prefix}{name}.weight"] = grids[stack].take(rows)
            if bias is not None:
                found[f"{prefix}{name}.bias"] = bias.numpy()[rows]
            start += len(rows)
    return found
