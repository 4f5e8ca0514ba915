"""The step loop against the oracle: what a choice says depends neither on what else runs nor on how tight memory is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.loop import StepLoop
from engine.scheduler import Limits
from schemas.engine import Event, Failed, Finished, Sampling, Started, Submit, Tokens
from schemas.tenants import Tenant
from tests.engine.fakes import (
    EOS,
    VOCAB,
    Answer,
    Automaton,
    FakeMasks,
    HashHost,
    HashRunner,
    generate_alone,
    random_automaton,
)

GREEDY = Sampling(temperature=0.0, seed=0)


@dataclass
class Heard:
    """What the events said about one request."""

    started: int = 0
    cached: int = 0
    restored: int = 0
    failed: Failed | None = None
    answers: dict[int, Answer] = field(default_factory=lambda: defaultdict(Answer))


class Driver:
    """A loop with its fakes; collects events and checks their order and the block pool after every step."""

    def __init__(
        self,
        *automata: Automaton,
        num_blocks: int = 64,
        context_length: int = 64,
        limits: Limits = Limits(max_sequences=8, max_batch_tokens=16),  # noqa: B008
        end_early: bool = True,
        skip_forced: bool = False,
        host_blocks: int = 0,
        tenants: tuple[Tenant, ...] = (),
        windows: tuple[int, ...] = (0,),
    ) -> None:
        self.runner = HashRunner(num_blocks, context_length=context_length, windows=windows)
        self.masks = FakeMasks(*automata)
        self.now = 0.0
        self.loop = StepLoop(
            self.runner,
            self.masks,
            model="fake",
            eos_ids=EOS,
            limits=limits,
            end_early=end_early,
            forced=self.masks.forced if skip_forced else None,
            host=HashHost(self.runner, host_blocks) if host_blocks else None,
            tenants=tenants,
            clock=lambda: self.now,
        )
        self.heard: dict[str, Heard] = defaultdict(Heard)

    def step(self) -> list[Event]:
        self.now += 1.0
        events = self.loop.step()
        self.loop.check()
        for event in events:
            assert isinstance(event, Started | Tokens | Finished | Failed)
            heard = self.heard[event.id]
            assert heard.failed is None, f"{event} after the request failed"
            if isinstance(event, Started):
                heard.started += 1
            elif isinstance(event, Failed):
                heard.failed = event
            else:
                self._hear(heard, event)
        return events

    def _hear(self, heard: Heard, event: Tokens | Finished) -> None:
        assert heard.started == 1
        answer = heard.answers[event.choice]
        assert answer.reason == "", f"{event} after the choice has ended"
        if isinstance(event, Finished):
            answer.reason, answer.complete = event.reason, event.complete
            return
        answer.ids += event.ids
        heard.cached += event.cached
        heard.restored += event.restored
        answer.tracked += event.complete or []
        answer.logprobs += [(x.logprob, x.top_ids, x.top_logprobs) for x in event.logprobs or ()]

    def expand(self) -> bool:
        """Do what a grammar worker would; True if there was anything to do."""
        programs = self.masks.missing()
        for program in programs:
            self.masks.expand(program)
            self.loop.grammar_ready(program)
        return bool(programs)

    def drain(self, limit: int = 3000) -> None:
        """Run until idle, with expansions only where nothing else moves. Fails on a livelock or a deadlock."""
        for _ in range(limit):
            if self.loop.idle:
                break
            if self.loop.can_step:
                self.step()
            else:
                assert self.expand(), "neither a step nor an expansion is possible"
        assert self.loop.idle, "still busy after many steps"
        self.loop.check()
        self.report = self.loop.report("probe")
        gauges = self.report.gauges
        assert gauges["running"] == gauges["waiting"] == gauges["parked"] == gauges["kv_blocks_used"] == 0

    def run(self, *requests: tuple[Submit, int]) -> list[Heard]:
        for request, program in requests:
            self.loop.submit(request, program)
        self.drain()
        return [self.heard[request.id] for request, _ in requests]


def ask(id: str, prompt: list[int], max_tokens: int = 8, **fields) -> Submit:  # type: ignore[no-untyped-def]
    return Submit(id, "fake", prompt, max_tokens, **{"sampling": GREEDY, **fields})


# Everything at once

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


# n > 1 and the prefix cache


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


# Ends


def chain(*tokens: int, accepting: tuple[int, ...] = (), lazy: bool = False) -> Automaton:
    """Forces ``tokens`` one after the other; the last state and ``accepting`` ones may end."""
    edges = [{token: i + 1} for i, token in enumerate(tokens)]
    n = len(tokens) + 1
    return Automaton([*edges, {}], {*accepting, n - 1}, set() if lazy else set(range(n)))


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


# Parking


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


# Faults


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


# Refusals and cancelling


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


# Figures


def test_figures_tell_times_in_seconds() -> None:
    driver = Driver(limits=Limits(max_sequences=1, max_batch_tokens=4))
    driver.run((ask("a", [1] * 8, 3, ignore_eos=True), 0), (ask("b", [2], 1, ignore_eos=True), 0))
    report = driver.report
    assert report.id == "probe"
    # a: submitted at 0, two chunks, a token in each of the steps 2, 3 and 4; b: one step, after a has left its slot
    assert report.observations == {"queue_time": [1.0, 5.0], "ttft": [2.0, 5.0], "time_per_output_token": [1.0]}
    assert report.counters["generated_tokens"] == 4 and report.counters["prompt_tokens"] == 9
    assert not any(driver.loop.report().observations.values())
