"""Quantized checkpoints: tensors packed here, number by number, against transformers on the same grids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from engine.cpu_runner import CpuRunner
from engine.decoder import TorchRunner
from engine.model.checkpoint import pack_words, quantization_of, unpack_words
from engine.model.errors import ModelFileError, UnsupportedModelError
from engine.model.files import open_model
from engine.model.weights import SafetensorsWeights
from engine.packed_weights import from_grid
from kernels.cpu.blocks import unpack
from kernels.cpu.dot import Q4, Q8
from tests.engine.decoding import Feeder
from tests.engine.families import VOCAB, make

AWQ_FIELDS = (0, 2, 4, 6, 1, 3, 5, 7)


def words(rows: list[list[int]], bits: int, *, spaced: bool = False) -> Tensor:
    """Each row's numbers into int32 words, the lowest first, by plain integers; ``spaced``: only whole into a word."""
    packed = []
    for row in rows:
        if spaced:
            per = 32 // bits
            cut = [row[at : at + per] for at in range(0, len(row), per)]
            values = [sum(number << (bits * i) for i, number in enumerate(part)) for part in cut]
        else:
            whole = sum(number << (bits * i) for i, number in enumerate(row))
            values = [whole >> at & (2**32 - 1) for at in range(0, len(row) * bits, 32)]
        packed.append([value - 2**32 if value >= 2**31 else value for value in values])
    return torch.tensor(packed, dtype=torch.int32)


class Layer:
    """A linear layer on a random grid: numbers [rows, columns] and zeros from 0 to 2^bits - 1, scales, groups."""

    def __init__(self, weight: Tensor, bits: int, size: int, seed: int, *, symmetric: bool, ordered: bool) -> None:
        rows, columns = weight.shape
        groups = 1 if size < 0 else columns // size
        random = torch.Generator().manual_seed(seed)
        self.bits = bits
        self.numbers = torch.randint(0, 1 << bits, (rows, columns), generator=random)
        self.zeros = torch.randint(1, 1 << bits, (rows, groups), generator=random)
        if symmetric:
            self.zeros[:] = 1 << (bits - 1)
        spread = weight.std() / (1 << bits) * 3
        self.scales = (spread * (0.5 + torch.rand((rows, groups), generator=random))).half()
        self.groups = torch.arange(columns) // (columns // groups)
        if ordered:
            self.groups = self.groups[torch.randperm(columns, generator=random)]

    def dense(self) -> Tensor:
        return (self.numbers - self.zeros[:, self.groups]) * self.scales.float()[:, self.groups]

    def gptq(self, less: int) -> dict[str, Tensor]:
        zeros = ((self.zeros - less) % (1 << self.bits)).T.tolist()
        return {
            "qweight": words(self.numbers.tolist(), self.bits).T.contiguous(),
            "qzeros": words(zeros, self.bits),
            "scales": self.scales.T.contiguous(),
            "g_idx": self.groups.to(torch.int32),
        }

    def awq(self) -> dict[str, Tensor]:
        def fields(numbers: Tensor) -> Tensor:
            return words(numbers.T.reshape(numbers.shape[1], -1, 8)[..., list(AWQ_FIELDS)].flatten(1).tolist(), 4)

        return {
            "qweight": fields(self.numbers), "qzeros": fields(self.zeros), "scales": self.scales.T.contiguous()
        }  # fmt: skip

    def compressed(self, layout: str, symmetric: bool, ordered: bool) -> dict[str, Tensor]:
        offset = 1 << (self.bits - 1)
        parts = {"weight_scale": self.scales}
        if layout == "int-quantized":
            parts["weight"] = (self.numbers - offset).to(torch.int8)
            if not symmetric:
                parts["weight_zero_point"] = (self.zeros - offset).to(torch.int8)
            return parts
        parts["weight_packed"] = words(self.numbers.tolist(), self.bits)
        parts["weight_shape"] = torch.tensor(self.numbers.shape)
        if not symmetric:
            parts["weight_zero_point"] = words(self.zeros.T.tolist(), self.bits).T.contiguous()
        if ordered:
            parts["weight_g_idx"] = self.groups.to(torch.int32)
        return parts


