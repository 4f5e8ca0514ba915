"""A model's facts from a Hugging Face folder: `config.json`, `generation_config.json`.

Keys that a file leaves out have the defaults of transformers' class for that ``model_type``. Positions come in two
spellings: transformers 5's `rope_parameters`, and the older `rope_theta` beside `rope_scaling`.
"""

from __future__ import annotations

import math
import os
from typing import Any, TypeVar

import msgspec

from engine.model.checkpoint import Quantization, quantization_of
from engine.model.config import Activation, ModelConfig, checked, layer_windows
from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.rotary import Divided, Linear, Llama3, Rotary, Yarn

T = TypeVar("T")

ACTIVATIONS: dict[str, Activation] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
SLIDING, FULL = "sliding_attention", "full_attention"

_GEMMA: dict[str, Any] = {
    "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True, "bos_token_id": 2,
    "eos_token_id": 1, "query_pre_attn_scalar": 256, "sliding_window": 4096,
}  # fmt: skip
_QWEN: dict[str, Any] = {
    "max_position_embeddings": 32768, "sliding_window": 4096, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096},
    "qwen2": _QWEN,
    "qwen3": _QWEN | {"head_dim": 128},
    "smollm3": {
        "num_key_value_heads": 4, "max_position_embeddings": 32768, "rope_theta": 2e6, "tie_word_embeddings": True,
        "bos_token_id": 128000, "eos_token_id": 128001,
    },
    "phi3": {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "eos_token_id": 32000},
    "gemma2": _GEMMA
    | {"max_position_embeddings": 8192, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "gemma3_text": _GEMMA | {"max_position_embeddings": 131072, "rope_theta": 1e6},
}  # fmt: skip
"""``model_type`` → the keys whose default is not `_HfConfig`'s."""

OTHER_KINDS = {
    "vision_config": "images",
    "audio_config": "audio",
    "num_local_experts": "a mixture of experts",
    "num_experts": "a mixture of experts",
    "n_routed_experts": "a mixture of experts",
}
"""Keys that only models of a kind that is not run here have, and the name of that kind."""


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
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = 1e-6
    hidden_act: str = "silu"
    hidden_activation: str | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    rope_theta: float = 10_000.0
    rope_local_base_freq: float = 10_000.0
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: float = 1.0
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = 4
    sliding_window: int | None = None
    use_sliding_window: bool = False
    max_window_layers: int = 28
    sliding_window_pattern: int = 6
    layer_types: list[str] | None = None
    use_bidirectional_attention: bool | None = None
    query_pre_attn_scalar: float | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    quantization_config: dict[str, Any] | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


class _GenerationConfig(msgspec.Struct):
    """The one fact a `generation_config.json` adds: models tuned for chat often end with more ids than `config.json`
    says.
    """

    eos_token_id: int | list[int] | msgspec.UnsetType | None = msgspec.UNSET


