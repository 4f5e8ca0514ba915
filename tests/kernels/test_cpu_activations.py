"""What happens between matmuls, against numpy: quantization, RMS norm, SwiGLU, half precision, and the exponential."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numba import njit, types
from numpy.typing import NDArray

from kernels.cpu import vector as v
from kernels.cpu.activations import (
    SILENT,
    add_normed,
    gate_block,
    gelu_gate_block,
    half_bits,
    norm_row,
    quantize_block,
    quantize_normed,
    sum_of_squares,
)
from kernels.cpu.dot import ACTIVATION, BLOCK


@v.native(types.void(types.int64, types.int64))
def _exp(b: v.Builder, source: v.Value, out: v.Value) -> None:
    v.store(b, v.exp(b, v.load(b, source, v.V8F32)), out)


@v.native(types.void(types.int64, types.int64))
def _widen(b: v.Builder, source: v.Value, out: v.Value) -> None:
    v.store(b, v.load_half(b, source), out)


@njit("void(int64, int64)")
def run_quantize(source, out):  # type: ignore[no-untyped-def]
    quantize_block(source, out)


@njit("void(int64, int64, int64)")
def run_gate(gate, up, out):  # type: ignore[no-untyped-def]
    gate_block(gate, up, out)


@njit("void(int64, int64, int64)")
def run_gelu_gate(gate, up, out):  # type: ignore[no-untyped-def]
    gelu_gate_block(gate, up, out)


@njit("void(int64, int64, float32, int64)")
def run_norm_row(x, weights, factor, length):  # type: ignore[no-untyped-def]
    norm_row(x, weights, factor, length)


@njit("void(int64, int64, float32, int64, int64)")
def run_add_normed(source, weights, factor, length, out):  # type: ignore[no-untyped-def]
    add_normed(source, weights, factor, length, out)


@njit("float32(int64, int64)")
def run_squares(source, length):  # type: ignore[no-untyped-def]
    return sum_of_squares(source, length)


@njit("void(int64, int64, float32, int64, int64)")
def run_normed(source, weights, factor, blocks, out):  # type: ignore[no-untyped-def]
    quantize_normed(source, weights, factor, blocks, out)


@njit("void(int64, int64)")
def run_exp(source, out):  # type: ignore[no-untyped-def]
    _exp(source, out)


def quantized(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The activation block of 32 numbers by numpy."""
    peak = np.abs(values).max()
    scale = np.float32(peak / np.float32(127))
    inverse = np.float32(127) / peak if peak > SILENT else np.float32(0)
    numbers = np.rint(values * inverse).astype(np.int32)
    block = np.zeros(ACTIVATION, np.uint8)
    block[:32] = numbers.astype(np.int8).view(np.uint8)
    block[32:36] = np.array([scale]).view(np.uint8)
    block[36:40] = np.array([scale * np.float32(numbers.sum())], np.float32).view(np.uint8)
    block[40:44] = np.array([numbers.sum()], np.int32).view(np.uint8)
    return block


def meaning(block: NDArray[np.uint8]) -> NDArray[np.float32]:
    cut = block.reshape(-1, ACTIVATION)
    return (cut[:, :32].view(np.int8) * np.ascontiguousarray(cut[:, 32:36]).view(np.float32)).reshape(-1)


numbers = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(arrays.arrays(np.float32, BLOCK, elements=numbers))
def test_a_block_is_quantized_as_numpy_does(values: NDArray[np.float32]) -> None:
    block = np.zeros(ACTIVATION, np.uint8)
    run_quantize(values.ctypes.data, block.ctypes.data)
    np.testing.assert_array_equal(block, quantized(values))


