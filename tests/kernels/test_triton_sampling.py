"""Masked sampling in Triton against the torch reference, whose tokens it must draw, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from fsm import rows
from fsm.rows import RowPool
from kernels import noise
from kernels import sampling_reference as reference
from kernels.device_rows import DeviceRows
from kernels.gpu_sampler import MAX_TOP, GpuSampler
from kernels.jit import jit
from kernels.sampling import SamplingBatch, SamplingResult
from tests.kernels.sampling_cases import SIZES, batch_of, mask_row, random_case

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # numpy speaks of overflows, which are meant


def sampler(vocab_size: int, device: torch.device) -> GpuSampler:
    """Small slices and few candidates, so that small vocabularies have many of them and too few of the others."""
    return GpuSampler(vocab_size, device, tile=256, capacity=32)


def assert_equals_reference(logits: Tensor, pool: RowPool, batch: SamplingBatch, device: torch.device) -> None:
    n, top = len(logits), max(0, int(batch.n_logprobs.max()))
    expected = SamplingResult.empty(n, top)
    reference.sample(logits.float(), pool, batch, expected)
    result = sampler(pool.vocab_size, device).sample(logits.to(device), DeviceRows(pool, device), batch)
    assert result.token.tolist() == expected.token.tolist()
    for r, n_top in enumerate(batch.n_logprobs.tolist()):
        if n_top >= 0:
            np.testing.assert_allclose(result.logprob[r].item(), expected.logprob[r], atol=2e-6)
            assert result.top_ids[r, :n_top].tolist() == expected.top_ids[r, :n_top].tolist()
            found = result.top_logprobs[r, :n_top].cpu()
            np.testing.assert_allclose(found, expected.top_logprobs[r, :n_top], atol=2e-6)


# ---------------------------------------------------------------- arithmetic


@jit
def _evaluate(d, first, out_weight, out_lane, out_noise, out_bound, out_log, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(out_weight + i, noise.weight(tl.load(d + i)))
    lanes = noise.block_lanes(first, 5, 7, 0x89ABCDEF, 0x01234567, SIZE)
    tl.store(out_lane + i, lanes.to(tl.int64))
    tl.store(out_noise + i, noise.gumbel(lanes))
    tl.store(out_bound + i, noise.gumbel_bound(lanes))
    tl.store(out_log + i, noise.id_lanes(first + i, 5, 7, 0x89ABCDEF, 0x01234567).to(tl.int64))


def test_noise_and_weights_are_bit_equal_to_the_reference(device: torch.device) -> None:
    size, first = 4096, 100_000
    d = -torch.rand(size, generator=torch.Generator().manual_seed(1)) * 40
    d[:6] = torch.tensor([0.0, float("nan"), float("-inf"), -1e30, -24.99, -87.5])
    weight, bound = torch.empty(2, size, device=device)
    lanes, single = torch.empty(2, size, dtype=torch.int64, device=device)
    gumbel = torch.empty(size, dtype=torch.float64, device=device)
    _evaluate[(1,)](d.to(device), first, weight, lanes, gumbel, bound, single, SIZE=size, **noise.EXACT)
    expected = reference.philox(torch.arange(first, first + size), 5, 7, 0x0123456789ABCDEF)
    assert torch.equal(lanes.cpu(), expected)
    assert torch.equal(single.cpu(), expected)
    assert torch.equal(weight.double().cpu(), reference.weight(d))
    assert torch.equal(gumbel.cpu(), reference.gumbel(expected))
    assert bool((bound >= gumbel).all())


# ---------------------------------------------------------------- kernels and reference


@pytest.mark.parametrize(("vocab_size", "seed"), [(1, 0), (33, 3), (257, 5), (1100, 7), (1100, 1784)])
def test_kernels_equal_the_reference(device: torch.device, vocab_size: int, seed: int) -> None:
    logits, pool, batch = random_case(seed, vocab_size)
    assert_equals_reference(torch.from_numpy(logits), pool, batch, device)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.sampled_from(SIZES), st.integers(0, 2**32 - 1))
def test_kernels_equal_the_reference_on_many_batches(device: torch.device, vocab_size: int, seed: int) -> None:
    logits, pool, batch = random_case(seed, vocab_size)
    assert_equals_reference(torch.from_numpy(logits), pool, batch, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_any_type_and_strides(device: torch.device, dtype: torch.dtype) -> None:
    pool = RowPool(515)
    dense = mask_row(pool, np.arange(0, 515, 2))
    # The temperature 0 row is decided by ties, which bf16 has many of.
    batch = batch_of(5, mask_rows=[0, dense, 0, dense, 0], temperature=[0, 1, 1, 0.5, 2], top_p=[1, 1, 0.9, 0.5, 1])
    batch.n_logprobs[:] = [3, -1, 0, 5, -1]
    wide = torch.randn(1030, 10, generator=torch.Generator().manual_seed(2)).mul(3).to(dtype)
    for logits in (wide.T[:5, :515], wide.T[::2, 1::2]):
        assert_equals_reference(logits, pool, batch, device)
    wide = wide.clone().view(10, 1030)
    assert_equals_reference(wide[::2, 3:518], pool, batch, device)


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), [(3.0, 0.999, 0), (1.0, 0.5, 300)])
def test_cuts_of_a_large_flat_vocabulary(device: torch.device, temperature: float, top_p: float, top_k: int) -> None:
    """Hundreds of ids stay, beyond what 32 candidates a slice can vouch for."""
    generator = np.random.default_rng(7)
    logits = (-1.5 * np.log(np.stack([generator.permutation(800) + 1.0 for _ in range(3)]))).astype(np.float32)
    pool = RowPool(800)
    masks = [0, mask_row(pool, generator.permutation(800)[:780]), mask_row(pool, np.arange(50, 90))]
    batch = batch_of(3, mask_rows=masks, temperature=temperature, top_p=top_p, top_k=top_k)
    assert_equals_reference(torch.from_numpy(logits), pool, batch, device)


def test_a_total_that_the_slices_cannot_settle_is_summed_exactly(device: torch.device) -> None:
    """Four equal values and a share of one half: the second id is kept or not by the last bit of the total."""
    pool = RowPool(512)
    logits = np.full((8, 512), -60.0, np.float32)
    logits[:, [3, 200, 300, 400]] = 1.0
    for share in (np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(1))):
        batch = batch_of(8, top_p=share)
        result = sampler(512, device).sample(torch.from_numpy(logits).to(device), DeviceRows(pool, device), batch)
        assert set(result.token.tolist()) == ({3, 200, 300} if share > 0.5 else {3, 200})


def test_rows_without_finite_logits_take_the_lowest_allowed_id(device: torch.device) -> None:
    pool = RowPool(3001)
    dense = mask_row(pool, np.arange(1500, 3001))
    masks = [0, mask_row(pool, [7, 9]), dense, mask_row(pool, [2999]), mask_row(pool, [])]
    for broken in (np.nan, -np.inf):
        logits = torch.full((5, 3001), broken, device=device)
        for temperature in (0.0, 1.0):
            batch = batch_of(5, mask_rows=masks, temperature=temperature)
            result = sampler(3001, device).sample(logits, DeviceRows(pool, device), batch)
            assert result.token.tolist() == [0, 7, 1500, 2999, -1]


def test_no_bias_lets_a_forbidden_token_through(device: torch.device) -> None:
    generator = np.random.default_rng(6)
    pool = RowPool(2500)
    kinds = [np.arange(5, 2500, 2), np.array([17, 40, 2499]), np.array([1])]
    batch = batch_of(3, mask_rows=[mask_row(pool, ids) for ids in kinds], temperature=[1.0, 1.0, 0.0], top_p=0.9)
    batch.bias_start = np.arange(0, 7501, 2500, dtype=np.int32)
    batch.bias_ids = np.tile(np.arange(2500, dtype=np.int32), 3)
    batch.bias = np.concatenate([np.where(np.isin(np.arange(2500), ids), -3e38, 3e38) for ids in kinds]).astype("f4")
    logits = torch.from_numpy(generator.normal(0, 3, (3, 2500)).astype(np.float32)).to(device)
    tokens = sampler(2500, device).sample(logits, DeviceRows(pool, device), batch).token.tolist()
    assert all(token in ids for token, ids in zip(tokens, kinds, strict=True))


def test_a_row_does_not_depend_on_its_batch(device: torch.device) -> None:
    """Nor does what an earlier batch has left in the scratch memory."""
    logits, pool, batch = random_case(9, 300, 6)
    mirrored, whole = DeviceRows(pool, device), sampler(300, device)
    tokens = whole.sample(torch.from_numpy(logits).to(device), mirrored, batch).token.tolist()
    for r in (0, 5):
        one = batch_of(1)
        for name in SamplingBatch.__dataclass_fields__:
            column: NDArray[np.generic] = getattr(batch, name)
            setattr(one, name, np.ascontiguousarray(column[r : r + 1]))
        for start, names in (
            ("history_start", ("history_ids", "history_counts")),
            ("bias_start", ("bias_ids", "bias")),
        ):
            begin, end = getattr(batch, start)[r : r + 2]
            setattr(one, start, np.array([0, end - begin], np.int32))
            for name in names:
                setattr(one, name, getattr(batch, name)[begin:end])
        found = whole.sample(torch.from_numpy(logits[r : r + 1]).to(device), mirrored, one)
        assert found.token.tolist() == tokens[r : r + 1]


# ---------------------------------------------------------------- rows on the device


def test_device_rows_follow_the_pool(device: torch.device) -> None:
    generator = np.random.default_rng(0)
    pool = RowPool(2100)
    mirrored = DeviceRows(pool, device)
    for size in (3, 400, 1500):  # past the first capacity of every array
        for _ in range(200):
            mask_row(pool, generator.permutation(2100)[: generator.integers(0, size)])
        mirrored.update()
        for name, n in (("kind", pool.n_rows), ("start", pool.n_rows), ("count", pool.n_rows), ("ids", pool.n_ids)):
            assert getattr(mirrored, name)[:n].tolist() == getattr(pool, name)[:n].tolist()
        bits = mirrored.bits[: pool.n_dense * pool.words].cpu().numpy().view(np.uint32)
        assert (bits.reshape(-1, pool.words) == pool.bits[: pool.n_dense]).all()
    held = mirrored.bits.data_ptr()
    mirrored.update()
    assert mirrored.bits.data_ptr() == held
    assert mirrored.nbytes() >= pool.n_dense * pool.words * 4


def test_what_does_not_fit_is_refused(device: torch.device) -> None:
    pool = RowPool(64)
    mirrored = DeviceRows(pool, device)
    with pytest.raises(ValueError, match="are not 3 rows of 64 ids"):
        sampler(64, device).sample(torch.zeros(2, 64, device=device), mirrored, batch_of(3))
    with pytest.raises(ValueError, match="are not 1 rows of 32 ids"):
        sampler(32, device).sample(torch.zeros(1, 32, device=device), mirrored, batch_of(1))
    with pytest.raises(ValueError, match=f"at most {MAX_TOP} ids"):
        sampler(64, device).sample(torch.zeros(1, 64, device=device), mirrored, batch_of(1, n_logprobs=MAX_TOP + 1))
    with pytest.raises(ValueError, match="vocabulary size"):
        sampler(2**19 + 1, device)
    with pytest.raises(ValueError, match="limit"):
        GpuSampler(64, device, limit=rows.SPARSE_LIMIT // 2)
    assert sampler(64, device).sample(torch.zeros(0, 64, device=device), mirrored, batch_of(0)).token.tolist() == []
