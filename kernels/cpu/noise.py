"""The arithmetic of sampling in numba: Gumbel noise and softmax weights, equal to the bit wherever IEEE 754 holds.

Only +, -, *, / and bit patterns are used, in a stated order, so `kernels/sampling_reference.py` repeats it in torch
with equal results; libm's and SLEEF's own exp and log differ in the last bit from one library to the next. LLVM
vectorises loops over `weight` and `gumbel_bound`; it judges Philox's wide products too dear to, so `philox_block` is
written as vector code (0.6 ns an id with AVX2, 3.9 ns as a loop).
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import types

from kernels.cpu.vector import F32, I32, I64, Builder, Value, constant, native, splat, store

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
"""Philox4x32's constants, as Random123 has them."""

LOG2_E = np.float32(1.44269504088896341)
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
EXP_TERMS = tuple(map(np.float32, (1.98756915e-4, 1.39819995e-3, 8.33345191e-3, 4.16657959e-2, 1.66666655e-1, 0.5)))
"""exp(r) - 1 - r over r², the highest power first (Cephes expf)."""
EXP_LOWEST = np.float32(-87.0)
ROUND_FLOAT = np.float32(1.5 * 2**23)
"""Adding and subtracting it rounds a float32 below 2^22 to an integer."""

ROUND_WEIGHT = np.float32(2.0**-11)
"""Adding and subtracting it rounds a smaller float32 to a multiple of 2^-34, which larger ones are."""

LN2 = 0.6931471805599453
SQRT2 = 1.4142135623730951
LOG_TERMS = tuple(1.0 / (2 * k + 1) for k in range(11, 0, -1))
"""atanh(s) / s - 1 over s², the highest power first."""

NOISE_LIMIT = np.float32(22.88)
"""No noise is larger: -log(-log(1 - 2^-33)) = 22.874."""


@native(types.int32(types.float32))
def float_bits(b: Builder, x: Value) -> Value:
    """The bit pattern of a float32 as int32."""
    return b.bitcast(x, I32)


@native(types.float32(types.int32))
def bits_float(b: Builder, bits: Value) -> Value:
    """The float32 with the bit pattern of an int32."""
    return b.bitcast(bits, F32)


@native(types.int64(types.float64))
def double_bits(b: Builder, x: Value) -> Value:
    """The bit pattern of a float64 as int64."""
    return b.bitcast(x, I64)


@native(types.float64(types.int64))
def bits_double(b: Builder, bits: Value) -> Value:
    """The float64 with the bit pattern of an int64."""
    return b.bitcast(bits, ir.DoubleType())


_STRIDE = 8
_V8I64 = ir.VectorType(I64, _STRIDE)


@native(types.void(types.int64, *[types.uint32] * 5))
def _philox_vector(
    b: Builder, address: Value, first: Value, position: Value, choice: Value, k0: Value, k1: Value
) -> None:
    """Writes the 32 random uint32 of counters first .. first + 7 to an address.

    Each uint32 lives in the lower half of a 64-bit lane; what the products leave in the upper half is cut off when a
    lane is multiplied again, and at the end.
    """
    c0, c1, c2, k0, k1 = (splat(b, b.zext(scalar, I64), _STRIDE) for scalar in (first, position, choice, k0, k1))
    c0, c3 = b.add(c0, ir.Constant(_V8I64, list(range(_STRIDE)))), constant(_V8I64, 0)
    half, lower = constant(_V8I64, 32), constant(_V8I64, 0xFFFFFFFF)
    for _ in range(ROUNDS):
        product0 = b.mul(constant(_V8I64, MULTIPLIERS[0]), b.and_(c0, lower))
        product1 = b.mul(constant(_V8I64, MULTIPLIERS[1]), b.and_(c2, lower))
        c0 = b.xor(b.xor(b.lshr(product1, half), c1), k0)
        c2 = b.xor(b.xor(b.lshr(product0, half), c3), k1)
        c1, c3 = product1, product0
        k0, k1 = b.add(k0, constant(_V8I64, WEYL[0])), b.add(k1, constant(_V8I64, WEYL[1]))
    front = b.or_(b.and_(c0, lower), b.shl(c1, half))
    back = b.or_(b.and_(c2, lower), b.shl(c3, half))
    in_order = [lane + side for lane in range(_STRIDE) for side in (0, _STRIDE)]
    store(b, b.shuffle_vector(front, back, ir.Constant(ir.VectorType(I32, 2 * _STRIDE), in_order)), address)


