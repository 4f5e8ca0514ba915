"""Where the decoder's weights lie in a file: which rows of which tensor, for every weight of `weight_shapes`.

Three habits of the families end here, as choices of rows, so that packed rows can be moved as they are:

* Phi's files hold q, k, v in one matrix, and gate and up in another.
* llama.cpp turns neighbouring numbers of a Llama's head (2i, 2i + 1) where transformers turns (i, i + half), so its
  converter interleaves the two halves of every query and key head: a0 b0 a1 b1 … for a0 a1 … b0 b1 …
* A head that turns in part has what turns in front, x0 … x3 of x0 … x7. The decoder turns pairs of two halves, so they
  become x0 x1 x4 x5 and x2 x3 x6 x7: queries and keys alike, which leaves every score as it was.

And one habit that is none of rows: Gemma's safetensors hold norms *less one*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.model.config import ModelConfig

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one weight is: all of tensor ``name``, or its ``rows`` in that order; ``less_one``: 1 is to be added."""

    name: str
    rows: Rows | None = None
    less_one: bool = False


_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GGUF_NAMES_BOTH_SIDES = _GGUF_NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
"""Of a model with norms on both sides of its blocks."""

FUSED = {
    "self_attn.q_proj": "self_attn.qkv_proj",
    "self_attn.k_proj": "self_attn.qkv_proj",
    "self_attn.v_proj": "self_attn.qkv_proj",
    "mlp.gate_proj": "mlp.gate_up_proj",
    "mlp.up_proj": "mlp.gate_up_proj",
}
"""Projections that Phi stores together, in this order."""


def folder_layout(config: ModelConfig) -> dict[str, Stored]:
    """Weight → its place in safetensors of the model's family."""
    return _layout(config, interleaved=False, less_one=config.family in ("gemma2", "gemma3"))


def gguf_layout(config: ModelConfig) -> dict[str, Stored]:
    """Weight → its place in a GGUF file of the model's architecture."""
    names = _GGUF_NAMES_BOTH_SIDES if config.post_norms else _GGUF_NAMES
    places = _layout(config, interleaved=config.family in ("llama", "smollm3"), less_one=False)
    return {weight: Stored(_gguf_name(place.name, names), place.rows) for weight, place in places.items()}


def _layout(config: ModelConfig, *, interleaved: bool, less_one: bool) -> dict[str, Stored]:
    order = head_order(config.head_dim, config.rotaries[0].dim, interleaved=interleaved)
    turned = {
        "self_attn.q_proj": _heads(order, config.heads),
        "self_attn.k_proj": _heads(order, config.kv_heads),
        "self_attn.q_norm": order,
        "self_attn.k_norm": order,
    }
    shapes = config.weight_shapes()
    places: dict[str, Stored] = {}
    for weight, shape in shapes.items():
        prefix, name, kind = split_name(weight)
        rows = turned.get(name)
        stored = weight
        if config.family == "phi3" and name in FUSED:
            stored = f"{prefix}{FUSED[name]}.{kind}"
            before = [other for other in FUSED if FUSED[other] == FUSED[name]]
            start = sum(shapes[f"{prefix}{other}.{kind}"][0] for other in before[: before.index(name)])
            rows = start + (np.arange(shape[0]) if rows is None else rows)
        places[weight] = Stored(stored, rows, less_one and name.endswith("norm"))
    return places


def split_name(weight: str) -> tuple[str, str, str]:
    """ "model.layers.3.mlp.up_proj.weight" → "model.layers.3.", "mlp.up_proj", "weight"."""
    stem, _, kind = weight.rpartition(".")
    if not stem.startswith("model.layers."):
        return "", stem, kind
    number, _, name = stem.removeprefix("model.layers.").partition(".")
    return f"model.layers.{number}.", name, kind


def _gguf_name(stored: str, names: dict[str, str]) -> str:
    prefix, name, kind = split_name(stored)
    if not prefix:
        return f"{names[name]}.{kind}"
    return f"blk.{prefix.removeprefix('model.layers.')}{names[name]}.{kind}"


def head_order(head_dim: int, turning: int, *, interleaved: bool) -> Rows | None:
    """[head_dim] which number of a stored head stands where in the decoder's; None where all are in place."""
    half = turning // 2
    left, right = np.arange(half), np.arange(half, turning)
    if interleaved:
        left, right = 2 * left, 2 * left + 1
    still = np.arange(turning, head_dim)
    middle = len(still) // 2
    order = np.concatenate((left, still[:middle], right, still[middle:]))
    return None if np.array_equal(order, np.arange(head_dim)) else order


def _heads(order: Rows | None, heads: int) -> Rows | None:
    """The same order in every one of ``heads`` heads."""
    if order is None:
        return None
    return (np.arange(heads)[:, None] * len(order) + order).reshape(-1)
