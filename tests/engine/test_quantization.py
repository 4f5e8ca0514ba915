"""Making quantized models: roundings against each other and brute force, moved scales that change nothing, and whole
checkpoints that come back as they were written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.decoder import TorchRunner
from engine.model.errors import UnsupportedModelError
from engine.model.files import ModelFiles, open_model
from engine.model.grid import Grid
from engine.model.weights import SafetensorsWeights
from engine.packed_weights import from_grid
from engine.quantization.calibration import Calibration, window_batch
from engine.quantization.command import Work, cut
from engine.quantization.gptq import ActOrder, gptq, inverse_factor
from engine.quantization.perplexity import perplexity
from engine.quantization.pipeline import Method, Recipe, _scaled, quantize_layers
from engine.quantization.rounding import Scheme, fit_groups, nearest, round_to_nearest, to_numbers
from engine.quantization.scaling import awq_scales, clipped, output_error, smooth_scales
from engine.quantization.writing import check, write_folder
from tests.engine.families import VOCAB, make, write_gguf

schemes = st.builds(Scheme, st.integers(2, 8), st.sampled_from([-1, 32, 40]), st.booleans())


def matrix(seed: int, rows: int = 6, columns: int = 96) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def inputs(seed: int, columns: int = 96) -> torch.Tensor:
    """Correlated, and some columns much louder than others, as a decoder's are."""
    mixed = matrix(seed, 400, columns) @ matrix(seed + 1, columns, columns) / columns**0.5
    return mixed * torch.exp(1.5 * torch.randn(columns, generator=torch.Generator().manual_seed(seed + 2)))


# ------------------------------------------------------------------------------------------------------------ rounding


@given(scheme=schemes, seed=st.integers(0, 1000))
def test_rounding_is_to_the_nearest_number_of_the_grid(scheme: Scheme, seed: int) -> None:
    weights = matrix(seed)
    grid = round_to_nearest(weights, scheme)
    scales, zeros = fit_groups(weights, scheme)
    group_of = scheme.group_of(96)
    numbers = torch.arange(scheme.lowest, scheme.highest + 1)
    candidates = (numbers - zeros[:, group_of, None]) * scales[:, group_of, None]
    least = (candidates - weights[..., None]).abs().amin(-1)
    np.testing.assert_allclose(np.abs(grid.dense() - weights.numpy()), least, atol=1e-5)
    np.testing.assert_array_equal(grid.dense(), nearest(weights, scheme).numpy())
    assert not (scheme.symmetric and grid.zeros.any())
    assert grid.numbers.min() >= scheme.lowest and grid.numbers.max() <= scheme.highest


def test_a_group_of_zeros_stays_zeros() -> None:
    weights = matrix(0)
    weights[:, :32] = 0
    for symmetric in (True, False):
        assert not round_to_nearest(weights, Scheme(4, 32, symmetric)).dense()[:, :32].any()


@pytest.mark.parametrize("group", [32, 40, -1])
def test_numbers_already_on_a_grid_stay(group: int) -> None:
    scheme = Scheme(4, group)
    once = round_to_nearest(matrix(3), scheme)
    numbers = once.numbers.copy()
    numbers[:, ::20] = scheme.lowest  # so that every group shows its whole range
    weights = Grid(4, numbers, once.scales, once.zeros, once.group_of).dense()
    twice = gptq(torch.from_numpy(weights * (15 / 16)), torch.eye(96), scheme)
    assert np.abs(twice.dense() - weights * (15 / 16)).max() < once.scales.max()


# ---------------------------------------------------------------------------------------------------------------- GPTQ


def column_by_column(weights: torch.Tensor, moments: torch.Tensor, scheme: Scheme) -> NDArray[np.float32]:
    """The definition (optimal brain surgeon): after each column the best change of those that follow, by solving for
    it anew."""
    scales, zeros = fit_groups(weights, scheme)
    group_of = scheme.group_of(weights.shape[1])
    left = weights.double().clone()
    damped = moments.double() + 0.01 * moments.diagonal().mean() * torch.eye(len(moments))
    for i in range(weights.shape[1]):
        scale, zero = scales[:, group_of[i]], zeros[:, group_of[i]]
        rounded = (to_numbers(left[:, i].float(), scale, zero, scheme) - zero) * scale
        error = left[:, i] - rounded
        left[:, i] = rounded
        rest = damped[i + 1 :, i + 1 :]
        if len(rest):
            left[:, i + 1 :] += error[:, None] * torch.linalg.solve(rest, damped[i + 1 :, i])
    return left.float().numpy()