@pytest.mark.parametrize("width", [32, 64, 96, 576])
def test_rms_norm(width: int) -> None:
    random = np.random.default_rng(width)
    x, w = (random.normal(size=width).astype(np.float32) for _ in range(2))
    squares = run_squares(x.ctypes.data, width)
    assert squares == pytest.approx((x.astype(np.float64) ** 2).sum(), rel=1e-6)
    factor = np.float32(1 / np.sqrt(squares / width + 1e-5))
    out = np.zeros(width // BLOCK * ACTIVATION, np.uint8)
    run_normed(x.ctypes.data, w.ctypes.data, factor, width // BLOCK, out.ctypes.data)
    np.testing.assert_array_equal(out, np.concatenate([quantized(b) for b in (x * factor * w).reshape(-1, BLOCK)]))


@pytest.mark.parametrize("spread", [0.1, 3.0, 200.0])
def test_gate(spread: float) -> None:
    random = np.random.default_rng(5)
    gate, up = ((random.normal(size=BLOCK) * spread).astype(np.float32) for _ in range(2))
    out = np.zeros(ACTIVATION, np.uint8)
    run_gate(gate.ctypes.data, up.ctypes.data, out.ctypes.data)
    with np.errstate(over="ignore"):
        wanted = gate.astype(np.float64) / (1 + np.exp(-gate.astype(np.float64))) * up
    np.testing.assert_allclose(meaning(out), wanted, rtol=0, atol=np.abs(wanted).max() / 253)


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_gelu_gates_by_its_tanh_form(spread: float) -> None:
    random = np.random.default_rng(5)
    gate, up = ((random.normal(size=BLOCK) * spread).astype(np.float32) for _ in range(2))
    out = np.zeros(ACTIVATION, np.uint8)
    run_gelu_gate(gate.ctypes.data, up.ctypes.data, out.ctypes.data)
    x = gate.astype(np.float64)
    wanted = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) * up
    np.testing.assert_allclose(meaning(out), wanted, rtol=0, atol=np.abs(wanted).max() / 253)


def test_rows_are_normed_in_place_and_added() -> None:
    random = np.random.default_rng(6)
    x, weights, total = (random.normal(size=96).astype(np.float32) for _ in range(3))
    wanted = total + np.float64(0.7) * x * weights
    run_add_normed(x.ctypes.data, weights.ctypes.data, 0.7, 96, total.ctypes.data)
    np.testing.assert_allclose(total, wanted, atol=1e-6)
    wanted = np.float64(0.7) * x * weights
    run_norm_row(x.ctypes.data, weights.ctypes.data, 0.7, 96)
    np.testing.assert_allclose(x, wanted, atol=1e-6)


def test_exp() -> None:
    x = np.concatenate([np.linspace(-87, 88, 100_000), [0.0, -0.0, -1e-30, 1e-7], np.full(4, -np.inf)])
    x = x.astype(np.float32)[: len(x) // 8 * 8]
    out = np.empty_like(x)
    for at in range(0, len(x), 8):
        run_exp(x.ctypes.data + 4 * at, out.ctypes.data + 4 * at)
    finite = np.isfinite(x)
    np.testing.assert_allclose(out[finite], np.exp(x[finite].astype(np.float64)), rtol=3e-7)
    assert (out[~finite] < 1e-37).all()


@pytest.mark.parametrize("hardware", sorted({False, v.half_in_hardware}))
def test_half_precision_is_ieee(hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, every half; rounding at and around the midpoints of neighbours."""
    monkeypatch.setattr(v, "half_in_hardware", hardware)

    @njit("void(int64, int64)")
    def widen(source, out):  # type: ignore[no-untyped-def]
        _widen(source, out)

    @njit("void(float32[::1], uint16[::1])")
    def narrow(source, out):  # type: ignore[no-untyped-def]
        for i in range(len(source)):
            out[i] = half_bits(source[i])

    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = np.concatenate([halves[np.isfinite(halves)], np.zeros(8, np.float16)])
    halves = halves[: len(halves) // 8 * 8]
    out = np.empty(len(halves), np.float32)
    for at in range(0, len(halves), 8):
        widen(halves.ctypes.data + 2 * at, out.ctypes.data + 4 * at)
    np.testing.assert_array_equal(out.view(np.uint32), halves.astype(np.float32).view(np.uint32))

    ordered = np.unique(out)
    middles = ((ordered[:-1].astype(np.float64) + ordered[1:]) / 2).astype(np.float32)
    values = np.concatenate([out, middles, np.nextafter(middles, np.float32(0)), [1e6, -1e6]]).astype(np.float32)
    bits = np.empty(len(values), np.uint16)
    narrow(values, bits)
    with np.errstate(over="ignore"):
        wanted = np.clip(values, -65504, 65504).astype(np.float16)
    np.testing.assert_array_equal(bits.view(np.float16), wanted)