FORMATS: dict[str, tuple[str, int, int, bool, bool]] = {
    "gptq": ("gptq", 4, 32, False, False),
    "gptq in act-order": ("gptq", 4, 32, True, True),
    "gptq of 8 bits": ("gptq", 8, -1, True, False),
    "gptq of 3 bits": ("gptq", 3, 32, False, False),
    "gptq of 2 bits": ("gptq_v2", 2, 32, False, False),
    "awq": ("awq", 4, 32, False, False),
    "w4a16": ("pack-quantized", 4, 32, True, False),
    "w3a16, asymmetric": ("pack-quantized", 3, 32, False, False),
    "w4a16 in act-order": ("pack-quantized", 4, 32, True, True),
    "w8a8": ("int-quantized", 8, -1, True, False),
    "w8a16, asymmetric": ("int-quantized", 8, -1, False, False),
}
"""Name → layout, bits, columns a group (-1: all), symmetric, act-order."""


def config_of(layout: str, bits: int, group_size: int) -> dict[str, Any]:
    if layout == "awq":
        return {"quant_method": "awq", "bits": bits, "group_size": group_size, "zero_point": True, "version": "gemm"}
    if layout.startswith("gptq"):
        return {"quant_method": "gptq", "bits": bits, "group_size": group_size, "checkpoint_format": layout}
    dynamic = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
    group = {
        "targets": ["Linear"],
        "weights": {"num_bits": bits, "type": "int", "group_size": group_size, "strategy": "group", "symmetric": True},
        "input_activations": dynamic if layout == "int-quantized" else None,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors", "format": layout, "config_groups": {"group_0": group},
        "ignore": ["lm_head"], "kv_cache_scheme": None,
    }  # fmt: skip


def quantized(family: str, case: str, folder: Path) -> tuple[Any, dict[str, Layer]]:
    """A checkpoint at ``folder``, the model that it stands for, and its layers by name."""
    layout, bits, size, symmetric, ordered = FORMATS[case]
    model = make(family, num_hidden_layers=2)
    model.save_pretrained(folder)
    tensors: dict[str, Tensor] = {}
    layers: dict[str, Layer] = {}
    for seed, (name, weight) in enumerate(model.state_dict().items()):
        module = name.removesuffix(".weight")
        if not module.endswith("_proj") or name.endswith(".bias"):
            tensors[name] = weight.clone()
            continue
        layer = layers[module] = Layer(weight, bits, size, seed, symmetric=symmetric, ordered=ordered)
        match layout:
            case "awq":
                parts = layer.awq()
            case "gptq" | "gptq_v2":
                parts = layer.gptq(1 if layout == "gptq" else 0)
                tensors[f"{module}.bias"] = torch.zeros(weight.shape[0])  # as AutoGPTQ does
            case _:
                parts = layer.compressed(layout, symmetric, ordered)
        tensors |= {f"{module}.{part}": tensor for part, tensor in parts.items()}
        weight.copy_(layer.dense())
    save_file(tensors, folder / "model.safetensors")
    rewrite(folder, config_of(layout, bits, size))
    return model, layers


