"""A whole forward pass of a decoder as one native call, run by all threads of a team together.

Replaces a dispatch per operator: at batch 1 a layer of a small model takes tens of microseconds, which is what one
torch operator costs. The phases of a step, and the items that threads take of each (`kernels.cpu.team`):

    embed       tokens → x                                        a few tokens
    per layer
      norm      x → normed, quantized                             a few tokens
      qkv       normed → qkv                                      some output rows
      rotate    qkv: rotary positions; keys and values → cache    a few tokens
      attend    queries × cache → mixed, quantized                a tile of tokens and a KV head
      output    x += mixed · Wo                                   some output rows
      norm      x → normed, quantized                             a few tokens
      gate      act(normed · Wg) · (normed · Wu) → gated          some units of 32 rows, quantized on the spot
      down      x += gated · Wd                                   some output rows
    norm        the rows asked for: x → normed, quantized         a few rows
    head        normed → logits                                   some output rows

What only some families have (`engine.model.config`) hangs off these phases: biases are added where a product ends,
heads are normed before they are rotated, and a model with norms on both sides of its blocks writes products to `added`,
which the next norm phase first norms and adds to x.

Rows of a batch never mix outside attention, and every sum runs in an order fixed by the row alone: logits are
bit-equal for any batch, chunking of the prompt or number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types

from kernels.cpu import team
from kernels.cpu.activations import (
    add_normed,
    add_row,
    gate_block,
    gelu_gate_block,
    half_bits,
    norm_row,
    quantize_block,
    quantize_normed,
    sum_of_squares,
)
from kernels.cpu.attention import CHUNK, TOKENS, attend
from kernels.cpu.dot import ACTIVATION, BLOCK, CACHED_COLUMNS, ROWS, project
from kernels.cpu.embedding import decode_row

QUERY, KEY, VALUE, OUTPUT, GATE, UP, DOWN = range(7)
"""Matrices of a layer."""


NORM, QKV, ROTATE, ATTEND, MIX, MLP_NORM, GATED, SUM, EMBED, LAST_NORM, HEAD = range(11)
"""Kinds of phases; the first eight make a layer, in this order."""
LAYER_PHASES = 8

FEW = 4
"""Tokens an item of the phases that go by tokens."""
SLICES = 4
"""Items a thread of the phases that go by output rows, if there are several threads: what one that comes late leaves
to the others is a quarter of its share."""


class Model(NamedTuple):
    """Weights, cache and sizes: the same at every step."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    block_size: int
    head_groups: int
    """Groups of 8 rows in the output matrix."""
    gelu: int
    """1: the MLP's gate is a GELU, 0: a SiLU."""
    epsilon: float
    attention_scale: float
    attention_cap: float
    """c of c · tanh(score / c); 0 for none."""
    embedding_scale: float
    matrices: Any
    """int64 [layers, 7, 3]: kind, address of the records, address of the bias (float32) or 0."""
    embedding: Any
    """int64 [3]: as above."""
    head: Any
    """int64 [3]: as above."""
    windows: Any
    """int64 [layers]: keys a query sees, 0 for all."""
    layer_group: Any
    """int64 [layers]: which of the step's block tables a layer goes by."""
    layer_place: Any
    """int64 [layers]: which part of a block is a layer's."""
    layer_rotary: Any
    """int64 [layers]: which of the rotations."""
    norms: Any
    """float32 [2 · layers + 1, hidden]: before attention and before the MLP of each layer, then the last."""
    post_norms: Any
    """float32 [2 · layers, hidden]: after attention and after the MLP; [0, hidden] where there are none."""
    head_norms: Any
    """float32 [layers, 2, head_dim]: of query and of key heads; [0, 2, head_dim] where there are none."""
    rotations: Any
    """float32 [rotations, context length, 2, head_dim / 2]: cosines, sines."""
    keys: Any
    """uint16 [places, blocks, KV heads, head_dim · block_size]: half precision, transposed."""
    values: Any
    """uint16 [places, blocks, KV heads, block_size · head_dim]: half precision."""


class Step(NamedTuple):
    """The batch (see `engine.base.StepBatch`) and the memory a step works in. Made once, again only to grow."""

    counts: Any
    """int64 [4]: tokens T, sequences B, logit rows R; tiles of attention, filled in by the step."""
    tokens: Any
    positions: Any
    slots: Any
    query_start: Any
    block_tables: Any
    logit_rows: Any
    tiles: Any
    """int32 [T, 3]: sequence, first token, tokens of a tile."""
    x: Any
    """float32 [T, hidden]: the residual stream."""
    added: Any
    """float32 [T, hidden]: what waits to be normed and added to x, with norms on both sides; [0, hidden] without."""
    normed: Any
    """uint8 [T, hidden / 32 · 48]: activation blocks, as the next two."""
    mixed: Any
    gated: Any
    qkv: Any
    """float32 [T, (heads + 2 · KV heads) · head_dim]"""
    scratch: Any
    """float32 [threads, scratch_words(...)]"""
    logits: Any
    """float32 [R, 8 · head_groups]"""


