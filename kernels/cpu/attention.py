"""Attention over a paged cache in half precision: flash-style online softmax, one tile of queries against one KV head.

Replaces gather-then-softmax. The queries of a tile are all heads of one group (grouped-query attention shares their
keys) of up to `TOKENS` neighbouring tokens; keys pass by in chunks of `CHUNK`, and a running maximum rescales what was
summed before (Milakov & Gimelshein 2018; Dao et al. 2022). A cache block holds

    keys     [KV heads, head dim, block size]     transposed: 16 keys are two vectors, a score needs no horizontal sum
    values   [KV heads, block size, head dim]

A query's result depends on its own keys alone, in order of position and cut at multiples of `CHUNK`: it is bit-equal
whatever else is in the batch and however the prompt was chunked. Chunks that lie before every query's window are not
looked at; one that lies before some queries' leaves those as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types

from kernels.cpu import vector as v
from kernels.cpu.activations import BYTES

TOKENS = 8
"""Query tokens a tile."""
CHUNK = 64
"""Keys between two updates of the running maximum."""
KEYS = 16
"""Keys a vector step; a cache block holds a multiple."""


def scores(rows: int) -> Any:
    """Intrinsic f(queries, keys, head_dim, block_size, out): out[r, 0:16] = q_r · k for 16 keys.

    ``queries``: [rows, head_dim] float32; ``keys``: address of the first of 16 keys in a transposed block; ``out``:
    [rows, CHUNK].
    """

    @v.native(types.void(*[types.int64] * 5))
    def tile(
        b: v.Builder, queries: v.Value, keys: v.Value, head_dim: v.Value, block_size: v.Value, out: v.Value
    ) -> None:
        step = b.mul(block_size, v.ir.Constant(v.I64, 2))
        stride = b.mul(head_dim, v.ir.Constant(v.I64, 4))
        offsets = [b.mul(stride, v.ir.Constant(v.I64, r)) for r in range(rows)]
        zero = v.constant(v.V8F32, 0.0)
        with v.Loop(b, head_dim, [queries, keys] + [zero] * (2 * rows)) as loop:
            q, k, *sums = loop.values
            left = v.load_half(b, k)
            right = v.load_half(b, v.offset(b, k, 2 * v.LANES))
            for r in range(rows):
                x = v.load_splat(b, b.add(q, offsets[r]), v.F32)
                sums[2 * r] = v.multiply_add(b, x, left, sums[2 * r])
                sums[2 * r + 1] = v.multiply_add(b, x, right, sums[2 * r + 1])
            loop.next([v.offset(b, q, 4), b.add(k, step), *sums])
        for i, value in enumerate(loop.results[2:]):
            v.store(b, value, v.offset(b, out, i // 2 * 4 * CHUNK + i % 2 * BYTES))

    return tile


def weighted(rows: int) -> Any:
    """Intrinsic f(weights, values, count, head_dim, out): out[r, :16] += Σ_j weights[r, j] · value_j[:16] for j <
    count.

    ``weights``: [rows, CHUNK] float32; ``values``: half precision, ``head_dim`` apart; ``out``: [rows, head_dim]
    float32.
    """

    @v.native(types.void(*[types.int64] * 5))
    def tile(b: v.Builder, weights: v.Value, values: v.Value, count: v.Value, head_dim: v.Value, out: v.Value) -> None:
        stride = b.mul(head_dim, v.ir.Constant(v.I64, 4))
        step = b.mul(head_dim, v.ir.Constant(v.I64, 2))
        outs = [b.add(out, b.mul(stride, v.ir.Constant(v.I64, r))) for r in range(rows)]
        start = [v.load(b, v.offset(b, at, BYTES * i), v.V8F32) for at in outs for i in range(2)]
        with v.Loop(b, count, [weights, values, *start]) as loop:
            w, x, *sums = loop.values
            left = v.load_half(b, x)
            right = v.load_half(b, v.offset(b, x, 2 * v.LANES))
            for r in range(rows):
                weight = v.load_splat(b, v.offset(b, w, 4 * CHUNK * r), v.F32)
                sums[2 * r] = v.multiply_add(b, weight, left, sums[2 * r])
                sums[2 * r + 1] = v.multiply_add(b, weight, right, sums[2 * r + 1])
            loop.next([v.offset(b, w, 4), b.add(x, step), *sums])
        for i, value in enumerate(loop.results[2:]):
            v.store(b, value, v.offset(b, outs[i // 2], BYTES * (i % 2)))

    return tile


scores_1, scores_2, scores_3, scores_4 = (scores(r) for r in (1, 2, 3, 4))
weighted_1, weighted_2, weighted_3, weighted_4 = (weighted(r) for r in (1, 2, 3, 4))


@v.native(types.float32(types.int64))
def chunk_max(b: v.Builder, row: v.Value) -> v.Value:
    """The largest of CHUNK float32."""
    largest = v.load(b, row, v.V8F32)
    for i in range(1, CHUNK // v.LANES):
        value = v.load(b, v.offset(b, row, BYTES * i), v.V8F32)
        largest = v.call(b, "llvm.maxnum.v8f32", v.V8F32, [largest, value])
    return v.reduce_max(b, largest)


@v.native(types.float32(types.int64, types.float32))
def chunk_exp(b: v.Builder, row: v.Value, shift: v.Value) -> v.Value:
    """row = e^(row - shift) for CHUNK float32; their sum."""
    shift = v.splat(b, shift)
    sums = v.constant(v.V8F32, 0.0)
    for i in range(CHUNK // v.LANES):
        at = v.offset(b, row, BYTES * i)
        value = v.exp(b, b.fsub(v.load(b, at, v.V8F32), shift))
        v.store(b, value, at)
        sums = b.fadd(sums, value)
    return v.reduce_add(b, sums)


@v.native(types.void(types.int64, types.float32))
def chunk_cap(b: v.Builder, row: v.Value, cap: v.Value) -> None:
    """row = cap · tanh(row / cap) for CHUNK float32; tanh z = 1 - 2 / (e^2z + 1)."""
    factor = v.splat(b, b.fdiv(v.ir.Constant(v.F32, 2.0), cap))
    cap, one, two = v.splat(b, cap), v.constant(v.V8F32, 1.0), v.constant(v.V8F32, 2.0)
    for i in range(CHUNK // v.LANES):
        at = v.offset(b, row, BYTES * i)
        grown = b.fadd(v.exp(b, b.fmul(v.load(b, at, v.V8F32), factor)), one)
        v.store(b, b.fmul(cap, b.fsub(one, b.fdiv(two, grown))), at)


@njit("void(int64, int64, int64, int64, int64, int64)", nogil=True, cache=True)
def score_rows(rows: int, queries: int, keys: int, head_dim: int, block_size: int, out: int) -> None:
    """`scores` for any number of rows."""
    r = 0
    while r < rows:
        q, o = queries + r * head_dim * 4, out + r * CHUNK * 4
        if rows - r >= 4:
            scores_4(q, keys, head_dim, block_size, o)
        elif rows - r == 3:
            scores_3(q, keys, head_dim, block_size, o)
        elif rows - r == 2:
            scores_2(q, keys, head_dim, block_size, o)
        else:
            scores_1(q, keys, head_dim, block_size, o)
        r += 4


@njit("void(int64, int64, int64, int64, int64, int64)", nogil=True, cache=True)
def weigh_rows(rows: int, weights: int, values: int, count: int, head_dim: int, out: int) -> None:
    """`weighted` for any number of rows and all of the head's dimensions."""
    r = 0
    while r < rows:
        w, o = weights + r * CHUNK * 4, out + r * head_dim * 4
        for d in range(0, head_dim, 16):
            if rows - r >= 4:
                weighted_4(w, values + 2 * d, count, head_dim, o + 4 * d)
            elif rows - r == 3:
                weighted_3(w, values + 2 * d, count, head_dim, o + 4 * d)
            elif rows - r == 2:
                weighted_2(w, values + 2 * d, count, head_dim, o + 4 * d)
            else:
                weighted_1(w, values + 2 * d, count, head_dim, o + 4 * d)
        r += 4


