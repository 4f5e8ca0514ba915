"""The bytes that a model is said to take, held against what the runners hold."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.base import Runner
from engine.cpu_runner import CpuRunner
from engine.decoder import TorchRunner
from engine.model.config import ModelConfig
from engine.model.files import ModelFiles, open_model
from engine.model.footprint import FORMATS, Device, Format, KvFormat, held, kv_bytes_per_token, parameters, weight_bytes
from engine.model.kv_groups import KvGroups
from engine.model.stored import stored_formats
from engine.service import _blocks  # pyright: ignore[reportPrivateUsage]
from engine.triton_runner import TritonRunner
from tests.engine.families import make, write_gguf
from tests.engine.test_decoder import VARIANTS, saved, small_llama

BLOCK = 16


def said(model: ModelFiles, device: Device, kv: KvFormat, blocks: int) -> dict[str, int]:
    return {
        "weights": weight_bytes(model.config, device, stored_formats(model)).total,
        "kv": kv_bytes_per_token(model.config, kv) * blocks * BLOCK,
    }


def held_by(runner: Runner) -> dict[str, int]:
    return runner.nbytes()


def test_the_default_model_takes_what_is_said(embedded_model: Path) -> None:
    model = open_model(embedded_model)
    assert said(model, "cpu", "bf16", 7) == held_by(CpuRunner.load(model, num_blocks=7, threads=1))


@pytest.mark.slow
def test_the_default_model_in_floats_takes_what_is_said(embedded_model: Path) -> None:
    model = open_model(embedded_model)
    assert said(model, "reference", "fp32", 7) == held_by(TorchRunner.load(model, num_blocks=7))


@pytest.mark.parametrize("variant", ["plain", "tied", "biases"])
def test_small_models_take_what_is_said_on_every_runner(variant: str, tmp_path: Path, device: torch.device) -> None:
    model = open_model(saved(small_llama(intermediate_size=96, head_dim=32, **VARIANTS[variant]), tmp_path))
    triton = TritonRunner(model.config, model.weights(), num_blocks=5, dtype=torch.bfloat16, device=device)
    assert said(model, "reference", "fp32", 5) == held_by(TorchRunner.load(model, num_blocks=5))
    assert said(model, "cuda", "bf16", 5) == triton.nbytes()
    assert said(model, "cpu", "bf16", 5) == held_by(CpuRunner.load(model, num_blocks=5, threads=1))


@pytest.mark.parametrize("cached", [torch.int8])
def test_a_quantized_cache_has_a_scale_a_head(cached: torch.dtype, tmp_path: Path, device: torch.device) -> None:
    model = open_model(saved(small_llama(num_hidden_layers=1), tmp_path))
    runner = TritonRunner(model.config, model.weights(), num_blocks=5, cache_dtype=cached, device=device)
    assert kv_bytes_per_token(model.config, "int8") * 5 * BLOCK == runner.nbytes()["kv"]


def test_blocks_stay_packed_on_a_gpu(tmp_path: Path, device: torch.device) -> None:
    model = open_model(write_gguf("gemma 3", make("gemma 3"), tmp_path / "model.gguf"))
    runner = TritonRunner(model.config, model.weights(), num_blocks=5, dtype=torch.bfloat16, device=device)
    assert said(model, "cuda", "bf16", 5) == runner.nbytes()


def test_the_service_has_as_many_blocks_as_fit() -> None:
    config = config_of(3, 64, 4, 2, 16, 100)
    kinds: tuple[tuple[KvFormat, int], ...] = (("bf16", 2), ("fp32", 4))
    for kv, size in kinds:
        for megabytes in (1, 3, 17):
            budget = megabytes << 20
            blocks = budget // (kv_bytes_per_token(config, kv) * BLOCK)
            found = _blocks(config, KvGroups.by_window(config), budget, BLOCK, bytes_per_element=size)
            assert found == min(blocks, 64 * 4096 // BLOCK)


def test_groups_of_layers_take_what_is_said(tmp_path: Path) -> None:
    """Three layers of two windows lie in groups of two or one: a place may stay empty, and is counted."""
    model = open_model(saved(small_llama(num_hidden_layers=3, head_dim=32), tmp_path))
    for windows in ((8, 8, 0), (0, 0, 0), (8, 16, 0)):
        config = msgspec.structs.replace(model.config, windows=windows)
        groups = KvGroups.by_window(config)
        blocks = 6 * len(groups.windows)
        runner = TorchRunner(config, model.weights(), num_blocks=blocks, groups=groups)
        assert kv_bytes_per_token(config, "fp32") * 6 * BLOCK == runner.nbytes()["kv"]
        assert _blocks(config, groups, runner.nbytes()["kv"], BLOCK, bytes_per_element=4) == blocks


def config_of(layers: int, hidden: int, heads: int, kv_heads: int, head_dim: int, vocab: int) -> ModelConfig:
    return ModelConfig(
        layers=layers,
        hidden=hidden,
        ffn=2 * hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab,
        context_length=4096,
        norm_eps=1e-5,
        rotaries=(),
    )


CONFIGS = st.builds(
    config_of,
    layers=st.integers(1, 80),
    hidden=st.integers(1, 300).map(lambda n: 32 * n),
    heads=st.integers(1, 16).map(lambda n: 4 * n),
    kv_heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([32, 64, 128]),
    vocab=st.integers(1, 200_000),
)
DEVICES: tuple[Device, ...] = ("cpu", "cuda", "reference")


@given(CONFIGS, st.sampled_from(sorted(FORMATS)), st.sampled_from(DEVICES), st.booleans())
def test_more_of_a_model_takes_more(config: ModelConfig, name: str, device: Device, tied: bool) -> None:
    config = replace(config, tied_embeddings=tied)
    weights = weight_bytes(config, device, lambda _: name)
    assert weights.total == weights.layers + weights.embedding + weights.head + weights.floats
    assert 0 < weights.read <= weights.total
    for larger in (replace(config, layers=config.layers + 1), replace(config, ffn=config.ffn + 32)):
        assert weight_bytes(larger, device, lambda _: name).total > weights.total
        assert parameters(larger) > parameters(config)
    assert weights.total * 8 >= parameters(config) * held(name, device).bits_a_weight
    assert kv_bytes_per_token(config, "bf16") * 2 == kv_bytes_per_token(config, "fp32")
    assert kv_bytes_per_token(config, "fp8") < kv_bytes_per_token(config, "bf16")


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from(sorted(FORMATS.values(), key=str)))
def test_a_matrix_takes_its_bits_and_little_more(rows: int, columns: int, format: Format) -> None:
    size = format.nbytes(rows, columns)
    assert rows * columns * format.bits <= size * 8 * format.numbers
    assert size <= rows * (((columns + format.numbers) * format.bits / format.numbers + format.row_bits) / 8) + 1
