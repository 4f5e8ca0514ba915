"""What happens to activations between two matmuls: RMS norm, SwiGLU, and quantization to blocks of 32 signed bytes.

Each function is a numba intrinsic over addresses (int64) of float32 data; lengths are multiples of 32. The quantized
form is the activation block of `kernels.cpu.dot`: s = max|x| / 127, q = round(x / s), as ggml's Q8_1 but with s kept
in float32.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from kernels.cpu import vector as v
from kernels.cpu.dot import ACTIVATION, BLOCK, SCALE_AT, SUM_AT, TOTAL_AT

BYTES = 4 * v.LANES


def _count(b: Any, length: Any) -> Any:
    return b.sdiv(length, v.ir.Constant(v.I64, v.LANES))


def emit_quantize(b: Any, values: list[Any], out: Any) -> None:
    """Write the activation block of 4 vectors of 8 float32."""
    largest = v.constant(v.V8F32, 0.0)
    for value in values:
        largest = v.call(b, "llvm.maxnum.v8f32", v.V8F32, [largest, v.call(b, "llvm.fabs.v8f32", v.V8F32, [value])])
    peak = v.reduce_max(b, largest)
    zero = v.ir.Constant(v.F32, 0.0)
    scale = b.fdiv(peak, v.ir.Constant(v.F32, 127.0))
    inverse = b.select(b.fcmp_ordered(">", peak, zero), b.fdiv(v.ir.Constant(v.F32, 127.0), peak), zero)
    total = v.constant(v.V8I32, 0)
    for i, value in enumerate(values):
        rounded = v.call(b, "llvm.rint.v8f32", v.V8F32, [b.fmul(value, v.splat(b, inverse))])
        numbers = b.fptosi(rounded, v.V8I32)
        total = b.add(total, numbers)
        v.store(b, b.trunc(numbers, v.ir.VectorType(v.I8, v.LANES)), v.offset(b, out, v.LANES * i))
    whole = v.call(b, "llvm.vector.reduce.add.v8i32", v.I32, [total])
    v.store(b, scale, v.offset(b, out, SCALE_AT))
    v.store(b, b.fmul(scale, b.sitofp(whole, v.F32)), v.offset(b, out, SUM_AT))
    v.store(b, whole, v.offset(b, out, TOTAL_AT))


@intrinsic
def quantize_block(context, source, out):  # type: ignore[no-untyped-def]
    """Quantize 32 float32 at ``source`` into the activation block at ``out``."""

    def generate(context, b, signature, arguments):  # type: ignore[no-untyped-def]
        source, out = arguments
        emit_quantize(b, [v.load(b, v.offset(b, source, BYTES * i), v.V8F32) for i in range(BLOCK // v.LANES)], out)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def gate_block(context, gate, up, out):  # type: ignore[no-untyped-def]
    """Quantize silu(gate) · up, 32 float32 each, into the activation block at ``out``."""

    def generate(context, b, signature, arguments):  # type: ignore[no-untyped-def]
        gate, up, out = arguments
        one = v.constant(v.V8F32, 1.0)
        values = []
        for i in range(BLOCK // v.LANES):
            g = v.load(b, v.offset(b, gate, BYTES * i), v.V8F32)
            silu = b.fdiv(g, b.fadd(one, v.exp(b, b.fsub(v.constant(v.V8F32, 0.0), g))))
            values.append(b.fmul(silu, v.load(b, v.offset(b, up, BYTES * i), v.V8F32)))
        emit_quantize(b, values, out)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def sum_of_squares(context, source, length):  # type: ignore[no-untyped-def]
    """Σ x² of ``length`` float32."""

    def generate(context, b, signature, arguments):  # type: ignore[no-untyped-def]
        source, length = arguments
        with v.Loop(b, _count(b, length), [source, v.constant(v.V8F32, 0.0)]) as loop:
            at, sums = loop.values
            x = v.load(b, at, v.V8F32)
            loop.next([v.offset(b, at, BYTES), v.multiply_add(b, x, x, sums)])
        return v.reduce_add(b, loop.results[1])

    return types.float32(types.int64, types.int64), generate


@intrinsic
def quantize_normed(context, source, weights, factor, blocks, out):  # type: ignore[no-untyped-def]
    """Quantize ``factor`` · x · weight, ``blocks`` blocks of it, into the activation blocks at ``out``."""

    def generate(context, b, signature, arguments):  # type: ignore[no-untyped-def]
        source, weights, factor, blocks, out = arguments
        factor = v.splat(b, factor)
        with v.Loop(b, blocks, [source, weights, out]) as loop:
            x, w, target = loop.values
            values = []
            for i in range(BLOCK // v.LANES):
                scaled = b.fmul(v.load(b, v.offset(b, x, BYTES * i), v.V8F32), factor)
                values.append(b.fmul(scaled, v.load(b, v.offset(b, w, BYTES * i), v.V8F32)))
            emit_quantize(b, values, target)
            loop.next([v.offset(b, x, 4 * BLOCK), v.offset(b, w, 4 * BLOCK), v.offset(b, target, ACTIVATION)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.int64, types.int64), generate


@intrinsic
def half_bits(context, value):  # type: ignore[no-untyped-def]
    """The bits of a float32 rounded to half precision; beyond its range the largest half, so that no cache holds an
    infinity."""

    def generate(context, b, signature, arguments):  # type: ignore[no-untyped-def]
        return v.to_half(b, arguments[0])

    return types.uint16(types.float32), generate
