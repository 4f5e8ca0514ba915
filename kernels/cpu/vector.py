"""LLVM vector code for numba: the instructions that the CPU kernels are made of, chosen for the CPU that compiles them.

numba has no vector types, so the innermost loops are written as LLVM IR inside `numba.extending.intrinsic`. Nothing but
numba itself is needed on the user's machine. Three instruction paths, chosen by `path`:

    vnni       x86 with AVX-512 VNNI and VL (or AVX-VNNI): vpdpbusd, four u8·s8 products a lane
    avx2       x86 with AVX2: vpmaddubsw, then vpmaddwd with ones
    portable   anything LLVM compiles for: widening multiplies and adds, no target intrinsics

Every value that a builder here takes or gives is 8 lanes wide (or 32 bytes): one ymm register, two NEON registers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import codegen, config
from numba.extending import intrinsic

LANES = 8

I1 = ir.IntType(1)
I8 = ir.IntType(8)
I16 = ir.IntType(16)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
F32 = ir.FloatType()
F16 = ir.HalfType()
V32I8 = ir.VectorType(I8, 32)
V16I16 = ir.VectorType(I16, 16)
V8I32 = ir.VectorType(I32, LANES)
V8F32 = ir.VectorType(F32, LANES)
V8I16 = ir.VectorType(I16, LANES)
V8F16 = ir.VectorType(F16, LANES)

Value = Any
"""An llvmlite value; the library carries no types."""

Builder = Any
"""An llvmlite `IRBuilder`."""


def features() -> frozenset[str]:
    """Names of the features that numba compiles for: the host's, or those that NUMBA_CPU_FEATURES names."""
    given = vars(config)["CPU_FEATURES"]
    text = codegen.get_host_cpu_features() if given is None else given
    return frozenset(name[1:] for name in text.split(",") if name.startswith("+"))


def choose_path(names: frozenset[str]) -> str:
    """The fastest instruction path that a CPU with these features runs."""
    if {"avx512vnni", "avx512vl"} <= names or "avxvnni" in names:
        return "vnni"
    if "avx2" in names:
        return "avx2"
    return "portable"


path = choose_path(features())
"""The instruction path of this process."""

half_in_hardware = "f16c" in features() or "neon" in features()
"""Whether half precision converts in one instruction; otherwise LLVM would call a function that may not exist."""


def native(signature: Any) -> Callable[[Callable[..., Value | None]], Any]:
    """Decorator: a function that emits code, ``f(b, *values)``, becomes one that numba code calls with the values.

    ``signature``: a numba signature, such as ``types.void(types.int64)``; arguments are converted to it.
    """

    def decorate(emit: Callable[..., Value | None]) -> Any:
        def typing(context: Any, *given: Any) -> tuple[Any, Callable[..., Value]]:
            def generate(context: Any, b: Builder, signature: Any, arguments: list[Value]) -> Value:
                result = emit(b, *arguments)
                return context.get_dummy_value() if result is None else result

            return signature, generate

        # numba matches calls against the parameters' names.
        names = ["context", *list(inspect.signature(emit).parameters)[1:]]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in names]
        vars(typing)["__signature__"] = inspect.Signature(parameters)
        typing.__name__, typing.__doc__ = emit.__name__, emit.__doc__
        return intrinsic(typing)

    return decorate


def pointer(b: Builder, address: Value, kind: Any) -> Value:
    return b.inttoptr(address, kind.as_pointer())


def offset(b: Builder, address: Value, by: Value | int) -> Value:
    return b.add(address, ir.Constant(I64, by) if isinstance(by, int) else by)


def load(b: Builder, address: Value, kind: Any) -> Value:
    """An unaligned vector, or a scalar, at an address."""
    return b.load(pointer(b, address, kind), align=1)


def store(b: Builder, value: Value, address: Value) -> None:
    b.store(value, pointer(b, address, value.type), align=1)


def splat(b: Builder, scalar: Value, lanes: int = LANES) -> Value:
    """The scalar in every lane."""
    one = b.insert_element(ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined), scalar, ir.Constant(I32, 0))
    return b.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def load_splat(b: Builder, address: Value, kind: Any) -> Value:
    return splat(b, load(b, address, kind))


def constant(kind: Any, value: float | int) -> Value:
    """A vector constant with one value in every lane."""
    return ir.Constant(kind, [value] * kind.count)


def call(b: Builder, name: str, result: Any, arguments: list[Value], flags: tuple[str, ...] = ()) -> Value:
    """Call an LLVM intrinsic by its full name; ``flags`` as LLVM's fast-math flags."""
    declared = b.module.globals.get(name)
    if declared is None:
        declared = ir.Function(b.module, ir.FunctionType(result, [a.type for a in arguments]), name)
    return b.call(declared, arguments, fastmath=flags)


def multiply_add(b: Builder, x: Value, y: Value, z: Value) -> Value:
    """x·y + z, fused where the CPU fuses."""
    return call(b, "llvm.fmuladd.v8f32", V8F32, [x, y, z])


