"""A model's facts from GGUF metadata, by the names of llama.cpp's converter (gguf-py's constants.py).

A key under the architecture's own name is honoured, has a value that changes nothing, or refuses the model. What the
converter leaves out because llama.cpp knows it (the pattern of Gemma's windows, SmolLM3's layers without positions) is
known here too.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from engine.model.config import ModelConfig, checked, layer_windows
from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.gguf import CONTROL, GgufFile
from engine.model.rotary import Divided, Linear, Rotary, Yarn

T = TypeVar("T")

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "smollm3")

_KEYS = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
}
"""The keys that are honoured in every architecture. Any other is refused unless it is in the next two tables."""

_OWN_KEYS = {
    "llama": set[str](),
    "smollm3": set[str](),
    "qwen2": {"rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.type"},
    "qwen3": {"rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.type"},
    "gemma2": {"attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping"},
    "gemma3": {
        "attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa", "rope.scaling.type",
        "rope.scaling.factor", "final_logit_softcapping",
    },
    "phi3": {"attention.sliding_window", "rope.scaling.original_context_length", "rope.scaling.attn_factor"},
}  # fmt: skip
"""What only some have."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "expert_used_count": (0,),
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (1.0,),
    "attention.sliding_window": (0,),
}

_END_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")

_END_TOKENS = frozenset(
    ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<EOT>")
)
"""Control tokens that end a generation whatever the file's single eos id says; llama.cpp stops at the same names."""

_BY_WIDTH = {"gemma2": 46, "gemma3": 62}
"""Layers of the one model of a family (its 27B) that scales queries by hidden size over heads, not by head size."""

GEMMA3_PERIOD = 6
SMOLLM3_PERIOD = 4
"""Every sixth layer of a Gemma 3 sees all keys; every fourth of a SmolLM3 has no positions."""


def config_from_gguf(file: GgufFile) -> ModelConfig:
    """ModelFileError: metadata is missing or wrong. UnsupportedModelError: it asks for what is not done here."""
    kind = file.metadata.get("general.type", "model")
    if kind != "model":
        raise UnsupportedModelError(f"{file.path}: general.type is {kind!r}; only whole models can be opened")
    architecture = file.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"{file.path}: architecture {architecture!r} is not supported; {', '.join(ARCHITECTURES)} are"
        )
    for key, value in file.metadata.items():
        name = key.removeprefix(f"{architecture}.")
        known = name == key or name in _KEYS or name in _OWN_KEYS[architecture] or value in _NEUTRAL.get(name, ())
        if not known:
            raise UnsupportedModelError(f"{file.path}: {key} = {value!r} is not supported")
    return checked(_Reader(file, architecture).config(), file.path)


