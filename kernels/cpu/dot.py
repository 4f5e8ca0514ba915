"""Quantized weights times quantized activations: integer dot products a block of 32, scaled and summed in float32.

Replaces a dequantized matmul (which is bound by float32 multiplies) and ggml's row-wise dots. Weights are packed by
`kernels.cpu.blocks` in *records* of 8 rows × 32 columns, so that one vector lane is one output row:

    Q4 record, 160 bytes        bytes 32j + 4r .. + 4 (j = 0..3) belong to row r: low nibbles are columns 4j .. 4j + 3,
    w = d·q + m, q in 0..15     high nibbles columns 16 + 4j .. 16 + 4j + 3; then 8 d, then 8 m, half precision
    Q8 record, 272 bytes        bytes 32j + 4r .. + 4 (j = 0..7) belong to row r: columns 4j .. 4j + 3, signed;
    w = d·q, q in -128..127     then 8 d, half precision

    activation block, 48 bytes  32 signed bytes q, scale s (float32), s·Σq (float32), Σq (int32), 4 bytes unused

and then, with exact integer sums,

    y[r] = Σ_blocks  d[r]·s·Σ(q_w q_x)  +  m[r]·s·Σ q_x

Activations are quantized a block of 32, as ggml's Q8_1 does; one scale a token costs ten times the accuracy. No sum can
overflow: in a Q4 block 8 chunks add at most 8·2·15·127 = 30480 to a 16-bit lane; a Q8 pair is at most 2·128·127 =
32512.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types

from kernels.cpu import vector as v

Q4, Q8 = 0, 1
"""Kinds of packed weights."""

ROWS = 8
BLOCK = 32
Q4_RECORD = 160
Q8_RECORD = 272
ACTIVATION = 48
"""Bytes of one activation block."""

SCALE_AT, SUM_AT, TOTAL_AT = 32, 36, 40
TILE = 4
"""Activation columns that share one pass over a weight record: as many as AVX2 has registers for."""

CACHED_COLUMNS = 32
"""Activation columns that stay in the first-level cache while the weight records stream by."""


def _q4_chunks(b: v.Builder, weights: v.Value) -> list[tuple[v.Value, int]]:
    """The 8 chunks of a Q4 record as unsigned bytes, each with its activation offset."""
    low_bits = v.constant(v.V32I8, 15)
    chunks = []
    for j in range(4):
        raw = v.load(b, v.offset(b, weights, 32 * j), v.V32I8)
        shifted = b.bitcast(b.lshr(b.bitcast(raw, v.V16I16), v.constant(v.V16I16, 4)), v.V32I8)
        chunks.append((b.and_(raw, low_bits), 4 * j))
        chunks.append((b.and_(shifted, low_bits), 16 + 4 * j))
    return chunks


def _bytes_of(b: v.Builder, address: v.Value) -> v.Value:
    """Four activation bytes, the same in each of the 8 lanes."""
    return b.bitcast(v.load_splat(b, address, v.I32), v.V32I8)


def _widening_dot(b: v.Builder, sums: v.Value, weights: v.Value, activations: v.Value, signed: bool) -> v.Value:
    """sums + Σ of four products a lane, in plain LLVM."""
    widen = b.sext if signed else b.zext
    wide = v.ir.VectorType(v.I16, 32)
    products = b.mul(widen(weights, wide), b.sext(activations, wide))
    for lanes, kind in ((16, v.I16), (8, v.I32)):
        if kind is v.I32:
            products = b.sext(products, v.ir.VectorType(v.I32, 16))
        picks = v.ir.VectorType(v.I32, lanes)
        even = b.shuffle_vector(products, products, v.ir.Constant(picks, list(range(0, 2 * lanes, 2))))
        odd = b.shuffle_vector(products, products, v.ir.Constant(picks, list(range(1, 2 * lanes, 2))))
        products = b.add(even, odd)
    return b.add(sums, products)


def _q4_sums(b: v.Builder, weights: v.Value, columns: list[v.Value], path: str) -> list[v.Value]:
    """Integer dot products of one Q4 record with each column's block: a <8 x i32> a column."""
    if path == "avx2":
        partial: list[v.Value] = [v.constant(v.V16I16, 0) for _ in columns]
        for chunk, at in _q4_chunks(b, weights):
            for c, x in enumerate(columns):
                pairs = v.call(b, "llvm.x86.avx2.pmadd.ub.sw", v.V16I16, [chunk, _bytes_of(b, v.offset(b, x, at))])
                partial[c] = b.add(partial[c], pairs)
        ones = v.constant(v.V16I16, 1)
        return [v.call(b, "llvm.x86.avx2.pmadd.wd", v.V8I32, [pairs, ones]) for pairs in partial]
    sums: list[v.Value] = [v.constant(v.V8I32, 0) for _ in columns]
    for chunk, at in _q4_chunks(b, weights):
        for c, x in enumerate(columns):
            activations = _bytes_of(b, v.offset(b, x, at))
            if path == "vnni":
                sums[c] = _vpdpbusd(b, sums[c], chunk, activations)
            else:
                sums[c] = _widening_dot(b, sums[c], chunk, activations, signed=False)
    return sums


