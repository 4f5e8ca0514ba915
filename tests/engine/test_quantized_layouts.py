"""Layouts of quantized checkpoints: what is written, taken apart word by word as each layout's own kernels do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.model.checkpoint import quantization_of, read_grid
from engine.model.errors import UnsupportedModelError
from engine.model.files import open_model
from engine.model.grid import Grid
from engine.quantization.layouts import check_layout, layer_tensors, quantization_config
from engine.quantization.pipeline import Recipe
from engine.quantization.rounding import Scheme
from tests.engine.families import make

Tensors = dict[str, NDArray[Any]]


def grid_of(scheme: Scheme, seed: int, *, ordered: bool) -> Grid:
    """64 outputs of 96 inputs: random numbers on random grids."""
    random = np.random.default_rng(seed)
    groups = 1 if scheme.group < 0 else 96 // scheme.group
    numbers = random.integers(scheme.lowest, scheme.highest + 1, (64, 96)).astype(np.int8)
    scales = random.uniform(0.01, 0.02, (64, groups)).astype(np.float16).astype(np.float32)
    zeros = random.integers(scheme.lowest, scheme.highest + 1, (64, groups)).astype(np.int16)
    group_of = random.permutation(np.repeat(np.arange(groups), 96 // groups)).astype(np.int32)
    return Grid(scheme.bits, numbers, scales, zeros * (not scheme.symmetric), group_of if ordered else None)


def field(words: list[int], index: int, bits: int) -> int:
    """Field ``index`` of a row of words that are filled densely, the lowest bits first."""
    whole = sum((word & 0xFFFFFFFF) << (32 * i) for i, word in enumerate(words))
    return whole >> (index * bits) & ((1 << bits) - 1)


def dequantized_gptq(parts: Tensors, config: dict[str, Any]) -> NDArray[np.float64]:
    """AutoGPTQ's: scale[g_idx[i], o] · (q[i, o] - z[g_idx[i], o]); z is stored less one in the first version."""
    bits, more = config["bits"], 1 if config["checkpoint_format"] == "gptq" else 0
    columns = [column.tolist() for column in parts["qweight"].T]
    rows = [row.tolist() for row in parts["qzeros"]]
    weights = np.empty((len(columns), len(parts["g_idx"])))
    for output, words in enumerate(columns):
        for place, group in enumerate(parts["g_idx"].tolist()):
            zero = field(rows[group], output, bits) + more
            weights[output, place] = float(parts["scales"][group, output]) * (field(words, place, bits) - zero)
    return weights


def dequantized_awq(parts: Tensors, config: dict[str, Any]) -> NDArray[np.float64]:
    """AutoAWQ's gemm: output 8 w + j is the nibble at 4 · (0, 4, 1, 5, 2, 6, 3, 7)[j] of word w."""
    inputs, words = parts["qweight"].shape
    size = inputs if config["group_size"] < 0 else config["group_size"]
    weights = np.empty((words * 8, inputs))
    for output in range(words * 8):
        word, shift = output // 8, 4 * (0, 4, 1, 5, 2, 6, 3, 7)[output % 8]
        for place in range(inputs):
            number = int(parts["qweight"][place, word]) >> shift & 15
            zero = int(parts["qzeros"][place // size, word]) >> shift & 15
            weights[output, place] = float(parts["scales"][place // size, output]) * (number - zero)
    return weights


recipes = st.one_of(
    st.builds(
        Recipe,
        st.just("gptq"),
        st.builds(Scheme, st.sampled_from([2, 3, 4, 8]), st.sampled_from([-1, 32, 48]), st.booleans()),
        st.sampled_from(["static", "group"]),
        layout=st.just("gptq"),
    ),
    st.builds(
        Recipe,
        st.just("awq"),
        st.builds(Scheme, st.just(4), st.sampled_from([-1, 32, 48]), st.booleans()),
        layout=st.just("awq"),
    ),
    st.builds(
        Recipe,
        st.just("gptq"),
        st.builds(Scheme, st.integers(2, 8), st.sampled_from([-1, 32, 48]), st.booleans()),
        st.sampled_from(["static", "group"]),
        layout=st.just("compressed-tensors"),
    ),
)


@given(recipes, st.integers(0, 1000))
def test_what_is_written_is_the_grid(recipe: Recipe, seed: int) -> None:
    grid = grid_of(recipe.scheme, seed, ordered=recipe.method == "gptq" and recipe.act_order == "group")
    parts, config = layer_tensors(grid, recipe), quantization_config(recipe)
    if recipe.layout == "gptq":
        assert config["desc_act"] == (recipe.act_order == "group")
        np.testing.assert_allclose(dequantized_gptq(parts, config), grid.dense(), atol=1e-6)
    elif recipe.layout == "awq":
        np.testing.assert_allclose(dequantized_awq(parts, config), grid.dense(), atol=1e-6)
    assert all(part.flags.c_contiguous for part in parts.values())
    read = read_grid(quantization_of(config, "here"), "m", lambda name: parts[name[2:]], lambda name: name[2:] in parts)
    np.testing.assert_array_equal(read.numbers, grid.numbers)
    np.testing.assert_array_equal(read.groups(), grid.groups())
    np.testing.assert_array_equal(read.dense(), grid.dense())


REFUSED = {
    "activations": (Recipe("smoothquant", Scheme(8), layout="gptq"), "gptq has no 8-bit activations"),
    "bits": (Recipe("rtn", Scheme(5, 32), layout="gptq"), "gptq has no 5 bits"),
    "awq's bits": (Recipe("rtn", Scheme(3, 32), layout="awq"), "awq has no 3 bits"),
    "awq's order": (Recipe("gptq", Scheme(4, 32), "group", layout="awq"), "awq has no order of groups"),
    "words": (Recipe("rtn", Scheme(3, 36), layout="gptq"), "64 inputs and 100 outputs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_layout_cannot_hold_is_refused_by_name(case: str, tmp_path: Path) -> None:
    recipe, message = REFUSED[case]
    sizes = {"intermediate_size": 100} if case == "words" else {}
    make("llama 2", num_hidden_layers=1, **sizes).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=message):
        check_layout(open_model(tmp_path).config, recipe)
