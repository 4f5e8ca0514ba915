"""Every family against transformers: from a folder and from GGUF, alone and in ragged batches, cached and uncached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.cpu_runner import CpuRunner
from engine.decoder import TorchRunner
from engine.model.errors import UnsupportedModelError
from engine.model.files import ModelFiles, open_model
from tests.engine.decoding import Cursor, Feeder
from tests.engine.families import ARCHITECTURES, CONTEXT, FAMILIES, VOCAB, make, write_gguf

TOLERANCE = 1e-4
IN_GGUF = [name for name, (family, _) in FAMILIES.items() if family in ARCHITECTURES and "linear" not in name
           and name not in ("llama 3", "qwen 2, windows")]  # fmt: skip


@torch.inference_mode()
def expected(model: Any, tokens: list[int]) -> NDArray[np.float32]:
    return model(torch.tensor([tokens])).logits[0].float().numpy()


def prompts(lengths: list[int]) -> list[list[int]]:
    """Two go on beyond every window and every original context."""
    random = np.random.default_rng(3)
    return [random.integers(0, VOCAB, length).tolist() for length in lengths]


def check(files: ModelFiles, model: Any, lengths: list[int]) -> None:
    runner = TorchRunner.load(files, num_blocks=128, block_size=8)
    tokens = prompts(lengths)
    chunks = [2, 50, 33, 150][: len(tokens)]
    for found, prompt in zip(Feeder(runner).run(tokens, chunks), tokens, strict=True):
        np.testing.assert_allclose(found, expected(model, prompt), rtol=0, atol=TOLERANCE)


def lengths_of(name: str) -> list[int]:
    """transformers turns the keys of a short sequence by other factors than we do when a long context was asked for."""
    return [90, 200, 150] if name == "phi 4" else [5, 90, 33, 200]


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, ModelFiles]:
    model = make(request.param)
    folder = tmp_path_factory.mktemp("family")
    model.save_pretrained(folder)
    return request.param, model, open_model(folder)


def test_logits_equal_transformers_in_ragged_batches(saved: tuple[str, Any, ModelFiles]) -> None:
    name, model, files = saved
    check(files, model, lengths_of(name))


def test_a_cached_prefix_changes_nothing(saved: tuple[str, Any, ModelFiles]) -> None:
    """Alone, and two that go on from one prefix that ends inside a block."""
    _, model, files = saved
    (tokens,) = prompts([140])
    wanted = expected(model, tokens)
    feeder = Feeder(TorchRunner.load(files, num_blocks=64, block_size=16))
    first = Cursor()
    (head,) = feeder.step([(first, tokens[:93])])
    second = feeder.fork(first)
    tails = feeder.step([(first, tokens[93:]), (second, tokens[93:])])
    for found in tails:
        np.testing.assert_allclose(np.concatenate((head, found)), wanted, rtol=0, atol=TOLERANCE)


def test_quantized_kernels_run_it(saved: tuple[str, Any, ModelFiles]) -> None:
    """Near full precision, as 8-bit weights are, and bit-equal however the prompt is cut."""
    name, model, files = saved
    tokens = prompts(lengths_of(name))
    runner = CpuRunner.load(files, num_blocks=64, threads=2)
    whole = [Feeder(runner).run([prompt], [len(prompt)])[0] for prompt in tokens]
    for found, prompt in zip(whole, tokens, strict=True):
        wanted = expected(model, prompt)
        assert np.abs(found - wanted).mean() < 0.06 * wanted.std()
    chunks = [3, 50, 33, 61][: len(tokens)]
    for found, same in zip(Feeder(runner).run(tokens, chunks), whole, strict=True):
        np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("name", IN_GGUF)
def test_a_gguf_file_is_the_same_model(name: str, tmp_path: Path) -> None:
    model = make(name)
    files = open_model(write_gguf(name, model, tmp_path / "model.gguf"))
    scale = model.config.query_pre_attn_scalar if "gemma" in name else None
    if scale is not None and scale != files.config.head_dim:
        model = make(name, query_pre_attn_scalar=files.config.head_dim)  # GGUF carries no scale of queries
    check(files, model, lengths_of(name))


def test_the_large_gemmas_scale_queries_by_their_width(tmp_path: Path) -> None:
    """What GGUF does not say and llama.cpp knows by the number of layers."""
    model = make("gemma 2", num_hidden_layers=46, hidden_size=96, query_pre_attn_scalar=24)
    files = open_model(write_gguf("gemma 2", model, tmp_path / "model.gguf"))
    assert files.config.query_scale == pytest.approx(24**-0.5)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "images": ({"model_type": "gemma3", "vision_config": {"hidden_size": 8}}, "vision_config: models with images"),
    "audio": ({"model_type": "phi4mm", "audio_config": {"layers": 1}}, "audio_config: models with audio"),
    "experts": ({"model_type": "mixtral", "num_local_experts": 8}, "num_local_experts: models with a mixture"),
    "another family": ({"model_type": "mamba"}, "model_type 'mamba' is not supported; llama, mistral, qwen2"),
    "layers of another kind": ({"model_type": "qwen3", "layer_types": ["chunked_attention"] * 4}, "chunked_attention"),
    "both directions": ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_models_of_other_kinds_are_refused_by_name(case: str, tmp_path: Path) -> None:
    changes, message = REFUSED[case]
    sizes = {"model_type": "llama", "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96,
             "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": CONTEXT}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(sizes | changes))
    with pytest.raises(UnsupportedModelError) as caught:
        open_model(tmp_path)
    assert message in str(caught.value)