@numba.njit(cache=True)
def philox_block(noise, first, position, choice, k0, k1):
    """noise[i] = the random bits of id 4 * first + i; uint32, a multiple of 32 of them."""
    for q in range(len(noise) // (4 * _STRIDE)):
        counter = np.uint32(first + _STRIDE * q)
        _philox_vector(noise.ctypes.data + 16 * _STRIDE * q, counter, position, choice, k0, k1)


@numba.njit(cache=True)
def philox(c0, c1, c2, k0, k1):
    """Philox4x32-10 of the counter (c0, c1, c2, 0) under the key (k0, k1): four uint32. All arguments are uint32."""
    c3 = np.uint32(0)
    for _ in range(ROUNDS):
        a = np.uint64(MULTIPLIERS[0]) * np.uint64(c0)
        b = np.uint64(MULTIPLIERS[1]) * np.uint64(c2)
        c0 = np.uint32(np.uint32(b >> np.uint64(32)) ^ c1 ^ k0)
        c1 = np.uint32(b)
        c2 = np.uint32(np.uint32(a >> np.uint64(32)) ^ c3 ^ k1)
        c3 = np.uint32(a)
        k0 = np.uint32(k0 + np.uint32(WEYL[0]))
        k1 = np.uint32(k1 + np.uint32(WEYL[1]))
    return c0, c1, c2, c3


@numba.njit(cache=True)
def log(x):
    """Natural logarithm of a normal positive float64, to about an ulp.

    x = m 2^e with m near 1, log x = 2 atanh((m - 1) / (m + 1)) + e log 2.
    """
    bits = double_bits(x)
    exponent = (bits >> 52) - 1023
    m = bits_double((bits & 0xFFFFFFFFFFFFF) | (1023 << 52))
    if m > SQRT2:
        m = m * 0.5
        exponent += 1
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    t = LOG_TERMS[0]
    for term in LOG_TERMS[1:]:
        t = t * z + term
    t = t * z
    return exponent * LN2 + (2.0 * s + 2.0 * s * t)


@numba.njit(cache=True)
def gumbel(lane):
    """The noise of a uniform uint32: -log(-log(1 - (lane + 1/2) / 2^32)), float64."""
    return -log(-log(1.0 - (np.float64(lane) + 0.5) * 2.0**-32))


@numba.njit(cache=True)
def gumbel_bound(lane):
    """An upper bound of `gumbel`, at most 0.1 above it where the noise is large; float32, no logarithm.

    -log(-log(1 - u)) <= -log u, and the bit pattern of a float32 is a lower bound of its logarithm, linear between the
    powers of two. Only the upper 24 bits of u are looked at, which a float32 holds exactly.
    """
    bits = float_bits(np.float32(np.int32(lane >> np.uint32(8))))
    return np.float32(LN2) * (np.float32(127 + 24) - np.float32(bits) * np.float32(2.0**-23))


@numba.njit(cache=True)
def weight(d):
    """exp(d) for a float32 d <= 0, rounded to a multiple of 2^-34; float32. 1 exactly for 0; NaN gives 0."""
    d = d if d > EXP_LOWEST else EXP_LOWEST
    n = (d * LOG2_E + ROUND_FLOAT) - ROUND_FLOAT
    r = d - n * LN2_HIGH
    r = r - n * LN2_LOW
    t = EXP_TERMS[0]
    for term in EXP_TERMS[1:]:
        t = t * r + term
    e = t * (r * r) + r + np.float32(1.0)
    scale = bits_float(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))
    e = e * scale
    rounded = (e + ROUND_WEIGHT) - ROUND_WEIGHT
    return e if e > ROUND_WEIGHT else rounded
