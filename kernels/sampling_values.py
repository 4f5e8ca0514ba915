"""What the kernels of masked sampling share: the columns of a batch on the device, and the values of a row.

A batch is one int32 matrix [R, COLUMNS], floats as their bit patterns, so that a step is one copy of 72 bytes a row.

Penalties and bias touch few ids of a row. `penalise` and `add_bias` write the changed values of such rows to a scratch
row of V float32 and mark them in a bit row; whoever reads logits afterwards takes the marked ones from there. The
logits stay as they are, for log-probabilities are the model's own, and rows without penalties pay nothing.
"""

from __future__ import annotations

import numpy as np
import triton.language as tl
from numpy.typing import NDArray

from kernels.jit import jit
from kernels.noise import clean
from kernels.sampling import SamplingBatch

MASK_ROW = tl.constexpr(0)
TEMPERATURE = tl.constexpr(1)
TOP_P = tl.constexpr(2)
TOP_K = tl.constexpr(3)
MIN_P = tl.constexpr(4)
SEED_LOW = tl.constexpr(5)
SEED_HIGH = tl.constexpr(6)
CHOICE = tl.constexpr(7)
POSITION = tl.constexpr(8)
PRESENCE = tl.constexpr(9)
FREQUENCY = tl.constexpr(10)
REPETITION = tl.constexpr(11)
CHANGED = tl.constexpr(12)
"""The row's scratch row, or -1."""
HISTORY = tl.constexpr(13)
BIAS = tl.constexpr(15)
"""Each is a begin and an end."""
N_LOGPROBS = tl.constexpr(17)
COLUMNS = tl.constexpr(18)

FORCED = tl.constexpr(1)
SPARSE = tl.constexpr(2)
DENSE = tl.constexpr(3)
"""Row kinds of fsm/rows.py."""

GREEDY_BELOW = tl.constexpr(1e-5)


def columns(batch: SamplingBatch) -> tuple[NDArray[np.int32], int]:
    """The batch as int32 [R, COLUMNS], and how many scratch rows it needs: one for each row with history or bias."""
    n = len(batch.mask_rows)
    table = np.empty((n, COLUMNS.value), np.int32)
    halves = np.ascontiguousarray(batch.seed).view(np.int32).reshape(n, 2)
    starts = batch.history_start, batch.bias_start
    changed = (np.diff(starts[0]) > 0) | (np.diff(starts[1]) > 0)
    table[:, CHANGED.value] = np.where(changed, np.cumsum(changed) - 1, -1)
    for column, values in (
        (MASK_ROW, batch.mask_rows),
        (TEMPERATURE, batch.temperature.view(np.int32)),
        (TOP_P, batch.top_p.view(np.int32)),
        (TOP_K, batch.top_k),
        (MIN_P, batch.min_p.view(np.int32)),
        (SEED_LOW, halves[:, 0]),
        (SEED_HIGH, halves[:, 1]),
        (CHOICE, batch.choice),
        (POSITION, batch.position),
        (PRESENCE, batch.presence.view(np.int32)),
        (FREQUENCY, batch.frequency.view(np.int32)),
        (REPETITION, batch.repetition.view(np.int32)),
        (N_LOGPROBS, batch.n_logprobs),
    ):
        table[:, column.value] = values
    for column, start in zip((HISTORY, BIAS), starts, strict=True):
        table[:, column.value] = start[:-1]
        table[:, column.value + 1] = start[1:]
    return table, int(changed.sum())


@jit
def number(row, COLUMN: tl.constexpr):
    """An int32 column of the batch row at ``row``."""
    return tl.load(row + COLUMN)


@jit
def real(row, COLUMN: tl.constexpr):
    """A float32 column."""
    return tl.load(row + COLUMN).to(tl.float32, bitcast=True)


@jit
def word(row, COLUMN: tl.constexpr):
    """A uint32 column."""
    return tl.load(row + COLUMN).to(tl.uint32, bitcast=True)