def load_half(b: Builder, address: Value) -> Value:
    """Eight half-precision numbers as float32."""
    if half_in_hardware:
        return b.fpext(load(b, address, V8F16), V8F32)
    # Shift exponent and mantissa to their float32 places, then let a multiplication correct the exponent's bias:
    # exact for normal and subnormal halves (Giesen, "half to float done quic").
    bits = b.zext(load(b, address, V8I16), V8I32)
    magnitude = b.shl(b.and_(bits, constant(V8I32, 0x7FFF)), constant(V8I32, 13))
    sign = b.shl(b.and_(bits, constant(V8I32, 0x8000)), constant(V8I32, 16))
    scaled = b.fmul(b.bitcast(magnitude, V8F32), constant(V8F32, 2.0**112))
    return b.bitcast(b.or_(b.bitcast(scaled, V8I32), sign), V8F32)


def to_half(b: Builder, value: Value) -> Value:
    """The 16 bits of a scalar float32, rounded to half precision; beyond its range the largest half."""
    limit = ir.Constant(F32, 65504.0)
    value = call(b, "llvm.minnum.f32", F32, [value, limit])
    value = call(b, "llvm.maxnum.f32", F32, [value, ir.Constant(F32, -65504.0)])
    if half_in_hardware:
        return b.bitcast(b.fptrunc(value, F16), I16)
    sign = b.lshr(b.and_(b.bitcast(value, I32), ir.Constant(I32, 0x80000000)), ir.Constant(I32, 16))
    magnitude = call(b, "llvm.fabs.f32", F32, [value])
    # Normal: move the exponent's bias from 127 to 15, round the mantissa's last 13 bits to nearest, ties to even.
    bits = b.bitcast(magnitude, I32)
    even = b.and_(b.lshr(bits, ir.Constant(I32, 13)), ir.Constant(I32, 1))
    normal = b.lshr(b.add(b.add(bits, ir.Constant(I32, 0xFFF - (112 << 23))), even), ir.Constant(I32, 13))
    # Subnormal: a unit in the last place of one half is 2^-24, a subnormal half's unit, so that an addition rounds.
    half = ir.Constant(F32, 0.5)
    subnormal = b.sub(b.bitcast(b.fadd(magnitude, half), I32), b.bitcast(half, I32))
    small = b.fcmp_ordered("<", magnitude, ir.Constant(F32, 2.0**-14))
    return b.trunc(b.or_(b.select(small, subnormal, normal), sign), I16)


def exp(b: Builder, x: Value) -> Value:
    """e^x of eight float32, relative error below 2e-7; inputs below -87 give about 1e-38, above 88 saturate.

    2^n · e^r with n = round(x / ln 2) and |r| ≤ ln 2 / 2, the remainder in two steps (Cody & Waite) and a polynomial of
    degree 6 for e^r (the coefficients of Cephes' expf).
    """
    x = call(b, "llvm.minnum.v8f32", V8F32, [x, constant(V8F32, 88.0)])
    x = call(b, "llvm.maxnum.v8f32", V8F32, [x, constant(V8F32, -87.0)])
    n = call(b, "llvm.rint.v8f32", V8F32, [b.fmul(x, constant(V8F32, 1.4426950408889634))])
    r = multiply_add(b, n, constant(V8F32, -0.693359375), x)
    r = multiply_add(b, n, constant(V8F32, 2.12194440e-4), r)
    series = constant(V8F32, 1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        series = multiply_add(b, series, r, constant(V8F32, coefficient))
    series = multiply_add(b, series, b.fmul(r, r), b.fadd(r, constant(V8F32, 1.0)))
    exponent = b.shl(b.add(b.fptosi(n, V8I32), constant(V8I32, 127)), constant(V8I32, 23))
    return b.fmul(series, b.bitcast(exponent, V8F32))


def reduce_add(b: Builder, value: Value) -> Value:
    """The sum of the eight float32 lanes, pairwise."""
    return call(b, "llvm.vector.reduce.fadd.v8f32", F32, [ir.Constant(F32, 0.0), value], flags=("reassoc",))


def reduce_max(b: Builder, value: Value) -> Value:
    return call(b, "llvm.vector.reduce.fmax.v8f32", F32, [value])


class Loop:
    """A counted loop that carries values: ``with Loop(b, n, carried) as loop: ... loop.next(new)``; then
    `loop.results`.

    ``loop.index`` runs from 0 to n - 1 (int64). With n = 0 the results are the carried values as given.
    """

    def __init__(self, b: Builder, count: Value, carried: list[Value]) -> None:
        self._b = b
        before = b.block
        self._head = b.append_basic_block("loop.head")
        body = b.append_basic_block("loop.body")
        self._exit = b.append_basic_block("loop.exit")
        b.branch(self._head)
        b.position_at_end(self._head)
        self.index = b.phi(I64)
        self.index.add_incoming(ir.Constant(I64, 0), before)
        self.values = [b.phi(value.type) for value in carried]
        for phi, value in zip(self.values, carried, strict=True):
            phi.add_incoming(value, before)
        b.cbranch(b.icmp_signed("<", self.index, count), body, self._exit)
        b.position_at_end(body)

    def __enter__(self) -> Loop:
        return self

    def next(self, values: list[Value]) -> None:
        b = self._b
        following = b.add(self.index, ir.Constant(I64, 1))
        self.index.add_incoming(following, b.block)
        for phi, value in zip(self.values, values, strict=True):
            phi.add_incoming(value, b.block)
        b.branch(self._head)

    def __exit__(self, *_: object) -> None:
        self._b.position_at_end(self._exit)

    @property
    def results(self) -> list[Value]:
        return self.values
