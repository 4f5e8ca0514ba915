"""What a model is, read from GGUF metadata or a Hugging Face `config.json`: the facts a decoder is built from.

One family is known, "llama": RMS norm, rotary positions, grouped-query attention, SwiGLU; that is Llama 2 and 3,
SmolLM2, and Mistral where its sliding window does not reach. What would change the computation and is not known here is
refused by name when the model is opened: a model either runs as its authors meant it, or not at all.
"""

from __future__ import annotations

import math
import os
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.gguf import CONTROL, GgufFile

T = TypeVar("T")


class Llama3Scaling(msgspec.Struct, frozen=True):
    """Llama 3.1's stretching of the low rotary frequencies to a longer context (arXiv:2407.21783)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder of the Llama family. Sizes count elements; token ids are None or empty where the files name none."""

    vocab_size: int
    """Rows of the embedding and length of a logits row; may exceed the tokenizer's vocabulary."""
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_length: int
    norm_eps: float
    rope_theta: float
    rope_scaling: Llama3Scaling | None = None
    rope_factors: tuple[float, ...] | None = None
    """[head_dim / 2] divisors of the rotary frequencies: how a GGUF carries the outcome of `rope_scaling`."""
    tied_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def rotary_frequencies(self) -> NDArray[np.float32]:
        """[head_dim / 2] radians a position; element i turns the pair (i, i + head_dim / 2) of every head.

        Rounded to float32 at each step, as transformers does, since a model was trained with those angles.
        """
        exponents = np.arange(0, self.head_dim, 2, dtype=np.float32) / np.float32(self.head_dim)
        frequencies = (np.float32(1) / np.float32(self.rope_theta) ** exponents).astype(np.float32)
        if self.rope_factors is not None:
            return (frequencies / np.array(self.rope_factors, np.float32)).astype(np.float32)
        if self.rope_scaling is None:
            return frequencies
        # A wave shorter than the first bound is kept, one longer than the second is stretched by the whole factor;
        # the bend in between is linear in waves per original context.
        scaling = self.rope_scaling
        waves = np.float32(scaling.original_max_position_embeddings) * frequencies / np.float32(2 * math.pi)
        kept = (waves - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        kept = np.clip(kept, 0, 1).astype(np.float32)
        return (frequencies * (kept + (1 - kept) / np.float32(scaling.factor))).astype(np.float32)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight of the model by its Hugging Face name, with its shape; linear weights are [outputs, inputs]."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        linear = {
            "self_attn.q_proj": (queries, self.hidden, self.attention_bias),
            "self_attn.k_proj": (keys, self.hidden, self.attention_bias),
            "self_attn.v_proj": (keys, self.hidden, self.attention_bias),
            "self_attn.o_proj": (self.hidden, queries, self.attention_bias),
            "mlp.gate_proj": (self.ffn, self.hidden, self.mlp_bias),
            "mlp.up_proj": (self.ffn, self.hidden, self.mlp_bias),
            "mlp.down_proj": (self.hidden, self.ffn, self.mlp_bias),
        }
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, self.hidden)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            shapes[f"{prefix}input_layernorm.weight"] = (self.hidden,)
            shapes[f"{prefix}post_attention_layernorm.weight"] = (self.hidden,)
            for name, (outputs, inputs, bias) in linear.items():
                shapes[f"{prefix}{name}.weight"] = (outputs, inputs)
                if bias:
                    shapes[f"{prefix}{name}.bias"] = (outputs,)
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.tied_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, self.hidden)
        return shapes


# ---------------------------------------------------------------------------------------------------------------- GGUF

_GGUF_KEYS = {
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
"""The `llama.*` keys that are honoured. Any other is refused unless its value is in the table below."""

_GGUF_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "expert_used_count": (0,),
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (1.0,),
}

_GGUF_END_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")

_END_TOKENS = frozenset(
    ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<EOT>")
)
"""Control tokens that end a generation whatever the file's single eos id says; llama.cpp stops at the same names."""


