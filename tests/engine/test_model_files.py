"""Opening models: config and weights from both kinds of files, and refusals of models that are not quite Llamas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from engine.decoder import TorchRunner
from engine.model.config import ModelConfig
from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.files import open_model
from engine.model.rotary import Divided, Llama3, Rotary
from engine.model.weights import GgufWeights
from tests.engine.decoding import Feeder, embedded_model, needs_model

gguf = pytest.importorskip("gguf")

HEADS, KV_HEADS, HEAD_DIM, VOCAB = 4, 2, 16, 40

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def llama(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    values = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "eos_token_id": [2, 5],
    }
    model = LlamaForCausalLM(LlamaConfig(**(values | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


def rewrite(folder: Path, **changes: Any) -> Path:
    """Change keys of the folder's config.json; None removes one, and a str "null" stands for JSON's null."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    kept = {key: None if value == "null" else value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(kept))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    llama().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


# ---------------------------------------------------------------------------------------------------------- folders


def test_a_folder_says_what_the_model_is(folder: Path) -> None:
    assert open_model(folder).config == ModelConfig(
        vocab_size=VOCAB,
        hidden=64,
        ffn=32,
        layers=2,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        context_length=128,
        norm_eps=1e-5,
        rotaries=(Rotary(10_000.0, HEAD_DIM),),
        bos_id=1,
        eos_ids=(2, 5),
    )


def test_configs_of_older_transformers_mean_the_same(folder: Path) -> None:
    """Before 5.0: rope_theta beside rope_scaling, whose kind was called "type"."""
    rewrite(folder, rope_parameters=None, rope_theta=500.0)
    assert open_model(folder).config.rotaries == (Rotary(500.0, HEAD_DIM),)
    rewrite(folder, rope_scaling={key: value for key, value in LLAMA3.items() if key != "rope_theta"})
    assert open_model(folder).config.rotaries == (Rotary(500.0, HEAD_DIM, Llama3(4.0, 1.0, 4.0, 32)),)


def test_generation_config_decides_where_a_sequence_ends(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 2, 9]}')
    assert open_model(folder).config.eos_ids == (2, 7, 9)
    (folder / "generation_config.json").write_text('{"temperature": 0.6}')
    assert open_model(folder).config.eos_ids == (2, 5)


UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "another family": ({"model_type": "gptj"}, "model_type 'gptj'"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    "positions": (
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        "rope_parameters of type 'dynamic'",
    ),
    "older positions": (
        {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        "rope_scaling of type 'dynamic'",
    ),
    "quantized": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quant_method 'bitsandbytes'"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_would_change_the_computation_is_refused_by_name(case: str, folder: Path) -> None:
    changes, message = UNSUPPORTED[case]
    with pytest.raises(UnsupportedModelError) as caught:
        open_model(rewrite(folder, **changes))
    assert message in str(caught.value) and "config.json" in str(caught.value)


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"hidden_size": None}, "missing required field `hidden_size`"),
    "wrong type": ({"num_hidden_layers": "2"}, "Expected `int`, got `str` - at `$.num_hidden_layers`"),
    "no layers": ({"num_hidden_layers": 0}, "layers is 0"),
    "heads": ({"num_key_value_heads": 3}, "4 heads cannot be shared by 3 key heads"),
    "odd head": ({"head_dim": 15}, "15 of a head of 15 cannot be rotated"),
    "begin": ({"bos_token_id": 40}, "bos token id 40 is outside the vocabulary of 40"),
    "theta": ({"rope_parameters": {"rope_theta": "big"}}, "$.rope_parameters.rope_theta"),
    "scaling": ({"rope_parameters": LLAMA3 | {"factor": None}}, "in rope_parameters: Expected `float`, got `null`"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_config_is_named(case: str, folder: Path) -> None:
    changes, message = MALFORMED[case]
    with pytest.raises(ModelFileError) as caught:
        open_model(rewrite(folder, **changes))
    assert message in str(caught.value) and "config.json" in str(caught.value)


def test_an_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedModelError, match=r"adapter_config\.json: adapters are not supported"):
        open_model(folder)