class _Reader:
    """The metadata of one file."""

    def __init__(self, file: GgufFile, architecture: str) -> None:
        self.file = file
        self.architecture = architecture
        self.layers = self.required("block_count", int)
        self.heads = self.required("attention.head_count", int)
        self.hidden = self.required("embedding_length", int)
        self.context = self.required("context_length", int)
        self.head_dim = self.optional("attention.key_length", int, self.hidden // max(self.heads, 1))

    def required(self, key: str, kind: type[T]) -> T:
        return _required(self.file, f"{self.architecture}.{key}", kind)

    def optional(self, key: str, kind: type[T], default: Any) -> Any:
        return _optional(self.file, f"{self.architecture}.{key}", kind, default)

    def config(self) -> ModelConfig:
        file, architecture = self.file, self.architecture
        if self.optional("attention.value_length", int, self.head_dim) != self.head_dim:
            raise UnsupportedModelError(
                f"{file.path}: {architecture}.attention.value_length differs from the head size {self.head_dim}"
            )
        embedding = file.tensors.get("token_embd.weight")
        if embedding is None:
            raise ModelFileError(f"{file.path}: there is no tensor 'token_embd.weight'")
        gemma = architecture in ("gemma2", "gemma3")
        sliding = self.sliding()
        rotaries, layer_rotary = self.rotaries(sliding)
        return ModelConfig(
            family=architecture,
            vocab_size=embedding.shape[0],
            hidden=self.hidden,
            ffn=self.required("feed_forward_length", int),
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.optional("attention.head_count_kv", int, self.heads),
            head_dim=self.head_dim,
            context_length=self.context,
            norm_eps=self.required("attention.layer_norm_rms_epsilon", float),
            rotaries=rotaries,
            layer_rotary=layer_rotary,
            windows=layer_windows(
                self.optional("attention.sliding_window", int, None) or None, sliding, self.context
            ),
            activation="gelu_tanh" if gemma else "silu",
            tied_embeddings="output.weight" not in file.tensors,
            qkv_bias="blk.0.attn_q.bias" in file.tensors,
            output_bias="blk.0.attn_output.bias" in file.tensors,
            mlp_bias="blk.0.ffn_gate.bias" in file.tensors,
            qk_norm=architecture in ("qwen3", "gemma3"),
            post_norms=gemma,
            embedding_scale=math.sqrt(self.hidden) if gemma else 1.0,
            query_scale=(self.hidden / self.heads) ** -0.5 if _BY_WIDTH.get(architecture) == self.layers else None,
            attention_cap=self.optional("attn_logit_softcapping", float, 50.0) if architecture == "gemma2" else 0.0,
            logit_cap=self.optional("final_logit_softcapping", float, 30.0 if architecture == "gemma2" else 0.0),
            bos_id=_optional(file, "tokenizer.ggml.bos_token_id", int, None),
            eos_ids=gguf_eos_ids(file),
        )  # fmt: skip

    def sliding(self) -> list[bool]:
        """[layers] whether a layer has the window."""
        match self.architecture:
            case "gemma2":
                return [i % 2 == 0 for i in range(self.layers)]
            case "gemma3":
                pattern = self.file.metadata.get("gemma3.attention.sliding_window_pattern", GEMMA3_PERIOD)
                if isinstance(pattern, list):
                    return [bool(slides) for slides in pattern]
                return [(i + 1) % self.optional("attention.sliding_window_pattern", int, pattern) != 0
                        for i in range(self.layers)]  # fmt: skip
            case architecture:
                return [architecture == "phi3"] * self.layers

    def rotaries(self, sliding: list[bool]) -> tuple[tuple[Rotary, ...], tuple[int, ...]]:
        """`ModelConfig.rotaries` and `ModelConfig.layer_rotary`."""
        rotary = self.rotary()
        if self.architecture == "gemma3":
            local = Rotary(self.optional("rope.freq_base_swa", float, 10_000.0), rotary.dim)
            return (rotary, local), tuple(int(slides) for slides in sliding)
        if self.architecture == "smollm3":
            still = tuple(int((i + 1) % SMOLLM3_PERIOD == 0) for i in range(self.layers))
            return ((rotary, Rotary(rotary.theta, 0)), still) if any(still) else ((rotary,), ())
        return (rotary,), ()

    def rotary(self) -> Rotary:
        dim = self.optional("rope.dimension_count", int, self.head_dim)
        if dim != self.head_dim and self.architecture != "phi3":
            raise UnsupportedModelError(
                f"{self.file.path}: {self.architecture}.rope.dimension_count = {dim} differs from the head size "
                f"{self.head_dim}"
            )
        theta = self.optional("rope.freq_base", float, 10_000.0)
        original = self.optional("rope.scaling.original_context_length", int, self.context)
        reach = "long" if self.context > original else "short"
        for name, magnitude in (
            ("rope_freqs", 1.0),
            (f"rope_factors_{reach}", self.optional("rope.scaling.attn_factor", float, 1.0)),
        ):
            divisors = self.file.tensors.get(f"{name}.weight")
            if divisors is not None:
                return Rotary(theta, dim, Divided(tuple(self.file.dequantize(divisors).tolist()), magnitude))
        factor = self.optional("rope.scaling.factor", float, 1.0)
        match self.optional("rope.scaling.type", str, "none"):
            case "none":
                return Rotary(theta, dim)
            case "linear":
                return Rotary(theta, dim, Linear(factor))
            case "yarn":
                return Rotary(theta, dim, Yarn(factor=factor, original_max_position_embeddings=original))
            case kind:
                raise UnsupportedModelError(
                    f"{self.file.path}: {self.architecture}.rope.scaling.type = {kind!r} is not supported"
                )


def gguf_eos_ids(file: GgufFile) -> tuple[int, ...]:
    """The ids that end a generation, ascending: those the file names, and control tokens that are known for it."""
    named = {_required(file, key, int) for key in _END_KEYS if key in file.metadata}
    tokens = file.metadata.get("tokenizer.ggml.tokens", [])
    types = file.metadata.get("tokenizer.ggml.token_type", [])
    for token_id, (token, kind) in enumerate(zip(tokens, types, strict=False)):
        if kind == CONTROL and token in _END_TOKENS:
            named.add(token_id)
    return tuple(sorted(named))


def _required(file: GgufFile, key: str, kind: type[T]) -> T:
    if key not in file.metadata:
        raise ModelFileError(f"{file.path}: metadata key {key!r} is missing")
    value = file.metadata[key]
    if type(value) is not kind:
        raise ModelFileError(
            f"{file.path}: {key} is {value!r}; expected `{kind.__name__}`, got `{type(value).__name__}`"
        )
    return value


def _optional(file: GgufFile, key: str, kind: type[T], default: Any) -> Any:
    return _required(file, key, kind) if key in file.metadata else default
