"""No answer that asked to be closed is ever cut, and none is bent while it need not be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.scheduler import Limits
from schemas.engine import Sampling
from tests.engine.driver import Driver, ask, chain
from tests.engine.fakes import EOS, Answer, Automaton, random_automaton

NEVER_END: dict[int, float] = dict.fromkeys(EOS, -90.0)


def least(automaton: Automaton, state: int = 0) -> int:
    """Tokens to the nearest accepting state."""
    ring, seen, steps = {state}, {state}, 0
    while not ring & automaton.accepting:
        ring = {target for here in ring for target in automaton.edges[here].values()} - seen
        seen |= ring
        steps += 1
        if not ring:
            return 10**6
    return steps


@given(data=st.data())
def test_all_end_complete_within_their_tokens(data: Any) -> None:
    lazy = data.draw(st.booleans())
    automata = [
        random_automaton(seed, lazy=lazy) for seed in data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=3))
    ]
    driver = Driver(
        *automata, num_blocks=data.draw(st.integers(16, 40)), limits=Limits(max_sequences=6, max_batch_tokens=16)
    )
    requests: list[Any] = []
    for i in range(data.draw(st.integers(1, 5))):
        program = data.draw(st.integers(1, len(automata)))
        sampling = Sampling(temperature=1.5, seed=data.draw(st.integers(0, 999)), logit_bias=NEVER_END)
        budget = data.draw(st.integers(1, 8))
        requests.append(
            (ask(f"r{i}", [1, 2, 3], budget, sampling=sampling, close=True, n=data.draw(st.integers(1, 3))), program)
        )
    for (request, program), heard in zip(requests, driver.run(*requests), strict=True):
        automaton = automata[program - 1]
        needed = least(automaton)
        if needed > request.max_tokens:
            assert heard.failed is not None and heard.failed.kind == "invalid_request" and not heard.started
            found = "none was found" if needed == 10**6 else f"takes {needed}"
            assert f"in {request.max_tokens} tokens" in heard.failed.message and found in heard.failed.message
            continue
        for answer in heard.answers.values():
            assert answer.reason == "stop" and answer.complete
            assert len(answer.ids) <= request.max_tokens
            state = 0
            for token in answer.ids:
                state = automaton.edges[state][token]
            assert state in automaton.accepting


@given(seed=st.integers(0, 200), automaton=st.integers(0, 40))
def test_with_room_enough_nothing_changes(seed: int, automaton: int) -> None:
    """The budget is never in sight: the same tokens come as without."""
    sampling = Sampling(temperature=1.0, seed=seed, logit_bias={46: 2.0, 47: 2.0})
    free, closing = (
        Driver(random_automaton(automaton, lazy=closes)).run((ask("a", [1], 50, sampling=sampling, close=closes), 1))[0]
        for closes in (False, True)
    )
    if free.answers[0].reason == "stop" and len(free.answers[0].ids) < 40:
        assert closing.answers == free.answers


def test_the_way_is_taken_when_it_is_all_that_fits() -> None:
    """5 5 5 ... 6: a 6 ends the text, which the model would not say by itself."""
    automaton = Automaton([{5: 0, 6: 1}, {}], {1}, {0, 1})
    likes = Sampling(temperature=0.0, logit_bias={5: 90.0})
    (heard,) = Driver(automaton).run((ask("a", [1], 4, sampling=likes, close=True), 1))
    assert heard.answers == {0: Answer([5, 5, 5, 6], "stop")}


def test_a_complete_text_ends_where_no_other_can_be_reached() -> None:
    automaton = Automaton([{5: 1}, {5: 2}, {6: 1}], {1}, {0, 1, 2})
    go_on = Sampling(temperature=0.0, logit_bias=NEVER_END)
    (heard,) = Driver(automaton).run((ask("a", [1], 4, sampling=go_on, close=True), 1))
    assert heard.answers == {0: Answer([5, 5, 6], "stop")}


@pytest.mark.parametrize(
    ("fields", "program", "says"),
    [({}, 0, "only a constraint"), ({"sampling": Sampling(logprobs=1)}, 1, "log-probabilities")],
)
def test_what_cannot_be_kept_is_refused(fields: dict[str, Any], program: int, says: str) -> None:
    (heard,) = Driver(chain(5)).run((ask("a", [1], 4, close=True, **fields), program))
    assert heard.failed is not None and says in heard.failed.message
