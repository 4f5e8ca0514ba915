"""Rows: equal masks are one row, whatever kind they are kept as, and dropping rows changes no other."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fsm.rows import DENSE, FORCED, FREE, SPARSE, SPARSE_LIMIT, RowPool

VOCABULARY = 3001


def mask_of(ids: NDArray[np.integer] | list[int]) -> NDArray[np.uint32]:
    bits = np.zeros((VOCABULARY + 31) // 32 * 32, np.bool_)
    bits[ids] = True
    return np.packbits(bits, bitorder="little").view(np.uint32)


def masks(seed: int, sizes: list[int]) -> list[NDArray[np.uint32]]:
    rng = np.random.default_rng(seed)
    return [mask_of(rng.choice(VOCABULARY, size, replace=False)) for size in sizes]


SIZES = st.lists(st.sampled_from([0, 1, 2, 31, SPARSE_LIMIT, SPARSE_LIMIT + 1, 2000, VOCABULARY]), min_size=1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=SIZES, kept=st.integers(0, 2**32 - 1))
def test_rows_keep_their_number_and_content(seed: int, sizes: list[int], kept: int) -> None:
    pool = RowPool(VOCABULARY)
    given = masks(seed, sizes)
    rows = [pool.intern(mask) for mask in given]
    assert [pool.intern(mask) for mask in given] == rows
    for row, mask, size in zip(rows, given, sizes, strict=True):
        assert np.array_equal(pool.mask(row), mask)
        assert pool.count[row] == size
        assert pool.kind[row] == (FORCED if size == 1 else SPARSE if size <= SPARSE_LIMIT else DENSE)
    keep = np.array([bool(kept >> row % 32 & 1) for row in range(pool.n_rows)])
    alive = {row: mask for row, mask in zip(rows, given, strict=True) if keep[row]}
    pool.keep(keep)
    assert all(pool.kind[row] == FREE for row in rows if row not in alive)
    assert all(np.array_equal(pool.mask(row), mask) for row, mask in alive.items())
    again = [pool.intern(mask) for mask in given]
    assert all(again[i] == row for i, row in enumerate(rows) if row in alive)
    assert all(np.array_equal(pool.mask(row), mask) for row, mask in zip(again, given, strict=True))


def test_the_row_of_everything_stays() -> None:
    pool = RowPool(VOCABULARY)
    pool.intern(mask_of([1]))
    pool.keep(np.zeros(pool.n_rows, np.bool_))
    assert np.array_equal(pool.mask(0), mask_of(np.arange(VOCABULARY)))


def test_dropped_rows_give_back_their_memory() -> None:
    pool = RowPool(VOCABULARY)
    empty = pool.nbytes()
    for mask in masks(0, [2000] * 300):
        pool.intern(mask)
    assert pool.row_nbytes().sum() == 300 * 4 * pool.words
    pool.keep(np.zeros(pool.n_rows, np.bool_))
    assert pool.nbytes() < empty + 16_384
    assert pool.n_dense == 0


def test_masks_with_equal_digests_are_told_apart() -> None:
    pool = RowPool(VOCABULARY)
    first, second = mask_of([1]), mask_of([2])
    row = pool.intern(first)
    digest = int(pool._digests[row])
    pool.intern(second)
    other = int(pool._digests[row + 1])
    pool._by_digest[other] = row  # as if both had the same digest
    third = pool.intern(second)
    assert third != row
    assert np.array_equal(pool.mask(third), second)
    assert pool.intern(first) == row
    assert pool._by_digest[digest] == row
