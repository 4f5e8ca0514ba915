"""The step loop against the oracle: what a choice says depends neither on what else runs nor on how tight memory is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.scheduler import Limits
from schemas.engine import Sampling, Submit
from schemas.tenants import Tenant
from tests.engine.driver import Driver, ask, chain
from tests.engine.fakes import (
    EOS,
    VOCAB,
    generate_alone,
    random_automaton,
)

token_ids = st.integers(0, VOCAB - len(EOS) - 1)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_p=st.sampled_from([1.0, 0.8]),
    top_k=st.sampled_from([0, 5]),
    min_p=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 2**64 - 1),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    logit_bias=st.none() | st.dictionaries(token_ids, st.sampled_from([-5.0, 3.0]), min_size=1, max_size=3),
    logprobs=st.none() | st.integers(0, 3),
)
prompts = st.builds(
    # equal beginnings that the prefix cache shares, and equal middles after another beginning, which it must not
    lambda kind, length, tail: [kind, *(i * i % 40 for i in range(length)), *tail],
    st.integers(0, 1),
    st.integers(0, 17),
    st.lists(token_ids, max_size=3),
)
programs = st.sampled_from([0, 0, 1, 2, 3])


@st.composite
def requests(draw: st.DrawFn) -> tuple[Submit, int]:
    program = draw(programs)
    request = ask(
        "",
        draw(prompts),
        draw(st.integers(1, 12)),
        n=draw(st.sampled_from([1, 1, 2, 4])),
        sampling=draw(samplings),
        stop_token_ids=draw(st.lists(token_ids, max_size=2)),
        ignore_eos=draw(st.booleans()) and program == 0,
        tenant=draw(st.sampled_from(["", "other"])),
        priority=draw(st.integers(0, 1)),
        track_complete=draw(st.booleans()),
    )
    return request, program


actions = st.one_of(
    st.tuples(st.just("submit"), requests()),
    st.tuples(st.just("cancel"), st.tuples(st.integers(0, 7), st.sampled_from([None, None, 0, 1, 3]))),
    st.tuples(st.just("step"), st.integers(1, 6)),
    st.tuples(st.just("expand"), st.none()),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(actions, min_size=3, max_size=24),
    st.integers(9, 16),
    st.sampled_from([Limits(4, 4), Limits(4, 9), Limits(8, 16), Limits(8, 64)]),
    st.integers(0, 1000),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 2, 8]),
    st.sampled_from([(0,), (0,), (1,), (6,), (13,), (0, 6), (0, 5, 13), (1, 9)]),
)
def test_any_mix_says_what_each_choice_says_alone(  # type: ignore[no-untyped-def]
    actions, num_blocks, limits, seed, end_early, skip_forced, host_blocks, windows
) -> None:
    automata = [random_automaton(seed + i, lazy=True) for i in range(3)]
    driver = Driver(
        *automata, num_blocks=num_blocks * len(windows), limits=limits, end_early=end_early, skip_forced=skip_forced,
        host_blocks=host_blocks, tenants=(Tenant(name="other", weight=3),), windows=windows,
    )  # fmt: skip
    asked: dict[str, tuple[Submit, int]] = {}
    cancelled: set[tuple[str, int]] = set()
    for action, what in actions:
        if action == "submit":
            request, program = what
            request.id = f"r{len(asked)}"
            asked[request.id] = request, program
            driver.loop.submit(request, program)
        elif action == "cancel":
            id, choice = f"r{what[0]}", what[1]
            driver.loop.cancel(id, choice)
            driver.loop.check()
            cancelled |= {(id, c) for c in (range(4) if choice is None else [choice])}
        elif action == "step":
            for _ in range(what):
                driver.step()
        else:
            driver.expand()
    driver.drain()

    for id, (request, program) in asked.items():
        heard = driver.heard[id]
        assert heard.failed is None and heard.started == 1
        assert sorted(heard.answers) == list(range(request.n))
        for choice, answer in heard.answers.items():
            automaton = automata[program - 1] if program else None
            alone = generate_alone(request, choice, automaton, end_early=end_early, windows=windows)
            if answer.reason == "cancelled":
                assert (id, choice) in cancelled
                assert answer.ids == alone.ids[: len(answer.ids)]
                assert answer.tracked == alone.tracked[: len(answer.tracked)]
            else:
                assert answer == alone
    drawn = driver.loop.report().counters
    assert drawn["finished_stop"] + drawn["finished_length"] + drawn["finished_cancelled"] == sum(
        request.n for request, _ in asked.values()
    )


@pytest.mark.parametrize("prompt", [[3], [3, 3, 4]])
def test_penalties_know_the_whole_text(prompt: list[int]) -> None:
    driver = Driver()
    sampling = Sampling(1.0, seed=2, presence_penalty=0.3, frequency_penalty=0.6, repetition_penalty=1.2)
    request = ask("a", prompt, 50, n=2, sampling=sampling, ignore_eos=True)
    (heard,) = driver.run((request, 0))
    assert heard.answers == {choice: generate_alone(request, choice, None) for choice in range(2)}
    assert len(set(heard.answers[0].ids)) > 16


def test_preemption_and_sharing_are_exercised_by_such_mixes() -> None:
    """The memory of the property test is small enough that what it is to test happens."""
    driver = Driver(num_blocks=10, limits=Limits(8, 16))
    wanted = [(ask(f"r{i}", [i, 1, 2, 3, 4], 20, n=2, sampling=Sampling(seed=i), ignore_eos=True), 0) for i in range(4)]
    for (request, _), heard in zip(wanted, driver.run(*wanted), strict=True):
        assert heard.answers == {choice: generate_alone(request, choice, None) for choice in range(2)}
    assert driver.loop.report().counters["preemptions"] > 4


def test_constraints_cost_two_calls_a_step_however_many_run() -> None:
    driver = Driver(*(chain(*range(5, 15)) for _ in range(4)))
    for i in range(8):
        driver.loop.submit(ask(f"r{i}", [i]), i % 5)
    driver.step()
    before = driver.masks.calls
    assert len(driver.step()) == 8
    assert driver.masks.calls == before + 2


def test_figures_tell_times_in_seconds() -> None:
    driver = Driver(limits=Limits(max_sequences=1, max_batch_tokens=4))
    driver.run((ask("a", [1] * 8, 3, ignore_eos=True), 0), (ask("b", [2], 1, ignore_eos=True), 0))
    report = driver.report
    assert report.id == "probe"
    # a: submitted at 0, two chunks, a token in each of the steps 2, 3 and 4; b: one step, after a has left its slot
    assert report.observations == {"queue_time": [1.0, 5.0], "ttft": [2.0, 5.0], "time_per_output_token": [1.0]}
    assert report.counters["generated_tokens"] == 4 and report.counters["prompt_tokens"] == 9
    assert not any(driver.loop.report().observations.values())
