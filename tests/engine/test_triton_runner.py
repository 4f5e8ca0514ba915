"""The runner of GPUs against the torch runner, and the step loop over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.base import StepBatch
from engine.decoder import TorchRunner
from engine.device_sampling import DeviceSampling
from engine.model.errors import UnsupportedModelError
from engine.model.files import ModelFiles, open_model
from engine.triton_runner import TritonRunner
from fsm.rows import RowPool
from kernels import sampling_reference
from kernels.sampling import SamplingResult
from tests.engine.decoding import Cursor, Feeder
from tests.engine.families import make
from tests.engine.test_decoder import VARIANTS, prompts, saved, small_llama
from tests.kernels.sampling_cases import random_case

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class OnHost(TritonRunner):
    """Brings logits to where the tests of all runners look at them."""

    def forward(self, batch: StepBatch) -> Any:
        return super().forward(batch).float().cpu().numpy()


def loaded(model: ModelFiles, device: torch.device, dtype: torch.dtype = torch.float32, **options: object) -> OnHost:
    given: dict[str, object] = {"num_blocks": 64, "dtype": dtype, "device": device} | options
    return OnHost(model.config, model.weights(), **given)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("variant", ["plain", "tied", "biases"])
def test_logits_equal_the_torch_runner(variant: str, tmp_path: Path, device: torch.device) -> None:
    model = open_model(saved(small_llama(num_hidden_layers=1, **VARIANTS[variant]), tmp_path))
    tokens = prompts(1, [5, 1, 20])
    ours = Feeder(loaded(model, device)).run(tokens, [2, 1, 17])
    theirs = Feeder(TorchRunner.load(model, num_blocks=64)).run(tokens, [2, 1, 17])
    for found, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4)


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("qwen 2", "qwen 3", "phi 4", "gemma 3")]


@pytest.mark.parametrize("family", ["gemma 2", *SLOWER])
def test_families_equal_the_torch_runner(family: str, tmp_path: Path, device: torch.device) -> None:
    """Two layers, so that windows and rotations differ; contexts longer than the window."""
    model = open_model(saved(make(family, num_hidden_layers=2), tmp_path))
    tokens = prompts(1, [30, 41])
    ours = Feeder(loaded(model, device)).run(tokens, [29, 40])
    theirs = Feeder(TorchRunner.load(model, num_blocks=64)).run(tokens, [29, 40])
    for found, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("cached", [torch.int8, pytest.param(torch.float8_e4m3fn, marks=CUDA)])
def test_a_quantized_cache_is_close(cached: torch.dtype, tmp_path: Path, device: torch.device) -> None:
    model = open_model(saved(small_llama(num_hidden_layers=1), tmp_path))
    tokens = prompts(1, [18])
    (found,) = Feeder(loaded(model, device, cache_dtype=cached)).run(tokens, [16])
    (wanted,) = Feeder(TorchRunner.load(model, num_blocks=64)).run(tokens, [16])
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert 1e-6 < error < (0.05 if cached == torch.int8 else 0.2)


def test_blocks_of_a_gguf_file_are_multiplied_as_they_are(tmp_path: Path, device: torch.device) -> None:
    """Neighbouring projections of different block types, and a float one between them."""
    from tests.engine.test_cpu_runner import small_gguf  # which compiles the CPU's kernels

    model = small_gguf(tmp_path / "small.gguf")
    tokens = [[1, 5, 98, 7, 30]]
    runner = loaded(model, device)
    (found,) = Feeder(runner).run(tokens, [4])
    (wanted,) = Feeder(TorchRunner.load(model, num_blocks=64)).run(tokens, [4])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
    assert runner.nbytes()["weights"] < TorchRunner.load(model, num_blocks=1).nbytes()["weights"] * 0.6


def test_copied_blocks_serve_a_fork(tmp_path: Path, device: torch.device) -> None:
    model = open_model(saved(small_llama(num_hidden_layers=1), tmp_path))
    runner = loaded(model, device, cache_dtype=torch.int8)
    feeder = Feeder(runner)
    first = Cursor()
    feeder.step([(first, prompts(2, [9])[0])])
    twin = feeder.fork(first)
    left, right = feeder.step([(first, [3]), (twin, [3])])
    np.testing.assert_array_equal(left, right)


def test_more_query_heads_than_a_tile_are_refused(tmp_path: Path, device: torch.device) -> None:
    changes = {"num_attention_heads": 24, "num_key_value_heads": 1, "head_dim": 8, "num_hidden_layers": 1}
    model = open_model(saved(small_llama(**changes), tmp_path))
    with pytest.raises(UnsupportedModelError, match="heads is 24 over 1"):
        loaded(model, device)


def test_sampling_on_the_device_is_the_reference_s(device: torch.device) -> None:
    logits, pool, batch = random_case(21, 300)
    ours, theirs = SamplingResult.empty(4, 7), SamplingResult.empty(4, 7)
    kernel = DeviceSampling(pool, device)
    kernel.sample(torch.from_numpy(logits).to(device), pool, batch, ours)
    sampling_reference.sample(torch.from_numpy(logits), pool, batch, theirs)
    assert ours.token.tolist() == theirs.token.tolist()
    np.testing.assert_allclose(ours.top_logprobs, theirs.top_logprobs, atol=2e-6)
    with pytest.raises(ValueError, match="another pool"):
        kernel.sample(torch.from_numpy(logits).to(device), RowPool(300), batch, ours)


@CUDA
def test_graphs_give_the_same_logits(tmp_path: Path, device: torch.device) -> None:
    model = open_model(saved(small_llama(), tmp_path))
    tokens = prompts(1, [7, 12, 3])
    plain = Feeder(loaded(model, device)).run(tokens, [1, 1, 1])
    replayed = Feeder(loaded(model, device, graph_sizes=(1, 2, 4))).run(tokens, [1, 1, 1])
    for found, wanted in zip(replayed, plain, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
