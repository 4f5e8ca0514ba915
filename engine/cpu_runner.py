"""The default runner on CPUs: a decoder straight from quantized blocks, in native kernels (`kernels.cpu`).

Replaces dequantize-then-matmul. Weights stay on the file's own grid where the kernels have it (`engine.packed_weights`;
float matrices become blocks of 32 at 8 bits), activations are quantized a block of 32 before each matmul, everything
else is float32, and the cache holds half precision: llama.cpp's arithmetic on the same file. One call of
`kernels.cpu.decoder.take_part` is one step; no torch is involved.
"""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.base import StepBatch
from engine.model.config import ModelConfig
from engine.model.errors import UnsupportedModelError
from engine.model.files import ModelFiles
from engine.model.kv_groups import KvGroups
from engine.model.weights import GgufWeights
from engine.packed_weights import GridWeights, packed_matrix
from kernels.cpu.attention import KEYS
from kernels.cpu.blocks import PackedMatrix
from kernels.cpu.decoder import Model, Step, phases, scratch_words, take_part
from kernels.cpu.dot import ACTIVATION, BLOCK, ROWS
from kernels.cpu.team import Team

LAYER_MATRICES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
"""In the order of `kernels.cpu.decoder.QUERY` and its neighbours."""

POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")
HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")


