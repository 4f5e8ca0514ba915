"""The prefix cache: which blocks of which texts are the same."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.blocks import BlockPool
from engine.prefix_cache import DIGEST_SIZE, PrefixCache
from engine.sequence import Group, Sequence
from schemas.engine import Submit

SIZE = 2
texts = st.tuples(st.sampled_from(["", "a", "b"]), st.lists(st.integers(0, 2), min_size=1, max_size=9))


def match(cache: PrefixCache, chain: list[bytes], tokens: list[int]) -> list[int]:
    """The blocks that are found, all of them on the device."""
    return cache.match(chain, tokens).claimed


def store(cache: PrefixCache, tenant: str, tokens: list[int]) -> list[int]:
    """Compute a text: its matched blocks, the others allocated, all full ones published."""
    chain = [cache.root(tenant)]
    table = match(cache, chain, tokens)
    matched = len(table)
    table += [cache.pool.allocate() for _ in range(cache.pool.blocks_for(len(tokens)) - matched)]
    cache.publish(holding(chain, tokens, table, matched), len(tokens) // cache.pool.block_size)
    return table


def holding(chain: list[bytes], tokens: list[int], table: list[int], published: int = 0) -> Sequence:
    request = Submit("r", "model", tokens, 1)
    group = Group(request, 0, seed=0, arrival=0, stops=frozenset(), submitted=0.0)
    return Sequence(group, 0, tokens, chain, tables=[table], passed=[0], published=published)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=12))
def test_a_match_is_the_longest_common_prefix_of_a_tenants_texts(asked: list[tuple[str, list[int]]]) -> None:
    cache = PrefixCache(BlockPool(64, SIZE), "model")
    content: dict[int, tuple[str, list[int]]] = {}
    known: set[tuple[str, tuple[int, ...]]] = set()
    for tenant, tokens in asked:
        full = [tuple(tokens[:end]) for end in range(SIZE, len(tokens) + 1, SIZE)]
        expected = 0
        while (expected + 1) * SIZE < len(tokens) and (tenant, full[expected]) in known:
            expected += 1
        matched = match(cache, [cache.root(tenant)], tokens)
        assert len(matched) == expected
        for j, block in enumerate(matched):
            assert content[block] == (tenant, tokens[: (j + 1) * SIZE])
        cache.pool.release_all(matched)

        table = store(cache, tenant, tokens)
        for j, prefix in enumerate(full):
            content.setdefault(table[j], (tenant, list(prefix)))
            known.add((tenant, prefix))
    # 12 texts of at most 5 blocks fit the pool without reuse, so that nothing known was forgotten


def test_digests_are_of_128_bits_and_cover_model_tenant_and_all_tokens_before() -> None:
    pool = BlockPool(4, SIZE)
    digests: set[bytes] = set()
    cases = [("m", "t", [1, 2, 3, 4]), ("mt", "", [1, 2, 3, 4]), ("m", "u", [1, 2, 3, 4]), ("m", "t", [2, 1, 3, 4])]
    for model, tenant, tokens in cases:
        cache = PrefixCache(pool, model)
        chain = [cache.root(tenant)]
        cache.extend(chain, tokens, 2)
        digests.add(chain[2])
        assert {len(digest) for digest in chain} == {DIGEST_SIZE} == {16}
    assert len(digests) == len(cases)


def test_a_group_is_no_tenant_of_its_name() -> None:
    cache = PrefixCache(BlockPool(4, SIZE), "m")
    assert cache.root("a", "house") == cache.root("b", "house")
    assert len({cache.root("house"), cache.root("a", "house"), cache.root("a")}) == 3


def test_a_chain_grows_as_it_would_have_been_built_at_once() -> None:
    cache = PrefixCache(BlockPool(4, SIZE), "m")
    tokens = list(os.urandom(12))
    at_once, step_by_step = [cache.root("")], [cache.root("")]
    cache.extend(at_once, tokens, 6)
    for blocks in (0, 1, 1, 4, 3, 6):
        cache.extend(step_by_step, tokens, blocks)
    assert step_by_step == at_once


def test_what_was_unused_for_longest_is_forgotten_first() -> None:
    cache = PrefixCache(BlockPool(4, SIZE), "m")
    first, second = [1, 1, 9], [2, 2, 9]
    for tokens in (first, second, first):
        cache.pool.release_all(store(cache, "", tokens))
    cache.pool.release_all([cache.pool.allocate() for _ in range(3)])
    assert len(match(cache, [cache.root("")], first)) == 1
    assert match(cache, [cache.root("")], second) == []


def test_equal_texts_computed_side_by_side_keep_one_labelled_block() -> None:
    cache = PrefixCache(BlockPool(4, SIZE), "m")
    chain, tokens = [cache.root("")], [1, 2, 3]
    tables = [[cache.pool.allocate(), cache.pool.allocate()] for _ in range(2)]
    for table in tables:
        cache.publish(holding(chain, tokens, table), 1)
    assert match(cache, [cache.root("")], tokens) == tables[0][:1]
    cache.pool.check([*tables, tables[0][:1]])
