"""Where texts end, and what waits where a grammar is not expanded yet."""

from __future__ import annotations

import pytest

from schemas.engine import Failed, Sampling
from tests.engine.driver import Driver, ask, chain
from tests.engine.fakes import (
    EOS,
    Answer,
    Automaton,
    generate_alone,
)


def test_a_text_that_can_only_end_ends_a_forward_pass_earlier() -> None:
    early, late = Driver(chain(5, 6, 7)), Driver(chain(5, 6, 7), end_early=False)
    for driver in (early, late):
        (heard,) = driver.run((ask("a", [1]), 1))
        assert heard.answers == {0: Answer([5, 6, 7], "stop")}
    assert (early.runner.forwards, late.runner.forwards) == (3, 4)


def test_a_model_without_an_end_of_sequence_ends_where_nothing_can_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.engine.fakes.EOS", ())
    monkeypatch.setattr("tests.engine.test_loop.EOS", ())
    driver = Driver(chain(5, 6, 7), Automaton([{}], set(), {0}))
    complete, dead = driver.run((ask("a", [1]), 1), (ask("b", [1]), 2))
    assert complete.answers == {0: Answer([5, 6, 7], "stop")}
    assert dead.failed is not None and "no token and no end" in dead.failed.message


def test_an_empty_text_needs_no_forward_pass() -> None:
    driver = Driver(chain())
    (heard,) = driver.run((ask("a", [1], n=3), 1))
    assert heard.answers == dict.fromkeys(range(3), Answer([], "stop"))
    assert driver.runner.forwards == 0


def test_the_last_allowed_token_may_complete_the_text() -> None:
    driver = Driver(chain(5, 6, accepting=(1,)), chain(5, 6, 7))
    go_on = Sampling(temperature=0.0, logit_bias=dict.fromkeys(EOS, -90.0))
    complete, cut, viable = driver.run(
        (ask("a", [1], 2, sampling=go_on), 1), (ask("b", [1], 2), 2), (ask("c", [1], 1, sampling=go_on), 1)
    )
    assert complete.answers[0] == Answer([5, 6], "stop")
    assert cut.answers[0] == Answer([5, 6], "length", False)
    assert viable.answers[0] == Answer([5], "length")


def test_stop_ids_act_only_where_a_constrained_text_is_complete() -> None:
    driver = Driver(chain(5, 5, 5, 6, accepting=(2,)))
    keep_on = Sampling(temperature=0.0, logit_bias=dict.fromkeys(EOS, -90.0))
    (heard,) = driver.run((ask("a", [1], stop_token_ids=[5], sampling=keep_on), 1))
    assert heard.answers == {0: Answer([5, 5], "stop")}


def test_stop_ids_and_end_of_sequence_without_a_constraint() -> None:
    driver = Driver()
    likely = Sampling(temperature=0.0, logit_bias={46: 90.0})
    stop, go_on, own = driver.run(
        (ask("a", [1], sampling=likely), 0),
        (ask("b", [1], 3, sampling=likely, ignore_eos=True), 0),
        (ask("c", [1], 3, sampling=likely, ignore_eos=True, stop_token_ids=[46]), 0),
    )
    assert stop.answers[0] == own.answers[0] == Answer([], "stop")
    assert go_on.answers[0] == Answer([46, 46, 46], "length")


def test_a_parked_sequence_waits_alone() -> None:
    driver = Driver(chain(5, 6, 7, 8, lazy=True))
    free, bound = ask("free", [1, 2], 12, ignore_eos=True), ask("bound", [3, 4])
    driver.loop.submit(bound, 1)
    driver.loop.submit(free)
    for _ in range(20):
        driver.step()
    assert driver.heard["free"].answers[0] == generate_alone(free, 0, None)
    assert driver.heard["bound"].answers == {}
    assert not driver.loop.can_step and not driver.loop.idle
    assert driver.loop.report().gauges["parked"] == 1
    driver.drain()
    assert driver.heard["bound"].answers == {0: Answer([5, 6, 7, 8], "stop")}
    assert driver.loop.report().counters["mask_misses"] >= 5


def test_parked_sequences_give_their_blocks_to_those_who_can_run() -> None:
    driver = Driver(chain(5, 8, 8, 8, 8, lazy=True), num_blocks=8)
    bound = ask("bound", list(range(14)), 10)
    driver.loop.submit(bound, 1)
    driver.step()
    driver.expand()
    driver.step()
    assert driver.loop.report().gauges["kv_blocks_used"] > 0
    free = ask("free", [2] * 14, 18, ignore_eos=True)
    driver.loop.submit(free)
    while driver.loop.can_step:
        driver.step()
    assert driver.heard["free"].answers[0] == generate_alone(free, 0, None)
    driver.drain()
    assert driver.heard["bound"].answers[0] == Answer([5, 8, 8, 8, 8], "stop")


def test_a_grammar_that_cannot_grow_fails_its_requests_only() -> None:
    driver = Driver(chain(5, 6, lazy=True), chain(7))
    driver.loop.submit(ask("a", [1], n=2), 1)
    driver.loop.submit(ask("b", [1]), 2)
    driver.step()
    driver.loop.grammar_failed(1, "constraint_too_large", "out of fuel", "/anyOf")
    driver.drain()
    assert driver.heard["a"].failed == Failed("a", "constraint_too_large", "out of fuel", "/anyOf")
    assert driver.heard["b"].answers[0].ids == [7]