class CpuRunner:
    """Runs a decoder from quantized blocks; implements `engine.base.Runner`.

    Logits of a row are bit-equal whatever else is in the batch, however the prompt was chunked, and for any
    ``threads``.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: GgufWeights | GridWeights,
        *,
        num_blocks: int,
        block_size: int = 16,
        groups: KvGroups | None = None,
        threads: int | None = None,
    ) -> None:
        """The cache takes 4 · layers of a group · KV heads · head size bytes a slot. ``groups``: None for all layers in
        one. ``threads``: None for one a core this process may use.

        UnsupportedModelError: sizes that are not multiples of 32.
        ValueError: ``block_size`` is not a multiple of 16, or ``threads`` is below 1.
        """
        if block_size <= 0 or block_size % KEYS:
            raise ValueError(f"block_size is {block_size}; the CPU kernels need a multiple of {KEYS}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; at least 1 is needed")
        check(config)
        self.vocab_size = config.vocab_size
        self.context_length = config.context_length
        self.num_blocks = num_blocks
        self.block_size = block_size
        groups = groups or KvGroups.one(config)
        self.windows = groups.windows
        self._config = config

        embedding = packed_matrix(weights, "model.embed_tokens.weight")
        head = embedding if config.tied_embeddings else packed_matrix(weights, "lm_head.weight")
        prefixes = [f"model.layers.{layer}." for layer in range(config.layers)]
        layers = [[packed_matrix(weights, f"{at}{name}.weight") for name in LAYER_MATRICES] for at in prefixes]
        biases = [[_optional(weights, f"{at}{name}.bias") for name in LAYER_MATRICES] for at in prefixes]
        norms = [weights[f"{at}{name}.weight"] for at in prefixes for name in ("input_layernorm", config.mlp_norm)]
        # Addresses go into the model's tables, so the records must live as long as the threads that read them.
        self._packed = [matrix for layer in layers for matrix in layer] + [embedding, head]
        self._biases = [bias for layer in biases for bias in layer if bias is not None]
        cache = (groups.places, num_blocks, config.kv_heads, config.head_dim * block_size)
        tables = [rotary.tables(config.context_length, config.head_dim) for rotary in config.rotaries]
        self._model = Model(
            layers=config.layers,
            hidden=config.hidden,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            ffn=config.ffn,
            block_size=block_size,
            head_groups=len(head.records),
            gelu=int(config.activation == "gelu_tanh"),
            epsilon=config.norm_eps,
            attention_scale=config.attention_scale,
            attention_cap=config.attention_cap,
            embedding_scale=config.embedding_scale,
            matrices=np.array(
                [
                    [_address(matrix, bias) for matrix, bias in zip(layer, parts, strict=True)]
                    for layer, parts in zip(layers, biases, strict=True)
                ],
                np.int64,
            ),
            embedding=np.array(_address(embedding), np.int64),
            head=np.array(_address(head), np.int64),
            windows=np.array([config.window(layer) for layer in range(config.layers)], np.int64),
            layer_group=np.array([groups.group(layer) for layer in range(config.layers)], np.int64),
            layer_place=np.array([groups.place(layer) for layer in range(config.layers)], np.int64),
            layer_rotary=np.array([config.rotary(layer) for layer in range(config.layers)], np.int64),
            norms=np.stack([*norms, weights["model.norm.weight"]]).astype(np.float32, order="C"),
            post_norms=_rows(weights, prefixes, POST_NORMS if config.post_norms else (), config.hidden),
            head_norms=_rows(weights, prefixes, HEAD_NORMS if config.qk_norm else (), config.head_dim).reshape(
                -1, 2, config.head_dim
            ),
            rotations=np.stack([np.stack(pair, axis=1) for pair in tables]).astype(np.float32, order="C"),
            keys=np.zeros(cache, np.uint16),
            values=np.zeros(cache, np.uint16),
        )
        self._team = Team(threads or len(os.sched_getaffinity(0)), phases(config.layers))
        self._step = self._buffers(tokens=8, sequences=8, blocks=8, rows=8)
        self._team.start(self._serve())
        weakref.finalize(self, _retire, self._team, self._packed, self._biases)

    @classmethod
    def load(
        cls,
        model: ModelFiles,
        *,
        num_blocks: int,
        block_size: int = 16,
        groups: KvGroups | None = None,
        threads: int | None = None,
    ) -> CpuRunner:
        return cls(
            model.config,
            model.weights(),
            num_blocks=num_blocks,
            block_size=block_size,
            groups=groups,
            threads=threads,
        )

    def forward(self, batch: StepBatch) -> NDArray[np.float32]:
        """Logits [R, vocab_size] of the rows asked for; writes the new keys and values. See `Runner.forward`."""
        tokens, (_, sequences, blocks), rows = len(batch.tokens), batch.block_tables.shape, len(batch.logit_rows)
        self._grow(tokens, sequences, blocks, rows)
        step = self._step
        step.counts[:3] = tokens, sequences, rows
        step.tokens[:tokens] = batch.tokens
        step.positions[:tokens] = batch.positions
        step.slots[:, :tokens] = batch.slots
        step.query_start[: sequences + 1] = batch.query_start
        step.block_tables[:, :sequences, :blocks] = batch.block_tables
        step.logit_rows[:rows] = batch.logit_rows
        take_part(0, self._team.threads, self._team.control, self._model, step)
        logits = np.ascontiguousarray(step.logits[:rows, : self.vocab_size])
        if cap := np.float32(self._config.logit_cap):
            np.multiply(np.tanh(logits / cap, out=logits), cap, out=logits)
        return logits

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block's keys and values."""
        self._model.keys[:, target] = self._model.keys[:, source]
        self._model.values[:, target] = self._model.values[:, source]

    def nbytes(self) -> dict[str, int]:
        """Bytes of {"weights": …, "kv": …}; a tied head counts once."""
        held = {id(matrix): matrix.records.nbytes for matrix in self._packed}
        model = self._model
        floats = (model.norms, model.post_norms, model.head_norms, *self._biases)
        return {
            "weights": sum(held.values()) + sum(array.nbytes for array in floats),
            "kv": self._model.keys.nbytes + self._model.values.nbytes,
        }

    def _serve(self) -> partial[None]:
        """What the team's threads run; it must not refer to the runner, or they would keep it alive."""
        team = self._team
        return partial(take_part, threads=team.threads, control=team.control, model=self._model, step=self._step)

    def _grow(self, tokens: int, sequences: int, blocks: int, rows: int) -> None:
        """Make the step's memory large enough, by doubling: threads are restarted, so this must be rare."""
        step = self._step
        have = (len(step.tokens), *step.block_tables.shape[1:], len(step.logits))
        need = (tokens, sequences, blocks, rows)
        if all(n <= h for n, h in zip(need, have, strict=True)):
            return
        self._team.stop()
        sizes = [h if n <= h else max(n, 2 * h) for n, h in zip(need, have, strict=True)]
        self._step = self._buffers(*sizes)
        self._team.start(self._serve())

    def _buffers(self, tokens: int, sequences: int, blocks: int, rows: int) -> Step:
        config = self._config
        heads = config.heads + 2 * config.kv_heads
        return Step(
            counts=np.zeros(4, np.int64),
            tokens=np.zeros(tokens, np.int32),
            positions=np.zeros(tokens, np.int32),
            slots=np.zeros((len(self.windows), tokens), np.int32),
            query_start=np.zeros(sequences + 1, np.int32),
            block_tables=np.zeros((len(self.windows), sequences, blocks), np.int32),
            logit_rows=np.zeros(rows, np.int32),
            tiles=np.zeros((tokens, 3), np.int32),
            x=np.zeros((tokens, config.hidden), np.float32),
            added=np.zeros((tokens if config.post_norms else 0, config.hidden), np.float32),
            normed=_activations(max(tokens, rows), config.hidden),
            mixed=_activations(tokens, config.heads * config.head_dim),
            gated=_activations(tokens, config.ffn),
            qkv=np.zeros((tokens, heads * config.head_dim), np.float32),
            scratch=np.zeros(
                (self._team.threads, scratch_words(config.head_dim, config.heads // config.kv_heads)), np.float32
            ),
            logits=np.zeros((rows, self._model.head_groups * ROWS), np.float32),
        )


def check(config: ModelConfig) -> None:
    """UnsupportedModelError if the kernels cannot run a model of this configuration, naming what is in the way."""
    for name in ("hidden", "ffn", "head_dim"):
        size = getattr(config, name)
        if size % BLOCK:
            raise UnsupportedModelError(
                f"{name} is {size}; the CPU kernels need a multiple of {BLOCK} (precision 'reference' runs any)"
            )


def _optional(weights: GgufWeights | GridWeights, name: str) -> NDArray[np.float32] | None:
    return np.ascontiguousarray(weights[name]) if name in weights else None


def _rows(
    weights: GgufWeights | GridWeights, prefixes: list[str], names: tuple[str, ...], width: int
) -> NDArray[np.float32]:
    """The vectors ``names`` of every layer, [layers · names, width]."""
    found = [weights[f"{at}{name}.weight"] for at in prefixes for name in names]
    return np.array(found, np.float32).reshape(-1, width)


def _address(matrix: PackedMatrix, bias: NDArray[np.float32] | None = None) -> tuple[int, int, int]:
    return matrix.kind, matrix.records.ctypes.data, 0 if bias is None else bias.ctypes.data


def _activations(rows: int, width: int) -> NDArray[np.uint8]:
    return np.zeros((rows, width // BLOCK * ACTIVATION), np.uint8)


def _retire(team: Team, *held: list[Any]) -> None:
    """Stop the threads before the records they read go away."""
    team.stop()
    for part in held:
        part.clear()
