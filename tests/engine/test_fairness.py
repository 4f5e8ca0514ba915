"""Fairness between tenants: the queue against a plain search, and what a scheduler under load owes to everybody."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.blocks import BlockPool
from engine.fair_queue import FairQueue
from engine.giving_way import LEAD
from engine.prefix_cache import PrefixCache
from engine.scheduler import Limits, Scheduler
from engine.sequence import Group, Sequence
from schemas.engine import Submit

SIZE = 4


def sequence_of(arrival: int, tenant: str, tokens: int = 1, priority: int = 0, n: int = 1) -> Sequence:
    """A sequence whose prompt nobody else has."""
    prompt = [1000 * arrival + i for i in range(tokens)]
    request = Submit(f"r{arrival}", "fake", prompt, 64, tenant=tenant, priority=priority, n=n)
    group = Group(request, 0, seed=0, arrival=arrival, stops=frozenset(), submitted=0.0)
    return Sequence(group, 0, prompt.copy(), [], list(range(1, n)))


class Hall:
    """A scheduler whose sequences draw as many tokens as they were sent for; counts what each tenant got."""

    def __init__(
        self, num_blocks: int = 256, max_sequences: int = 4, max_batch_tokens: int = 16, **weights: float
    ) -> None:
        self.pool = BlockPool(num_blocks, SIZE)
        self.cache = PrefixCache(self.pool, "fake")
        limits = Limits(max_sequences, max_batch_tokens)
        self.scheduler = Scheduler(self.cache, 4096, limits, weights)
        self.arrivals = 0
        self.steps = 0
        self.wanted: dict[Sequence, int] = {}
        self.begun: dict[Sequence, int] = {}
        self.computed: Counter[str] = Counter()

    def submit(self, tenant: str, prompt: int, answer: int, priority: int = 0, n: int = 1) -> Sequence:
        sequence = sequence_of(self.arrivals, tenant, prompt, priority, n)
        sequence.chain.append(self.cache.root(tenant))
        self.arrivals += 1
        self.wanted[sequence] = prompt + answer
        self.scheduler.park(sequence)
        self.scheduler.unpark(sequence)
        return sequence

    def step(self) -> list[Sequence]:
        """One step; the sequences that were computed."""
        self.steps += 1
        step = self.scheduler.schedule()
        assert step is not None, "somebody waits, and nothing runs"
        for sequence, length in zip(step.sequences, step.lengths, strict=True):
            self.computed[sequence.group.request.tenant] += length
        self.scheduler.computed(step)
        for leader in step.sampled:
            for sequence in [leader, *self.scheduler.fork(leader)]:
                self.begun.setdefault(sequence, self.steps)
                sequence.tokens.append(7)
                if len(sequence.tokens) >= self.wanted.setdefault(sequence, self.wanted[leader]):
                    self.scheduler.remove(sequence)
        if self.steps % 8 == 0:
            self.pool.check(self.scheduler.block_tables())
        return step.sequences

    def until_begun(self, sequence: Sequence, limit: int = 10_000) -> int:
        """Steps until the first token of ``sequence``."""
        before = self.steps
        while sequence not in self.begun:
            assert self.steps - before < limit, "starved"
            self.step()
        return self.steps - before

    def drain(self, limit: int = 20_000) -> None:
        while self.scheduler.can_run:
            assert self.steps < limit, "livelock"
            self.step()
        assert self.pool.n_used == 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["push", "push", "take", "charge", "refund", "remove"]),
            st.integers(0, 3),
            st.integers(0, 1),
            st.integers(1, 50),
        ),
        max_size=60,
    )
)
def test_the_head_is_the_least_served_tenants_first(operations: list[tuple[str, int, int, int]]) -> None:
    queue = FairQueue({"1": 2.0, "2": 0.5})
    waiting: list[Sequence] = []
    running: list[Sequence] = []
    for arrival, (operation, tenant, priority, amount) in enumerate(operations):
        if operation == "push":
            sequence = sequence_of(arrival, str(tenant), priority=priority)
            sequence.group.account = queue.open(str(tenant), priority)
            queue.push(sequence)
            waiting.append(sequence)
        elif operation == "take" and waiting:
            head = queue.head()
            assert head is not None
            queue.take(head)
            waiting.remove(head)
            running.append(head)
            head.account.owed += amount
        elif operation == "charge" and running:
            running[amount % len(running)].account.charge(amount)
        elif operation == "refund" and running:
            sequence = running[amount % len(running)]
            queue.refund(sequence, min(amount, sequence.account.owed))
        elif operation == "remove" and waiting:
            sequence = waiting.pop(amount % len(waiting))
            queue.remove(sequence)
            queue.close(sequence.account, sequence.priority)
        best = min(
            waiting,
            key=lambda s: (s.priority, s.account.committed, min(
                w.group.arrival for w in waiting if w.account is s.account), s.group.arrival),
            default=None,
        )  # fmt: skip
        assert queue.head() is best and len(queue) == len(waiting)
        assert queue.tenants == len({s.account for s in waiting})


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 2),
    st.tuples(*[st.tuples(st.integers(1, 40), st.integers(1, 30))] * 2),
)
def test_tenants_that_always_want_more_get_tokens_by_their_weights(
    weights: tuple[float, float], sizes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """However large their requests are, and although one sends five times as many."""
    hall = Hall(max_sequences=4, max_batch_tokens=16, a=weights[0], b=weights[1])
    for _ in range(100):
        waiting = Counter(sequence.group.request.tenant for sequence in hall.scheduler.waiting)
        for tenant, most, size in zip("ab", (25, 5), sizes, strict=True):
            for _ in range(most - waiting[tenant]):
                hall.submit(tenant, *size)
        hall.step()
    accounts = {sequence.group.request.tenant: sequence.account for sequence in hall.scheduler.waiting}
    # What one can be ahead by: its running sequences, which nobody stops before LEAD tokens, and a step's.
    slack = LEAD + max((4 * sum(size) + 16) / weight for size, weight in zip(sizes, weights, strict=True))
    assert abs(accounts["a"].served - accounts["b"].served) <= slack
    for tenant, weight in zip("ab", weights, strict=True):
        assert accounts[tenant].served == pytest.approx(hall.computed[tenant] / weight)


@pytest.mark.parametrize("answer", [3, 2000])
@pytest.mark.parametrize("prompt", [1, 100])
def test_a_flood_delays_another_tenants_first_token_by_few_steps(prompt: int, answer: int) -> None:
    """It takes a slot at once, since the flood has several, and half of the tokens that are left for prompts."""
    hall = Hall(num_blocks=512)
    for _ in range(50):
        hall.submit("flood", prompt, answer)
    for _ in range(20):
        hall.step()
    other = hall.submit("other", 40, 5)
    assert hall.until_begun(other) <= 3 + 2 * -(-40 // (16 - 4))


def test_a_flood_that_holds_all_memory_gives_some_back() -> None:
    hall = Hall(num_blocks=300, max_sequences=8, max_batch_tokens=64)
    flood = [hall.submit("flood", 200, 100) for _ in range(4)]
    hall.until_begun(flood[-1])
    other = hall.submit("other", 450, 5)
    assert hall.until_begun(other) <= LEAD // 4 + 2 + 2 * -(-450 // 60)
    assert hall.scheduler.displaced > 0
    hall.drain()


def test_more_tenants_than_slots_take_turns() -> None:
    hall = Hall(num_blocks=1024, max_sequences=2, max_batch_tokens=8)
    sequences = [hall.submit(str(tenant), 4, 2000) for tenant in range(4)]
    for sequence in sequences:
        hall.until_begun(sequence, limit=4 * (LEAD + 10))
    for _ in range(1000):
        hall.step()
    assert max(hall.computed.values()) - min(hall.computed.values()) <= 2 * (LEAD + 10)
    assert hall.scheduler.preemptions == 0, "a turn costs no memory, and so no work"


def test_being_idle_saves_nothing_up() -> None:
    hall = Hall(max_sequences=1, max_batch_tokens=8)
    hall.submit("idle", 4, 1)
    hall.step()
    for _ in range(40):
        hall.submit("busy", 4, 12)
    for _ in range(60):
        hall.step()
    hall.computed.clear()
    for _ in range(40):
        hall.submit("idle", 4, 12)
    for _ in range(64):
        hall.step()
    assert abs(hall.computed["idle"] - hall.computed["busy"]) <= 2 * 16


def test_a_cached_prompt_costs_its_tenant_what_was_computed() -> None:
    hall = Hall()
    first = hall.submit("a", 32, 9)
    hall.until_begun(first)
    account = first.account
    charged = account.served
    again = sequence_of(hall.arrivals, "a", 32)
    again.tokens, again.chain, hall.wanted[again] = first.tokens[:32], [hall.cache.root("a")], 33
    hall.scheduler.park(again)
    hall.scheduler.unpark(again)
    steps = hall.until_begun(again)
    assert account.served == charged + steps + 4


def test_what_is_computed_again_is_not_charged_again() -> None:
    hall = Hall(num_blocks=12)
    sequences = [hall.submit("a", 9, 30), hall.submit("b", 9, 30)]
    accounts = [sequence.account for sequence in sequences]
    hall.drain()
    assert hall.scheduler.preemptions > 0
    # The last token is drawn and never computed.
    assert [account.served for account in accounts] == [38, 38] and [a.owed for a in accounts] == [0, 0]


def test_a_cancelled_prompt_is_refunded() -> None:
    hall = Hall()
    long = hall.submit("a", 400, 5)
    hall.step()
    account = long.account
    assert account.owed == 400 - 16
    hall.scheduler.remove(long)
    assert account.owed == 0 and account.served == 16


def test_a_higher_priority_takes_slots_and_memory() -> None:
    hall = Hall(num_blocks=40)
    for _ in range(8):
        hall.submit("a", 20, 100, priority=1)
    for _ in range(30):
        hall.step()
    urgent = hall.submit("a", 60, 5, priority=0)
    assert hall.until_begun(urgent) <= 6
    hall.drain()


def test_a_lower_priority_takes_nothing() -> None:
    hall = Hall(num_blocks=40)
    for _ in range(8):
        hall.submit("a", 20, 40)
    hall.step()
    later = hall.submit("b", 4, 4, priority=1)
    hall.drain()
    assert hall.begun[later] > max(step for sequence, step in hall.begun.items() if sequence is not later) - 40
    assert hall.scheduler.displaced == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 25), st.sampled_from("abc"), st.integers(1, 40), st.integers(1, 40), st.integers(0, 1),
            st.sampled_from([1, 1, 1, 2, 3]),
        ),
        min_size=1,
        max_size=25,
    ),
    st.integers(22, 60),
    st.sampled_from([(3, 3), (4, 16), (8, 40)]),
)  # fmt: skip
def test_everybody_is_served_in_the_end(submits, num_blocks, limits) -> None:  # type: ignore[no-untyped-def]
    """In any mix, with little memory: no livelock, and accounts and slots that balance."""
    hall = Hall(num_blocks, *limits, b=2.0)
    for wait, tenant, prompt, answer, priority, n in submits:
        hall.submit(tenant, prompt, answer, priority, n)
        for _ in range(wait):
            if hall.scheduler.can_run:
                hall.step()
    accounts = {sequence.account for sequence in hall.wanted}
    hall.drain()
    assert sum(n for *_, n in submits) == len(hall.begun)
    assert all(account.running == account.living == account.owed == 0 for account in accounts)
    assert hall.scheduler.waiting.tenants == 0