def test_weights_must_be_exactly_those_of_the_model(folder: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in llama().state_dict().items()}
    norm = "model.layers.1.input_layernorm.weight"

    def weights_of(changed: dict[str, torch.Tensor]) -> object:
        save_file(changed, folder / "model.safetensors")
        return open_model(folder).weights()

    with pytest.raises(ModelFileError, match=f"weight '{norm}' is missing"):
        weights_of({name: tensor for name, tensor in state.items() if name != norm})
    with pytest.raises(ModelFileError, match=rf"weight '{norm}' has shape \[65\], expected \[64\]"):
        weights_of(state | {norm: torch.zeros(65)})
    with pytest.raises(UnsupportedModelError, match=r"'model\.layers\.0\.self_attn\.q_norm\.weight' is no part"):
        weights_of(state | {"model.layers.0.self_attn.q_norm.weight": torch.zeros(16)})
    with pytest.raises(UnsupportedModelError, match=f"'{norm}' has type F64"):
        weights_of(state | {norm: torch.zeros(64, dtype=torch.float64)})


def test_a_broken_safetensors_file_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    for broken, message in (
        (b"", "the file is empty"),
        (raw[:100], "the header needs"),
        (raw[:-4], "does not fit its bytes"),
        (raw[:8] + b"[" + raw[9:], "the header is malformed"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ModelFileError, match=message):
            open_model(folder).weights()
    path.unlink()
    with pytest.raises(ModelFileError, match=r"model\.safetensors: cannot be read: No such file"):
        open_model(folder).weights()


def test_an_index_cannot_reach_outside_its_folder(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')
    with pytest.raises(ModelFileError, match="lies outside the folder"):
        open_model(folder).weights()


# ------------------------------------------------------------------------------------------------------------- GGUF

KEYS: dict[str, Any] = {
    "llama.block_count": 2,
    "llama.context_length": 128,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 32,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 10_000.0,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.tokens": ["a", "b", "c", "<|eot_id|>", "<|im_end|>"],
    "tokenizer.ggml.token_type": [1, 1, 3, 3, 1],
}

BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def converted(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    """The tensors as llama.cpp's converter writes them: its names, its order of query and key rows."""
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    outer |= {} if model.config.tie_word_embeddings else {"lm_head.weight": "output.weight"}
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors = {theirs: state[ours] for ours, theirs in outer.items()}
    for name, values in state.items():
        if not name.startswith("model.layers."):
            continue
        layer, stem = name.removeprefix("model.layers.").split(".", 1)
        stem, _, kind = stem.rpartition(".")
        if heads := {"self_attn.q_proj": HEADS, "self_attn.k_proj": KV_HEADS}.get(stem):
            halves = values.reshape(heads, 2, HEAD_DIM // 2, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        tensors[f"blk.{layer}.{BLOCK_NAMES[stem]}.{kind}"] = values
    return tensors


def write_gguf(path: Path, tensors: dict[str, np.ndarray], architecture: str = "llama", **changes: Any) -> Path:
    """Keys in ``changes`` have "__" for "."; None removes one."""
    writer = gguf.GGUFWriter(path, architecture)
    keys = KEYS | {key.replace("__", "."): value for key, value in changes.items()}
    for key, value in keys.items():
        if isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    for name, values in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}])
def test_a_converted_model_is_the_same_model(changes: dict[str, Any], tmp_path: Path) -> None:
    model = llama(**changes)
    model.save_pretrained(tmp_path / "folder")
    folder = open_model(tmp_path / "folder")
    file = open_model(write_gguf(tmp_path / "model.gguf", converted(model)))
    same = {"norm_eps": pytest.approx(1e-5), "bos_id": None, "eos_ids": (2, 3)}
    assert msgspec.structs.asdict(file.config) == msgspec.structs.asdict(folder.config) | same
    ours, theirs = file.weights(), folder.weights()
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_packed_weights_are_the_same_weights(tmp_path: Path) -> None:
    """Rows are moved as they are packed, so that decoding them gives the weights in Hugging Face order."""
    file = open_model(write_gguf(tmp_path / "model.gguf", converted(llama())))
    weights = file.weights()
    assert isinstance(weights, GgufWeights) and file.gguf is not None
    for name in weights:
        np.testing.assert_array_equal(file.gguf.dequantize(weights.packed(name)), weights[name])


def test_stretched_positions_travel_as_factors(tmp_path: Path) -> None:
    """A GGUF of a Llama 3.1 holds `rope_freqs.weight` instead of the four numbers; the angles must be the same."""
    model = llama(rope_parameters=LLAMA3)
    model.save_pretrained(tmp_path / "folder")
    plain = llama().model.rotary_emb.inv_freq
    factors = {"rope_freqs.weight": (plain / model.model.rotary_emb.inv_freq).numpy()}
    file = open_model(write_gguf(tmp_path / "model.gguf", converted(model) | factors))
    (rotary,) = file.config.rotaries
    assert isinstance(rotary.scaling, Divided)
    np.testing.assert_allclose(rotary.frequencies(HEAD_DIM), model.model.rotary_emb.inv_freq.numpy(), rtol=1e-6)
    tokens = [3, 1, 4, 1, 5, 9, 2, 6] * 12
    found, wanted = (
        Feeder(TorchRunner.load(opened, num_blocks=8)).run([tokens], [len(tokens)])[0]
        for opened in (file, open_model(tmp_path / "folder"))
    )
    np.testing.assert_allclose(found, wanted, atol=1e-4)


GGUF_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "family": ({"architecture": "gptj"}, "architecture 'gptj'"),
    "adapter": ({"general__type": "adapter"}, "general.type is 'adapter'"),
    "experts": ({"llama__expert_count": 8}, "llama.expert_count = 8"),
    "scaling": ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type = 'yarn'"),
    "unknown key": ({"llama__attention__sliding_window": 64}, "llama.attention.sliding_window = 64"),
    "half rotated": (
        {"llama__rope__dimension_count": 8},
        "llama.rope.dimension_count = 8 differs from the head size 16",
    ),
}