@jit
def is_set(words, ids, mask):
    """Whether the bit of each id is set in a bit row; False outside ``mask``."""
    return mask & (((tl.load(words + ids // 32, mask=mask, other=0) >> (ids % 32)) & 1) != 0)


@jit
def row_values(logits, stride, ids, mask, changed, n_words, size, values, marks):
    """The row's logits, cleaned, penalised and biased, at ``ids`` where ``mask``; float32, -inf elsewhere.

    ``logits`` points to the row. Loaded as they lie: what a mask forbids is a part of the same sectors.
    """
    x = clean(tl.load(logits + ids.to(tl.int64) * stride, mask=mask, other=0.0))
    if changed >= 0:
        marked = is_set(marks + changed.to(tl.int64) * n_words, ids, mask)
        y = tl.load(values + changed.to(tl.int64) * size + ids, mask=marked, other=0.0)
        x = tl.where(marked, y, x)
    return tl.where(mask, x, float("-inf"))


@jit
def allowed_values(logits, stride, ids, size, dense, bits, changed, n_words, values, marks):
    """`row_values` of ids below ``size``, -inf where a dense mask row forbids; and which are allowed."""
    allowed = ids < size
    x = row_values(logits, stride, ids, allowed, changed, n_words, size, values, marks)
    if dense:
        allowed = is_set(bits, ids, allowed)
    return tl.where(allowed, x, float("-inf")), allowed


@jit
def penalise(
    logits, row_stride, stride, batch, history_ids, history_counts, values, marks, size, n_words, TILE: tl.constexpr
):
    """Program (r, t): the penalties of tile t of row r's history."""
    r = tl.program_id(0)
    row = batch + r * COLUMNS
    lanes = number(row, HISTORY) + tl.program_id(1) * TILE + tl.arange(0, TILE)
    mask = lanes < tl.load(row + HISTORY + 1)
    if tl.max(mask.to(tl.int32)) > 0:
        changed = number(row, CHANGED).to(tl.int64)
        ids = tl.load(history_ids + lanes, mask=mask, other=0)
        counts = tl.load(history_counts + lanes, mask=mask, other=0)
        x = clean(tl.load(logits + r.to(tl.int64) * row_stride + ids.to(tl.int64) * stride, mask=mask, other=0.0))
        repetition = real(row, REPETITION)
        y = tl.where(x > 0, tl.div_rn(x, x * 0.0 + repetition), x * repetition)
        penalised = (y - real(row, FREQUENCY) * counts.to(tl.float32)) - real(row, PRESENCE)
        tl.store(values + changed * size + ids, clean(tl.where(counts > 0, penalised, y)), mask=mask)
        tl.atomic_or(marks + changed * n_words + ids // 32, (ids * 0 + 1) << (ids % 32), mask=mask)


@jit
def add_bias(logits, row_stride, stride, batch, bias_ids, bias, values, marks, size, n_words, TILE: tl.constexpr):
    """Program (r, t): tile t of row r's biases, after `penalise`."""
    r = tl.program_id(0)
    row = batch + r * COLUMNS
    lanes = number(row, BIAS) + tl.program_id(1) * TILE + tl.arange(0, TILE)
    mask = lanes < tl.load(row + BIAS + 1)
    if tl.max(mask.to(tl.int32)) > 0:
        changed = number(row, CHANGED)
        ids = tl.load(bias_ids + lanes, mask=mask, other=0)
        x = row_values(logits + r.to(tl.int64) * row_stride, stride, ids, mask, changed, n_words, size, values, marks)
        x = clean(x + tl.load(bias + lanes, mask=mask, other=0.0))
        tl.store(values + changed.to(tl.int64) * size + ids, x, mask=mask)
        tl.atomic_or(marks + changed.to(tl.int64) * n_words + ids // 32, (ids * 0 + 1) << (ids % 32), mask=mask)
