"""A quantized model as a folder that other engines read, too: safetensors in one of the published layouts
(`engine.quantization.layouts`), and its tokenizer.

Tensors go back to where the family keeps them (`engine.model.layout`, backwards): fused, turned, norms less one. All
layouts want groups of equal size.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.model.config import ModelConfig
from engine.model.errors import UnsupportedModelError
from engine.model.files import ModelFiles
from engine.model.grid import Grid
from engine.model.layout import Rows, Stored, folder_layout
from engine.model.safetensors import write
from engine.quantization.layouts import check_layout, layer_tensors, quantization_config
from engine.quantization.pipeline import Changed, Recipe

BESIDE = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json",
          "chat_template.jinja", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt")  # fmt: skip
"""Files that are copied from the model's folder."""


def check(config: ModelConfig, recipe: Recipe, files: ModelFiles) -> None:
    """UnsupportedModelError, naming what is in the way, if the quantized model could not be written."""
    size = recipe.scheme.group
    for name, shape in config.weight_shapes().items():
        if size > 0 and name.endswith("_proj.weight") and shape[1] % size:
            fitting = max(n for n in (32, 64, 96, 128, 192, 256) if shape[1] % n == 0 or n == 32)
            raise UnsupportedModelError(
                f"groups of {size} do not divide the {shape[1]} inputs of {name}; {fitting} would"
            )
    check_layout(config, recipe)
    if files.gguf is not None and config.family != "llama":
        raise UnsupportedModelError(
            f"{files.path}: of GGUF files only those of the llama architecture can be quantized anew, not "
            f"{config.family!r}; start from the model's safetensors"
        )


def write_folder(files: ModelFiles, changed: Changed, recipe: Recipe, folder: str) -> None:
    """Everything of the model ``files`` with ``changed`` weights into ``folder``, which is made."""
    os.makedirs(folder, exist_ok=True)
    config = files.config
    weights = files.weights()
    whole = {name: changed.get(name) for name in config.weight_shapes()}
    places = folder_layout(config)
    tensors: dict[str, NDArray[Any]] = {}
    members: dict[str, list[str]] = {}
    for name in whole:
        members.setdefault(places[name].name, []).append(name)
    quantized: list[str] = []
    for stored, names in members.items():
        parts = {name: weights[name] if (value := whole[name]) is None else value for name in names}
        if all(isinstance(part, Grid) for part in parts.values()):
            module = stored.removesuffix(".weight")
            grid = _joined({name: part for name, part in parts.items() if isinstance(part, Grid)}, places)
            tensors |= {f"{module}.{part}": tensor for part, tensor in layer_tensors(grid, recipe).items()}
            quantized.append(module)
        else:
            dense = {name: part.dense() if isinstance(part, Grid) else part for name, part in parts.items()}
            tensors[stored] = _placed(dense, places).astype(np.float16)
    write(os.path.join(folder, "model.safetensors"), tensors)
    description = _description(files) | {"quantization_config": quantization_config(recipe)}
    _write_json(folder, "config.json", description)
    _write_beside(files, folder)


def _joined(grids: Mapping[str, Grid], places: Mapping[str, Stored]) -> Grid:
    """The grid of a stored matrix from those of the weights in it."""
    first = next(iter(grids.values()))
    return replace(
        first,
        numbers=_rows({name: grid.numbers for name, grid in grids.items()}, places),
        scales=_rows({name: grid.scales for name, grid in grids.items()}, places),
        zeros=_rows({name: grid.zeros for name, grid in grids.items()}, places),
    )


def _placed(weights: Mapping[str, NDArray[np.float32]], places: Mapping[str, Stored]) -> NDArray[np.float32]:
    """A stored float tensor from the weights in it."""
    found = _rows(weights, places)
    return found - np.float32(1) if places[next(iter(weights))].less_one else found


def _rows(parts: Mapping[str, NDArray[Any]], places: Mapping[str, Stored]) -> NDArray[Any]:
    """Every part's rows where they are stored; a part without rows is all there is."""
    first_name, first = next(iter(parts.items()))
    if places[first_name].rows is None:
        return first
    stored = np.empty((sum(len(part) for part in parts.values()), *first.shape[1:]), first.dtype)
    for name, part in parts.items():
        rows: Rows | None = places[name].rows
        assert rows is not None
        stored[rows] = part
    return stored


def _description(files: ModelFiles) -> dict[str, Any]:
    """config.json of the model; made anew for a GGUF file of a Llama."""
    if files.gguf is None:
        with open(os.path.join(files.path, "config.json"), encoding="utf-8") as file:
            return json.load(file)
    config = files.config
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tied_embeddings,
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "rope_theta": config.rotaries[0].theta,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids),
        "torch_dtype": "float16",
    }


def _write_beside(files: ModelFiles, folder: str) -> None:
    """Tokenizer, template and ends."""
    if files.gguf is None:
        for name in BESIDE:
            path = os.path.join(files.path, name)
            if os.path.exists(path):
                shutil.copy(path, os.path.join(folder, name))
        return
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        file.write(files.tokenizer().to_json())
    template = files.chat_template()
    beside = {} if template is None else {"chat_template": template.source, **template.tokens}
    _write_json(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **beside})


def _write_json(folder: str, name: str, value: dict[str, Any]) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")
