"""Attention of a ragged batch over paged keys and values, in plain torch.

A step's sequences differ in new tokens (1 when decoding, many in a prefill chunk) and in context. `plan` sorts them
into *groups* whose members agree in both up to a factor of two, and each group is padded to its largest member: a mixed
step costs at most twice the attention work on either axis, and a decode step is a few batched calls however many
sequences it has. A plan holds for all layers of the step that have the same window.

    queries of a group        [kv heads, B, heads per kv head × Q, head size]      padded rows repeat a real query;
    dropped after keys, values              [kv heads, B, M × block size, head size]             blocks gathered through
    the block table mask                      [1, B, heads per kv head × Q, M × block size]        key position ≤ query
    position

Heads come before slots in the cache, so a gather of blocks is already the operand of the batched product, and
the query heads that share a key head are rows of one product instead of copies of its keys (Ainslie et al., GQA,
arXiv:2305.13245; paging after Kwon et al., arXiv:2309.06180).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from engine.base import StepBatch


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences of one step that attend together. All tensors are on the runner's device."""

    queries: Tensor
    """[B * Q] index of each query's token in the step."""
    valid: Tensor | None
    """[real queries] which of the B * Q are no padding; None when all are real."""
    blocks: Tensor
    """[B * M] block ids, sequence after sequence; padding repeats a sequence's first block."""
    mask: Tensor
    """[1, B, heads per kv head * Q, M * block_size] bool, True where a query may look."""
    size: int
    """B"""


def plan(
    batch: StepBatch, tables: NDArray[np.int32], heads_per_key: int, block_size: int, device: torch.device, window: int
) -> list[Group]:  # fmt: skip
    """The groups of a step; together they hold each of its tokens once. ``tables`` [B, M]: the block tables to go by.
    ``window``: keys a query sees, 0 for all."""
    starts = batch.query_start[:-1].astype(np.int64)
    new = np.diff(batch.query_start).astype(np.int64)
    contexts = batch.context_lens.astype(np.int64)
    members: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for sequence, (n_new, context) in enumerate(zip(new.tolist(), contexts.tolist(), strict=True)):
        members[(n_new - 1).bit_length(), (context - 1).bit_length()].append(sequence)
    return [
        _group(batch, tables, np.array(rows), starts, new, contexts, heads_per_key, block_size, device, window)
        for rows in members.values()
    ]


def _group(
    batch: StepBatch,
    tables: NDArray[np.int32],
    rows: np.ndarray,
    starts: np.ndarray,
    new: np.ndarray,
    contexts: np.ndarray,
    heads_per_key: int,
    block_size: int,
    device: torch.device,
    window: int,
) -> Group:
    offsets = np.arange(new[rows].max())
    real = offsets < new[rows, None]
    queries = starts[rows, None] + np.minimum(offsets, new[rows, None] - 1)
    n_blocks = -(-contexts[rows] // block_size)
    columns = np.arange(n_blocks.max())
    known = tables[rows, : len(columns)]
    blocks = np.where(columns < n_blocks[:, None], known, known[:, :1])
    keys = np.arange(len(columns) * block_size)
    positions = batch.positions[queries][:, :, None]
    mask = keys <= positions
    if window:
        mask &= keys > positions - window
    return Group(
        queries=torch.from_numpy(queries.reshape(-1)).to(device),
        valid=None if real.all() else torch.from_numpy(np.flatnonzero(real)).to(device),
        blocks=torch.from_numpy(blocks.reshape(-1).astype(np.int64)).to(device),
        mask=torch.from_numpy(np.tile(mask, (1, heads_per_key, 1))[None]).to(device),
        size=len(rows),
    )


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, groups: list[Group], *, scale: float, cap: float = 0.0
) -> Tensor:  # fmt: skip
    """Softmax attention of every token over its sequence's cached keys and values.

    ``queries`` [T, heads, head size], rotated; ``keys`` and ``values`` [kv heads, blocks, block size, head size], which
    already hold the step's own; ``scale`` multiplies scores, which ``cap`` c > 0 then bends to c · tanh(score / c).
    Returns [T, heads, head size].
    """
    _, heads, head_dim = queries.shape
    kv_heads = keys.shape[0]
    output = torch.empty_like(queries)
    for group in groups:
        # [B * Q, heads, D] → [kv heads, B, heads per kv head * Q, D]
        shape = (group.size, -1, kv_heads, heads // kv_heads, head_dim)
        asked = queries[group.queries].view(shape).permute(2, 0, 3, 1, 4).flatten(2, 3)
        known = (kv_heads, group.size, -1, head_dim)
        found = _mixed(
            asked,
            keys.index_select(1, group.blocks).view(known),
            values.index_select(1, group.blocks).view(known),
            group.mask,
            scale,
            cap,
        )
        found = found.view(kv_heads, group.size, heads // kv_heads, -1, head_dim).permute(1, 3, 0, 2, 4)
        found = found.reshape(-1, heads, head_dim)
        if group.valid is None:
            output[group.queries] = found
        else:
            output[group.queries[group.valid]] = found[group.valid]
    return output


def _mixed(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float, cap: float) -> Tensor:
    if not cap:
        return scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)
    scores = cap * torch.tanh(queries @ keys.transpose(-1, -2) * (scale / cap))
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf).float(), dim=-1)
    return weights.to(values.dtype) @ values
