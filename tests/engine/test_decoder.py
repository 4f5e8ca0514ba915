"""The decoder on small random Llama models against transformers: every shape, every way to cut a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from engine.decoder import TorchRunner
from engine.model.files import open_model
from tests.engine.decoding import Cursor, Feeder

TOLERANCE = 1e-4
"""Logits of these models stay below 10."""

VOCAB = 97
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "every head its key": {"num_key_value_heads": 6},
    "one key head": {"num_key_value_heads": 1},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 32},
    "llama 3 positions": {"rope_parameters": LLAMA3},
    "another epsilon": {"rms_norm_eps": 0.1},
}

Oracle = LlamaForCausalLM | MistralForCausalLM


def randomized(model: Oracle, seed: int) -> Oracle:
    """Weights large enough that every part matters; transformers starts biases at 0 and norms at 1."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape) * (0.3 if "norm" in name or "bias" in name else 0.15))
            if "norm" in name:
                parameter += 1
    return model.eval()


def small_llama(seed: int = 0, **changes: Any) -> Oracle:
    settings = {
        "vocab_size": VOCAB,
        "hidden_size": 96,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
    }
    return randomized(LlamaForCausalLM(LlamaConfig(**(settings | changes))), seed)


def saved(model: Oracle, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    return folder


@torch.inference_mode()
def expected(model: Oracle, tokens: list[int]) -> np.ndarray:
    return model(torch.tensor([tokens])).logits[0].float().numpy()


def prompts(seed: int, lengths: list[int]) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCAB, length).tolist() for length in lengths]


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_transformers(variant: str, tmp_path: Path) -> None:
    model = small_llama(**VARIANTS[variant])
    runner = TorchRunner.load(open_model(saved(model, tmp_path)), num_blocks=64, block_size=8)
    tokens = prompts(1, [5, 1, 140, 33])
    for found, wanted in zip(
        Feeder(runner).run(tokens, [2, 1, 50, 33]), (expected(model, t) for t in tokens), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)


def test_a_mistral_whose_window_does_not_reach_is_a_llama(tmp_path: Path) -> None:
    config = MistralConfig(
        vocab_size=VOCAB,
        hidden_size=96,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=256,
        sliding_window=None,
    )
    model = randomized(MistralForCausalLM(config), seed=2)
    runner = TorchRunner.load(open_model(saved(model, tmp_path)), num_blocks=32)
    (tokens,) = prompts(3, [200])
    (found,) = Feeder(runner).run([tokens], [200])
    np.testing.assert_allclose(found, expected(model, tokens), rtol=0, atol=TOLERANCE)


def test_shards_and_half_precision_files_hold_the_same_model(tmp_path: Path) -> None:
    """bfloat16 and float16 files are computed in float32, as transformers does when asked to."""
    for name in ("bfloat16", "float16"):
        model = small_llama(4)
        torch.nn.Module.to(model, dtype=getattr(torch, name))
        folder = saved(model, tmp_path / name, max_shard_size="100KB")
        assert len(list(folder.glob("*.safetensors"))) > 1
        runner = TorchRunner.load(open_model(folder), num_blocks=8)
        (tokens,) = prompts(5, [60])
        (found,) = Feeder(runner).run([tokens], [60])
        oracle = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        np.testing.assert_allclose(found, expected(oracle, tokens), rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Oracle, TorchRunner]:
    model = small_llama(7)
    folder = saved(model, tmp_path_factory.mktemp("small"))
    return model, TorchRunner.load(open_model(folder), num_blocks=128, block_size=4)


sequences = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(work=sequences, seed=st.integers(0, 2**16))
def test_any_ragged_schedule_gives_the_same_logits(
    small: tuple[Oracle, TorchRunner], work: list[tuple[int, int]], seed: int
) -> None:
    """``work`` is (length, chunk) of each sequence: whole prompts, chunks and single tokens share batches."""
    model, runner = small
    tokens = prompts(seed, [length for length, _ in work])
    found = Feeder(runner, seed).run(tokens, [chunk for _, chunk in work])
    for ours, prompt in zip(found, tokens, strict=True):
        np.testing.assert_allclose(ours, expected(model, prompt), rtol=0, atol=TOLERANCE)


@settings(max_examples=20, deadline=None)
@given(length=st.integers(2, 60), data=st.data())
def test_a_forked_sequence_goes_its_own_way(
    small: tuple[Oracle, TorchRunner], length: int, data: st.DataObject
) -> None:
    """Full blocks are shared and the last one is copied; neither sequence sees the other's tokens."""
    model, runner = small
    split = data.draw(st.integers(1, length - 1))
    left, right = prompts(length, [length, length])
    right[:split] = left[:split]
    feeder, first = Feeder(runner, seed=split), Cursor()
    feeder.step([(first, left[:split])])
    second = feeder.fork(first)
    for tokens, cursor in ((left, first), (right, second)):
        (found,) = feeder.step([(cursor, tokens[split:])])
        np.testing.assert_allclose(found, expected(model, tokens)[split:], rtol=0, atol=TOLERANCE)


def test_only_the_rows_asked_for_are_computed(small: tuple[Oracle, TorchRunner]) -> None:
    """A prefill chunk in the middle of a prompt wants no logits at all."""
    _, runner = small
    for rows in ([], [0, 6]):
        batch = Feeder(runner).batch([(Cursor(), prompts(0, [7])[0])])
        batch.logit_rows = np.array(rows, np.int32)
        assert runner.forward(batch).shape == (len(rows), VOCAB)


def test_bfloat16_stays_close(small: tuple[Oracle, TorchRunner], tmp_path: Path) -> None:
    """The dtype takes effect: half the memory, and logits that differ, by bfloat16's rounding and no more."""
    model, exact = small
    files = open_model(saved(model, tmp_path))
    runner = TorchRunner.load(files, num_blocks=128, block_size=4, dtype=torch.bfloat16)
    assert {name: 2 * size for name, size in runner.nbytes().items()} == exact.nbytes()
    (tokens,) = prompts(11, [100])
    (found,), (wanted,) = (Feeder(r).run([tokens], [100]) for r in (runner, exact))
    difference = np.abs(found - wanted).mean() / np.abs(wanted).mean()
    assert 1e-4 < difference < 0.05


def test_memory_is_counted(small: tuple[Oracle, TorchRunner], tmp_path: Path) -> None:
    model, runner = small
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert runner.nbytes() == {"weights": weights, "kv": 3 * 2 * 2 * 16 * 128 * 4 * 4}
    tied = small_llama(tie_word_embeddings=True)
    runner = TorchRunner.load(open_model(saved(tied, tmp_path)), num_blocks=1)
    assert runner.nbytes()["weights"] == sum(parameter.nbytes for parameter in tied.parameters())
