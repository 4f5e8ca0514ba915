"""What happens to activations between two matmuls: RMS norm, SwiGLU or GeGLU, and quantization to blocks of 32 bytes.

Each function is a numba intrinsic over addresses (int64) of float32 data; lengths are multiples of 32. The quantized
form is the activation block of `kernels.cpu.dot`: s = max|x| / 127, q = round(x / s), as ggml's Q8_1 but with s kept
in float32.
"""

from __future__ import annotations

from numba import types

from kernels.cpu import vector as v
from kernels.cpu.dot import ACTIVATION, BLOCK, SCALE_AT, SUM_AT, TOTAL_AT

BYTES = 4 * v.LANES
"""Bytes of a vector of float32."""

SILENT = 2.0**-100
"""A block whose largest number is no larger counts as zeros: 127 over it could overflow."""


def _count(b: v.Builder, length: v.Value) -> v.Value:
    return b.sdiv(length, v.ir.Constant(v.I64, v.LANES))


def emit_quantize(b: v.Builder, values: list[v.Value], out: v.Value) -> None:
    """Write the activation block of 4 vectors of 8 float32."""
    largest = v.constant(v.V8F32, 0.0)
    for value in values:
        largest = v.call(b, "llvm.maxnum.v8f32", v.V8F32, [largest, v.call(b, "llvm.fabs.v8f32", v.V8F32, [value])])
    peak = v.reduce_max(b, largest)
    zero = v.ir.Constant(v.F32, 0.0)
    scale = b.fdiv(peak, v.ir.Constant(v.F32, 127.0))
    inverse = b.select(
        b.fcmp_ordered(">", peak, v.ir.Constant(v.F32, SILENT)), b.fdiv(v.ir.Constant(v.F32, 127.0), peak), zero
    )
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


@v.native(types.void(types.int64, types.int64))
def quantize_block(b: v.Builder, source: v.Value, out: v.Value) -> None:
    """Quantize 32 float32 at ``source`` into the activation block at ``out``."""
    emit_quantize(b, [v.load(b, v.offset(b, source, BYTES * i), v.V8F32) for i in range(BLOCK // v.LANES)], out)


@v.native(types.void(types.int64, types.int64, types.int64))
def gate_block(b: v.Builder, gate: v.Value, up: v.Value, out: v.Value) -> None:
    """Quantize silu(gate) · up, 32 float32 each, into the activation block at ``out``."""
    one = v.constant(v.V8F32, 1.0)
    values = []
    for i in range(BLOCK // v.LANES):
        g = v.load(b, v.offset(b, gate, BYTES * i), v.V8F32)
        silu = b.fdiv(g, b.fadd(one, v.exp(b, b.fsub(v.constant(v.V8F32, 0.0), g))))
        values.append(b.fmul(silu, v.load(b, v.offset(b, up, BYTES * i), v.V8F32)))
    emit_quantize(b, values, out)


@v.native(types.void(types.int64, types.int64, types.int64))
def gelu_gate_block(b: v.Builder, gate: v.Value, up: v.Value, out: v.Value) -> None:
    """As `gate_block` with the tanh form of GELU, which is x · sigmoid(2z), z = √(2/π) (x + 0.044715 x³)."""
    one = v.constant(v.V8F32, 1.0)
    values = []
    for i in range(BLOCK // v.LANES):
        g = v.load(b, v.offset(b, gate, BYTES * i), v.V8F32)
        bent = b.fadd(one, b.fmul(v.constant(v.V8F32, 0.044715), b.fmul(g, g)))
        z = b.fmul(v.constant(v.V8F32, -1.5957691216057308), b.fmul(g, bent))
        gelu = b.fdiv(g, b.fadd(one, v.exp(b, z)))
        values.append(b.fmul(gelu, v.load(b, v.offset(b, up, BYTES * i), v.V8F32)))
    emit_quantize(b, values, out)


@v.native(types.float32(types.int64, types.int64))
def sum_of_squares(b: v.Builder, source: v.Value, length: v.Value) -> v.Value:
    """Σ x² of ``length`` float32."""
    with v.Loop(b, _count(b, length), [source, v.constant(v.V8F32, 0.0)]) as loop:
        at, sums = loop.values
        x = v.load(b, at, v.V8F32)
        loop.next([v.offset(b, at, BYTES), v.multiply_add(b, x, x, sums)])
    return v.reduce_add(b, loop.results[1])


@v.native(types.void(types.int64, types.int64, types.float32, types.int64, types.int64))
def quantize_normed(
    b: v.Builder, source: v.Value, weights: v.Value, factor: v.Value, blocks: v.Value, out: v.Value
) -> None:
    """Quantize ``factor`` · x · weight, ``blocks`` blocks of it, into the activation blocks at ``out``."""
    factor = v.splat(b, factor)
    with v.Loop(b, blocks, [source, weights, out]) as loop:
        x, w, target = loop.values
        values = []
        for i in range(BLOCK // v.LANES):
            scaled = b.fmul(v.load(b, v.offset(b, x, BYTES * i), v.V8F32), factor)
            values.append(b.fmul(scaled, v.load(b, v.offset(b, w, BYTES * i), v.V8F32)))
        emit_quantize(b, values, target)
        loop.next([v.offset(b, x, 4 * BLOCK), v.offset(b, w, 4 * BLOCK), v.offset(b, target, ACTIVATION)])


@v.native(types.void(types.int64, types.int64, types.int64))
def add_row(b: v.Builder, source: v.Value, length: v.Value, out: v.Value) -> None:
    """out += source, ``length`` float32."""
    with v.Loop(b, _count(b, length), [source, out]) as loop:
        at, target = loop.values
        v.store(b, b.fadd(v.load(b, target, v.V8F32), v.load(b, at, v.V8F32)), target)
        loop.next([v.offset(b, at, BYTES), v.offset(b, target, BYTES)])


@v.native(types.void(types.int64, types.int64, types.float32, types.int64))
def norm_row(b: v.Builder, x: v.Value, weights: v.Value, factor: v.Value, length: v.Value) -> None:
    """x = ``factor`` · x · weight, ``length`` float32."""
    factor = v.splat(b, factor)
    with v.Loop(b, _count(b, length), [x, weights]) as loop:
        at, w = loop.values
        scaled = b.fmul(v.load(b, at, v.V8F32), factor)
        v.store(b, b.fmul(scaled, v.load(b, w, v.V8F32)), at)
        loop.next([v.offset(b, at, BYTES), v.offset(b, w, BYTES)])


@v.native(types.void(types.int64, types.int64, types.float32, types.int64, types.int64))
def add_normed(b: v.Builder, source: v.Value, weights: v.Value, factor: v.Value, length: v.Value, out: v.Value) -> None:
    """out += ``factor`` · source · weight, ``length`` float32."""
    factor = v.splat(b, factor)
    with v.Loop(b, _count(b, length), [source, weights, out]) as loop:
        at, w, target = loop.values
        scaled = b.fmul(v.load(b, at, v.V8F32), factor)
        v.store(b, v.multiply_add(b, scaled, v.load(b, w, v.V8F32), v.load(b, target, v.V8F32)), target)
        loop.next([v.offset(b, at, BYTES), v.offset(b, w, BYTES), v.offset(b, target, BYTES)])


@v.native(types.uint16(types.float32))
def half_bits(b: v.Builder, value: v.Value) -> v.Value:
    """The bits of a float32 rounded to half precision; beyond its range the largest half, so that no cache holds an
    infinity."""
    return v.to_half(b, value)
