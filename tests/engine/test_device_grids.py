"""Grids packed for the GPU's matmul: the same numbers, and models that run from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.decoder import TorchRunner
from engine.device_grids import device_weight, joined
from engine.model.files import open_model
from engine.model.grid import Grid
from engine.model.weights import SafetensorsWeights
from kernels.matmul import check, dequantize_reference
from tests.engine.decoding import Feeder
from tests.engine.test_checkpoint import FORMATS, quantized
from tests.engine.test_triton_runner import loaded

HOST = torch.device("cpu")
PACKED = {
    "gptq": "gptq",
    "gptq in act-order": "gptq",
    "gptq of 2 bits": "gptq",
    "awq": "gptq",
    "w4a16": "gptq",
    "w3a16, asymmetric": "gptq",
    "w8a8": "int8",
}
"""The kernel's format where one fits: these zeros are from 1 to 15."""


@pytest.mark.parametrize("case", FORMATS)
def test_packed_weights_stand_for_the_grid(case: str, tmp_path: Path) -> None:
    quantized("llama 2", case, tmp_path)
    weights = open_model(tmp_path).weights()
    assert isinstance(weights, SafetensorsWeights)
    grid = weights.grid("model.layers.0.mlp.up_proj.weight")
    assert grid is not None
    weight = device_weight(grid, None, HOST)
    if case == "w8a16, asymmetric":
        assert weight is None
        return
    assert weight is not None and weight.format == PACKED.get(case, weight.format)
    check(weight)
    np.testing.assert_array_equal(dequantize_reference(weight).numpy(), grid.dense())


def grid_of(zeros: int, *, group_of: list[int] | None = None, rows: int = 16, bits: int = 4) -> Grid:
    random = np.random.default_rng(0)
    return Grid(
        bits,
        random.integers(-8, 8, (rows, 64)).astype(np.int8),
        (random.random((rows, 2)) + 0.5).astype(np.float16).astype(np.float32),
        np.full((rows, 2), zeros, np.int16),
        None if group_of is None else np.array(group_of, np.int32),
    )


def test_a_zero_at_either_end_of_its_range() -> None:
    """GPTQ stores zeros less one, so it has no 0; AWQ has no 16."""
    for zeros, kind in ((-8, "awq"), (8, "gptq"), (0, "gptq")):
        grid = grid_of(zeros)
        weight = device_weight(grid, None, HOST)
        assert weight is not None and weight.format == kind
        check(weight)
        np.testing.assert_array_equal(dequantize_reference(weight).numpy(), grid.dense())


def test_what_no_kernel_has_is_left_to_floats() -> None:
    uneven = [0] * 40 + [1] * 24
    for grid in (
        grid_of(0, group_of=uneven),
        grid_of(0, rows=12),
        grid_of(0, bits=8),
        grid_of(-8, group_of=[0, 1] * 32),
    ):
        assert device_weight(grid, None, HOST) is None


def test_only_grids_of_one_kind_are_joined() -> None:
    left, right = grid_of(0), grid_of(3)
    both = joined([left, right])
    assert both is not None
    np.testing.assert_array_equal(both.dense(), np.concatenate((left.dense(), right.dense())))
    assert joined([left, grid_of(0, group_of=[0, 1] * 32)]) is None
    assert joined([left, grid_of(0, bits=3)]) is None


SLOWER = [pytest.param(case, marks=pytest.mark.slow) for case in ("gptq in act-order", "w8a8", "w8a16, asymmetric")]


@pytest.mark.parametrize("case", ["awq", *SLOWER])
def test_a_model_runs_from_packed_weights(case: str, tmp_path: Path, device: torch.device) -> None:
    quantized("llama 2", case, tmp_path)
    model = open_model(tmp_path)
    tokens = [[1, 5, 98, 7, 30]]
    runner = loaded(model, device)
    (found,) = Feeder(runner).run(tokens, [4])
    (wanted,) = Feeder(TorchRunner.load(model, num_blocks=8)).run(tokens, [4])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
    if "asymmetric" not in case:
        assert runner.nbytes()["weights"] < TorchRunner.load(model, num_blocks=1).nbytes()["weights"] * 0.6