def config_from_folder(folder: str) -> ModelConfig:
    """From ``folder/config.json``. ModelFileError: missing or malformed. UnsupportedModelError: what it asks for is not
    done here.
    """
    for adapter in ("adapter_config.json", "adapter_model.safetensors"):
        if os.path.exists(os.path.join(folder, adapter)):
            raise UnsupportedModelError(
                f"{os.path.join(folder, adapter)}: adapters are not supported; merge it into its model"
            )
    path = os.path.join(folder, "config.json")
    config = _config(path)
    gemma = config.model_type.startswith("gemma")
    activation = ACTIVATIONS.get(config.hidden_activation if gemma and config.hidden_activation else config.hidden_act)
    if activation is None:
        raise UnsupportedModelError(
            f"{path}: hidden_act {config.hidden_act!r} is not supported; {' and '.join(map(repr, ACTIVATIONS))} are"
        )
    if config.use_bidirectional_attention:
        raise UnsupportedModelError(f"{path}: use_bidirectional_attention is not supported")
    heads = config.num_attention_heads
    head_dim = config.head_dim or config.hidden_size // max(heads, 1)
    sliding = _sliding(path, config)
    rotaries, layer_rotary = _rotaries(path, config, head_dim, sliding)
    qwen2 = config.model_type == "qwen2"
    found = ModelConfig(
        family=config.model_type.removesuffix("_text"),
        vocab_size=config.vocab_size,
        hidden=config.hidden_size,
        ffn=config.intermediate_size,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=config.num_key_value_heads or heads,
        head_dim=head_dim,
        context_length=config.max_position_embeddings,
        norm_eps=config.rms_norm_eps,
        rotaries=rotaries,
        layer_rotary=layer_rotary,
        windows=layer_windows(config.sliding_window, sliding, config.max_position_embeddings),
        activation=activation,
        tied_embeddings=config.tie_word_embeddings,
        qkv_bias=config.attention_bias or qwen2,
        output_bias=config.attention_bias and not qwen2,
        mlp_bias=config.mlp_bias,
        qk_norm=config.model_type in ("qwen3", "gemma3_text"),
        post_norms=gemma,
        embedding_scale=math.sqrt(config.hidden_size) if gemma else 1.0,
        query_scale=config.query_pre_attn_scalar**-0.5 if gemma and config.query_pre_attn_scalar else None,
        attention_cap=(config.attn_logit_softcapping or 0.0) if gemma else 0.0,
        logit_cap=(config.final_logit_softcapping or 0.0) if gemma else 0.0,
        bos_id=config.bos_token_id,
        eos_ids=folder_eos_ids(folder),
    )
    return checked(found, path)


def folder_quantization(folder: str) -> Quantization | None:
    """How the weights of ``folder`` are stored; None for plain floats. UnsupportedModelError: in a way that is not
    read.
    """
    path = os.path.join(folder, "config.json")
    found = _config(path).quantization_config
    return None if found is None else quantization_of(found, path)


def folder_eos_ids(folder: str) -> tuple[int, ...]:
    """The ids that end a generation, ascending: those of `generation_config.json`, else those of `config.json`."""
    path = os.path.join(folder, "generation_config.json")
    ids: int | list[int] | msgspec.UnsetType | None = msgspec.UNSET
    if os.path.exists(path):
        ids = _decode(path, _GenerationConfig).eos_token_id
    if ids is msgspec.UNSET or ids is None:
        ids = _config(os.path.join(folder, "config.json")).eos_token_id
    if ids is None:
        return ()
    return tuple(sorted(ids)) if isinstance(ids, list) else (ids,)


def _config(path: str) -> _HfConfig:
    found = _decode(path, dict[str, Any])
    for key, kind in OTHER_KINDS.items():
        value = found.get(key)
        if value and value != 1:
            raise UnsupportedModelError(f"{path}: {key}: models with {kind} are not supported")
    defaults = FAMILIES.get(found.get("model_type", ""))
    if defaults is None:
        raise UnsupportedModelError(
            f"{path}: model_type {found.get('model_type')!r} is not supported; {', '.join(FAMILIES)} are"
        )
    try:
        return msgspec.convert(defaults | found, _HfConfig)
    except msgspec.ValidationError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _sliding(path: str, config: _HfConfig) -> list[bool]:
    """[layers] whether a layer has the window."""
    layers = range(config.num_hidden_layers)
    if config.layer_types is not None and config.model_type != "mistral":
        for kind in config.layer_types:
            if kind not in (SLIDING, FULL):
                raise UnsupportedModelError(f"{path}: layer_types: {kind!r} is not supported")
        return [kind == SLIDING for kind in config.layer_types]
    match config.model_type:
        case "mistral" | "phi3":
            return [True for _ in layers]
        case "qwen2" | "qwen3":
            return [config.use_sliding_window and i >= config.max_window_layers for i in layers]
        case "smollm3":
            return [config.use_sliding_window and not turned for turned in _turned(config)]
        case "gemma2":
            return [i % 2 == 0 for i in layers]
        case "gemma3_text":
            return [(i + 1) % config.sliding_window_pattern != 0 for i in layers]
        case _:
            return [False for _ in layers]


def _turned(config: _HfConfig) -> list[bool]:
    """[layers] whether a layer of a SmolLM3 has positions."""
    if config.no_rope_layers is not None:
        return [bool(turned) for turned in config.no_rope_layers]
    return [(i + 1) % config.no_rope_layer_interval != 0 for i in range(config.num_hidden_layers)]


