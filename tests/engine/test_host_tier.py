"""The second tier of the prefix cache: its book-keeping, the loop over it, and the bytes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decoder import TorchRunner
from engine.host_memory import HostBlocks
from engine.host_tier import HostTier
from engine.model.files import open_model
from schemas.config import Settings
from schemas.engine import Sampling
from tests.engine.decoding import Cursor, Feeder
from tests.engine.driver import Driver, ask
from tests.engine.fakes import generate_alone
from tests.engine.test_decoder import prompts, saved, small_llama
from tests.engine.test_triton_runner import loaded

DIGESTS = [bytes([i]) for i in range(6)]


moves = st.lists(st.tuples(st.sampled_from(["store", "load"]), st.integers(0, 5)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(moves, st.sampled_from([True, True, False])), max_size=8), st.integers(0, 4))
def test_what_is_loaded_is_what_was_stored(steps: list[tuple[list[tuple[str, int]], bool]], num_blocks: int) -> None:
    """A place that a step loads from is not stored to in it, and a step that was given up is forgotten."""
    tier = HostTier(num_blocks)
    memory: dict[int, bytes] = {}
    for planned, done in steps:
        stored: set[int] = set()
        for operation, number in planned:
            if operation == "store" and number not in stored:
                tier.store(number, DIGESTS[number])
                stored.add(number)
            elif operation == "load" and DIGESTS[number] in tier:
                tier.hold(DIGESTS[number])
                tier.load(DIGESTS[number], number)
            tier.check()
        stores, loads = tier.moves()
        if done:
            memory |= {place: DIGESTS[block] for block, place in stores}
            assert all(memory[place] == DIGESTS[block] for place, block in loads)
            tier.settle()
        else:
            tier.abandon()
        tier.check()
        assert tier.moves() == ([], [])
        assert {digest for digest in DIGESTS if digest in tier} <= set(memory.values())
        assert len(tier) <= num_blocks


def test_the_place_that_was_not_used_for_longest_is_reused() -> None:
    tier = HostTier(2)
    for number in (0, 1):
        tier.store(number, DIGESTS[number])
        tier.settle()
    tier.hold(DIGESTS[0])
    tier.load(DIGESTS[0], 7)
    tier.settle()
    tier.store(2, DIGESTS[2])
    tier.settle()
    assert [digest in tier for digest in DIGESTS[:3]] == [True, False, True]


def test_nothing_that_is_about_to_be_loaded_gives_its_place() -> None:
    tier = HostTier(1)
    tier.store(0, DIGESTS[0])
    tier.settle()
    tier.hold(DIGESTS[0])
    tier.store(1, DIGESTS[1])
    tier.load(DIGESTS[0], 5)
    assert tier.moves() == ([], [(0, 5)])


# The loop over it


def test_what_memory_forgot_comes_back_from_the_host() -> None:
    driver = Driver(num_blocks=14, host_blocks=40)
    (first,) = driver.run((ask("a", list(range(40)), 2), 0))
    driver.run(*((ask(f"other {i}", [i + 1] * 30, 2), 0) for i in range(5)))
    computed = driver.runner.tokens_run
    (again,) = driver.run((ask("b", list(range(40)), 2), 0))
    assert again.answers == first.answers and again.cached == 36 and again.restored > 20
    assert driver.runner.tokens_run - computed <= 4 + 1
    assert driver.report.counters["restored_tokens"] == driver.report.gauges["prefix_restored_tokens"] > 20
    assert driver.report.counters["host_stored_blocks"] >= driver.report.gauges["host_blocks_used"] > 0
    assert driver.report.counters["host_loaded_blocks"] * 4 == again.restored


def test_tenants_are_apart_in_the_host_too() -> None:
    driver = Driver(num_blocks=14, host_blocks=40)
    driver.run((ask("a", list(range(40)), 2, tenant="a"), 0))
    driver.run(*((ask(f"other {i}", [i + 1] * 30, 2), 0) for i in range(5)))
    (stranger,) = driver.run((ask("b", list(range(40)), 2, tenant="b"), 0))
    assert (stranger.cached, stranger.restored) == (0, 0)


def test_a_preempted_sequence_comes_back_without_being_computed_again() -> None:
    """Swapped out instead: only what did not fill a block is computed a second time."""
    wanted = [ask(f"r{i}", [i, 1, 2, 3, 4], 24, sampling=Sampling(seed=i), ignore_eos=True) for i in range(4)]
    computed: dict[int, int] = {}
    for host_blocks in (0, 64):
        driver = Driver(num_blocks=10, host_blocks=host_blocks)
        for request, heard in zip(wanted, driver.run(*((request, 0) for request in wanted)), strict=True):
            assert heard.answers == {0: generate_alone(request, 0, None)}
        preemptions = driver.report.counters["preemptions"]
        assert preemptions > 0
        computed[host_blocks] = driver.runner.tokens_run - 4 * (5 + 24 - 1)
    # The last token, and up to three before it, of each preempted sequence.
    assert computed[64] <= 4 * preemptions < computed[0]


def test_a_step_that_fails_leaves_nothing_wrong_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(num_blocks=14, host_blocks=40)
    driver.run((ask("a", list(range(40)), 2), 0))
    driver.run(*((ask(f"other {i}", [i + 1] * 30, 2), 0) for i in range(5)))
    host = driver.loop._host  # pyright: ignore[reportPrivateUsage]
    assert host is not None
    with monkeypatch.context() as patched:
        patched.setattr(host, "move", lambda stores, loads: 1 // 0)
        (failed,) = driver.run((ask("b", list(range(40)), 2), 0))
    assert failed.failed is not None and failed.failed.kind == "internal"
    (again,) = driver.run((ask("c", list(range(40)), 2), 0))
    assert again.answers == {0: generate_alone(ask("c", list(range(40)), 2), 0, None)}


# The bytes


@pytest.mark.parametrize("kind", ["torch", "triton, int8"])
def test_moved_blocks_answer_as_they_did(kind: str, tmp_path: Path, device: torch.device) -> None:
    model = open_model(saved(small_llama(num_hidden_layers=1), tmp_path))
    if kind == "torch":
        runner = TorchRunner.load(model, num_blocks=8, device=device)
    else:
        runner = loaded(model, device, num_blocks=8, cache_dtype=torch.int8)
    host = runner.host_memory(1 << 20)
    assert host.num_blocks > 100 and host.nbytes() <= 1 << 20
    (tokens,) = prompts(1, [18])
    feeder, cursor = Feeder(runner), Cursor()
    feeder.step([(cursor, tokens[:17])])
    blocks = list(cursor.blocks)
    (wanted,) = feeder.step([(cursor, tokens[17:])])
    host.move([(block, 5 + i) for i, block in enumerate(blocks)], [])
    others = Cursor()
    feeder.free = list(blocks)
    feeder.step([(others, [7] * 18)])
    free = [block for block in range(8) if block not in blocks][: len(blocks)]
    host.move([], [(5 + i, block) for i, block in enumerate(free)])
    cursor.blocks, cursor.length = free, 17
    (found,) = feeder.step([(cursor, tokens[17:])])
    np.testing.assert_array_equal(found, wanted)


def test_stores_are_done_before_loads_and_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.host_memory.AT_ONCE", 2)
    monkeypatch.setattr("engine.host_memory.PART", 100)
    caches = [torch.randn(2, 10, 4, 3), torch.randint(-100, 100, (2, 10, 4), dtype=torch.int8)]
    before = [cache.clone() for cache in caches]
    host = HostBlocks(caches, 10_000)
    host.move([(i, 9 - i) for i in range(5)], [(9 - i, i + 5) for i in range(5)])
    for cache, old in zip(caches, before, strict=True):
        assert torch.equal(cache[:, 5:], old[:, :5]) and torch.equal(cache[:, :5], old[:, :5])


def test_on_cpus_the_settings_refuse_it() -> None:
    with pytest.raises(msgspec.ValidationError, match="raise `kv_memory_mb`"):
        msgspec.convert({"engine": {"host_kv_memory_mb": 100}}, Settings)
    msgspec.convert({"engine": {"host_kv_memory_mb": 100, "device": "cuda"}}, Settings)
