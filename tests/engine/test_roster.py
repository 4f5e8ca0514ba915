"""How requests come and go: faults, refusals and cancelling cost those whom they concern, and nobody else."""

from __future__ import annotations

import pytest

from engine.loop import StepLoop
from engine.scheduler import Limits
from schemas.engine import Failed, Sampling, Started, Submit
from tests.engine.driver import Driver, ask, chain
from tests.engine.fakes import (
    EOS,
    VOCAB,
    Automaton,
    FakeMasks,
    HashRunner,
    generate_alone,
)


def test_a_refused_token_fails_its_request_alone() -> None:
    class Broken(FakeMasks):
        def row(self, allowed: list[int]) -> int:
            return super().row([9] if allowed == [6] else allowed)

    driver = Driver(chain(5, 6), chain(5, 7))
    driver.masks = broken = Broken(*driver.masks.automata.values())
    driver.loop = StepLoop(
        driver.runner, broken, model="fake", eos_ids=EOS, limits=Limits(8, 16), clock=lambda: driver.now
    )
    bad, good = driver.run((ask("bad", [1], n=3), 1), (ask("good", [1], n=2), 2))
    assert bad.failed is not None and bad.failed.kind == "internal" and "token 9" in bad.failed.message
    assert [answer.ids for answer in good.answers.values()] == [[5, 7], [5, 7]]


def test_a_row_that_allows_nothing_fails_its_request_alone() -> None:
    driver = Driver(Automaton([{5: 1}, {}], set(), {0, 1}), chain(5))
    dead, good = driver.run((ask("dead", [1], n=2), 1), (ask("good", [1]), 2))
    assert dead.failed is not None and dead.failed.kind == "internal"
    assert good.answers[0].ids == [5]


def test_a_runner_that_raises_fails_the_batch_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver()
    forward = driver.runner.forward
    calls = iter([False, True])

    def sometimes(batch):  # type: ignore[no-untyped-def]
        if next(calls, False):
            raise MemoryError
        return forward(batch)

    driver.runner.forward = sometimes
    driver.loop.submit(ask("a", list(range(20)), n=2))
    driver.drain()
    assert driver.heard["a"].failed == Failed("a", "internal", "MemoryError in the engine")
    assert "MemoryError" in caplog.text
    request = ask("b", list(range(20)))
    assert driver.run((request, 0))[0].answers[0] == generate_alone(request, 0, None)


def test_masks_of_another_vocabulary_are_refused() -> None:
    runner = HashRunner(4)
    runner.vocab_size = VOCAB + 1
    with pytest.raises(ValueError, match="masks of 48 ids"):
        StepLoop(runner, FakeMasks(), model="fake", eos_ids=EOS, limits=Limits())


def test_an_unknown_program_fails_its_request() -> None:
    (heard,) = Driver().run((ask("a", [1]), 7))
    assert heard.failed is not None and heard.failed.kind == "internal" and heard.started == 0


@pytest.mark.parametrize(
    ("request_", "program", "place"),
    [
        (ask("a", []), 0, "prompt"),
        (ask("a", [1, VOCAB]), 0, "prompt[1]"),
        (ask("a", [1, -1]), 0, "prompt[1]"),
        (ask("a", [1], 0), 0, "max_tokens"),
        (ask("a", [1], n=0), 0, "n:"),
        (ask("a", [1], n=9), 0, "n = 9"),
        (ask("a", [1], 64), 0, "context"),
        (ask("a", [1] * 20, 30), 0, "KV memory"),
        (ask("a", [1], stop_token_ids=[3, VOCAB]), 0, "stop_token_ids[1]"),
        (ask("a", [1], sampling=Sampling(logit_bias={VOCAB: 1.0})), 0, "sampling.logit_bias[0]"),
        (ask("a", [1], sampling=Sampling(logprobs=VOCAB + 1)), 0, "sampling.logprobs"),
        (ask("a", [1], ignore_eos=True), 1, "ignore_eos"),
    ],
)
def test_what_can_never_run_is_refused_by_name(request_: Submit, program: int, place: str) -> None:
    driver = Driver(chain(5), num_blocks=12)
    (heard,) = driver.run((request_, program))
    assert heard.started == 0
    assert heard.failed is not None and heard.failed.kind == "invalid_request"
    assert place in heard.failed.message


def test_what_just_fits_runs() -> None:
    driver = Driver(num_blocks=12)
    request = ask("a", [1] * 20, 29, n=8, sampling=Sampling(seed=1), ignore_eos=True)
    (heard,) = driver.run((request, 0))
    assert heard.answers == {choice: generate_alone(request, choice, None) for choice in range(8)}


def test_the_queue_is_bounded() -> None:
    driver = Driver(limits=Limits(max_sequences=1, max_batch_tokens=8, max_waiting=2))
    driver.loop.submit(ask("running", [1], 20, ignore_eos=True))
    driver.step()
    for id in "abc":
        driver.loop.submit(ask(id, [1], 3, ignore_eos=True))
    driver.loop.cancel("a")
    driver.loop.submit(ask("d", [1], 3, ignore_eos=True))
    driver.drain()
    failed = {id: heard.failed.kind for id, heard in driver.heard.items() if heard.failed}
    assert failed == {"c": "overloaded"}
    assert len(driver.heard["d"].answers[0].ids) == 3


def test_an_id_in_use_is_refused_when_idle_it_is_free_again() -> None:
    driver = Driver()
    driver.run((ask("a", [1], 2), 0))
    driver.loop.submit(ask("a", [1], 2, ignore_eos=True))
    driver.loop.submit(ask("a", [1], 2))
    first, second, *_ = driver.loop.step()
    assert isinstance(first, Started) and isinstance(second, Failed) and "running" in second.message


@pytest.mark.parametrize("steps", range(8))
def test_cancelling_frees_the_blocks_at_once(steps: int) -> None:
    driver = Driver(chain(*[5] * 30, lazy=True))
    driver.loop.submit(ask("free", list(range(20)), 20, n=3, ignore_eos=True))
    driver.loop.submit(ask("bound", list(range(5)), 20), 1)
    for _ in range(steps):
        driver.expand()
        driver.step()
    driver.loop.cancel("free")
    driver.loop.cancel("bound")
    driver.loop.cancel("nobody")
    assert driver.loop.report().gauges["kv_blocks_used"] == 0
    driver.step()
    assert driver.loop.idle
    reasons = [answer.reason for id in ("free", "bound") for answer in driver.heard[id].answers.values()]
    assert reasons == ["cancelled"] * 4


def test_cancelling_the_choice_that_computes_the_prompt_spares_the_others() -> None:
    driver = Driver(limits=Limits(4, 4))
    request = ask("a", list(range(12)), 5, n=3, sampling=Sampling(seed=5), ignore_eos=True)
    driver.loop.submit(request)
    driver.step()
    driver.loop.cancel("a", 0)
    driver.loop.cancel("a", 2)
    driver.drain()
    answers = driver.heard["a"].answers
    assert answers[1] == generate_alone(request, 1, None)
    assert [answers[choice].reason for choice in (0, 2)] == ["cancelled", "cancelled"]