def _q8_sums(b: v.Builder, weights: v.Value, columns: list[v.Value], path: str) -> list[v.Value]:
    """As `_q4_sums`, of one Q8 record."""
    if path == "vnni":
        # The instruction wants unsigned weights: q + 128, of which 128·Σx is taken off beforehand.
        sums = [b.mul(v.load_splat(b, v.offset(b, x, TOTAL_AT), v.I32), v.constant(v.V8I32, -128)) for x in columns]
    else:
        sums = [v.constant(v.V8I32, 0) for _ in columns]
    for j in range(8):
        chunk = v.load(b, v.offset(b, weights, 32 * j), v.V32I8)
        shifted = b.xor(chunk, v.constant(v.V32I8, -128))
        magnitude = v.call(b, "llvm.abs.v32i8", v.V32I8, [chunk, v.ir.Constant(v.I1, 0)])
        for c, x in enumerate(columns):
            activations = _bytes_of(b, v.offset(b, x, 4 * j))
            if path == "vnni":
                sums[c] = _vpdpbusd(b, sums[c], shifted, activations)
            elif path == "avx2":
                signed = v.call(b, "llvm.x86.avx2.psign.b", v.V32I8, [activations, chunk])
                pairs = v.call(b, "llvm.x86.avx2.pmadd.ub.sw", v.V16I16, [magnitude, signed])
                quads = v.call(b, "llvm.x86.avx2.pmadd.wd", v.V8I32, [pairs, v.constant(v.V16I16, 1)])
                sums[c] = b.add(sums[c], quads)
            else:
                sums[c] = _widening_dot(b, sums[c], chunk, activations, signed=True)
    return sums


def _vpdpbusd(b: v.Builder, sums: v.Value, unsigned: v.Value, signed: v.Value) -> v.Value:
    # Declared with 32-bit lanes; LLVM versions that declare it with bytes upgrade the call when they read it.
    words = [sums, b.bitcast(unsigned, v.V8I32), b.bitcast(signed, v.V8I32)]
    return v.call(b, "llvm.x86.avx512.vpdpbusd.256", v.V8I32, words)


