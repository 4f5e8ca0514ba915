"""Paged attention in Triton against torch: decode, prefill over cached prefixes, mixed steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.paged_attention import Plan, attend, attend_reference, splits, tiles
from kernels.rotary import LARGEST, Cache

BLOCK = 16


def filled_cache(kv_heads: int, blocks: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> Cache:
    generator = torch.Generator().manual_seed(blocks)
    cache = Cache.empty(kv_heads, blocks * BLOCK, head_dim, dtype, device)
    for numbers, scales in ((cache.keys, cache.key_scales), (cache.values, cache.value_scales)):
        drawn = torch.randn(numbers.shape, generator=generator)
        if cache.quantized:
            drawn = drawn.clamp(-3, 3) * (LARGEST[dtype] / 3)
            scales[:] = torch.rand(scales.shape, generator=generator) * (6 / LARGEST[dtype])
        numbers[:] = drawn.to(device).to(dtype)
    return cache


def plan_of(new: list[int], contexts: list[int], blocks: int, group: int, device: torch.device) -> Plan:
    """Sequences over scattered blocks; table entries past their ends are of nowhere."""
    generator = np.random.default_rng(len(new))
    longest = max(-(-context // BLOCK) for context in contexts) + 1
    tables = np.full((len(new), longest), 1 << 30, np.int32)
    for row, context in zip(tables, contexts, strict=True):
        n = -(-context // BLOCK)
        row[:n] = generator.permutation(blocks)[:n]
    start = np.cumsum([0, *new]).astype(np.int32)
    arrays = (*tiles(start, group), start, np.array(contexts, np.int32), tables)
    return Plan(*(torch.from_numpy(array).to(device) for array in arrays))


def check(
    new: list[int], contexts: list[int], device: torch.device, *, heads: int = 4, kv_heads: int = 2,
    head_dim: int = 16, window: int = 0, cap: float = 0.0, n_splits: int | None = None,
    dtype: torch.dtype = torch.float32,
    cached: torch.dtype | None = None,
) -> None:  # fmt: skip
    blocks = max(1, -(-max(contexts) // BLOCK) * 2)
    cache = filled_cache(kv_heads, blocks, head_dim, cached or dtype, device)
    plan = plan_of(new, contexts, blocks, heads // kv_heads, device)
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(sum(new), heads, head_dim, generator=generator).mul(3).to(device, dtype)
    scale = 0.5 if cap else None
    found = attend(queries, cache, plan, block_size=BLOCK, window=window, scale=scale, cap=cap, n_splits=n_splits)
    expected = attend_reference(queries, cache, plan, block_size=BLOCK, window=window, scale=scale, cap=cap)
    unit = 1e-5 if dtype == torch.float32 else 2**-6
    torch.testing.assert_close(found.float(), expected.float(), rtol=unit, atol=4 * unit)


@pytest.mark.parametrize("n_splits", [1, 3, 8])
@pytest.mark.parametrize("contexts", [[1], [16, 17, 64, 65], [200, 0, 3]])
def test_decode(contexts: list[int], n_splits: int, device: torch.device) -> None:
    check([1] * len(contexts), contexts, device, n_splits=n_splits)


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(1, 1, 64), (3, 1, 80), (16, 1, 16), (6, 2, 128)])
def test_shapes_of_heads(heads: int, kv_heads: int, head_dim: int, device: torch.device) -> None:
    check([1, 20, 1], [40, 33, 5], device, heads=heads, kv_heads=kv_heads, head_dim=head_dim)


@pytest.mark.parametrize(("new", "contexts"), [([5], [5]), ([70, 2], [70, 200]), ([3, 1, 65, 1], [100, 1, 65, 90])])
@pytest.mark.parametrize("window", [0, 1, 37])
def test_prefill_and_mixed_steps(new: list[int], contexts: list[int], window: int, device: torch.device) -> None:
    check(new, contexts, device, window=window)


@pytest.mark.parametrize("n_splits", [1, 3])
def test_capped_scores(n_splits: int, device: torch.device) -> None:
    check([1, 20], [130, 33], device, window=37, cap=2.0, n_splits=n_splits)


@pytest.mark.parametrize("cached", [None, torch.int8, torch.float8_e4m3fn])
def test_types_of_caches(cached: torch.dtype | None, half: torch.dtype, device: torch.device) -> None:
    check([1, 9, 1], [130, 30, 7], device, dtype=half, cached=cached, n_splits=2)
    check([1, 9], [130, 30], device, dtype=half, cached=cached, window=20)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.data())
def test_any_step(device: torch.device, data: st.DataObject) -> None:
    new = data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=4))
    contexts = [n + data.draw(st.integers(0, 100)) for n in new]
    kv_heads, group = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 7))
    window, n_splits = data.draw(st.sampled_from([0, 1, 16, 50])), data.draw(st.sampled_from([1, 2, 5]))
    check(new, contexts, device, heads=kv_heads * group, kv_heads=kv_heads, window=window, n_splits=n_splits)


def test_large_batches_are_not_split() -> None:
    assert splits(1, 8) == 32
    assert splits(256, 8) == 1
    assert splits(0, 8) >= 1


def test_heads_that_do_not_fit_are_refused(device: torch.device) -> None:
    with pytest.raises(ValueError, match="5 query heads cannot share 2 key heads"):
        check([1], [4], device, heads=5, kv_heads=2)
    with pytest.raises(ValueError, match="34 query heads"):
        check([1], [4], device, heads=34, kv_heads=2)
