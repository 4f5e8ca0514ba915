"""The scheduler by itself: who is computed in a step, and who gives way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Step
from engine.blocks import BlockPool
from engine.prefix_cache import PrefixCache
from engine.scheduler import Limits, Scheduler
from engine.sequence import Group, Sequence, Status
from schemas.engine import Submit

SIZE = 4


class Room:
    """A scheduler, a way to submit to it, and a step that decodes a fixed token."""

    def __init__(self, num_blocks: int = 32, max_sequences: int = 4, max_batch_tokens: int = 8) -> None:
        self.pool = BlockPool(num_blocks, SIZE)
        self.cache = PrefixCache(self.pool, "fake")
        self.scheduler = Scheduler(self.cache, 64, Limits(max_sequences, max_batch_tokens))
        self.arrivals = 0

    def submit(self, tokens: int, priority: int = 0, n: int = 1) -> Sequence:
        """A sequence of ``tokens`` tokens that nobody else has, with its row known."""
        prompt = [100 * self.arrivals + i for i in range(tokens)]
        request = Submit(f"r{self.arrivals}", "fake", prompt, 64 - tokens, n=n, priority=priority)
        group = Group(request, 0, seed=0, arrival=self.arrivals, stops=frozenset(), submitted=0.0)
        sequence = Sequence(group, 0, prompt.copy(), [self.cache.root("")], list(range(1, n)))
        self.arrivals += 1
        self.scheduler.park(sequence)
        self.scheduler.unpark(sequence)
        return sequence

    def step(self) -> Step | None:
        step = self.scheduler.schedule()
        if step is not None:
            self.scheduler.computed(step)
            for sequence in step.sampled:
                for born in [sequence, *self.scheduler.fork(sequence)]:
                    born.tokens.append(7)
        self.pool.check(self.scheduler.block_tables())
        return step

    def lengths(self) -> dict[Sequence, int]:
        step = self.step()
        return {} if step is None else dict(zip(step.sequences, step.lengths, strict=True))


def test_decoding_comes_first_and_prompts_share_what_is_left() -> None:
    room = Room()
    a, b = room.submit(3), room.submit(3)
    assert room.lengths() == {a: 3, b: 3}
    c, d = room.submit(10), room.submit(5)
    assert room.lengths() == {a: 1, b: 1, c: 6}
    assert room.lengths() == {a: 1, b: 1, c: 4, d: 2}
    assert room.lengths() == {a: 1, b: 1, c: 1, d: 3}
    assert room.lengths() == {a: 1, b: 1, c: 1, d: 1}


def test_logits_are_wanted_where_a_sequence_ends() -> None:
    room = Room()
    a, b = room.submit(2), room.submit(9)
    step = room.step()
    assert step is not None and step.sampled == [a] and step.batch.logit_rows.tolist() == [1]
    step = room.step()
    assert step is not None and step.sampled == [a, b] and step.batch.logit_rows.tolist() == [0, 3]


def test_admission_is_by_priority_then_arrival() -> None:
    room = Room(max_sequences=1)
    late, early, urgent = room.submit(2, priority=1), room.submit(2), room.submit(2, priority=-1)
    order = []
    for _ in range(3):
        order += room.lengths()
        room.scheduler.remove(order[-1])
    assert order == [urgent, early, late]


def test_a_request_waits_for_slots_for_all_its_choices() -> None:
    room = Room(max_sequences=4)
    a, many = room.submit(2), room.submit(2, n=4)
    behind = room.submit(2)
    assert room.lengths() == {a: 2}
    assert room.lengths() == {a: 1}
    room.scheduler.remove(a)
    assert room.lengths() == {many: 2}
    assert len(room.lengths()) == 4 and behind.status is Status.WAITING


def test_the_last_to_come_gives_way_and_keeps_its_tokens() -> None:
    room = Room(num_blocks=6)
    a, b = room.submit(7), room.submit(7)
    while b.status is not Status.WAITING or not b.generated:
        room.step()
        assert a.status is Status.DECODE or not a.generated
    assert b.blocks == [] and b.computed == 0 and b.generated > 0
    assert room.scheduler.preemptions == 1
    text = b.tokens.copy()
    room.scheduler.remove(a)
    while b.status is not Status.DECODE:
        room.step()
    assert b.tokens[: len(text)] == text


def test_a_preempted_sequence_finds_blocks_again_in_the_prefix_cache() -> None:
    room = Room(num_blocks=6)
    a, b = room.submit(8), room.submit(8)
    while not room.scheduler.preemptions:
        room.step()
    room.scheduler.remove(a)
    room.step()
    assert room.cache.hit_tokens >= SIZE and b.blocks


def test_a_parked_sequence_gives_way_before_a_running_one_that_came_later() -> None:
    room = Room(num_blocks=5, max_batch_tokens=32)
    parked, later = room.submit(8), room.submit(5)
    room.step()
    room.scheduler.park(parked)
    while not room.scheduler.preemptions:
        assert parked.blocks
        room.step()
    assert parked.status is Status.PARKED and not parked.blocks and later.status is Status.DECODE


def test_a_parked_sequence_returns_to_its_blocks() -> None:
    room = Room()
    a = room.submit(5)
    room.step()
    blocks = a.blocks.copy()
    room.scheduler.park(a)
    assert room.step() is None
    room.scheduler.unpark(a)
    assert room.lengths() == {a: 1} and a.blocks == blocks


def test_parked_sequences_take_no_slot() -> None:
    room = Room(max_sequences=1)
    a, b = room.submit(2), room.submit(2)
    room.step()
    room.scheduler.park(a)
    assert room.lengths() == {b: 2}
    room.scheduler.unpark(a)
    assert room.lengths() == {b: 1}
    room.scheduler.remove(b)
    assert room.lengths() == {a: 1}


def test_choices_copy_the_block_they_share_and_the_last_one_keeps_it() -> None:
    room = Room()
    leader = room.submit(6, n=3)
    room.step()
    step = room.step()
    assert step is not None and len(step.copies) == 2
    shared = step.copies[0][0]
    lasts = [sequence.blocks[-1] for sequence in step.sequences]
    assert sorted(lasts) == sorted([shared, *(target for _, target in step.copies)])
    assert {sequence.blocks[0] for sequence in step.sequences} == {leader.blocks[0]}
    assert room.pool.references[leader.blocks[0]] == 3


@pytest.mark.parametrize(("max_sequences", "max_batch_tokens"), [(0, 4), (5, 4)])
def test_limits_leave_a_token_for_every_slot(max_sequences: int, max_batch_tokens: int) -> None:
    with pytest.raises(ValueError, match="max_sequences"):
        Limits(max_sequences, max_batch_tokens)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from(["step", "step", "park", "unpark", "remove"]), st.integers(0, 20)), max_size=40),
    st.integers(6, 12),
)
def test_every_step_is_a_sound_batch(submits, actions, num_blocks) -> None:  # type: ignore[no-untyped-def]
    room = Room(num_blocks, max_sequences=4, max_batch_tokens=6)
    for tokens, priority, n in submits:
        room.submit(tokens, priority, n)
    scheduler = room.scheduler
    for action, number in actions:
        decoding = [s for s in scheduler.decoding if len(s.tokens) < num_blocks * SIZE]
        if action == "step" and len(decoding) == len(scheduler.decoding):
            step = room.step()
            if step is not None:
                _check_batch(step)
        elif action == "park" and decoding:
            scheduler.park(decoding[number % len(decoding)])
        elif action == "unpark" and scheduler.parked:
            scheduler.unpark(list(scheduler.parked)[number % len(scheduler.parked)])
        elif action == "remove" and scheduler.decoding:
            scheduler.remove(scheduler.decoding[number % len(scheduler.decoding)])
        room.pool.check(scheduler.block_tables())


def _check_batch(step: Step) -> None:
    """The arrays against the definitions in `StepBatch`, sequence by sequence."""
    batch = step.batch
    assert len(batch.tokens) <= 6 and len(step.sequences) <= 4
    assert len(set(batch.slots[0].tolist())) == len(batch.tokens)
    for array in (
        batch.tokens,
        batch.positions,
        batch.slots,
        batch.block_tables,
        batch.context_lens,
        batch.query_start,
    ):
        assert array.dtype == np.int32 and array.flags.c_contiguous
    for i, (sequence, length) in enumerate(zip(step.sequences, step.lengths, strict=True)):
        start, end = batch.query_start[i], batch.query_start[i + 1]
        assert end - start == length and batch.context_lens[i] == sequence.computed
        positions = range(sequence.computed - length, sequence.computed)
        assert batch.positions[start:end].tolist() == list(positions)
        assert batch.tokens[start:end].tolist() == [sequence.tokens[p] for p in positions]
        assert batch.slots[0, start:end].tolist() == [sequence.blocks[p // SIZE] * SIZE + p % SIZE for p in positions]
        assert batch.block_tables[0, i, : len(sequence.blocks)].tolist() == sequence.blocks