def rewrite(folder: Path, quantization: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": quantization}))
    return folder


def prompt() -> list[int]:
    return np.random.default_rng(0).integers(0, VOCAB, 60).tolist()


@torch.inference_mode()
def expected(model: Any) -> NDArray[np.float32]:
    return model(torch.tensor([prompt()])).logits[0].numpy()


@pytest.mark.parametrize("case", FORMATS)
def test_logits_are_those_of_the_grid(case: str, tmp_path: Path) -> None:
    model, _ = quantized("llama 2", case, tmp_path)
    runner = TorchRunner.load(open_model(tmp_path), num_blocks=8)
    np.testing.assert_allclose(Feeder(runner).run([prompt()], [60])[0], expected(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", ["gptq", "awq", "w4a16", "w3a16, asymmetric", "w8a8", "gptq in act-order"])
def test_the_quantized_kernels_run_the_same_grid(case: str, tmp_path: Path) -> None:
    model, _ = quantized("llama 2", case, tmp_path)
    found = Feeder(CpuRunner.load(open_model(tmp_path), num_blocks=8)).run([prompt()], [60])[0]
    wanted = expected(model)
    assert np.abs(found - wanted).mean() < 0.06 * wanted.std()


def test_rows_are_found_in_fused_and_partly_turned_layers(tmp_path: Path) -> None:
    model, _ = quantized("phi 4, short", "w4a16", tmp_path)
    runner = TorchRunner.load(open_model(tmp_path), num_blocks=8)
    np.testing.assert_allclose(Feeder(runner).run([prompt()], [60])[0], expected(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", FORMATS)
def test_records_hold_the_grid(case: str, tmp_path: Path) -> None:
    """Up to 4 bits and at 8 symmetric ones; the rest goes by way of floats."""
    _, layers = quantized("llama 2", case, tmp_path)
    weights = open_model(tmp_path).weights()
    assert isinstance(weights, SafetensorsWeights)
    _, bits, _, symmetric, ordered = FORMATS[case]
    for module in ("model.layers.1.self_attn.q_proj", "model.layers.0.mlp.up_proj"):
        grid = weights.grid(f"{module}.weight")
        assert grid is not None and grid.bits == bits
        wanted = layers[module].dense().numpy()
        np.testing.assert_array_equal(grid.dense(), wanted)
        np.testing.assert_array_equal(weights[f"{module}.weight"], wanted)
        packed = from_grid(grid)
        if ordered or (bits == 8 and not symmetric):
            assert packed is None
        else:
            assert packed is not None and packed.kind == (Q4 if bits <= 4 else Q8)
            largest = layers[module].scales.float().max().item() * (1 << bits)
            np.testing.assert_allclose(unpack(packed), wanted, rtol=0, atol=largest * 2.0**-11)
    assert weights.grid("model.norm.weight") is None


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quant_method 'bitsandbytes'"),
    "fp8": ({"quant_method": "fp8"}, "quant_method 'fp8'"),
    "5-bit gptq": ({"quant_method": "gptq", "bits": 5, "group_size": 128}, "gptq of 5 bits"),
    "marlin": (config_of("gptq", 4, 128) | {"checkpoint_format": "marlin"}, "checkpoint_format 'marlin'"),
    "gemv": (config_of("awq", 4, 128) | {"version": "gemv"}, "version 'gemv'"),
    "float groups": (config_of("float-quantized", 8, 128), "format 'float-quantized'"),
    "cache": (config_of("int-quantized", 8, -1) | {"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
    "sparse": (config_of("int-quantized", 8, -1) | {"sparsity_config": {"format": "sparse-24"}}, "sparsity_config"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_methods_are_refused_by_name(case: str, tmp_path: Path) -> None:
    make("llama 2", num_hidden_layers=1).save_pretrained(tmp_path)
    found, message = REFUSED[case]
    with pytest.raises(UnsupportedModelError) as caught:
        open_model(rewrite(tmp_path, found))
    assert message in str(caught.value) and "config.json" in str(caught.value)


def test_fixed_activation_scales_are_refused() -> None:
    found = config_of("int-quantized", 8, -1)
    found["config_groups"]["group_0"]["input_activations"]["dynamic"] = False
    with pytest.raises(UnsupportedModelError, match="fixed scales"):
        quantization_of(found, "here")


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    quantized("llama 2", "gptq", tmp_path)
    rewrite(tmp_path, config_of("gptq", 8, 32))
    with pytest.raises(ModelFileError, match=r"_proj\.weight' has shape \[\d+, \d+\], expected \[\d+, \d+\]"):
        open_model(tmp_path).weights()


@given(
    data=st.data(),
    bits=st.integers(2, 8),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 40)),
)  # fmt: skip
def test_packing_is_undone_by_unpacking(data: st.DataObject, bits: int, shape: tuple[int, int]) -> None:
    numbers = data.draw(arrays.arrays(np.int32, shape, elements=st.integers(0, (1 << bits) - 1)))
    packed = pack_words(numbers, bits)
    np.testing.assert_array_equal(packed, words(numbers.tolist(), bits).numpy())
    np.testing.assert_array_equal(unpack_words(packed, bits, shape[1]), numbers)
    spaced = words(numbers.tolist(), bits, spaced=True).numpy()
    if spaced.shape != packed.shape:
        np.testing.assert_array_equal(unpack_words(spaced, bits, shape[1]), numbers)
    with pytest.raises(ValueError, match="fields of"):
        unpack_words(np.zeros((1, spaced.shape[1] + 1), np.int32), bits, shape[1])
