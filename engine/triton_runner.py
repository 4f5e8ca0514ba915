"""The runner of GPUs: a decoder over the Triton kernels of `kernels/`, with captured graphs for decode.

Six launches a layer of a Llama besides the four matmuls: norm with the residual, rotation with the cache write,
attention and its join, norm with the residual, gate. Norms of heads and norms after a block are launches of their own.
Weights are dense in the activations' type, or GGUF's blocks as they lie in the file; the cache is of the activations'
type, int8 or fp8. Logits stay on the device for `engine.device_sampling`: a step
sends one array of integers and gets tokens.

A decode step of B sequences is replayed from a CUDA graph of the next larger size (`engine.decode_graphs`). Under
Triton's interpreter (TRITON_INTERPRET=1, device "cpu") the same code runs without graphs, which is how it is tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.base import StepBatch
from engine.decode_graphs import DecodeGraphs, StepTensors
from engine.device_weights import Linear, Loader
from engine.host_memory import HostBlocks
from engine.model.config import ModelConfig
from engine.model.errors import UnsupportedModelError
from engine.model.files import ModelFiles
from engine.model.kv_groups import KvGroups
from engine.model.weights import Weights
from kernels.gate import gated
from kernels.norm import rms_norm
from kernels.paged_attention import DECODE_ROWS, Plan, attend, tiles
from kernels.rotary import Cache, rotate_and_write

ALIGN = 4
"""int32 that a part of the upload is padded to: 16 bytes, so that every step's pointers are as aligned."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights and cache of one decoder layer."""

    attention_norm: Tensor
    qkv: Linear
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear
    cache: Cache
    head_norms: tuple[Tensor, Tensor] | None
    """Of query and key heads, [head size] each."""
    post_norms: tuple[Tensor, Tensor] | None
    """Of what attention and what the MLP adds to the residual stream."""
    group: int
    """Which of the step's block tables it goes by."""
    window: int
    rotary: int

    def nbytes(self) -> int:
        """Of the weights."""
        linears = (self.qkv, self.output, self.gate_up, self.down)
        norms = (self.attention_norm, self.mlp_norm, *(self.head_norms or ()), *(self.post_norms or ()))
        return sum(part.nbytes for part in (*norms, *linears))