def config_from_gguf(file: GgufFile) -> ModelConfig:
    """ModelFileError: metadata is missing or wrong. UnsupportedModelError: not a plain Llama decoder."""
    kind = file.metadata.get("general.type", "model")
    if kind != "model":
        raise UnsupportedModelError(f"{file.path}: general.type is {kind!r}; only whole models can be opened")
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama":
        raise UnsupportedModelError(f"{file.path}: architecture {architecture!r} is not supported; 'llama' is")
    for key, value in file.metadata.items():
        name = key.removeprefix("llama.")
        if name != key and name not in _GGUF_KEYS and value not in _GGUF_NEUTRAL.get(name, ()):
            raise UnsupportedModelError(f"{file.path}: {key} = {value!r} is not supported")

    heads = _required(file, "llama.attention.head_count", int)
    hidden = _required(file, "llama.embedding_length", int)
    head_dim = _optional(file, "llama.attention.key_length", int, hidden // max(heads, 1))
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if _optional(file, key, int, head_dim) != head_dim:
            raise UnsupportedModelError(
                f"{file.path}: {key} = {file.metadata[key]} differs from the head size {head_dim}"
            )
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelFileError(f"{file.path}: there is no tensor 'token_embd.weight'")
    factors = file.tensors.get("rope_freqs.weight")
    config = ModelConfig(
        vocab_size=embedding.shape[0],
        hidden=hidden,
        ffn=_required(file, "llama.feed_forward_length", int),
        layers=_required(file, "llama.block_count", int),
        heads=heads,
        kv_heads=_optional(file, "llama.attention.head_count_kv", int, heads),
        head_dim=head_dim,
        context_length=_required(file, "llama.context_length", int),
        norm_eps=_required(file, "llama.attention.layer_norm_rms_epsilon", float),
        rope_theta=_optional(file, "llama.rope.freq_base", float, 10_000.0),
        rope_factors=None if factors is None else tuple(file.dequantize(factors).tolist()),
        tied_embeddings="output.weight" not in file.tensors,
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        mlp_bias="blk.0.ffn_gate.bias" in file.tensors,
        bos_id=_optional(file, "tokenizer.ggml.bos_token_id", int, None),
        eos_ids=gguf_eos_ids(file),
    )
    return _checked(config, file.path)


def gguf_eos_ids(file: GgufFile) -> tuple[int, ...]:
    """The ids that end a generation, ascending: those the file names, and control tokens that are known for it."""
    named = {_required(file, key, int) for key in _GGUF_END_KEYS if key in file.metadata}
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


# -------------------------------------------------------------------------------------------------------- Hugging Face


class _HfConfig(msgspec.Struct, kw_only=True):
    """The keys of a `config.json` that matter here; defaults are those of transformers' LlamaConfig."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    rope_theta: float = 10_000.0
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: float = 1.0
    sliding_window: int | msgspec.UnsetType | None = msgspec.UNSET
    quantization_config: dict[str, Any] | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


class _GenerationConfig(msgspec.Struct):
    """The one fact a `generation_config.json` adds: models tuned for chat often end with more ids than `config.json`
    says.
    """

    eos_token_id: int | list[int] | msgspec.UnsetType | None = msgspec.UNSET


MISTRAL_WINDOW = 4096
"""transformers' sliding window of a Mistral whose config does not mention one."""


def config_from_folder(folder: str) -> ModelConfig:
    """From ``folder/config.json``; the errors are those of `config_from_gguf`."""
    path = os.path.join(folder, "config.json")
    for adapter in ("adapter_config.json", "adapter_model.safetensors"):
        if os.path.exists(os.path.join(folder, adapter)):
            raise UnsupportedModelError(
                f"{os.path.join(folder, adapter)}: adapters are not supported; merge it into its model"
            )
    config = _decode(path, _HfConfig)
    if config.model_type not in ("llama", "mistral"):
        raise UnsupportedModelError(
            f"{path}: model_type {config.model_type!r} is not supported; 'llama' and 'mistral' are"
        )
    if config.hidden_act != "silu":
        raise UnsupportedModelError(f"{path}: hidden_act {config.hidden_act!r} is not supported; 'silu' is")
    if config.quantization_config is not None:
        method = config.quantization_config.get("quant_method")
        raise UnsupportedModelError(f"{path}: quantization_config (quant_method {method!r}) is not supported")
    window = config.sliding_window
    if window is msgspec.UNSET:
        window = MISTRAL_WINDOW if config.model_type == "mistral" else None
    if window is not None and window < config.max_position_embeddings:
        raise UnsupportedModelError(
            f"{path}: a sliding_window of {window}, shorter than the context of {config.max_position_embeddings}, "
            "is not supported"
        )
    theta, scaling = _rope(path, config)
    heads = config.num_attention_heads
    found = ModelConfig(
        vocab_size=config.vocab_size,
        hidden=config.hidden_size,
        ffn=config.intermediate_size,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=config.num_key_value_heads or heads,
        head_dim=config.head_dim or config.hidden_size // max(heads, 1),
        context_length=config.max_position_embeddings,
        norm_eps=config.rms_norm_eps,
        rope_theta=theta,
        rope_scaling=scaling,
        tied_embeddings=config.tie_word_embeddings,
        attention_bias=config.attention_bias,
        mlp_bias=config.mlp_bias,
        bos_id=config.bos_token_id,
        eos_ids=folder_eos_ids(folder),
    )
    return _checked(found, path)


def folder_eos_ids(folder: str) -> tuple[int, ...]:
    """The ids that end a generation, ascending: those of `generation_config.json`, else those of `config.json`."""
    path = os.path.join(folder, "generation_config.json")
    ids: int | list[int] | msgspec.UnsetType | None = msgspec.UNSET
    if os.path.exists(path):
        ids = _decode(path, _GenerationConfig).eos_token_id
    if ids is msgspec.UNSET or ids is None:
        ids = _decode(os.path.join(folder, "config.json"), _HfConfig).eos_token_id
    if ids is None:
        return ()
    return tuple(sorted(ids)) if isinstance(ids, list) else (ids,)


def _rope(path: str, config: _HfConfig) -> tuple[float, Llama3Scaling | None]:
    """Base and scaling, from transformers 5's `rope_parameters` or the older `rope_theta` and `rope_scaling`."""
    where = "rope_parameters" if config.rope_parameters is not None else "rope_scaling"
    rope = config.rope_parameters or config.rope_scaling or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = rope.get("rope_theta", config.rope_theta)
    if not isinstance(theta, int | float):
        raise ModelFileError(f"{path}: Expected `float`, got `{type(theta).__name__}` - at `$.{where}.rope_theta`")
    if rope.get("partial_rotary_factor", config.partial_rotary_factor) != 1.0:
        raise UnsupportedModelError(f"{path}: partial_rotary_factor other than 1 is not supported")
    if kind == "default":
        return float(theta), None
    if kind != "llama3":
        raise UnsupportedModelError(f"{path}: {where} of type {kind!r} is not supported; 'default' and 'llama3' are")
    try:
        return float(theta), msgspec.convert(rope, Llama3Scaling)
    except msgspec.ValidationError as error:
        raise ModelFileError(f"{path}: in {where}: {error}") from error


def _decode(path: str, kind: type[T]) -> T:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=kind)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _checked(config: ModelConfig, path: str) -> ModelConfig:
    for name in ("vocab_size", "hidden", "ffn", "layers", "heads", "kv_heads", "head_dim", "context_length"):
        if getattr(config, name) < 1:
            raise ModelFileError(f"{path}: {name} is {getattr(config, name)}, but must be at least 1")
    if config.heads % config.kv_heads:
        raise ModelFileError(f"{path}: {config.heads} heads cannot be shared by {config.kv_heads} key heads")
    if config.head_dim % 2:
        raise ModelFileError(f"{path}: a head of {config.head_dim} cannot be rotated in pairs")
    if config.rope_factors is not None and len(config.rope_factors) != config.head_dim // 2:
        raise ModelFileError(
            f"{path}: rope_freqs.weight has {len(config.rope_factors)} factors for a head of {config.head_dim}"
        )
    for name, token_id in (("bos", config.bos_id), *(("eos", token_id) for token_id in config.eos_ids)):
        if token_id is not None and not 0 <= token_id < config.vocab_size:
            raise ModelFileError(f"{path}: {name} token id {token_id} is outside the vocabulary of {config.vocab_size}")
    return config
