"""The Llama decoder in plain torch: `TorchRunner`, the `Runner` that every other one is held against.

Prefill and decode are the same pass over a ragged batch; linear layers see all tokens of the step as one matrix, and
only attention knows of sequences (`engine.attention`). In float32 this is precision "reference": the same operations as
transformers' LlamaForCausalLM, up to the order of sums. Projections that share an input are one matrix here (q, k, v;
gate, up).

A layer's cache is two tensors [kv heads, blocks, block size, head size], allocated once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from engine.attention import Group, attend, plan
from engine.base import StepBatch
from engine.model.config import ModelConfig
from engine.model.files import ModelFiles
from engine.model.weights import Weights


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x Wᵀ + b; weight [outputs, inputs], bias [outputs] or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights and cache of one decoder layer."""

    attention_norm: Tensor
    qkv: Linear
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear
    keys: Tensor
    values: Tensor


class TorchRunner:
    """Runs a Llama decoder on one torch device; implements `engine.base.Runner`."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        *,
        num_blocks: int,
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        """``weights`` by Hugging Face name. The cache takes 2 · layers · kv heads · head size · slots elements of
        ``dtype``.
        """
        self.config = config
        self.vocab_size = config.vocab_size
        self.context_length = config.context_length
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._device = torch.device(device)
        self._dtype = dtype

        self._embedding = self._tensor(weights, "model.embed_tokens.weight")
        self._layers = [self._layer(weights, f"model.layers.{i}.") for i in range(config.layers)]
        self._norm = self._tensor(weights, "model.norm.weight")
        head = self._embedding if config.tied_embeddings else self._tensor(weights, "lm_head.weight")
        self._head = Linear(head, None)
        frequencies = torch.from_numpy(config.rotary_frequencies())
        angles = torch.arange(config.context_length, dtype=torch.float32)[:, None] * frequencies
        self._cos = angles.cos().to(device=self._device, dtype=dtype)
        self._sin = angles.sin().to(device=self._device, dtype=dtype)

    @classmethod
    def load(
        cls,
        model: ModelFiles,
        *,
        num_blocks: int,
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> TorchRunner:
        return cls(
            model.config, model.weights(), num_blocks=num_blocks, block_size=block_size, dtype=dtype, device=device
        )

    @torch.inference_mode()
    def forward(self, batch: StepBatch) -> NDArray[np.float32]:
        """Logits [R, vocab_size] of the rows asked for; writes the new keys and values. See `Runner.forward`."""
        groups = plan(batch, self.config.heads // self.config.kv_heads, self.block_size, self._device)
        positions = self._index(batch.positions)
        slots = self._index(batch.slots)
        cos = self._cos[positions, None]
        sin = self._sin[positions, None]
        hidden = self._embedding[self._index(batch.tokens)]
        for layer in self._layers:
            hidden = hidden + self._attention(
                layer, self._normed(hidden, layer.attention_norm), cos, sin, slots, groups
            )
            gate, up = layer.gate_up(self._normed(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            hidden = hidden + layer.down(silu(gate) * up)
        wanted = self._normed(hidden[self._index(batch.logit_rows)], self._norm)
        return self._head(wanted).float().cpu().numpy()

    def _attention(
        self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, slots: Tensor, groups: list[Group]
    ) -> Tensor:
        config = self.config
        heads = layer.qkv(x).view(len(x), -1, config.head_dim)
        queries, keys, values = heads.split((config.heads, config.kv_heads, config.kv_heads), dim=1)
        layer.keys.flatten(1, 2).index_copy_(1, slots, _rotated(keys, cos, sin).transpose(0, 1))
        layer.values.flatten(1, 2).index_copy_(1, slots, values.transpose(0, 1))
        found = attend(_rotated(queries, cos, sin), layer.keys, layer.values, groups)
        return layer.output(found.flatten(1))

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMS norm, computed in float32 whatever the precision, as transformers does."""
        return rms_norm(x.float(), x.shape[-1:], eps=self.config.norm_eps).to(x.dtype) * weight

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block's keys and values in every layer."""
        for layer in self._layers:
            layer.keys[:, target] = layer.keys[:, source]
            layer.values[:, target] = layer.values[:, source]

    def nbytes(self) -> dict[str, int]:
        """Bytes of {"weights": …, "kv": …}; a tied head counts once."""
        weights = [self._embedding, self._norm]
        if not self.config.tied_embeddings:
            weights.append(self._head.weight)
        for layer in self._layers:
            weights += [layer.attention_norm, layer.mlp_norm]
            for part in (layer.qkv, layer.output, layer.gate_up, layer.down):
                weights += [part.weight] if part.bias is None else [part.weight, part.bias]
        cache = [tensor for layer in self._layers for tensor in (layer.keys, layer.values)]
        return {"weights": sum(t.nbytes for t in weights), "kv": sum(t.nbytes for t in cache)}

    def _layer(self, weights: Weights, prefix: str) -> Layer:
        config = self.config
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        cache = (config.kv_heads, self.num_blocks, self.block_size, config.head_dim)
        return Layer(
            attention_norm=self._tensor(weights, prefix + "input_layernorm.weight"),
            qkv=self._linear(weights, [attention + "q_proj", attention + "k_proj", attention + "v_proj"]),
            output=self._linear(weights, [attention + "o_proj"]),
            mlp_norm=self._tensor(weights, prefix + "post_attention_layernorm.weight"),
            gate_up=self._linear(weights, [mlp + "gate_proj", mlp + "up_proj"]),
            down=self._linear(weights, [mlp + "down_proj"]),
            # Zeros, not garbage: a masked key still enters the product, and NaN times zero is NaN.
            keys=torch.zeros(cache, dtype=self._dtype, device=self._device),
            values=torch.zeros(cache, dtype=self._dtype, device=self._device),
        )

    def _linear(self, weights: Weights, names: list[str]) -> Linear:
        """The linear layers ``names`` stacked into one."""
        bias = names[0] + ".bias" in weights
        return Linear(
            self._stacked(weights, [name + ".weight" for name in names]),
            self._stacked(weights, [name + ".bias" for name in names]) if bias else None,
        )

    def _stacked(self, weights: Weights, names: list[str]) -> Tensor:
        return torch.cat([self._tensor(weights, name) for name in names])

    def _tensor(self, weights: Weights, name: str) -> Tensor:
        return torch.from_numpy(weights[name]).to(device=self._device, dtype=self._dtype)

    def _index(self, values: NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._device)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al., arXiv:2104.09864) of x [T, heads, head size]; cos, sin [T, 1, head size /
    2].
    """
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
