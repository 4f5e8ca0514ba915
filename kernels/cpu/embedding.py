"""One row of a packed matrix back to float32: the embedding of a token."""

from __future__ import annotations

from numba import njit, types

from kernels.cpu import vector as v
from kernels.cpu.dot import BLOCK, Q4, Q4_RECORD, Q8_RECORD, ROWS


@v.native(types.void(*[types.int64] * 4))
def _decode(b: v.Builder, kind: v.Value, record: v.Value, row: v.Value, out: v.Value) -> None:
    """The 32 numbers of ``row`` (0..7) of the record at an address, as float32 at ``out``."""
    byte_at = b.add(record, b.mul(row, v.ir.Constant(v.I64, 4)))

    def factor(at: int) -> v.Value:
        halves = v.load_half(b, v.offset(b, record, at))
        return v.splat(b, b.extract_element(halves, b.trunc(row, v.I32)), 4)

    def write(words: v.Value, at: int, scale: v.Value, minimum: v.Value | None) -> None:
        four = v.ir.VectorType(v.F32, 4)
        values = b.fmul(b.sitofp(words, four), scale)
        v.store(b, values if minimum is None else b.fadd(values, minimum), v.offset(b, out, 4 * at))

    four_bytes, four_words = v.ir.VectorType(v.I8, 4), v.ir.VectorType(v.I32, 4)
    with b.if_else(b.icmp_signed("==", kind, v.ir.Constant(v.I64, Q4))) as (nibbles, whole):
        with nibbles:
            scale, minimum = factor(128), factor(144)
            for j in range(4):
                raw = b.zext(v.load(b, v.offset(b, byte_at, 32 * j), four_bytes), four_words)
                write(b.and_(raw, v.constant(four_words, 15)), 4 * j, scale, minimum)
                write(b.lshr(raw, v.constant(four_words, 4)), 16 + 4 * j, scale, minimum)
        with whole:
            scale = factor(256)
            for j in range(8):
                raw = v.load(b, v.offset(b, byte_at, 32 * j), four_bytes)
                write(b.sext(raw, four_words), 4 * j, scale, None)


@njit("void(int64, int64, int64, int64, int64)", nogil=True, cache=True)
def decode_row(kind: int, records: int, row: int, blocks: int, out: int) -> None:
    """Row ``row`` of the matrix whose records are at an address, 32 · ``blocks`` float32 at ``out``."""
    group, lane = row // ROWS, row % ROWS
    size = Q4_RECORD if kind == Q4 else Q8_RECORD
    for block in range(blocks):
        _decode(kind, records + (group * blocks + block) * size, lane, out + 4 * BLOCK * block)
