"""The arithmetic of sampling in Triton: noise, weights and ranks, equal to the bit to `kernels/cpu/noise.py`.

IEEE 754 promises equal bits for +, -, *, / and nothing else, so a kernel that calls these functions must be launched
with `EXACT`: Triton would else contract a product and a sum into one fused operation, and its plain float32 quotient is
approximate, which is why quotients are written `tl.div_rn`. tests/kernels/test_aot.py reads the compiled code and finds
no fused or approximate operation in it.

Philox costs 20 wide products and 20 three-way xors for four ids, about 10 integer operations an id: at 64 lanes a cycle
and SM, an H200 makes noise for 256 rows of 128,256 ids in about 22 us, in the shadow of reading 131 MB (27 us at 4.8
TB/s) and a little above reading half of it in bf16.
"""

from __future__ import annotations

from typing import Any

import triton.language as tl

from kernels.jit import jit

EXACT: dict[str, Any] = {"enable_fp_fusion": False}
"""Launch options of every kernel whose results must be equal to the bit."""

MAX_ID = tl.constexpr(0x7FFFFFFF)
LOWEST_KEY = tl.constexpr(-(1 << 63))
"""Below the key of every id."""

LARGEST = tl.constexpr(3.4028234663852886e38)
NO_WEIGHT = tl.constexpr(-25.0)
"""Weights of exp of this and less are 0."""

SLACK = tl.constexpr(1e-3)
"""Covers the rounding of float32 bounds against float64 values, for values that can win (within 30 of the best)."""


@jit
def philox(c0, c1, c2, k0, k1):
    """Philox4x32-10 of counters (c0, c1, c2, 0) under the key (k0, k1), all uint32 of one shape: four uint32."""
    c3 = c0 ^ c0
    for _ in tl.static_range(10):  # pyright: ignore[reportGeneralTypeIssues]
        high0, low0 = tl.umulhi(c0, 0xD2511F53), c0 * 0xD2511F53
        high1, low1 = tl.umulhi(c2, 0xCD9E8D57), c2 * 0xCD9E8D57
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return c0, c1, c2, c3


@jit
def block_lanes(first, position, choice, k0, k1, SIZE: tl.constexpr):
    """The random bits of ids first .. first + SIZE - 1, uint32[SIZE]; ``first`` is a multiple of 4."""
    c0 = ((first >> 2) + tl.arange(0, SIZE // 4)).to(tl.uint32)
    zero = c0 ^ c0
    w0, w1, w2, w3 = philox(c0, zero + position, zero + choice, zero + k0, zero + k1)
    return tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (SIZE,))


@jit
def id_lanes(ids, position, choice, k0, k1):
    """The random bits of any ids, uint32 of their shape."""
    c0 = (ids >> 2).to(tl.uint32)
    zero = c0 ^ c0
    w0, w1, w2, w3 = philox(c0, zero + position, zero + choice, zero + k0, zero + k1)
    which = ids & 3
    return tl.where(which < 2, tl.where(which == 0, w0, w1), tl.where(which == 2, w2, w3))


@jit
def log(x):
    """Natural logarithm of normal positive float64: 2 atanh((m - 1) / (m + 1)) + e ln 2, x = m 2^e."""
    bits = x.to(tl.int64, bitcast=True)
    exponent = (bits >> 52) - 1023
    m = ((bits & 0xFFFFFFFFFFFFF) | (1023 << 52)).to(tl.float64, bitcast=True)
    large = m > 1.4142135623730951
    m = tl.where(large, m * 0.5, m)
    exponent += large.to(tl.int64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    t = z * 0.0 + 1.0 / 23
    for k in tl.static_range(10, 0, -1):  # pyright: ignore[reportGeneralTypeIssues]
        t = t * z + 1.0 / (2 * k + 1)
    t = t * z
    return exponent.to(tl.float64) * 0.6931471805599453 + (2.0 * s + 2.0 * s * t)


@jit
def gumbel(lane):
    """The noise of uniform uint32: -log(-log(1 - (lane + 1/2) / 2^32)), float64."""
    return -log(-log(1.0 - (lane.to(tl.float64) + 0.5) * 2.3283064365386963e-10))


@jit
def gumbel_bound(lane):
    """An upper bound of `gumbel`, at most 0.1 above it where the noise is large; float32, no logarithm."""
    bits = (lane >> 8).to(tl.int32).to(tl.float32).to(tl.int32, bitcast=True)
    return 0.6931471805599453 * (151.0 - bits.to(tl.float32) * 1.1920928955078125e-07)


@jit
def noisy(x, top, temperature, lane):
    """The exact value that the draw maximises, float64; x, top and temperature are float32."""
    return (x.to(tl.float64) - top.to(tl.float64)) / temperature.to(tl.float64) + gumbel(lane)


@jit
def weight(d):
    """exp of float32 d <= 0 (Cephes expf), rounded to multiples of 2^-34; float32. 1 exactly for 0; NaN gives 0."""
    d = tl.where(d > -87.0, d, -87.0)
    n = (d * 1.44269504088896341 + 12582912.0) - 12582912.0
    r = d - n * 0.693359375
    r = r - n * -2.12194440e-4
    t = r * 1.98756915e-4 + 1.39819995e-3
    t = t * r + 8.33345191e-3
    t = t * r + 4.16657959e-2
    t = t * r + 1.66666655e-1
    t = t * r + 0.5
    e = t * (r * r) + r + 1.0
    e = e * ((n.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
    return tl.where(e > 0.00048828125, e, (e + 0.00048828125) - 0.00048828125)


@jit
def clean(x):
    """float32 of any float: NaN as -inf, +inf as the largest float, -0 as 0."""
    x = x.to(tl.float32) + 0.0
    return tl.where(x != x, float("-inf"), tl.where(x < LARGEST, x, LARGEST))


@jit
def reciprocal(x):
    """1 / x of a float32, rounded correctly."""
    return tl.div_rn(tl.full(x.shape, 1.0, tl.float32), x)


@jit
def rank(x):
    """An int32 in the order of the float32 x, which is not NaN."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@jit
def unrank(ranks):
    """The float32 of a `rank`."""
    return (ranks ^ ((ranks >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@jit
def pack_key(x, ids):
    """An int64 in the order (x ascending, id descending): the largest key is the first of the ranking."""
    return (rank(x).to(tl.int64) << 32) | (ids ^ MAX_ID).to(tl.int64)


@jit
def key_value(key):
    """The float32 of a key."""
    return unrank((key >> 32).to(tl.int32))


@jit
def key_id(key):
    """The id of a key, int32."""
    return (key & MAX_ID).to(tl.int32) ^ MAX_ID
