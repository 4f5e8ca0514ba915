"""The decoder in plain torch: `TorchRunner`, the `Runner` that every other one is held against.

Prefill and decode are the same pass over a ragged batch; linear layers see all tokens of the step as one matrix, and
only attention knows of sequences (`engine.attention`). In float32 this is precision "reference": the same operations as
transformers' own classes for the families of `engine.model.config`, up to the order of sums. Projections that share an
input are one matrix here (q, k, v; gate, up).

A layer's cache is two tensors [kv heads, blocks, block size, head size], allocated once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import gelu, linear, rms_norm, silu

from engine.attention import Group, attend, plan
from engine.base import StepBatch
from engine.host_memory import HostBlocks
from engine.model.config import ModelConfig
from engine.model.files import ModelFiles
from engine.model.kv_groups import KvGroups
from engine.model.weights import Weights


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x Wᵀ + b; weight [outputs, inputs], bias [outputs] or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)

    @property
    def tensors(self) -> list[Tensor]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]


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
    head_norms: tuple[Tensor, Tensor] | None
    """Of query and key heads, [head size] each."""
    post_norms: tuple[Tensor, Tensor] | None
    """Of what attention and what the MLP adds to the residual stream."""
    group: int
    """Which of the step's block tables it goes by."""
    window: int
    rotary: int


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tokens of a step stand, for all layers."""

    slots: list[Tensor]
    """By group of layers."""
    rotations: list[tuple[Tensor, Tensor]]
    """For each of `ModelConfig.rotaries`: cosines and sines [T, 1, head size / 2]."""
    attention: dict[tuple[int, int], list[Group]]
    """By group of layers and window."""


class TorchRunner:
    """Runs a decoder on one torch device; implements `engine.base.Runner`.

    `forward` is `places`, `embed`, `run_layer` for each of ``layers``, and `logits`; who wants to look at the states in
    between (`engine.quantization`) calls these.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        *,
        num_blocks: int,
        block_size: int = 16,
        groups: KvGroups | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        """``weights`` by Hugging Face name. ``groups``: None for all layers in one. The cache takes 2 · layers of a
        group · kv heads · head size · slots elements of ``dtype``.
        """
        self.config = config
        self.vocab_size = config.vocab_size
        self.context_length = config.context_length
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._groups = groups or KvGroups.one(config)
        self.windows = self._groups.windows
        self._device = torch.device(device)
        self._dtype = dtype

        cache = (config.kv_heads, num_blocks, block_size, config.head_dim)
        # Zeros, not garbage: a masked key still enters the product, and NaN times zero is NaN.
        self._caches = [
            (torch.zeros(cache, dtype=dtype, device=device), torch.zeros(cache, dtype=dtype, device=device))
            for _ in range(self._groups.places)
        ]
        self._embedding = self._tensor(weights, "model.embed_tokens.weight")
        self.layers = [self._layer(weights, i) for i in range(config.layers)]
        self._norm = self._tensor(weights, "model.norm.weight")
        head = self._embedding if config.tied_embeddings else self._tensor(weights, "lm_head.weight")
        self._head = Linear(head, None)
        tables = [rotary.tables(config.context_length, config.head_dim) for rotary in config.rotaries]
        self._rotations = [(self._moved(cos), self._moved(sin)) for cos, sin in tables]

    @classmethod
    def load(
        cls,
        model: ModelFiles,
        *,
        num_blocks: int,
        block_size: int = 16,
        groups: KvGroups | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> TorchRunner:
        return cls(
            model.config,
            model.weights(),
            num_blocks=num_blocks,
            block_size=block_size,
            groups=groups,
            dtype=dtype,
            device=device,
        )

    @torch.inference_mode()
    def forward(self, batch: StepBatch) -> NDArray[np.float32]:
        """Logits [R, vocab_size] of the rows asked for; writes the new keys and values. See `Runner.forward`."""
        places = self.places(batch)
        hidden = self.embed(batch.tokens)
        for layer in self.layers:
            hidden = self.run_layer(layer, hidden, places)
        return self.logits(hidden[self._index(batch.logit_rows)]).float().cpu().numpy()

    def places(self, batch: StepBatch) -> Places:
        positions = self._index(batch.positions)
        heads_per_key = self.config.heads // self.config.kv_heads
        return Places(
            [self._index(slots) for slots in batch.slots],
            [(cos[positions, None], sin[positions, None]) for cos, sin in self._rotations],
            {
                (group, window): plan(
                    batch, batch.block_tables[group], heads_per_key, self.block_size, self._device, window
                )
                for group, window in {(layer.group, layer.window) for layer in self.layers}
            },
        )

    def embed(self, tokens: NDArray[np.int32]) -> Tensor:
        """[T, hidden], the residual stream's beginning."""
        found = self._embedding[self._index(tokens)]
        scale = self.config.embedding_scale
        # Rounded to the precision first, as the models were trained.
        return found if scale == 1 else found * torch.tensor(scale, dtype=self._dtype, device=self._device)

    def run_layer(self, layer: Layer, hidden: Tensor, places: Places) -> Tensor:
        """The residual stream [T, hidden] after ``layer``, which writes its keys and values."""
        found = self._attention(layer, self._normed(hidden, layer.attention_norm), places)
        hidden = hidden + (found if layer.post_norms is None else self._normed(found, layer.post_norms[0]))
        gate, up = layer.gate_up(self._normed(hidden, layer.mlp_norm)).chunk(2, dim=-1)
        gate = silu(gate) if self.config.activation == "silu" else gelu(gate, approximate="tanh")
        found = layer.down(gate * up)
        return hidden + (found if layer.post_norms is None else self._normed(found, layer.post_norms[1]))

    def logits(self, hidden: Tensor) -> Tensor:
        """[R, vocab_size] of the residual stream's last rows [R, hidden]."""
        found = self._head(self._normed(hidden, self._norm))
        cap = self.config.logit_cap
        return cap * torch.tanh(found / cap) if cap else found

    def _attention(self, layer: Layer, x: Tensor, places: Places) -> Tensor:
        config = self.config
        cos, sin = places.rotations[layer.rotary]
        heads = layer.qkv(x).view(len(x), -1, config.head_dim)
        queries, keys, values = heads.split((config.heads, config.kv_heads, config.kv_heads), dim=1)
        if layer.head_norms is not None:
            queries, keys = self._normed(queries, layer.head_norms[0]), self._normed(keys, layer.head_norms[1])
        slots = places.slots[layer.group]
        layer.keys.flatten(1, 2).index_copy_(1, slots, _rotated(keys, cos, sin).transpose(0, 1))
        layer.values.flatten(1, 2).index_copy_(1, slots, values.transpose(0, 1))
        found = attend(
            _rotated(queries, cos, sin),
            layer.keys,
            layer.values,
            places.attention[layer.group, layer.window],
            scale=config.attention_scale,
            cap=config.attention_cap,
        )
        return layer.output(found.flatten(1))

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMS norm, computed in float32 whatever the precision, as transformers does."""
        return rms_norm(x.float(), x.shape[-1:], eps=self.config.norm_eps).to(x.dtype) * weight

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block's keys and values."""
        for tensor in self._kept():
            tensor[:, target] = tensor[:, source]

    def host_memory(self, nbytes: int) -> HostBlocks:
        """A second tier of the cache, of at most ``nbytes`` in the host's memory."""
        return HostBlocks(self._kept(), nbytes)

    def nbytes(self) -> dict[str, int]:
        """Bytes of {"weights": …, "kv": …}; a tied head counts once."""
        weights = [self._embedding, self._norm]
        if not self.config.tied_embeddings:
            weights.append(self._head.weight)
        for layer in self.layers:
            weights += [layer.attention_norm, layer.mlp_norm, *(layer.head_norms or ()), *(layer.post_norms or ())]
            for part in (layer.qkv, layer.output, layer.gate_up, layer.down):
                weights += part.tensors
        return {"weights": sum(t.nbytes for t in weights), "kv": sum(t.nbytes for t in self._kept())}

    def _kept(self) -> list[Tensor]:
        """Keys and values of all places."""
        return [tensor for pair in self._caches for tensor in pair]

    def _layer(self, weights: Weights, index: int) -> Layer:
        config = self.config
        prefix = f"model.layers.{index}."
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        group, place = self._groups.layers[index]
        keys, values = self._caches[place]

        def norm(name: str) -> Tensor:
            return self._tensor(weights, f"{prefix}{name}.weight")

        return Layer(
            attention_norm=norm("input_layernorm"),
            qkv=self._linear(weights, [attention + "q_proj", attention + "k_proj", attention + "v_proj"]),
            output=self._linear(weights, [attention + "o_proj"]),
            mlp_norm=norm(config.mlp_norm),
            gate_up=self._linear(weights, [mlp + "gate_proj", mlp + "up_proj"]),
            down=self._linear(weights, [mlp + "down_proj"]),
            keys=keys,
            values=values,
            head_norms=(norm("self_attn.q_norm"), norm("self_attn.k_norm")) if config.qk_norm else None,
            post_norms=(norm("post_attention_layernorm"), norm("post_feedforward_layernorm"))
            if config.post_norms
            else None,
            group=group,
            window=config.window(index),
            rotary=config.rotary(index),
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
        return self._moved(weights[name])

    def _moved(self, values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values).to(device=self._device, dtype=self._dtype)

    def _index(self, values: NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._device)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al., arXiv:2104.09864) of x [T, heads, head size]; cos, sin [T, 1, head size /
    2].
    """
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