def scratch_words(head_dim: int, group: int) -> int:
    """float32 words of scratch a thread: attention's four tiles, or gate and up of `CACHED_COLUMNS` tokens."""
    rows = TOKENS * group
    return max(rows * (2 * head_dim + CHUNK + 2), 2 * CACHED_COLUMNS * BLOCK)


_int64s = types.Array(types.int64, 1, "C")
_int32s = types.Array(types.int32, 1, "C")
_table = types.Array(types.int32, 2, "C")
_tables = types.Array(types.int32, 3, "C")
_floats = types.Array(types.float32, 2, "C")
_bytes = types.Array(types.uint8, 2, "C")
_halves = types.Array(types.uint16, 4, "C")

_model = types.NamedTuple(
    (
        *[types.int64] * 9,
        *[types.float64] * 4,
        types.Array(types.int64, 3, "C"),
        *[_int64s] * 6,
        *[_floats] * 2,
        types.Array(types.float32, 3, "C"),
        types.Array(types.float32, 4, "C"),
        _halves,
        _halves,
    ),
    Model,
)
_step = types.NamedTuple(
    (
        _int64s,
        *[_int32s] * 2,
        _table,
        _int32s,
        _tables,
        _int32s,
        _table,
        *[_floats] * 2,
        *[_bytes] * 3,
        *[_floats] * 3,
    ),
    Step,
)


@njit(nogil=True, inline="always")
def _project(matrix, first, last, source, columns, width, out, offset, add):  # type: ignore[no-untyped-def]
    """Groups of rows [first, last) of ``matrix`` · ``columns`` rows of ``source``, each of ``width`` numbers, into
    ``out``."""
    activations, stride = source.ctypes.data, source.strides[0]
    target = out.ctypes.data + 4 * offset
    project(
        matrix[0], matrix[1], first, last, width // BLOCK, activations, stride, columns, target, out.strides[0], add
    )
    if matrix[2] != 0:
        skipped = 4 * first * ROWS
        for column in range(columns):
            add_row(matrix[2] + skipped, (last - first) * ROWS, target + skipped + column * out.strides[0])