@njit(
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], float32[:, ::1], int64, int64, int64, int64,"
    " uint16[:, :, ::1], uint16[:, :, ::1], int64, int32[::1], int64, float32)",
    nogil=True,
    cache=True,
    fastmath={"contract"},
)
def attend(
    queries: np.ndarray,
    scored: np.ndarray,
    summed: np.ndarray,
    running: np.ndarray,
    tokens: int,
    group: int,
    first_position: int,
    head: int,
    keys: np.ndarray,
    values: np.ndarray,
    block_size: int,
    table: np.ndarray,
    window: int,
    cap: float | np.float32,
) -> None:
    """Attention of ``tokens`` neighbouring tokens, the first at ``first_position``, in the ``group`` heads that share
    a KV head.

    ``queries``: [tokens · group, head_dim], already scaled, token after token. ``keys``, ``values``: one layer's cache,
    [blocks, KV heads, ...]; ``table``: the sequence's blocks. ``window``: keys a query sees, 0 for all; ``cap``: c of
    c · tanh(score / c), 0 for none. ``summed`` [rows, head_dim] receives the result; ``scored`` [rows, CHUNK] and
    ``running`` [rows, 2] are scratch.
    """
    rows = tokens * group
    head_dim = queries.shape[1]
    context = first_position + tokens
    for r in range(rows):
        running[r, 0] = -np.inf
        running[r, 1] = 0.0
        for d in range(head_dim):
            summed[r, d] = 0.0
    begin = max(0, first_position - window + 1) // CHUNK * CHUNK if window > 0 else 0
    for start in range(begin, context, CHUNK):
        stop = min(start + CHUNK, context)
        for at in range(start, stop, KEYS):
            block = table[at // block_size]
            source = keys[block, head].ctypes.data + 2 * (at % block_size)
            score_rows(rows, queries.ctypes.data, source, head_dim, block_size, scored.ctypes.data + 4 * (at - start))
        for r in range(rows):
            row = scored.ctypes.data + r * CHUNK * 4
            if cap > 0:
                chunk_cap(row, cap)
            seen = max(0, first_position + r // group + 1 - start)
            for j in range(seen, CHUNK):
                scored[r, j] = -np.inf
            if window > 0:
                passed = min(seen - window, CHUNK)
                if passed == CHUNK:
                    scored[r] = 0.0
                    continue
                for j in range(passed):
                    scored[r, j] = -np.inf
            largest = max(running[r, 0], chunk_max(row))
            total = chunk_exp(row, largest)
            if largest > running[r, 0]:
                factor = np.exp(running[r, 0] - largest)
                running[r, 1] *= factor
                for d in range(head_dim):
                    summed[r, d] *= factor
            running[r, 0] = largest
            running[r, 1] += total
        for at in range(start, stop, KEYS):
            block = table[at // block_size]
            source = values[block, head].ctypes.data + 2 * head_dim * (at % block_size)
            weights = scored.ctypes.data + 4 * (at - start)
            weigh_rows(rows, weights, source, min(KEYS, stop - at), head_dim, summed.ctypes.data)
    for r in range(rows):
        inverse = np.float32(1) / running[r, 1]
        for d in range(head_dim):
            summed[r, d] *= inverse