@pytest.mark.parametrize("scheme", [Scheme(3, 32), Scheme(4, -1, False), Scheme(4, 40)])
def test_gptq_is_the_optimal_brain_surgeon(scheme: Scheme) -> None:
    weights, x = matrix(1, columns=160), inputs(2, 160)
    moments = x.T @ x
    found = gptq(weights, moments, scheme, act_order="none").dense()
    wanted = column_by_column(weights, moments, scheme)
    # A sum in another order may round a weight the other way, and all that follow it in its row differ.
    assert np.isclose(found, wanted, atol=1e-4).mean() > 0.9


@pytest.mark.parametrize("act_order", ["static", "group", "none"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gptq_loses_less_than_rounding(bits: int, act_order: ActOrder) -> None:
    weights, x = matrix(1, 24, 192), inputs(2, 192)
    moments = x.T @ x
    scheme = Scheme(bits, 64)
    errors = [
        output_error(torch.from_numpy(grid.dense()) - weights, moments)
        for grid in (gptq(weights, moments, scheme, act_order=act_order), round_to_nearest(weights, scheme))
    ]
    assert errors[0] < 0.7 * errors[1]


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    x = inputs(2)
    x[:, 5] = 0
    moments = x.T @ x
    assert torch.isfinite(inverse_factor(moments)).all()
    assert np.isfinite(gptq(matrix(1), moments, Scheme(4, 32)).dense()).all()


# ------------------------------------------------------------------------------------------------------------- scaling


def test_awq_loses_less_than_rounding() -> None:
    weights, x = matrix(1, 24), inputs(2)
    moments, scheme = x.T @ x, Scheme(3, 32)
    scales = awq_scales(weights, x.abs().mean(0), moments, scheme)
    grid = clipped(weights * scales, moments / scales / scales[:, None], scheme)
    errors = [
        output_error(change - weights, moments)
        for change in (
            torch.from_numpy(grid.dense()) / scales,
            torch.from_numpy(clipped(weights, moments, scheme).dense()),
            torch.from_numpy(round_to_nearest(weights, scheme).dense()),
        )
    ]
    assert errors[0] < errors[1] < errors[2]


def test_output_error_is_the_error_of_outputs() -> None:
    change, x = matrix(1), inputs(2)
    assert output_error(change, x.T @ x) == pytest.approx(float((x @ change.T).pow(2).sum()), rel=1e-4)


def test_smoothing_makes_both_sides_alike() -> None:
    """At α = 1/2 the largest input and the largest weight of every column become equal (the paper's equation 4)."""
    weights, x = matrix(1), inputs(2)
    scales = smooth_scales(weights, x.abs().amax(0), 0.5)
    np.testing.assert_allclose((x / scales).abs().amax(0), (weights * scales).abs().amax(0), rtol=1e-4)


# -------------------------------------------------------------------------------------------------------------- models


def opened(family: str, folder: Path, **changes: Any) -> tuple[Any, ModelFiles]:
    model = make(family, num_hidden_layers=2, **changes)
    model.save_pretrained(folder)
    return model, open_model(folder)


def windows(count: int = 4, length: int = 48) -> list[list[int]]:
    return np.random.default_rng(0).integers(0, VOCAB, (count, length)).tolist()


@torch.inference_mode()
def outputs(runner: TorchRunner) -> NDArray[np.float32]:
    return runner.forward(window_batch(windows()[0]))


EVERY_HEAD = {"num_key_value_heads": 4}
"""So that values, too, are scaled."""


@pytest.mark.parametrize("method", ["awq", "smoothquant"])
@pytest.mark.parametrize(
    ("family", "changes"), [("llama 2", {}), ("qwen 2", {}), ("qwen 2", EVERY_HEAD), ("gemma 2", {}), ("gemma 3", {})]
)
@torch.inference_mode()
def test_moved_scales_change_nothing(method: Method, family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    _, files = opened(family, tmp_path, **changes)
    runner = TorchRunner.load(files, num_blocks=3)
    before = outputs(runner)
    calibration = Calibration(runner, windows())
    for i, layer in enumerate(runner.layers):
        moved = _scaled(layer, calibration.observe(layer), Recipe(method, Scheme(4, 32)), files.config)
        assert (moved.qkv.weight - layer.qkv.weight).abs().max() > 0.01
        calibration.advance(layer)
        runner.layers[i] = moved
    np.testing.assert_allclose(outputs(runner), before, rtol=0, atol=2e-4)


RECIPES = {
    "rtn": Recipe("rtn", Scheme(4, 32)),
    "rtn, asymmetric": Recipe("rtn", Scheme(3, 32, symmetric=False)),
    "gptq": Recipe("gptq", Scheme(4, 32)),
    "awq": Recipe("awq", Scheme(4, 32)),
    "smoothquant": Recipe("smoothquant", Scheme(8)),
    "gptq, its layout": Recipe("gptq", Scheme(4, 32), "group", layout="gptq"),
    "rtn, gptq's layout": Recipe("rtn", Scheme(4, 32, symmetric=False), layout="gptq"),
    "awq, its layout": Recipe("awq", Scheme(4, 32, symmetric=False), layout="awq"),
}


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *(
            (family, name)
            for family in ("llama 2", "phi 4, short", "gemma 3")
            for name in RECIPES
            if "layout" not in name
        ),
        *(("phi 4, short", name) for name in RECIPES if "layout" in name),
    ],
)
def test_a_checkpoint_is_what_was_calibrated(family: str, name: str, tmp_path: Path) -> None:
    """Written and read again: the logits of the runner that was quantized, up to half precision of what stayed float;
    and every matrix on the CPU kernels' own grid."""
    _, files = opened(family, tmp_path / "model")
    runner = TorchRunner.load(files, num_blocks=3)
    recipe = RECIPES[name]
    changed = quantize_layers(runner, windows(), recipe)
    write_folder(files, changed, recipe, str(tmp_path / "out"))
    again = open_model(tmp_path / "out")
    found, wanted = outputs(TorchRunner.load(again, num_blocks=3)), outputs(runner)
    assert np.abs(found - wanted).max() < 0.02 * wanted.std()
    weights = again.weights()
    assert isinstance(weights, SafetensorsWeights)
    for weight, grid in changed.items():
        if isinstance(grid, Grid):
            read = weights.grid(weight)
            assert read is not None and (from_grid(read) is None) == (recipe.act_order == "group")
            np.testing.assert_array_equal(read.numbers, grid.numbers)
            np.testing.assert_array_equal(read.dense(), grid.dense())


def test_a_gguf_file_becomes_a_folder(tmp_path: Path) -> None:
    files = open_model(write_gguf("llama 2", make("llama 2", num_hidden_layers=2), tmp_path / "model.gguf"))
    runner = TorchRunner.load(files, num_blocks=3)
    recipe = RECIPES["rtn"]
    check(files.config, recipe, files)
    out = tmp_path / "out"
    write_folder(files, quantize_layers(runner, [], recipe), recipe, str(out))
    again = open_model(out)
    np.testing.assert_allclose(outputs(TorchRunner.load(again, num_blocks=3)), outputs(runner), atol=0.02)
    assert again.tokenizer().encode("path<|70|>") == files.tokenizer().encode("path<|70|>") != []
    assert json.loads((out / "config.json").read_text())["quantization_config"]["format"] == "pack-quantized"


def test_later_layers_see_what_earlier_ones_became(tmp_path: Path) -> None:
    _, files = opened("llama 2", tmp_path)
    runner = TorchRunner.load(files, num_blocks=3)
    with torch.inference_mode():
        calibration = Calibration(runner, windows())
        untouched = runner.layers[0]
        plain = calibration.observe(untouched)["qkv"].second.clone()
        calibration.advance(untouched)
        second = calibration.observe(runner.layers[1])["qkv"]
    assert second.seen == 4 * 48
    assert not torch.equal(plain, second.second)
    rough = TorchRunner.load(files, num_blocks=3)
    quantize_layers(rough, windows(), Recipe("gptq", Scheme(2, 32)))
    assert np.abs(outputs(rough) - outputs(runner)).max() > 0.1


def test_perplexity_is_that_of_transformers(tmp_path: Path) -> None:
    model, files = opened("llama 2", tmp_path)
    runner = TorchRunner.load(files, num_blocks=13)
    text = windows(2, 200)
    with torch.inference_mode():
        losses = [float(model(torch.tensor([w]), labels=torch.tensor([w])).loss) for w in text]
    assert perplexity(runner, text) == pytest.approx(float(np.exp(np.mean(losses))), rel=1e-4)


def test_groups_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    _, files = opened("llama 2", tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"groups of 64 do not divide the 96 inputs of .*; 96 would"):
        check(files.config, Recipe("rtn", Scheme(4, 64)), files)


def test_only_llamas_are_requantized_from_gguf(tmp_path: Path) -> None:
    files = open_model(write_gguf("qwen 3", make("qwen 3"), tmp_path / "model.gguf"))
    with pytest.raises(UnsupportedModelError, match="not 'qwen3'"):
        check(files.config, Recipe("rtn", Scheme(4, 32)), files)


def test_no_window_calibrates_and_judges() -> None:
    work = Work(model=Path("m"), out=Path("o"), windows=6, window=4, evaluation_windows=3)
    calibration, evaluation = cut(list(range(100)), work)
    assert len(calibration) == 6 and len(evaluation) == 3
    used = [token for window in calibration + evaluation for token in window]
    assert len(set(used)) == len(used) == 36
