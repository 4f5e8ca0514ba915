"""The block pool against a model that keeps plain sets."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.blocks import BlockPool, OutOfBlocks

OPERATIONS = st.tuples(
    st.sampled_from(["allocate", "retain", "release", "label", "claim"]),
    st.integers(0, 30),
    st.binary(min_size=1, max_size=1),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(OPERATIONS, max_size=80), st.integers(1, 6))
def test_a_block_is_free_or_held_and_remembers_its_label_until_it_is_reused(operations, size) -> None:  # type: ignore[no-untyped-def]
    pool = BlockPool(size, 4)
    held: list[int] = []
    labels: dict[int, bytes] = {}
    released: list[int] = []
    """Labelled free blocks, the one unused for longest first."""
    for operation, number, label in operations:
        if operation == "allocate":
            if len(set(held)) == size:
                with pytest.raises(OutOfBlocks):
                    pool.allocate()
            else:
                unlabelled = set(range(size)) - set(held) - set(labels)
                block = pool.allocate()
                assert block in unlabelled if unlabelled else block == released.pop(0)
                labels.pop(block, None)
                held.append(block)
        elif operation == "claim":
            block = pool.claim(label)
            assert block == next((b for b, known in labels.items() if known == label), None)
            if block is not None:
                if block in released:
                    released.remove(block)
                held.append(block)
        elif held:
            block = held[number % len(held)]
            if operation == "retain":
                pool.retain(block)
                held.append(block)
            elif operation == "label":
                pool.label(block, label)
                if block not in labels and label not in labels.values():
                    labels[block] = label
            else:
                pool.release(block)
                held.remove(block)
                if block not in held and block in labels:
                    released.append(block)
        pool.check([held])
        assert pool.n_used == len(set(held)) == pool.num_blocks - pool.n_free
        assert Counter(held) == Counter({b: n for b, n in enumerate(pool.references) if n})


def test_a_chain_is_reused_from_its_tail() -> None:
    pool = BlockPool(3, 4)
    chain = [pool.allocate() for _ in range(3)]
    for block in chain:
        pool.label(block, bytes([block]))
    pool.release_all(chain)
    assert [pool.allocate() for _ in range(3)] == chain[::-1]


def test_blocks_for_rounds_up() -> None:
    pool = BlockPool(9, 4)
    assert [pool.blocks_for(n) for n in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]


def test_check_is_loud() -> None:
    pool = BlockPool(3, 4)
    block = pool.allocate()
    with pytest.raises(AssertionError, match=f"block {block}: 1 references, 0 holders"):
        pool.check()
    pool.release(block)
    pool.check()
    with pytest.raises(AssertionError, match=f"block {block}"):
        pool.release(block)
    with pytest.raises(AssertionError, match="0 references, 1 holders"):
        pool.check([[1]])
