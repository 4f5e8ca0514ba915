"""Scores are the model's own log-probabilities, and asking for them changes nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.loop import StepLoop
from engine.scheduler import Limits
from schemas.engine import Event, Failed, Sampling, Score, Scored, Started, Submit, Tokens
from tests.engine.fakes import EOS, VOCAB, FakeMasks, HashRunner, logits_of

prompts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20)


def loop() -> StepLoop:
    limits = Limits(max_sequences=4, max_batch_tokens=8)
    return StepLoop(HashRunner(64), FakeMasks(), model="fake", eos_ids=EOS, limits=limits)


def drained(loop: StepLoop) -> list[Event]:
    events: list[Event] = []
    while not loop.idle:
        events += loop.step()
        loop.check()
    return events


def logprobs(prompt: list[int]) -> np.ndarray:
    logits = logits_of(prompt).astype(float)
    return logits - np.log(np.exp(logits).sum())


@settings(max_examples=30, deadline=None)
@given(prompts=st.lists(prompts, min_size=1, max_size=6), candidates=st.sets(st.integers(0, VOCAB - 1), min_size=1))
def test_scores_are_the_models_own(prompts: list[list[int]], candidates: set[int]) -> None:
    asked, running = sorted(candidates), loop()
    answer = Submit("answer", "fake", [1, 2, 3], 5, sampling=Sampling(temperature=0.0))
    running.submit(answer)
    for i, prompt in enumerate(prompts):
        running.score(Score(f"s{i}", "fake", prompt, asked))
    events = drained(running)
    scored = {event.id: event for event in events if isinstance(event, Scored)}
    for i, prompt in enumerate(prompts):
        assert np.allclose(scored[f"s{i}"].logprobs, logprobs(prompt)[asked], atol=1e-5)
    alone = loop()
    alone.submit(answer)
    said = [event for event in events if isinstance(event, Tokens)]
    assert said == [event for event in drained(alone) if isinstance(event, Tokens)]


def test_a_longer_prompt_finds_the_shorter_one_in_the_cache() -> None:
    running = loop()
    running.score(Score("short", "fake", list(range(16)), [1]))
    drained(running)
    running.score(Score("long", "fake", list(range(18)), [1]))
    *_, last = drained(running)
    assert isinstance(last, Scored) and last.cached == 16


def test_what_cannot_be_scored_is_refused() -> None:
    running = loop()
    running.score(Score("a", "fake", [1], [2, VOCAB]))
    running.score(Score("b", "fake", [], [2]))
    refusals = [event for event in drained(running) if not isinstance(event, Started)]
    assert all(isinstance(event, Failed) and event.kind == "invalid_request" for event in refusals)
    assert [event.id for event in refusals if isinstance(event, Failed)] == ["a", "b"]


def test_a_score_that_nobody_waits_for_leaves_nothing() -> None:
    running = loop()
    running.score(Score("a", "fake", list(range(40)), [1]))
    running.step()
    running.cancel("a")
    assert not any(isinstance(event, Scored) for event in drained(running))
    assert running.report().gauges["kv_blocks_used"] == 0
