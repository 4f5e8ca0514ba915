"""Linear layers over quantized weights in Triton against dense ones in torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels.matmul import FORMATS, Weight, check, dequantize_reference, linear, linear_reference, sort_groups, splits


def random_weight(
    kind: str, n: int, k: int, device: torch.device, group: int = 32, fp8: bool = False, bias: bool = True
) -> Weight:
    generator = torch.Generator().manual_seed(n * 1000 + k)

    def words(*shape: int) -> Tensor:
        return torch.randint(-(2**31), 2**31, shape, generator=generator, dtype=torch.int64).to(torch.int32).to(device)

    added = torch.randn(n, generator=generator).to(device) if bias else None
    if kind in ("gptq", "awq"):
        packed = words(k // 8, n) if kind == "gptq" else words(k, n // 8)
        scales = (torch.rand(k // group, n, generator=generator) * 0.02).to(device, torch.float16)
        return Weight(kind, n, k, packed, scales, words(k // group, n // 8), bias=added)
    scales = (torch.rand(n, generator=generator) * 0.01).to(device)
    if kind == "fp8" or fp8:
        packed = (torch.randn(n, k, generator=generator) * 50).clamp(-448, 448).to(torch.float8_e4m3fn)
    else:
        packed = torch.randint(-127, 128, (n, k), generator=generator, dtype=torch.int8)
    return Weight(kind, n, k, packed.to(device), scales, bias=added)


def check_linear(weight: Weight, m: int, half: torch.dtype) -> None:
    check(weight)
    generator = torch.Generator().manual_seed(m)
    x = torch.randn(m, weight.columns, generator=generator).to(weight.packed.device)
    scales = None
    if weight.format == "w8a8":
        scales = x.abs().amax(1) / 127
        x = (x / scales[:, None]).round().to(weight.packed.dtype)
    else:
        x = x.to(half)
    found = linear(x, weight, x_scales=scales, dtype=torch.float32)
    expected = linear_reference(x, weight, scales)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert linear(x, weight, x_scales=scales, dtype=half).dtype == half


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 72, 640), (5, 8, 96), (17, 200, 64)])
def test_linear(kind: str, m: int, n: int, k: int, half: torch.dtype, device: torch.device) -> None:
    check_linear(random_weight(kind, n, k, device), m, half)


@pytest.mark.parametrize("kind", ["gptq", "awq"])
@pytest.mark.parametrize("group", [64, 128, 384])
def test_sizes_of_groups(kind: str, group: int, half: torch.dtype, device: torch.device) -> None:
    check_linear(random_weight(kind, 40, 384, device, group=group, bias=False), 3, half)


def test_matrices_of_fp8(half: torch.dtype, device: torch.device) -> None:
    check_linear(random_weight("w8a8", 40, 100, device, fp8=True), 3, half)


@pytest.mark.parametrize("kind", ["int8", "w8a8"])
def test_sizes_that_fill_no_tile(kind: str, half: torch.dtype, device: torch.device) -> None:
    check_linear(random_weight(kind, 3, 77, device), 2, half)
    assert linear_reference(torch.zeros(0, 77), random_weight("int8", 3, 77, torch.device("cpu"))).shape == (0, 3)


def test_act_order_is_sorted_away(half: torch.dtype, device: torch.device) -> None:
    weight = random_weight("gptq", 16, 128, device)
    group_of = torch.randperm(128, generator=torch.Generator().manual_seed(1)).to(device).to(torch.int32) // 32
    packed, order = sort_groups(weight.packed, group_of)
    assert order is not None
    ordered = replace(weight, packed=packed, order=order)
    assert weight.zeros is not None
    # Row i of the unsorted matrix has the scale and zero of group_of[i].
    nibbles = ((weight.packed[:, None] >> (torch.arange(8, device=device) * 4)[None, :, None]) & 15).reshape(128, 16)
    zeros = ((weight.zeros[:, :, None] >> (torch.arange(8, device=device) * 4)) & 15).reshape(4, 16) + 1
    expected = (nibbles - zeros[group_of.long()]).float() * weight.scales.float()[group_of.long()]
    assert torch.equal(dequantize_reference(ordered), expected.T)
    check_linear(ordered, 4, half)
    assert sort_groups(weight.packed, torch.arange(128, device=device) // 32) == (weight.packed, None)


def test_awq_puts_columns_where_its_writer_does(device: torch.device) -> None:
    """AutoAWQ's packing: nibble i of a word is column (0, 2, 4, 6, 1, 3, 5, 7)[i]."""
    word = sum(column << (4 * place) for place, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)))
    packed = torch.full((32, 1), word - 2**32 if word >= 2**31 else word, dtype=torch.int32, device=device)
    zeros = torch.zeros(1, 1, dtype=torch.int32, device=device)
    weight = Weight("awq", 8, 32, packed, torch.ones(1, 8, dtype=torch.float16, device=device), zeros)
    assert dequantize_reference(weight)[:, 0].tolist() == list(range(8))


def test_decode_is_split_and_prefill_is_not() -> None:
    assert splits(4096, 4096, 64, 256) == 4
    assert splits(128_256, 4096, 64, 256) == 1
    assert splits(64, 64, 64, 256) == 1


def test_what_does_not_fit_is_refused(device: torch.device) -> None:
    weight = random_weight("gptq", 16, 64, device)
    for wrong, reason in (
        (replace(weight, format="int3"), "int3"),
        (replace(weight, columns=96), "packed weights are"),
        (replace(weight, zeros=None), "zeros must be"),
        (replace(weight, scales=weight.scales[:1].repeat(4, 1), zeros=weight.zeros), "groups of 16"),
        (replace(random_weight("int8", 16, 64, device), order=torch.arange(64)), "order"),
        (replace(random_weight("int8", 16, 64, device), scales=torch.ones(3)), "scales are"),
    ):
        with pytest.raises(ValueError, match=reason):
            check(wrong)
    with pytest.raises(ValueError, match="rows of 64 inputs"):
        linear(torch.zeros(1, 32, device=device), weight)
    with pytest.raises(ValueError, match="w8a8"):
        linear(torch.zeros(1, 64, device=device), weight, x_scales=torch.ones(1, device=device))
