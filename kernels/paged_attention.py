"""Softmax attention over paged keys and values: decode with split contexts, and prefill over cached prefixes.

One kernel for both. A program holds one tile of a sequence's queries for one key head; the query heads that share it
(GQA, Ainslie et al., arXiv:2305.13245) are rows of the same tile, so a key is read once for all of them:

    row m of a tile = query first + m // group, head m % group         decode: 1 query, 16 rows, some of them padding
                                                                       prefill: 128 rows
    keys: [first a window lets in ... last that is causal], cut into n splits, walked in tiles of 64 through the block
    table, softmax by running maximum (Milakov and Gimelshein, arXiv:1805.02867; Dao et al., arXiv:2205.14135)

A long context at a small batch would leave most of the GPU idle, so decode cuts it into splits whose partial results
`_join` weighs together (Dao et al., Flash-Decoding, 2023). The number of splits follows from the batch, not from the
contexts, so a captured launch serves contexts of any length.

int8 and fp8 keys become the queries' type exactly; their scales multiply scores and probabilities, not 2 D numbers a
key. Bound: decode reads the cache once, 2 * context * D bytes a key head and number's byte (512 KB at 1,024 tokens in
bf16 for D = 128); prefill is 4 * heads * D FLOPs for each pair of query and key that may see each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from kernels.jit import jit
from kernels.rotary import Cache, dequantized

DECODE_ROWS = 16
PREFILL_ROWS = 128
KEYS = 64
"""Keys a tile."""
PROGRAMS = 264
"""Two for each multiprocessor of an H100 or H200: what decode is split to."""
MAX_SPLITS = 32
LOG2_E = tl.constexpr(1.4426950408889634)


@dataclass(frozen=True, slots=True)
class Plan:
    """Who attends to what in one step; all int32 and on the device."""

    decode: Tensor
    """[n, 2] sequence and 0, of sequences with one new token."""
    prefill: Tensor
    """[n, 2] sequence and first query, a tile of the others."""
    query_start: Tensor
    """[B + 1] offsets of the sequences' tokens."""
    contexts: Tensor
    """[B] keys of each, the new ones included; 0 for a sequence that is padding."""
    tables: Tensor
    """[B, M] block ids."""