def _rotaries(
    path: str, config: _HfConfig, head_dim: int, sliding: list[bool]
) -> tuple[tuple[Rotary, ...], tuple[int, ...]]:
    """`ModelConfig.rotaries` and `ModelConfig.layer_rotary`."""
    given = config.rope_parameters
    where = "rope_scaling" if given is None else "rope_parameters"
    if config.model_type == "gemma3_text":
        full, local = config.rope_scaling or {}, {}
        if given is not None:
            full, local = given.get(FULL) or {}, given.get(SLIDING) or {}
        rotaries = (
            _rotary(path, config, where, full, config.rope_theta, head_dim),
            _rotary(path, config, where, local, config.rope_local_base_freq, head_dim),
        )
        return rotaries, tuple(int(slides) for slides in sliding)
    rotary = _rotary(path, config, where, given or config.rope_scaling or {}, config.rope_theta, head_dim)
    if config.model_type == "smollm3" and not all(_turned(config)):
        return (rotary, Rotary(rotary.theta, 0)), tuple(int(not turned) for turned in _turned(config))
    return (rotary,), ()


def _rotary(
    path: str, config: _HfConfig, where: str, rope: dict[str, Any], theta: float, head_dim: int
) -> Rotary:  # fmt: skip
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = rope.get("rope_theta", theta)
    share = rope.get("partial_rotary_factor", config.partial_rotary_factor)
    for key, value in (("rope_theta", theta), ("partial_rotary_factor", share)):
        if not isinstance(value, int | float):
            raise ModelFileError(f"{path}: Expected `float`, got `{type(value).__name__}` - at `$.{where}.{key}`")
    dim = int(head_dim * share)
    if config.model_type == "phi3" and kind in ("su", "yarn"):
        kind = "longrope"  # what Microsoft's first configs called it
    original = rope.get("original_max_position_embeddings", config.original_max_position_embeddings)
    try:
        match kind:
            case "default":
                return Rotary(float(theta), dim)
            case "linear":
                return Rotary(float(theta), dim, msgspec.convert(rope, Linear))
            case "llama3":
                return Rotary(float(theta), dim, msgspec.convert(rope, Llama3))
            case "yarn":
                return Rotary(float(theta), dim, _yarn(rope, original, config.max_position_embeddings))
            case "longrope":
                return Rotary(float(theta), dim, _longrope(rope, original, config.max_position_embeddings))
            case _:
                raise UnsupportedModelError(
                    f"{path}: {where} of type {kind!r} is not supported; default, linear, llama3, yarn and longrope are"
                )
    except msgspec.ValidationError as error:
        raise ModelFileError(f"{path}: in {where}: {error}") from error


def _yarn(rope: dict[str, Any], original: int | None, context: int) -> Yarn:
    given = {key: value for key, value in rope.items() if value is not None}
    given.setdefault("original_max_position_embeddings", original or context)
    found = msgspec.convert(given, Yarn)
    if found.attention_factor is None and given.get("mscale") and given.get("mscale_all_dim"):
        grown = (0.1 * given[name] * math.log(max(found.factor, 1)) + 1 for name in ("mscale", "mscale_all_dim"))
        return msgspec.structs.replace(found, attention_factor=next(grown) / next(grown))
    return found


class _LongRope(msgspec.Struct):
    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    factor: float | None = None
    attention_factor: float | None = None


def _longrope(rope: dict[str, Any], original: int | None, context: int) -> Divided:
    """One set of factors for every sequence: the long one if the context is longer than the model's first.

    transformers changes over in the middle of a sequence, which leaves the keys before it turned by other factors.
    """
    found = msgspec.convert(rope, _LongRope)
    original = original or context
    factor = found.factor or context / original
    magnitude = found.attention_factor
    if magnitude is None:
        magnitude = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return Divided(found.long_factor if context > original else found.short_factor, magnitude)


def _decode(path: str, kind: type[T]) -> T:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=kind)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ModelFileError(f"{path}: {error}") from error
