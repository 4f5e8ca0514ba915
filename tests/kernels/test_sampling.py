"""The sampling kernel against its torch reference, the reference against other definitions, and both against chance."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fsm import rows
from fsm.rows import RowPool
from kernels import sampling_reference as reference
from kernels.cpu import noise
from kernels.cpu.sampling import CpuSampler
from kernels.sampling import SamplingBatch, SamplingResult
from tests.kernels.sampling_cases import SIZES, adversarial_logits, batch_of, mask_row, random_case


def sample(logits: NDArray[np.float32], pool: RowPool, batch: SamplingBatch, top: int = 0) -> SamplingResult:
    result = SamplingResult.empty(len(logits), top)
    CpuSampler(logits.shape[1]).sample(np.ascontiguousarray(logits), pool, batch, result)
    return result


# ---------------------------------------------------------------- arithmetic


def philox4x32(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 on Python's integers, as the paper's Figure 2 draws it."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def test_philox_known_answers() -> None:
    """Random123's kat_vectors."""
    ones = 0xFFFFFFFF
    assert philox4x32((0, 0, 0, 0), (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox4x32((ones,) * 4, (ones, ones)) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    digits_of_pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    expected = (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)
    assert philox4x32(digits_of_pi, (0xA4093822, 0x299F31D0)) == expected


WORDS = st.integers(0, 2**32 - 1)


@given(st.integers(0, 2**19 - 64), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), WORDS, WORDS)
@example(0, 2**31 - 1, 2**31 - 1, 2**32 - 1, 2**32 - 1)
def test_philox_is_philox_everywhere(first: int, position: int, choice: int, k0: int, k1: int) -> None:
    first &= ~3
    expected = [word for q in range(16) for word in philox4x32((first // 4 + q, position, choice, 0), (k0, k1))]
    words = [np.uint32(x) for x in (position, choice, k0, k1)]
    assert list(noise.philox(np.uint32(first // 4), *words)) == expected[:4]
    block = np.empty(64, np.uint32)
    noise.philox_block(block, np.uint32(first // 4), *words)
    assert block.tolist() == expected
    assert reference.philox(torch.arange(first, first + 64), position, choice, k1 << 32 | k0).tolist() == expected


@numba.njit
def each(function: Any, values: NDArray[np.generic], out: NDArray[np.generic]) -> None:
    for i in range(len(values)):
        out[i] = function(values[i])


def test_noise_is_bit_equal_and_accurate() -> None:
    generator = np.random.default_rng(0)
    lanes = generator.integers(0, 2**32, 20_000, dtype=np.uint32)
    lanes = np.concatenate([lanes, (2 ** np.arange(32)).astype(np.uint32), np.array([0, 2**32 - 1], np.uint32)])
    ours, bounds = np.empty(len(lanes)), np.empty(len(lanes), np.float32)
    each(noise.gumbel, lanes, ours)
    each(noise.gumbel_bound, lanes, bounds)
    assert (ours == reference.gumbel(torch.from_numpy(lanes.astype(np.int64))).numpy()).all()
    np.testing.assert_allclose(ours, [-math.log(-math.log1p(-(int(x) + 0.5) / 2**32)) for x in lanes], rtol=1e-6)
    assert (bounds >= ours).all()
    assert (bounds - ours)[(ours > 3) & (lanes > 2**8)].max() < 0.1
    assert ours.max() < noise.NOISE_LIMIT


def test_weights_are_bit_equal_and_accurate() -> None:
    generator = np.random.default_rng(0)
    d = -generator.exponential(8, 20_000).astype(np.float32)
    d = np.concatenate([d, np.array([0, -1e-30, -23, -24, -25, -87, -1e30, -np.inf, np.nan], np.float32)])
    ours = np.empty(len(d), np.float32)
    each(noise.weight, d, ours)
    assert (ours == reference.weight(torch.from_numpy(d)).numpy()).all()
    assert ours[-9] == 1.0
    assert ours[-1] == ours[-2] == 0.0
    exact = np.exp(d[:-1].astype(np.float64))
    assert (np.abs(ours[:-1] - exact) <= 1.2e-7 * exact + 2.0**-35).all()
    assert (ours * 2.0**34 == np.rint(ours * 2.0**34)).all()


# ---------------------------------------------------------------- kernel and reference


def assert_equal_results(logits: NDArray[np.float32], pool: RowPool, batch: SamplingBatch, top: int) -> None:
    ours, expected = sample(logits, pool, batch, top), SamplingResult.empty(len(logits), top)
    reference.sample(torch.from_numpy(logits), pool, batch, expected)
    assert ours.token.tolist() == expected.token.tolist()
    for r, n_top in enumerate(batch.n_logprobs.tolist()):
        if n_top >= 0:
            np.testing.assert_allclose(ours.logprob[r], expected.logprob[r], atol=2e-6)
            assert ours.top_ids[r, :n_top].tolist() == expected.top_ids[r, :n_top].tolist()
            np.testing.assert_allclose(ours.top_logprobs[r, :n_top], expected.top_logprobs[r, :n_top], atol=2e-6)


@settings(max_examples=100)
@given(st.sampled_from(SIZES), st.integers(0, 2**32 - 1))
@example(33_000, 3)
@example(33_000, 5)
def test_kernel_equals_reference(vocab_size: int, seed: int) -> None:
    logits, pool, batch = random_case(seed, vocab_size)
    assert_equal_results(logits, pool, batch, 7)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.9999])
def test_cuts_of_a_large_flat_vocabulary(temperature: float, top_p: float) -> None:
    """Thousands of ids stay, so that the first threshold fails and the draw runs over blocks again."""
    generator = np.random.default_rng(7)
    logits = (-1.5 * np.log(np.stack([generator.permutation(20_000) + 1.0 for _ in range(3)]))).astype(np.float32)
    pool = RowPool(20_000)
    masks = [
        0,
        mask_row(pool, generator.permutation(20_000)[:12_000]),
        mask_row(pool, generator.permutation(20_000)[:900]),
    ]
    assert_equal_results(logits, pool, batch_of(3, mask_rows=masks, temperature=temperature, top_p=top_p), 0)


def test_the_format_of_a_row_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    logits = np.repeat(generator.normal(0, 2, (1, 700)).astype(np.float32), 200, 0)
    allowed = generator.permutation(700)[:300]
    tokens: list[list[int]] = []
    for limit in (1000, 10):
        monkeypatch.setattr(rows, "SPARSE_LIMIT", limit)
        pool = RowPool(700)
        row = mask_row(pool, allowed)
        assert pool.kind[row] == (rows.SPARSE if limit == 1000 else rows.DENSE)
        tokens.append(sample(logits, pool, batch_of(200, mask_rows=row, top_p=0.95)).token.tolist())
        tokens.append(sample(logits, pool, batch_of(200, mask_rows=row)).token.tolist())
    assert tokens[0] == tokens[2]
    assert tokens[1] == tokens[3]
    blocked = logits.copy()
    blocked[:, np.setdiff1d(np.arange(700), allowed)] = -np.inf
    assert sample(blocked, RowPool(700), batch_of(200)).token.tolist() == tokens[1]


def test_a_row_does_not_depend_on_its_batch() -> None:
    generator = np.random.default_rng(2)
    n, vocab_size = 40, 500
    logits = generator.normal(0, 2, (n, vocab_size)).astype(np.float32)
    pool = RowPool(vocab_size)
    masks = [0, *(mask_row(pool, generator.permutation(vocab_size)[:k]) for k in (1, 50, 400))]
    batch = batch_of(
        n,
        mask_rows=generator.choice(masks, n),
        temperature=generator.choice([0, 0.7, 2], n),
        top_p=generator.choice([1, 0.8], n),
        position=generator.integers(0, 100, n),
    )
    whole = sample(logits, pool, batch).token
    shuffled = generator.permutation(n)
    for part in (shuffled[:1], shuffled[1:10], shuffled[10:]):
        piece = batch_of(len(part))
        for field in fields(SamplingBatch):
            column = getattr(batch, field.name)
            if len(column) == n:
                setattr(piece, field.name, np.ascontiguousarray(column[part]))
        assert sample(logits[part], pool, piece).token.tolist() == whole[part].tolist()


# ---------------------------------------------------------------- against other definitions


def test_cuts_equal_those_of_transformers() -> None:
    warpers = pytest.importorskip("transformers.generation.logits_process")
    generator = torch.Generator().manual_seed(3)
    parameters = [(0, 0.9, 0.0), (40, 1.0, 0.0), (0, 1.0, 0.05), (40, 0.7, 0.0), (60, 0.95, 0.02), (0, 0.2, 0.3)]
    for top_k, top_p, min_p in parameters:
        x = torch.randn(300, generator=generator) * 2
        scores = x[None]
        if top_k:
            scores = warpers.TopKLogitsWarper(top_k)(None, scores)
        if top_p < 1:
            scores = warpers.TopPLogitsWarper(top_p)(None, scores)
        kept = reference.cut(x, reference.weight(x - x.max()), top_k, top_p, 0.0)
        assert kept.tolist() == (scores[0] > -math.inf).tolist()
        if min_p:
            # transformers' min-p renormalises what the other cuts left; relative to the first id nothing changes
            kept = reference.cut(x, reference.weight(x - x.max()), top_k, top_p, min_p)
            assert kept.tolist() == (warpers.MinPLogitsWarper(min_p)(None, scores)[0] > -math.inf).tolist()


def test_penalties_come_before_the_bias() -> None:
    logits = np.array([[2.0, 1.0, -1.0, 0.5, 3.0]], np.float32)
    batch = batch_of(1, presence=0.5, frequency=0.25, repetition=2.0)
    batch.history_start, batch.history_ids = np.array([0, 3], np.int32), np.array([2, 0, 4], np.int32)
    batch.history_counts = np.array([0, 3, 1], np.int32)
    batch.bias_start, batch.bias_ids = np.array([0, 2], np.int32), np.array([1, 0], np.int32)
    batch.bias = np.array([10.0, -1.0], np.float32)
    adjusted = reference.adjust(torch.from_numpy(logits[0]), batch, 0)
    assert adjusted.tolist() == [2 / 2 - 3 * 0.25 - 0.5 - 1, 11.0, -2.0, 0.5, 3 / 2 - 0.25 - 0.5]


def test_logprobs_are_those_of_the_model() -> None:
    generator = np.random.default_rng(4)
    logits = (generator.normal(0, 3, (6, 1000)) - 50).astype(np.float32)
    logits[1, :990] = -np.inf
    pool = RowPool(1000)
    row = mask_row(pool, [3, 995, 999])
    batch = batch_of(6, mask_rows=[0, 0, row, row, 0, 0], temperature=[0, 1, 0, 2, 1, 1], top_p=0.5, n_logprobs=20)
    result = sample(logits, pool, batch, 20)
    own = torch.log_softmax(torch.from_numpy(logits).double(), -1)
    best = own.topk(20)
    for r in range(6):
        np.testing.assert_allclose(result.logprob[r], own[r, result.token[r]], atol=1e-5)
        np.testing.assert_allclose(result.top_logprobs[r], best.values[r], atol=1e-5)
        finite = int((best.values[r] > -math.inf).sum())
        assert result.top_ids[r, :finite].tolist() == best.indices[r, :finite].tolist()


# ---------------------------------------------------------------- what must never happen


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 50.0]), st.sampled_from([1.0, 0.5]))
def test_no_bias_lets_a_forbidden_token_through(seed: int, temperature: float, top_p: float) -> None:
    generator = np.random.default_rng(seed)
    logits = adversarial_logits(generator, 8, 100)
    pool = RowPool(100)
    allowed = generator.permutation(100)[: generator.integers(1, 30)]
    batch = batch_of(8, mask_rows=mask_row(pool, allowed), temperature=temperature, top_p=top_p)
    batch.bias_start = np.arange(0, 801, 100, dtype=np.int32)
    batch.bias_ids = np.tile(np.arange(100, dtype=np.int32), 8)
    batch.bias = np.where(np.isin(batch.bias_ids, allowed), -3e38, 3e38).astype(np.float32)
    assert np.isin(sample(logits, pool, batch).token, allowed).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("broken", [np.nan, -np.inf])
def test_rows_without_finite_logits_take_the_lowest_allowed_id(broken: float, temperature: float) -> None:
    pool = RowPool(3001)
    logits = np.full((5, 3001), broken, np.float32)
    dense = mask_row(pool, np.arange(1500, 3001))
    masks = [0, mask_row(pool, [7, 9]), dense, mask_row(pool, [2999]), mask_row(pool, [])]
    result = sample(logits, pool, batch_of(5, mask_rows=masks, temperature=temperature))
    assert result.token.tolist() == [0, 7, 1500, 2999, -1]


def test_greedy_takes_the_lowest_of_ties() -> None:
    logits = np.zeros((3, 1000), np.float32)
    logits[0, [700, 300]] = 5
    logits[1, [900]] = -0.0
    logits[2] = -np.arange(1000)
    pool = RowPool(1000)
    row = mask_row(pool, [600, 650, 700])
    assert sample(logits, pool, batch_of(3, temperature=0)).token.tolist() == [300, 0, 0]
    assert sample(logits, pool, batch_of(3, temperature=0, mask_rows=row)).token.tolist() == [700, 600, 600]


def test_shapes_are_checked() -> None:
    pool = RowPool(64)
    with pytest.raises(ValueError, match="masks of 64 ids are not 2 rows of 32 ids"):
        sample(np.zeros((2, 32), np.float32), pool, batch_of(2))
    with pytest.raises(ValueError, match="are not 3 rows"):
        sample(np.zeros((2, 64), np.float32), pool, batch_of(3))
    with pytest.raises(ValueError, match="room"):
        sample(np.zeros((2, 64), np.float32), pool, batch_of(2, n_logprobs=3), top=2)
    with pytest.raises(ValueError, match="vocabulary size"):
        CpuSampler(2**19 + 1)
    assert sample(np.zeros((0, 64), np.float32), pool, batch_of(0)).token.tolist() == []


# ---------------------------------------------------------------- chance

DRAWS = 20_000


def chi_square(tokens: NDArray[np.int32], probabilities: NDArray[np.float64]) -> float:
    """Standardised (Wilson and Hilferty): above 4 in one of 30,000 fair runs."""
    observed = np.bincount(tokens, minlength=len(probabilities))
    possible = probabilities > 0
    assert not observed[~possible].any()
    expected = DRAWS * probabilities[possible]
    statistic = float(((observed[possible] - expected) ** 2 / expected).sum())
    freedom = int(possible.sum()) - 1
    return ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))


@pytest.mark.parametrize("keyed_by", ["position", "choice", "seed"])
@pytest.mark.parametrize(
    ("temperature", "allowed", "top_k"), [(1.0, None, 0), (2.0, None, 0), (1.0, 25, 0), (0.8, None, 10), (1.0, 25, 10)]
)
def test_draws_follow_the_distribution(keyed_by: str, temperature: float, allowed: int | None, top_k: int) -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(0, 1, 60)
    pool = RowPool(60)
    row = 0
    if allowed:
        ids = generator.permutation(60)[:allowed]
        row = mask_row(pool, ids)
        x[np.setdiff1d(np.arange(60), ids)] = -np.inf
    logits = np.repeat(x[None].astype(np.float32), DRAWS, 0)
    weights = np.exp(x / temperature)
    if top_k:
        weights[weights < np.sort(weights)[-top_k]] = 0
    key = {"position": 0, "choice": 0, "seed": 17, keyed_by: np.arange(DRAWS)}
    batch = batch_of(DRAWS, mask_rows=row, temperature=temperature, top_k=top_k, **key)
    assert abs(chi_square(sample(logits, pool, batch).token, weights / weights.sum())) < 4


def test_draws_at_neighbouring_positions_are_independent() -> None:
    tokens = sample(np.zeros((DRAWS + 1, 8), np.float32), RowPool(8), batch_of(DRAWS + 1)).token
    assert abs(chi_square(tokens[:-1] * 8 + tokens[1:], np.full(64, 1 / 64))) < 4