def tiles(query_start: NDArray[np.int32], group: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`Plan.decode` and `Plan.prefill` of sequences with these offsets; ``group`` query heads share a key head."""
    new = np.diff(query_start)
    single = np.flatnonzero(new == 1)
    step = PREFILL_ROWS // group
    several = [(b, first) for b in np.flatnonzero(new > 1) for first in range(0, new[b], step)]
    return (
        np.stack((single, np.zeros_like(single)), axis=1).astype(np.int32),
        np.array(several, np.int32).reshape(-1, 2),
    )


@jit
def _attend(
    queries, keys, values, key_scales, value_scales, tile_list, query_start, contexts, tables, table_stride,
    out, part_sum, part_largest, scale, cap, slots, kv_heads, window, n_splits,
    GROUP: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, HEAD: tl.constexpr, DIM: tl.constexpr,
    BLOCK: tl.constexpr, QUANTIZED: tl.constexpr, CAPPED: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Program (tile, key head, split). With SPLIT, ``out`` is float32 [T, heads, splits, D], not yet divided."""
    tile, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    b = tl.load(tile_list + 2 * tile)
    first = tl.load(tile_list + 2 * tile + 1)
    start = tl.load(query_start + b)
    n_new = tl.load(query_start + b + 1) - start
    context = tl.load(contexts + b)

    m = tl.arange(0, ROWS)
    query = first + m // GROUP
    asked = (m < ROWS // GROUP * GROUP) & (query < n_new)
    position = context - n_new + query
    d = tl.arange(0, DIM)
    real = d < HEAD
    row = (start + query).to(tl.int64) * (kv_heads * GROUP) + kv_head * GROUP + m % GROUP
    both = asked[:, None] & real[None, :]
    q = tl.load(queries + row[:, None] * HEAD + d[None, :], mask=both, other=0.0)

    last = context - n_new + tl.minimum(first + ROWS // GROUP, n_new)
    lowest = tl.where(window > 0, tl.maximum(context - n_new + first - window + 1, 0), 0)
    span = tl.cdiv(tl.cdiv(last - lowest, n_splits), KEYS) * KEYS
    begin = lowest + split * span
    end = tl.minimum(last, begin + span)

    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    result = tl.zeros((ROWS, DIM), tl.float32)
    for at in range(begin, end, KEYS):
        p = at + tl.arange(0, KEYS)
        inside = p < end
        block = tl.load(tables + b.to(tl.int64) * table_stride + p // BLOCK, mask=inside, other=0)
        slot = kv_head.to(tl.int64) * slots + block.to(tl.int64) * BLOCK + p % BLOCK
        k = tl.load(keys + slot[None, :] * HEAD + d[:, None], mask=inside[None, :] & real[:, None], other=0.0)
        score = tl.dot(q, k.to(q.dtype), input_precision="ieee") * scale
        if QUANTIZED:
            score *= tl.load(key_scales + slot, mask=inside, other=0.0)[None, :]
        if CAPPED:
            score = cap * (1.0 - 2.0 / (tl.exp(score * (2.0 / cap)) + 1.0))
        score *= LOG2_E
        seen = inside[None, :] & (p[None, :] <= position[:, None])
        if window > 0:
            seen &= p[None, :] > position[:, None] - window
        score = tl.where(seen, score, float("-inf"))
        higher = tl.maximum(largest, tl.max(score, 1))
        # A row that has seen no key yet must not give NaN.
        base = tl.where(higher > float("-inf"), higher, 0.0)
        weight = tl.exp2(score - base[:, None])
        faded = tl.exp2(largest - base)
        total = total * faded + tl.sum(weight, 1)
        v = tl.load(values + slot[:, None] * HEAD + d[None, :], mask=inside[:, None] & real[None, :], other=0.0)
        if QUANTIZED:
            weight *= tl.load(value_scales + slot, mask=inside, other=0.0)[None, :]
        result = result * faded[:, None] + tl.dot(weight.to(q.dtype), v.to(q.dtype), input_precision="ieee")
        largest = higher

    if SPLIT:
        part = row * n_splits + split
        tl.store(out + part[:, None] * HEAD + d[None, :], result, mask=both)
        tl.store(part_sum + part, total, mask=asked)
        tl.store(part_largest + part, largest, mask=asked)
    else:
        # No key at all is a padded sequence: zeros.
        result = result / tl.where(total > 0, total, 1.0)[:, None]
        tl.store(out + row[:, None] * HEAD + d[None, :], result.to(out.dtype.element_ty), mask=both)


@jit
def _join(
    parts, part_sum, part_largest, tile_list, query_start, out, heads, n_splits,
    SPLITS: tl.constexpr, HEAD: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Program (tile, head): the splits of a decoded token's head together."""
    b = tl.load(tile_list + 2 * tl.program_id(0))
    row = tl.load(query_start + b).to(tl.int64) * heads + tl.program_id(1)
    s, d = tl.arange(0, SPLITS), tl.arange(0, DIM)
    known, real = s < n_splits, d < HEAD
    largest = tl.load(part_largest + row * n_splits + s, mask=known, other=float("-inf"))
    top = tl.max(largest)
    share = tl.exp2(largest - tl.where(top > float("-inf"), top, 0.0))
    total = tl.sum(share * tl.load(part_sum + row * n_splits + s, mask=known, other=0.0))
    part = tl.load(
        parts + (row * n_splits + s)[:, None] * HEAD + d[None, :], mask=known[:, None] & real[None, :], other=0.0
    )
    joined = tl.sum(part * share[:, None], 0) / tl.where(total > 0, total, 1.0)
    tl.store(out + row * HEAD + d, joined.to(out.dtype.element_ty), mask=real)


def splits(sequences: int, kv_heads: int) -> int:
    """How many programs share the context of a decoding sequence."""
    return max(1, min(MAX_SPLITS, PROGRAMS // max(1, sequences * kv_heads)))


def attend(
    queries: Tensor, cache: Cache, plan: Plan, *, block_size: int, window: int = 0, scale: float | None = None,
    cap: float = 0.0, n_splits: int | None = None,
) -> Tensor:  # fmt: skip
    """[T, heads, D] in the type of ``queries`` [T, heads, D], rotated; the cache already holds the step's own keys.

    ``window``: keys a query sees, itself included; 0 for all. ``scale``: of scores, None for D ** -0.5. ``cap``: c of
    c * tanh(score / c), 0 for none. ``n_splits``: of decode, None for `splits`.
    ValueError: heads that are not a multiple of the key heads, or more than 16 times as many.
    """
    _, heads, head_dim = queries.shape
    kv_heads, slots, _ = cache.keys.shape
    group = heads // kv_heads
    if heads % kv_heads or group > DECODE_ROWS:
        raise ValueError(f"{heads} query heads cannot share {kv_heads} key heads: 1 to {DECODE_ROWS} each can")
    out = torch.empty_like(queries)
    if n_splits is None:
        n_splits = splits(len(plan.decode), kv_heads)
    for tile_list, rows, parts in ((plan.decode, DECODE_ROWS, n_splits), (plan.prefill, PREFILL_ROWS, 1)):
        if not len(tile_list):
            continue
        to = out
        sums = largest = cache.key_scales
        if parts > 1:
            to = torch.empty(len(queries), heads, parts, head_dim, dtype=torch.float32, device=queries.device)
            sums, largest = torch.empty(2, len(queries), heads, parts, dtype=torch.float32, device=queries.device)
        dim = max(16, 1 << (head_dim - 1).bit_length())
        _attend[(len(tile_list), kv_heads, parts)](
            queries, cache.keys, cache.values, cache.key_scales, cache.value_scales,
            tile_list, plan.query_start, plan.contexts, plan.tables, plan.tables.stride(0),
            to, sums, largest, head_dim**-0.5 if scale is None else scale, cap, slots, kv_heads, window, parts,
            GROUP=group, ROWS=rows, KEYS=KEYS, HEAD=head_dim, DIM=dim, BLOCK=block_size,
            QUANTIZED=cache.quantized, CAPPED=cap > 0, SPLIT=parts > 1, num_warps=4 if rows == DECODE_ROWS else 8,
            num_stages=3,
        )  # fmt: skip
        if parts > 1:
            _join[(len(tile_list), heads)](
                to, sums, largest, tile_list, plan.query_start, out, heads, parts,
                SPLITS=1 << (parts - 1).bit_length(), HEAD=head_dim, DIM=dim,
            )  # fmt: skip
    return out


def attend_reference(
    queries: Tensor, cache: Cache, plan: Plan, *, block_size: int, window: int = 0, scale: float | None = None,
    cap: float = 0.0,
) -> Tensor:  # fmt: skip
    """`attend` in torch, sequence after sequence, in float32."""
    out = torch.zeros_like(queries)
    keys, values = dequantized(cache.keys, cache.key_scales), dequantized(cache.values, cache.value_scales)
    bounds = plan.query_start.tolist()
    for b, context in enumerate(plan.contexts.tolist()):
        mine = slice(bounds[b], bounds[b + 1])
        if context == 0 or mine.start == mine.stop:
            continue
        known = torch.arange(context, device=queries.device)
        slot = plan.tables[b, known // block_size].long() * block_size + known % block_size
        position = known[-(mine.stop - mine.start) :, None]
        seen = known <= position
        if window:
            seen &= known > position - window
        times = queries.shape[1] // len(keys)
        known_keys, known_values = (part[:, slot].repeat_interleave(times, dim=0) for part in (keys, values))
        scores = queries[mine].float().transpose(0, 1) @ known_keys.transpose(1, 2)
        scores *= queries.shape[2] ** -0.5 if scale is None else scale
        if cap:
            scores = cap * torch.tanh(scores / cap)
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1)
        out[mine] = (weights @ known_values).transpose(0, 1).to(out.dtype)
    return out
