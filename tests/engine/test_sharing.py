"""What choices, conversations and tenants share of the KV memory, and what they do not."""

from __future__ import annotations

from schemas.engine import Sampling
from schemas.tenants import Tenant
from tests.engine.driver import Driver, ask
from tests.engine.fakes import (
    generate_alone,
)


def test_choices_share_one_prefill() -> None:
    driver = Driver()
    request = ask("a", list(range(10)), 6, n=4, sampling=Sampling(seed=3), ignore_eos=True)
    (heard,) = driver.run((request, 0))
    assert heard.answers == {choice: generate_alone(request, choice, None) for choice in range(4)}
    assert len({tuple(answer.ids) for answer in heard.answers.values()}) == 4
    assert driver.runner.tokens_run == 10 + 4 * 5


def test_a_cached_prompt_computes_its_last_block_only_and_says_so() -> None:
    driver = Driver()
    prompt = list(range(12))
    first, second = driver.run((ask("a", prompt), 0)) + driver.run((ask("b", prompt), 0))
    assert (first.cached, second.cached) == (0, 8)
    assert first.answers == second.answers
    counters = driver.loop.report().counters
    assert (counters["prompt_tokens"], counters["cached_tokens"]) == (24, 8)


def test_generated_tokens_are_cached_too() -> None:
    driver = Driver()
    (first,) = driver.run((ask("a", [1, 2, 3], 10, ignore_eos=True), 0))
    (second,) = driver.run((ask("b", [1, 2, 3, *first.answers[0].ids]), 0))
    assert second.cached == 12


def test_tenants_share_nothing() -> None:
    driver = Driver()
    prompt = list(range(12))
    driver.run((ask("a", prompt, tenant="a"), 0))
    (other,) = driver.run((ask("b", prompt, tenant="b"), 0))
    assert other.cached == 0


def test_tenants_of_a_group_share_their_prefixes() -> None:
    driver = Driver(tenants=(Tenant(name="a", cache_group="house"), Tenant(name="b", cache_group="house")))
    prompt = list(range(12))
    driver.run((ask("a", prompt, tenant="a"), 0))
    sharing, house, other = (
        driver.run((ask(id, prompt, tenant=tenant), 0))[0] for id, tenant in (("b", "b"), ("h", "house"), ("c", "c"))
    )
    assert (sharing.cached, house.cached, other.cached) == (8, 0, 0)


def test_what_has_left_every_window_is_released() -> None:
    driver = Driver(num_blocks=64, windows=(8,))
    request = ask("a", list(range(10)), 50, n=2, sampling=Sampling(seed=3), ignore_eos=True)
    driver.loop.submit(request)
    for _ in range(40):
        driver.step()
    # Of each choice, the blocks of 8 tokens that may begin and end anywhere.
    assert driver.loop.report().gauges["kv_blocks_used"] <= 2 * 3
    driver.drain()
    assert driver.heard["a"].answers == {c: generate_alone(request, c, None, windows=(8,)) for c in range(2)}