class TritonRunner:
    """Runs a decoder on a GPU; implements `engine.base.Runner`, its logits being a tensor on the device."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        *,
        num_blocks: int,
        block_size: int = 16,
        groups: KvGroups | None = None,
        dtype: torch.dtype = torch.bfloat16,
        cache_dtype: torch.dtype | None = None,
        device: str | torch.device = "cuda",
        graph_sizes: tuple[int, ...] = (),
    ) -> None:
        """``weights`` by Hugging Face name. ``groups``: None for all layers in one. ``cache_dtype``: None for
        ``dtype``; torch.int8 or torch.float8_e4m3fn. ``graph_sizes``: batches whose decode is captured, ascending; on a
        GPU only.

        UnsupportedModelError: more than 16 query heads share a key head.
        """
        if config.heads // config.kv_heads > DECODE_ROWS:
            raise UnsupportedModelError(
                f"heads is {config.heads} over {config.kv_heads} key heads; the attention kernel shares one among 16"
            )
        self.config = config
        self.vocab_size = config.vocab_size
        self.context_length = config.context_length
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._groups = groups or KvGroups.one(config)
        self.windows = self._groups.windows
        self._device = torch.device(device)
        self._cuda = self._device.type == "cuda"

        loader = Loader(weights, dtype, self._device)
        self._embedding = loader.tensor("model.embed_tokens.weight")
        self._norm = loader.tensor("model.norm.weight")
        self._head = loader.head("model.embed_tokens" if config.tied_embeddings else "lm_head", self._embedding)
        slots = num_blocks * block_size
        self._caches = [
            Cache.empty(config.kv_heads, slots, config.head_dim, cache_dtype or dtype, self._device)
            for _ in range(self._groups.places)
        ]
        self._layers = [self._layer(loader, i) for i in range(config.layers)]
        tables = [rotary.tables(config.context_length, config.head_dim) for rotary in config.rotaries]
        self._rotations = [
            (torch.from_numpy(cos).to(self._device), torch.from_numpy(sin).to(self._device)) for cos, sin in tables
        ]
        self._staging = self._pinned(1 << 16)
        self._graphs: DecodeGraphs | None = None
        if graph_sizes:
            width = -(-config.context_length // block_size)
            shape = len(self.windows), min(width, num_blocks)
            self._graphs = DecodeGraphs(self._compute, graph_sizes, shape, self._device)

    @classmethod
    def load(
        cls,
        model: ModelFiles,
        *,
        num_blocks: int,
        block_size: int = 16,
        groups: KvGroups | None = None,
        dtype: torch.dtype = torch.bfloat16,
        cache_dtype: torch.dtype | None = None,
        device: str | torch.device = "cuda",
        graph_sizes: tuple[int, ...] = (),
    ) -> TritonRunner:
        return cls(
            model.config, model.weights(), num_blocks=num_blocks, block_size=block_size, groups=groups, dtype=dtype,
            cache_dtype=cache_dtype, device=device, graph_sizes=graph_sizes,
        )  # fmt: skip

    @torch.inference_mode()
    def forward(self, batch: StepBatch) -> Tensor:
        """Logits [R, vocab_size] of the rows asked for, on the device, in the activations' type; valid until the next
        call. Writes the new keys and values. See `Runner.forward`.
        """
        step = self._upload(batch)
        decodes = len(batch.tokens) == len(batch.context_lens) == len(batch.logit_rows)
        if decodes and self._graphs is not None and self._graphs.fits(len(batch.tokens)):
            return self._graphs.run(step)
        return self._compute(step)

    def _compute(self, step: StepTensors) -> Tensor:
        config = self.config
        residual = self._embedding[step.tokens.long()]
        if config.embedding_scale != 1:
            residual *= config.embedding_scale
        x = rms_norm(residual, self._layers[0].attention_norm, config.norm_eps)
        for i, layer in enumerate(self._layers):
            if i:
                x = rms_norm(x, layer.attention_norm, config.norm_eps, residual)
            x = self._after(layer, 0, layer.output(self._attention(layer, x, step)))
            x = rms_norm(x, layer.mlp_norm, config.norm_eps, residual)
            x = self._after(layer, 1, layer.down(gated(layer.gate_up(x), config.activation)))
        rows = step.logit_rows.long()
        logits = self._head(rms_norm(x[rows], self._norm, config.norm_eps, residual[rows]))
        return config.logit_cap * torch.tanh(logits / config.logit_cap) if config.logit_cap else logits

    def _attention(self, layer: Layer, x: Tensor, step: StepTensors) -> Tensor:
        config = self.config
        qkv = layer.qkv(x)
        if layer.head_norms is not None:
            qkv = self._normed_heads(qkv, *layer.head_norms)
        cos, sin = self._rotations[layer.rotary]
        queries = rotate_and_write(qkv, cos, sin, step.positions, step.slots[layer.group], layer.cache, config.heads)
        found = attend(
            queries, layer.cache, step.plans[layer.group], block_size=self.block_size, window=layer.window,
            scale=config.attention_scale, cap=config.attention_cap,
        )  # fmt: skip
        return found.flatten(1)

    def _normed_heads(self, qkv: Tensor, query_norm: Tensor, key_norm: Tensor) -> Tensor:
        """``qkv`` [T, (heads + 2 kv heads) · D] with every query and key head normed."""
        config = self.config
        parts = qkv.view(len(qkv), -1, config.head_dim).split((config.heads, config.kv_heads, config.kv_heads), dim=1)
        queries, keys = (
            rms_norm(part.reshape(-1, config.head_dim), norm, config.norm_eps).view(part.shape)
            for part, norm in zip(parts, (query_norm, key_norm), strict=False)
        )
        return torch.cat((queries, keys, parts[2]), dim=1).flatten(1)

    def _after(self, layer: Layer, part: int, x: Tensor) -> Tensor:
        """What a block (0 attention, 1 MLP) adds to the residual stream."""
        return x if layer.post_norms is None else rms_norm(x, layer.post_norms[part], self.config.norm_eps)

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block's keys and values."""
        size = self.block_size
        to, of = slice(target * size, (target + 1) * size), slice(source * size, (source + 1) * size)
        for cache in self._caches:
            for tensor in (cache.keys, cache.values, cache.key_scales, cache.value_scales):
                tensor[:, to] = tensor[:, of]

    def host_memory(self, nbytes: int) -> HostBlocks:
        """A second tier of the cache, of at most ``nbytes`` in the host's memory."""
        tensors = [t for c in self._caches for t in (c.keys, c.values, c.key_scales, c.value_scales) if t.numel()]
        return HostBlocks([t.unflatten(1, (self.num_blocks, self.block_size)) for t in tensors], nbytes)

    def nbytes(self) -> dict[str, int]:
        """Bytes of {"weights": …, "kv": …}; a tied head in blocks counts beside the embedding."""
        weights = [self._embedding.nbytes, self._norm.nbytes, self._head.nbytes]
        return {
            "weights": sum(weights) + sum(layer.nbytes() for layer in self._layers),
            "kv": sum(cache.nbytes() for cache in self._caches),
        }

    def _layer(self, loader: Loader, index: int) -> Layer:
        config = self.config
        prefix = f"model.layers.{index}."
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        group, place = self._groups.layers[index]

        def norm(name: str) -> Tensor:
            return loader.tensor(f"{prefix}{name}.weight")

        return Layer(
            attention_norm=norm("input_layernorm"),
            qkv=loader.linear([attention + "q_proj", attention + "k_proj", attention + "v_proj"]),
            output=loader.linear([attention + "o_proj"]),
            mlp_norm=norm(config.mlp_norm),
            gate_up=loader.linear([mlp + "gate_proj", mlp + "up_proj"]),
            down=loader.linear([mlp + "down_proj"]),
            cache=self._caches[place],
            head_norms=(norm("self_attn.q_norm"), norm("self_attn.k_norm")) if config.qk_norm else None,
            post_norms=(norm("post_attention_layernorm"), norm("post_feedforward_layernorm"))
            if config.post_norms
            else None,
            group=group,
            window=config.window(index),
            rotary=config.rotary(index),
        )

    def _upload(self, batch: StepBatch) -> StepTensors:
        """All of a step's integers in one copy. One staging buffer suffices: a step's tokens are read, and so its copy
        has ended, before the next one is filled.
        """
        decode, prefill = tiles(batch.query_start, self.config.heads // self.config.kv_heads)
        arrays: list[NDArray[np.int32]] = [
            batch.tokens, batch.positions, batch.logit_rows, decode, prefill, batch.query_start, batch.context_lens,
            *batch.slots, *batch.block_tables,
        ]  # fmt: skip
        starts = np.cumsum([0, *(-(-array.size // ALIGN) * ALIGN for array in arrays)]).tolist()
        if starts[-1] > len(self._staging):
            self._staging = self._pinned(2 * starts[-1])
        staged = self._staging.numpy()
        for start, array in zip(starts, arrays, strict=False):
            staged[start : start + array.size] = array.reshape(-1)
        sent = self._staging[: starts[-1]].to(self._device, non_blocking=True, copy=True)
        tokens, positions, logit_rows, decode_tiles, prefill_tiles, query_start, contexts, *grouped = (
            sent[start : start + array.size].view(array.shape) for start, array in zip(starts, arrays, strict=False)
        )
        groups = len(self.windows)
        plans = [Plan(decode_tiles, prefill_tiles, query_start, contexts, tables) for tables in grouped[groups:]]
        return StepTensors(tokens, positions, grouped[:groups], logit_rows, plans)

    def _pinned(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.int32, pin_memory=self._cuda)