def emit_tile(b: v.Builder, kind: int, columns: int, path: str, arguments: list[v.Value]) -> None:
    """LLVM code of one tile: 8 rows × ``columns`` columns, over all blocks of a row.

    ``arguments``: addresses and byte counts as `tile` takes them.
    """
    weights, activations, column_stride, blocks, out, out_stride, add = arguments
    record = Q4_RECORD if kind == Q4 else Q8_RECORD
    outs = [out]
    offsets = [v.ir.Constant(v.I64, 0)]
    for _ in range(columns - 1):
        outs.append(b.add(outs[-1], out_stride))
        offsets.append(b.add(offsets[-1], column_stride))
    start = [b.select(add, v.load(b, at, v.V8F32), v.constant(v.V8F32, 0.0)) for at in outs]
    with v.Loop(b, blocks, [weights, activations, *start]) as loop:
        w, x, *sums = loop.values
        xs = [b.add(x, by) for by in offsets]
        dots = (_q4_sums if kind == Q4 else _q8_sums)(b, w, xs, path)
        d = v.load_half(b, v.offset(b, w, 128 if kind == Q4 else 256))
        m = v.load_half(b, v.offset(b, w, 144)) if kind == Q4 else None
        for c, at in enumerate(xs):
            scale = b.fmul(d, v.load_splat(b, v.offset(b, at, SCALE_AT), v.F32))
            if m is not None:
                sums[c] = v.multiply_add(b, m, v.load_splat(b, v.offset(b, at, SUM_AT), v.F32), sums[c])
            sums[c] = v.multiply_add(b, b.sitofp(dots[c], v.V8F32), scale, sums[c])
        loop.next([v.offset(b, w, record), v.offset(b, x, ACTIVATION), *sums])
    for value, at in zip(loop.results[2:], outs, strict=True):
        v.store(b, value, at)


def tile(kind: int, columns: int, path: str = v.path) -> Any:
    """A numba intrinsic for one tile: f(weights, activations, column_stride, blocks, out, out_stride, add).

    All but ``add`` (bool: add to what ``out`` holds) are int64: addresses, or strides in bytes. ``weights``:
    ``blocks`` records. ``activations``: ``columns`` runs of ``blocks`` activation blocks. ``out``: 8 float32 a column.
    """

    @v.native(types.void(*[types.int64] * 6, types.boolean))
    def dot(
        b: v.Builder,
        weights: v.Value,
        activations: v.Value,
        column_stride: v.Value,
        blocks: v.Value,
        out: v.Value,
        out_stride: v.Value,
        add: v.Value,
    ) -> None:
        emit_tile(b, kind, columns, path, [weights, activations, column_stride, blocks, out, out_stride, add])

    return dot


q4_tile_1, q4_tile_2, q4_tile_3, q4_tile_4 = (tile(Q4, c) for c in (1, 2, 3, 4))
q8_tile_1, q8_tile_2, q8_tile_3, q8_tile_4 = (tile(Q8, c) for c in (1, 2, 3, 4))


@njit("void(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, boolean)", nogil=True, cache=True)
def project(
    kind: int,
    weights: int,
    first: int,
    last: int,
    blocks: int,
    activations: int,
    column_stride: int,
    columns: int,
    out: int,
    out_stride: int,
    add: bool,
) -> None:
    """out[c, 8g : 8g + 8] (+)= W[8g : 8g + 8] · x[c] for groups of rows g in [first, last) and every column c.

    Addresses and byte strides as in `tile`; ``weights`` and ``out`` are those of group 0, column 0.
    """
    stride = blocks * (Q4_RECORD if kind == Q4 else Q8_RECORD)
    for start in range(0, columns, CACHED_COLUMNS):
        end = min(columns, start + CACHED_COLUMNS)
        for group in range(first, last):
            w = weights + group * stride
            c = start
            while c < end:
                x = activations + c * column_stride
                y = out + c * out_stride + group * 32
                left = end - c
                if kind == Q4:
                    if left >= 4:
                        q4_tile_4(w, x, column_stride, blocks, y, out_stride, add)
                    elif left == 3:
                        q4_tile_3(w, x, column_stride, blocks, y, out_stride, add)
                    elif left == 2:
                        q4_tile_2(w, x, column_stride, blocks, y, out_stride, add)
                    else:
                        q4_tile_1(w, x, column_stride, blocks, y, out_stride, add)
                elif left >= 4:
                    q8_tile_4(w, x, column_stride, blocks, y, out_stride, add)
                elif left == 3:
                    q8_tile_3(w, x, column_stride, blocks, y, out_stride, add)
                elif left == 2:
                    q8_tile_2(w, x, column_stride, blocks, y, out_stride, add)
                else:
                    q8_tile_1(w, x, column_stride, blocks, y, out_stride, add)
                c += TILE
