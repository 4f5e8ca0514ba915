"""Norm, gate and rotary kernels against their references in torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.gate import gated, gated_int8, gated_reference
from kernels.norm import quantize_reference, rms_norm, rms_norm_int8, rms_norm_reference
from kernels.rotary import Cache, rotate_and_write, rotate_and_write_reference

DTYPES = [torch.float32, torch.bfloat16]


def normal(*shape: int, dtype: torch.dtype, device: torch.device, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * scale).to(device, dtype)


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """To two units in the last place of bf16: Triton's interpreter cuts where a GPU rounds."""
    unit = {torch.float32: 4e-6, torch.bfloat16: 2**-6, torch.int8: 0.0, torch.float8_e4m3fn: 0.0}[dtype]
    torch.testing.assert_close(found.float(), expected.float(), rtol=unit, atol=min(unit, 2**-7))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 33), (2, 576), (1, 1025), (0, 64)])
def test_rms_norm(rows: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
    x = normal(rows, width, dtype=dtype, device=device, scale=5)
    x[:1] = 0  # a row of zeros, as padding is
    weight = normal(width, dtype=dtype, device=device, seed=1)
    residual = normal(rows, width, dtype=dtype, device=device, seed=2)
    assert_close(rms_norm(x, weight, 1e-5), rms_norm_reference(x, weight, 1e-5), dtype)
    kept = residual.clone()
    assert_close(rms_norm(x, weight, 1e-5, kept), rms_norm_reference(x, weight, 1e-5, residual), dtype)
    assert_close(kept, x + residual, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_are_quantized_as_the_reference_does_it(dtype: torch.dtype, device: torch.device) -> None:
    x = normal(3, 200, dtype=dtype, device=device, scale=3)
    x[1] = 0
    weight = normal(200, dtype=dtype, device=device, seed=1)
    quantized, scales = rms_norm_int8(x, weight, 1e-5)
    expected, expected_scales = quantize_reference(rms_norm(x, weight, 1e-5))
    assert torch.equal(quantized, expected)
    assert torch.equal(scales, expected_scales)
    assert quantized[0].abs().max() == 127
    assert not quantized[1].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_gates(activation: str, dtype: torch.dtype, device: torch.device) -> None:
    x = normal(3, 2 * 1029, dtype=dtype, device=device, scale=4)
    x[0, :4] = torch.tensor([100.0, -100.0, 3e4, -3e4])  # where exp overflows
    assert_close(gated(x, activation), gated_reference(x, activation), dtype)
    quantized, scales = gated_int8(x, activation)
    expected, expected_scales = quantize_reference(gated(x, activation))
    assert torch.equal(scales, expected_scales)
    assert torch.equal(quantized, expected)


@pytest.mark.parametrize("cached", [torch.float32, torch.bfloat16, torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize("head_dim", [64, 80, 128])
def test_rotary_writes_the_cache(head_dim: int, cached: torch.dtype, device: torch.device) -> None:
    heads, kv_heads, slots = 3, 2, 37
    dtype = torch.float32 if cached == torch.float32 else torch.bfloat16
    qkv = normal(5, (heads + 2 * kv_heads) * head_dim, dtype=dtype, device=device)
    turn = torch.rand(50, head_dim // 2, generator=torch.Generator().manual_seed(3)).to(device) * 6
    cos, sin = turn.cos(), turn.sin()
    if cached == torch.float8_e4m3fn:
        # Nothing to round, for the interpreter's conversion loses the carry: numbers of e4m3, and quarter turns.
        qkv = (qkv.view(5, -1, head_dim) * 40).to(cached).float()
        qkv[:, :, 0] = 448
        qkv = qkv.view(5, -1).to(dtype)
        cos, sin = (turn > 3).float(), (turn <= 3).float()
    qkv[4] = 0
    positions = torch.tensor([0, 7, 49, 3, 3], dtype=torch.int32, device=device)
    slot_of = torch.tensor([36, 0, -1, 5, 4], dtype=torch.int32, device=device)
    found, expected = (Cache.empty(kv_heads, slots, head_dim, cached, device) for _ in range(2))
    ours = rotate_and_write(qkv, cos, sin, positions, slot_of, found, heads)
    theirs = rotate_and_write_reference(qkv, cos, sin, positions, slot_of, expected, heads)
    assert_close(ours, theirs, dtype)
    assert_close(found.keys, expected.keys, cached)
    assert_close(found.values, expected.values, cached)
    assert torch.equal(found.key_scales, expected.key_scales)
    assert torch.equal(found.value_scales, expected.value_scales)
    written = found.keys.float().abs().sum((0, 2)) > 0
    assert set(torch.nonzero(written).flatten().tolist()) == {36, 0, 5}


def test_what_does_not_fit_is_refused(device: torch.device) -> None:
    x = torch.zeros(2, 6, device=device)
    with pytest.raises(ValueError, match="relu"):
        gated(x, "relu")
    with pytest.raises(ValueError, match="even width"):
        gated(x[:, :5].contiguous())
    with pytest.raises(ValueError, match="contiguous"):
        rms_norm(x[:, ::2], torch.ones(3, device=device), 1e-5)
    cache = Cache.empty(1, 4, 8, torch.float32, device)
    places = torch.zeros(2, dtype=torch.int32, device=device)
    with pytest.raises(ValueError, match="heads of 8"):
        rotate_and_write(x, x, x, places, places, cache, 1)