@pytest.mark.parametrize("case", GGUF_REFUSED)
def test_a_gguf_that_is_no_plain_llama_is_refused_by_name(case: str, tmp_path: Path) -> None:
    changes, message = GGUF_REFUSED[case]
    path = write_gguf(tmp_path / "model.gguf", converted(llama()), **changes)
    with pytest.raises(UnsupportedModelError) as caught:
        open_model(path)
    assert message in str(caught.value) and "model.gguf" in str(caught.value)


def test_neutral_keys_are_accepted(tmp_path: Path) -> None:
    open_model(
        write_gguf(tmp_path / "a.gguf", converted(llama()), llama__expert_count=0, llama__rope__scaling__type="none")
    )


GGUF_MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"llama__block_count": None}, "metadata key 'llama.block_count' is missing"),
    "wrong type": ({"llama__block_count": "2"}, "llama.block_count is '2'; expected `int`, got `str`"),
    "layers": ({"llama__block_count": 3}, "weight 'blk.2.attn_norm.weight' is missing"),
    "width": ({"llama__feed_forward_length": 33}, "has shape [32, 64], expected [33, 64]"),
}


@pytest.mark.parametrize("case", GGUF_MALFORMED)
def test_a_malformed_gguf_model_is_named(case: str, tmp_path: Path) -> None:
    changes, message = GGUF_MALFORMED[case]
    path = write_gguf(tmp_path / "model.gguf", converted(llama()), **changes)
    with pytest.raises(ModelFileError) as caught:
        open_model(path).weights()
    assert message in str(caught.value) and "model.gguf" in str(caught.value)


def test_a_tensor_left_over_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", converted(llama()) | {"blk.0.attn_q.scale": np.ones(1, np.float32)})
    with pytest.raises(UnsupportedModelError, match=r"'blk\.0\.attn_q\.scale' is no part of a llama"):
        open_model(path).weights()


def test_nothing_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no such file or folder"):
        open_model(tmp_path / "none")
    with pytest.raises(ModelFileError, match=r"config\.json: cannot be read"):
        open_model(tmp_path)


@needs_model
def test_the_embedded_model_is_described() -> None:
    config = embedded_model().config
    assert (config.layers, config.hidden, config.ffn, config.heads, config.kv_heads) == (30, 576, 1536, 9, 3)
    assert (config.vocab_size, config.context_length, config.rotaries[0].theta) == (49152, 8192, 100_000.0)
    assert config.tied_embeddings and config.bos_id == 1 and config.eos_ids == (0, 2)


def test_opening_a_model_imports_neither_torch_nor_transformers() -> None:
    """The HTTP side opens models for their tokenizers and templates, and has to start fast."""
    code = "import sys, engine.model.files; print({'torch', 'transformers', 'gguf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