@njit(nogil=True, inline="always")
def _embed(model, step, first, last):  # type: ignore[no-untyped-def]
    for t in range(first, last):
        decode_row(model.embedding[0], model.embedding[1], step.tokens[t], model.hidden // BLOCK, step.x[t].ctypes.data)
        if model.embedding_scale != 1.0:
            step.x[t] *= np.float32(model.embedding_scale)


@njit(nogil=True, inline="always")
def _tile(step):  # type: ignore[no-untyped-def]
    """Cut every sequence's new tokens into tiles of at most TOKENS."""
    tiles = 0
    for sequence in range(step.counts[1]):
        end = step.query_start[sequence + 1]
        for first in range(step.query_start[sequence], end, TOKENS):
            step.tiles[tiles, 0] = sequence
            step.tiles[tiles, 1] = first
            step.tiles[tiles, 2] = min(TOKENS, end - first)
            tiles += 1
    step.counts[3] = tiles


@njit(nogil=True, inline="always")
def _rms_factor(x, length, epsilon):  # type: ignore[no-untyped-def]
    """1 / rms of ``length`` numbers at address ``x``."""
    mean = sum_of_squares(x, length) / np.float32(length)
    return np.float32(1.0 / np.sqrt(mean + epsilon))


@njit(nogil=True, inline="always")
def _normalize(model, step, source, target, norm):  # type: ignore[no-untyped-def]
    """Row ``target`` of normed = x[source] / rms(x[source]) · weight, quantized; what waits is added to x first."""
    x = step.x[source].ctypes.data
    if norm > 0 and model.post_norms.shape[0] > 0:
        y, weights = step.added[source].ctypes.data, model.post_norms[norm - 1].ctypes.data
        add_normed(y, weights, _rms_factor(y, model.hidden, model.epsilon), model.hidden, x)
    factor = _rms_factor(x, model.hidden, model.epsilon)
    weights = model.norms[norm].ctypes.data
    quantize_normed(x, weights, factor, model.hidden // BLOCK, step.normed[target].ctypes.data)


@njit(nogil=True, inline="always")
def _qkv(model, step, matrices, first, last):  # type: ignore[no-untyped-def]
    """Groups [first, last) of the rows of q, k and v taken together."""
    queries, keys = model.heads * model.head_dim // ROWS, model.kv_heads * model.head_dim // ROWS
    start = 0
    for part, groups in ((QUERY, queries), (KEY, keys), (VALUE, keys)):
        low, high = max(first - start, 0), min(last - start, groups)
        if low < high:
            tokens = step.counts[0]
            _project(matrices[part], low, high, step.normed, tokens, model.hidden, step.qkv, start * ROWS, False)
        start += groups


@njit(nogil=True, fastmath={"contract"}, inline="always")
def _rotate(model, step, layer, first, last):  # type: ignore[no-untyped-def]
    """Turn queries and keys by their positions (Su et al., arXiv:2104.09864); write keys and values to their slots.

    Queries are scaled on the way.
    """
    head_dim, half = model.head_dim, model.head_dim // 2
    size = model.block_size
    scale = np.float32(model.attention_scale)
    rotations = model.rotations[model.layer_rotary[layer]]
    slots, place = step.slots[model.layer_group[layer]], model.layer_place[layer]
    for t in range(first, last):
        cosines, sines = rotations[step.positions[t], 0], rotations[step.positions[t], 1]
        for head in range(model.heads + model.kv_heads):
            row = step.qkv[t, head * head_dim : (head + 1) * head_dim]
            if model.head_norms.shape[0] > 0:
                at, weights = row.ctypes.data, model.head_norms[layer, int(head >= model.heads)].ctypes.data
                norm_row(at, weights, _rms_factor(at, head_dim, model.epsilon), head_dim)
            factor = scale if head < model.heads else np.float32(1)
            for i in range(half):
                left, right = row[i] * factor, row[half + i] * factor
                row[i] = left * cosines[i] - right * sines[i]
                row[half + i] = right * cosines[i] + left * sines[i]
        block, offset = slots[t] // size, slots[t] % size
        for head in range(model.kv_heads):
            key = step.qkv[t, (model.heads + head) * head_dim :]
            value = step.qkv[t, (model.heads + model.kv_heads + head) * head_dim :]
            keys, values = model.keys[place, block, head], model.values[place, block, head]
            for i in range(head_dim):
                keys[i * size + offset] = half_bits(key[i])
                values[offset * head_dim + i] = half_bits(value[i])


@njit(nogil=True, inline="always")
def _attend(model, step, layer, tile, head, memory):  # type: ignore[no-untyped-def]
    """Attention of one tile in the heads of one KV head, quantized into mixed. ``memory``: this thread's scratch."""
    head_dim = model.head_dim
    group = model.heads // model.kv_heads
    sequence, start, tokens = step.tiles[tile, 0], step.tiles[tile, 1], step.tiles[tile, 2]
    rows = tokens * group
    first, second = rows * head_dim, 2 * rows * head_dim
    queries = memory[:first].reshape(rows, head_dim)
    summed = memory[first:second].reshape(rows, head_dim)
    scored = memory[second : second + rows * CHUNK].reshape(rows, CHUNK)
    running = memory[second + rows * CHUNK : second + rows * (CHUNK + 2)].reshape(rows, 2)
    for row in range(rows):
        at = (head * group + row % group) * head_dim
        queries[row] = step.qkv[start + row // group, at : at + head_dim]
    attend(
        queries,
        scored,
        summed,
        running,
        tokens,
        group,
        step.positions[start],
        head,
        model.keys[model.layer_place[layer]],
        model.values[model.layer_place[layer]],
        model.block_size,
        step.block_tables[model.layer_group[layer], sequence],
        model.windows[layer],
        np.float32(model.attention_cap),
    )
    blocks = head_dim // BLOCK
    for row in range(rows):
        target = step.mixed[start + row // group].ctypes.data + (head * group + row % group) * blocks * ACTIVATION
        for block in range(blocks):
            quantize_block(summed[row, block * BLOCK :].ctypes.data, target + block * ACTIVATION)


@njit(nogil=True, inline="always")
def _gate(model, step, matrices, memory, first, last):  # type: ignore[no-untyped-def]
    """Units [first, last) of gated, one and a few tokens at a time so that both products stay in cache."""
    groups = BLOCK // ROWS
    products = memory[: 2 * CACHED_COLUMNS * BLOCK].reshape(2, CACHED_COLUMNS, BLOCK)
    for start in range(0, step.counts[0], CACHED_COLUMNS):
        tokens = min(CACHED_COLUMNS, step.counts[0] - start)
        normed = step.normed[start:]
        for unit in range(first, last):
            low = unit * groups
            for part in range(2):
                out = products[part]
                _project(
                    matrices[GATE + part], low, low + groups, normed, tokens, model.hidden, out, -low * ROWS, False
                )
            for t in range(tokens):
                target = step.gated[start + t].ctypes.data + unit * ACTIVATION
                if model.gelu == 1:
                    gelu_gate_block(products[0, t].ctypes.data, products[1, t].ctypes.data, target)
                else:
                    gate_block(products[0, t].ctypes.data, products[1, t].ctypes.data, target)


@njit(nogil=True, inline="always")
def _items(kind, threads, model, tokens, rows, tiles):  # type: ignore[no-untyped-def]
    """Items of a phase; for the phases by output rows, also how many rows, groups or units there are."""
    slices = 1 if threads == 1 else threads * SLICES
    size = 0
    if kind == QKV:
        size = (model.heads + 2 * model.kv_heads) * model.head_dim // ROWS
    elif kind == MIX or kind == SUM:
        size = model.hidden // ROWS
    elif kind == GATED:
        size = model.ffn // BLOCK
    elif kind == HEAD:
        size = model.head_groups if rows > 0 else 0
    elif kind == ATTEND:
        return tiles * model.kv_heads, size
    elif kind == LAST_NORM:
        return (rows + FEW - 1) // FEW, size
    else:
        return (tokens + FEW - 1) // FEW, size
    return min(slices, size), size


@njit(nogil=True, inline="always")
def _work(kind, item, items, size, layer, model, step, memory):  # type: ignore[no-untyped-def]
    """Do one item of a phase."""
    tokens, rows = step.counts[0], step.counts[2]
    matrices = model.matrices[layer]
    low, high = team.share(size, item, items)
    first, last = item * FEW, min(item * FEW + FEW, tokens)
    waits = model.post_norms.shape[0] > 0
    added = step.added if waits else step.x
    if kind == NORM or kind == MLP_NORM:
        for t in range(first, last):
            _normalize(model, step, t, t, 2 * layer + (kind == MLP_NORM))
    elif kind == QKV:
        _qkv(model, step, matrices, low, high)
    elif kind == ROTATE:
        _rotate(model, step, layer, first, last)
    elif kind == ATTEND:
        # The last tiles of a prompt have the longest contexts: begin with them, so that none is left over at the end.
        tile, head = divmod(items - 1 - item, model.kv_heads)
        _attend(model, step, layer, tile, head, memory)
    elif kind == MIX:
        width = model.heads * model.head_dim
        _project(matrices[OUTPUT], low, high, step.mixed, tokens, width, added, 0, not waits)
    elif kind == GATED:
        _gate(model, step, matrices, memory, low, high)
    elif kind == SUM:
        _project(matrices[DOWN], low, high, step.gated, tokens, model.ffn, added, 0, not waits)
    elif kind == EMBED:
        _embed(model, step, first, last)
    elif kind == LAST_NORM:
        for row in range(first, min(item * FEW + FEW, rows)):
            _normalize(model, step, step.logit_rows[row], row, 2 * model.layers)
    else:
        _project(model.head, low, high, step.normed, rows, model.hidden, step.logits, 0, False)


@njit(nogil=True, inline="always")
def forward(me: int, threads: int, control: int, number: int, model: Model, step: Step) -> None:
    """Thread ``me``'s part of step ``number``. ``control``: address of the team's words."""
    tokens, rows, tiles = step.counts[0], step.counts[2], step.counts[3]
    if team.ended(control, number):
        return
    memory = step.scratch[me]
    for phase in range(phases(model.layers)):
        layer, kind = divmod(phase - 1, LAYER_PHASES)
        if phase == 0:
            layer, kind = 0, EMBED
        elif layer == model.layers:
            layer, kind = 0, kind + LAST_NORM
        items, size = _items(kind, threads, model, tokens, rows, tiles)
        item = team.take(control, number, phase, items)
        while item >= 0:
            _work(kind, item, items, size, layer, model, step, memory)
            team.done(control, number, phase, items)
            item = team.take(control, number, phase, items)
        team.finish(control, number, phase, items)


@njit("int64(int64)", nogil=True, cache=True)
def phases(layers: int) -> int:
    """Phases of a step: embed, the layers', the last norm, the head."""
    return LAYER_PHASES * layers + 3


@njit(types.void(types.int64, types.int64, types.Array(types.int64, 1, "C"), _model, _step), nogil=True, cache=True)
def take_part(me: int, threads: int, control: np.ndarray, model: Model, step: Step) -> None:
    """Thread 0: lead the team through one step. Any other: follow until the team is dismissed."""
    words = control.ctypes.data
    number = control[team.ENDED]
    while True:
        if me == 0:
            _tile(step)
            number = team.begin(words)
        else:
            number = team.follow(words, number)
            if number < 0:
                return
        forward(me, threads, words, number, model, step)
        if me == 0:
            team.end(words, number)
            return
