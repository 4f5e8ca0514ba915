"""Small random models of every family, made by transformers, and GGUF files of them as llama.cpp's converter writes
them."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

VOCAB = 99
CONTEXT = 256
WINDOW = 24
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
    "rope_theta": 100.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 100.0}
SHORT, LONG = [1.0 + i / 10 for i in range(12)], [1.0 + i / 2 for i in range(12)]
LONGROPE = {
    "rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "rope_theta": 100.0,
    "partial_rotary_factor": 0.75,
}  # fmt: skip

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama 2": ("Llama", {"num_key_value_heads": 4}),
    "llama 3": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            }
        },
    ),
    "llama, linear positions": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}},
    ),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "qwen 2": ("Qwen2", {"tie_word_embeddings": True, "hidden_size": 128}),
    "qwen 2.5, long": ("Qwen2", {"rope_parameters": YARN, "hidden_size": 128}),
    "qwen 2, windows": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2, "hidden_size": 128},
    ),
    "qwen 3": ("Qwen3", {}),
    "smollm 3": ("SmolLM3", {}),
    "phi 3": ("Phi3", {"hidden_size": 128, "sliding_window": WINDOW}),
    "phi 4": (
        "Phi3",
        {
            "hidden_size": 128, "num_key_value_heads": 1, "original_max_position_embeddings": 64,
            "rope_parameters": LONGROPE,
        },
    ),
    "phi 4, short": (
        "Phi3",
        {
            "hidden_size": 128, "original_max_position_embeddings": CONTEXT,
            "rope_parameters": LONGROPE, "tie_word_embeddings": True,
        },
    ),
    "gemma 2": ("Gemma2", {"sliding_window": WINDOW, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0,
                           "final_logit_softcapping": 3.0}),
    "gemma 3": ("Gemma3Text", {"sliding_window": WINDOW, "sliding_window_pattern": 2, "query_pre_attn_scalar": 32,
                               "rope_parameters": None, "rope_local_base_freq": 30.0}),
}  # fmt: skip
"""Name → transformers' class and what is changed in `SIZES`."""


def make(name: str, seed: int = 0, **changes: Any) -> Any:
    """A model with weights large enough that every part matters."""
    family, special = FAMILIES[name]
    sizes = SIZES | special | changes
    if family in ("Qwen2", "Phi3"):
        del sizes["head_dim"]  # theirs is always hidden size over heads
    config = getattr(transformers, f"{family}Config")(**sizes)
    model = getattr(transformers, f"{family.removesuffix('Text')}ForCausalLM")._from_config(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            small = "norm" in parameter_name or "bias" in parameter_name
            parameter.copy_(torch.randn(parameter.shape) * (0.3 if small else 1.2 * config.hidden_size**-0.5))
            if "norm" in parameter_name and not family.startswith("Gemma"):
                parameter += 1
    return model.eval()


# ------------------------------------------------------------------------------------------------------------- GGUF

ARCHITECTURES = {
    "Llama": "llama",
    "Qwen2": "qwen2",
    "Qwen3": "qwen3",
    "SmolLM3": "smollm3",
    "Phi3": "phi3",
    "Gemma2": "gemma2",
    "Gemma3Text": "gemma3",
}


def write_gguf(name: str, model: Any, path: Path) -> Path:
    """By gguf-py's own table of tensor names, with the converter's changes to values."""
    family, _ = FAMILIES[name]
    config, architecture = model.config, ARCHITECTURES[family]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    if architecture == "gemma3":
        writer.add_rope_freq_base(rope["full_attention"]["rope_theta"])
        writer.add_key_value(
            "gemma3.rope.freq_base_swa", rope["sliding_attention"]["rope_theta"], gguf.GGUFValueType.FLOAT32
        )
        writer.add_key_value("gemma3.attention.sliding_window_pattern", 2, gguf.GGUFValueType.UINT32)
    else:
        writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    if head_dim != config.hidden_size // config.num_attention_heads:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope.get("rope_type") == "longrope":
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        writer.add_rope_scaling_attn_factors(model.model.rotary_emb.attention_scaling)
        writer.add_tensor("rope_factors_long.weight", np.array(LONG, np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(SHORT, np.float32))
    if architecture in ("phi3", "gemma2", "gemma3"):
        writer.add_sliding_window(config.sliding_window or 0)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    words = [*string.ascii_letters, *string.digits, "th"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*words, *(f"<|{i}|>" for i in range(len(words), VOCAB))])
    writer.add_token_types([1] * len(words) + [3] * (VOCAB - len(words)))
    writer.add_token_merges(["t h"])
    for tensor, values in tensors(model, architecture, head_dim).items():
        writer.add_tensor(tensor, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(model: Any, architecture: str, head_dim: int) -> dict[str, NDArray[np.float32]]:
    config = model.config
    kind = gguf.MODEL_ARCH[architecture.upper()]
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    found: dict[str, NDArray[np.float32]] = {}
    for weight, tensor in model.state_dict().items():
        if weight == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float().numpy()
        stored = names.get_name(weight, try_suffixes=(".weight", ".bias"))
        assert stored is not None, weight
        if architecture in ("llama", "smollm3") and (count := heads.get(weight.split(".")[-2])):
            halves = values.reshape(count, 2, head_dim // 2, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        if architecture.startswith("gemma") and "norm" in weight:
            values = values + 1
        found[stored] = np.ascontiguousarray(values)
    return found
