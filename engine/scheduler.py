"""Scheduler: which sequences the next forward pass computes, and which blocks they write.

Every step has a budget of tokens. Sequences that decode come first, one token each (several where a constraint left no
choice about them), since somebody is reading along; what is left goes to prompts, in chunks (Agrawal et al.,
Sarathi-Serve, OSDI 2024), in the order of their standing. Who is admitted next is `engine.fair_queue`'s affair, who
makes room for it `engine.giving_way`'s.

Memory. A sequence is admitted when all blocks of its present tokens are free, with one to spare for each that runs; so
only decoding needs new blocks later: one when a block is full, and one when the last block is shared (copy on write:
choices of a request split in the middle of a block). When none is free, somebody is preempted: parked sequences first,
then whoever stands last (`Sequence.standing`). The first in order is never preempted by the others, and stays first
until its tenant has been served more, which is progress; so everybody moves on in the end, and a request is refused
only when it would not fit into an empty pool. A preempted sequence keeps its tokens; its blocks go, and come back from
the prefix cache or from the host's memory (`engine.host_tier`), or are computed again.

    waiting ─admit─▶ prefilling ─▶ decoding ◀─slot─ returning ◀─ parked
    no blocks        all its blocks, a slot          blocks, no slot

A parked sequence needs no slot and no budget, so nobody waits for its grammar. Which blocks a sequence holds, and what
the cache has of it, is `engine.kv_memory`'s affair; here they are only counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

from engine.account import Account
from engine.batch import Step, StepBuffers
from engine.fair_queue import FairQueue
from engine.giving_way import block_givers, expendable, slot_givers, standing
from engine.kv_memory import Copies, KvMemory, held_blocks
from engine.prefix_cache import PrefixCache
from engine.sequence import NO_SLOT, Sequence, Status
from schemas.engine import Submit

_ACCOUNT: Callable[[Sequence], Account] = attrgetter("group.account")


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_sequences``: slots, that is sequences a step. ``max_batch_tokens``: tokens a step, at least one a slot.
    ``max_waiting``: requests that may wait for their first admission."""

    max_sequences: int = 64
    max_batch_tokens: int = 512
    max_waiting: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.max_sequences <= self.max_batch_tokens:
            raise ValueError(
                f"max_batch_tokens = {self.max_batch_tokens} must leave a token a step for each of "
                f"max_sequences = {self.max_sequences}, which must be at least 1"
            )


class Scheduler:
    """Owns slots and queues. A sequence is in exactly one queue until `remove`. ``weights``: of tenants whose share of
    the engine is not 1."""

    def __init__(
        self, cache: PrefixCache, context_length: int, limits: Limits, weights: Mapping[str, float] | None = None
    ) -> None:
        self.memory = KvMemory(cache.pool, cache, limits.max_sequences, cache.pool.blocks_for(context_length))
        self.context_length = context_length
        self.limits = limits
        self.waiting = FairQueue(weights or {})
        self.prefilling: list[Sequence] = []
        self.decoding: list[Sequence] = []
        self.returning: list[Sequence] = []
        self.parked: dict[Sequence, None] = {}
        self.preemptions = 0
        self.displaced = 0
        """Sequences that gave a slot or blocks to somebody who waited."""
        self._free_slots = list(range(limits.max_sequences))
        self._buffers = StepBuffers(self.memory, context_length, limits.max_sequences, limits.max_batch_tokens)

    # What comes in and goes out

    def refusal(self, request: Submit) -> str | None:
        """Why ``request`` could never run here, or None."""
        longest = len(request.prompt) + request.max_tokens
        if longest > self.context_length:
            return (
                f"prompt of {len(request.prompt)} tokens and max_tokens = {request.max_tokens} exceed the context "
                f"of {self.context_length} tokens"
            )
        if longest - 1 > self.memory.room:
            return (
                f"prompt of {len(request.prompt)} tokens and max_tokens = {request.max_tokens} exceed the KV memory "
                f"of {self.memory.room} tokens"
            )
        if request.n > self.limits.max_sequences:
            return f"n = {request.n} exceeds the {self.limits.max_sequences} sequences that may run at once"
        return None

    def park(self, sequence: Sequence) -> None:
        """Set a sequence aside until its grammar is expanded: a new one, or a decoding one, which keeps its blocks."""
        if sequence.group.account is None:
            sequence.group.account = self.waiting.open(sequence.group.request.tenant, sequence.priority)
        if sequence.status is Status.DECODE:
            self._halt(sequence)
        sequence.status = Status.PARKED
        self.parked[sequence] = None

    def unpark(self, sequence: Sequence) -> None:
        """The row of a parked sequence is known: let it run again."""
        del self.parked[sequence]
        self._wait(sequence)

    def fork(self, leader: Sequence) -> list[Sequence]:
        """Split off the other choices of a sequence whose prompt is computed. They share its blocks."""
        twins = [leader.fork(choice) for choice in leader.forks]
        leader.forks = []
        for twin in twins:
            self.memory.share(twin)
            self.waiting.open(leader.group.request.tenant, leader.priority)
            self._occupy(twin)
            self.decoding.append(twin)
        return twins

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, whatever its status, and release its blocks."""
        match sequence.status:
            case Status.WAITING:
                (self.returning if sequence.blocks else self.waiting).remove(sequence)
            case Status.PARKED:
                del self.parked[sequence]
            case Status.PREFILL | Status.DECODE:
                self._halt(sequence)
            case Status.FINISHED:
                raise AssertionError(f"choice {sequence.choice} of {sequence.group.request.id} has already left")
        self.memory.drop(sequence)
        self.waiting.close(sequence.account, sequence.priority)
        sequence.status = Status.FINISHED

    @property
    def can_run(self) -> bool:
        """Something is there that a step may move on."""
        return bool(self.decoding or self.prefilling or self.returning or self.waiting)

    def block_tables(self) -> list[list[int]]:
        """The blocks that all living sequences hold, and those that are pinned, for `BlockPool.check`."""
        return [*self.memory.pinned, *(list(held_blocks(s)) for s in chain(self.waiting, self._holders()))]

    # One step

    def schedule(self) -> Step | None:
        """Plan a step; None when nothing can run. Its arrays are valid until the next call. What was planned before and
        not computed is forgotten."""
        host = self.memory.cache.host
        host.abandon()
        self._start_returning(self.waiting.head())
        admitted = self._admit()
        self._start_returning(None)
        copies = self._grow_decoding()

        decoding = [sequence for sequence in self.decoding if sequence.computed + 1 == len(sequence.tokens)]
        budget = self.limits.max_batch_tokens - len(decoding)
        chunks: list[tuple[Sequence, int]] = []
        skipped = filter(_skipped, self.decoding if len(decoding) < len(self.decoding) else ())
        for sequence in chain(skipped, sorted(self.prefilling, key=standing)):
            budget = _cut(sequence, budget, chunks)

        if not decoding and not chunks:
            return None
        for account, tokens in Counter(map(_ACCOUNT, decoding)).items():
            account.charge(tokens)
        for sequence, length in chunks:
            _charge(sequence, length)
        step = self._buffers.fill(decoding, chunks)
        step.admitted = [sequence for sequence in admitted if sequence.status is Status.PREFILL]
        step.copies = copies
        step.stores, step.loads = host.moves()
        return step

    def computed(self, step: Step) -> None:
        """The forward pass has written what ``step`` planned: count it, and offer full blocks to the prefix cache."""
        self.memory.computed(step.sequences, step.lengths)
        for sequence in step.sampled:
            if sequence.status is Status.PREFILL:
                self.prefilling.remove(sequence)
                self.decoding.append(sequence)
                sequence.status = Status.DECODE

    def _start_returning(self, head: Sequence | None) -> None:
        """Give slots to sequences that have everything else, but for those behind ``head``, if that can be admitted."""
        while self.returning:
            first = min(self.returning, key=standing)
            if head is not None and head.standing < first.standing and self._surely_fits(head):
                break
            if self._open_slots() <= 0:
                givers = slot_givers(first, self.decoding)
                if not givers:
                    break
                self._pause(givers[0])
            self.returning.remove(first)
            self._start(first, Status.DECODE, self.decoding)

    def _admit(self) -> list[Sequence]:
        """Start those that wait, in order, as long as this step has tokens left for the next one."""
        admitted: list[Sequence] = []
        if not self.waiting:
            return admitted
        budget = self.limits.max_batch_tokens - sum(len(s.tokens) - s.computed for s in self.decoding)
        while (head := self.waiting.head()) is not None:
            before = (s for s in self.prefilling if s.standing < head.standing)
            if sum(len(s.tokens) - s.computed for s in before) >= budget or not self._make_room(head):
                break
            self.waiting.take(head)
            head.account.owed += head.uncharged
            self._start(head, Status.PREFILL, self.prefilling)
            admitted.append(head)
        return admitted

    def _make_room(self, head: Sequence) -> bool:
        """Give the first that waits all that it needs, if need be at the expense of others; or nothing."""
        lacking = head.weight - self._open_slots()
        if lacking > 0 and len(slot_givers(head, self.decoding)) < lacking:
            return False
        if not self._place(head) and not any(
            self._give_blocks(giver, head) for giver in block_givers(head, self._holders())
        ):
            return False
        lacking = head.weight - self._open_slots()
        for giver in slot_givers(head, self.decoding)[: max(0, lacking)]:
            self._pause(giver)
        return True

    def _pause(self, sequence: Sequence) -> None:
        """Take the slot of a decoding sequence, which keeps its blocks."""
        self.displaced += 1
        self._halt(sequence)
        self._wait(sequence)

    def _give_blocks(self, giver: Sequence, head: Sequence) -> bool:
        """Whether ``head`` has a place once ``giver`` has lost its own."""
        self.displaced += 1
        self._preempt(giver)
        return self._place(head)

    def _surely_fits(self, sequence: Sequence) -> bool:
        """Whether a waiting sequence has a place even if the prefix cache holds nothing of it."""
        needed = self.memory.blocks_for(len(sequence.tokens))
        return sequence.weight <= self._open_slots() and self._free_for(sequence) >= needed

    def _free_for(self, sequence: Sequence) -> int:
        """Free blocks, less those that each sequence that runs may need next."""
        running = len(self.decoding) + len(self.prefilling)
        spared = running + len(sequence.forks) if running else 0
        return self.memory.n_free - spared * self.memory.groups

    def _place(self, sequence: Sequence) -> bool:
        """Give a waiting sequence all blocks of its present tokens, or nothing."""
        found, lacking = self.memory.find(sequence)
        while self._free_for(sequence) < lacking:
            if self.decoding or self.prefilling:
                self.memory.give_up(found)
                return False
            self._preempt(max(self._holders(), key=expendable))
        self.memory.place(sequence, found)
        return True

    def _grow_decoding(self) -> Copies:
        """Give each decoding sequence the slots its next tokens are written to. Returns the blocks to copy.

        In order of standing: whoever is preempted for a sequence comes after it and was given nothing yet.
        """
        copies: Copies = []
        lacks = self.memory.lacks_column
        lacking = [sequence for sequence in self.decoding if len(sequence.tokens) > sequence.room and lacks(sequence)]
        for sequence in sorted(lacking, key=standing):
            while sequence.status is Status.DECODE and lacks(sequence):
                if self.memory.n_free < self.memory.groups:
                    self._preempt(max(self._holders(), key=expendable))
                else:
                    copies += self.memory.grow(sequence)
        return copies

    # Memory and slots

    def _holders(self) -> Iterator[Sequence]:
        return (s for s in chain(self.parked, self.returning, self.prefilling, self.decoding) if s.blocks)

    def _preempt(self, sequence: Sequence) -> None:
        """Take the blocks of a sequence, and its slot if it has one."""
        self.preemptions += 1
        match sequence.status:
            case Status.PREFILL | Status.DECODE:
                self._halt(sequence)
            case Status.WAITING:
                self.returning.remove(sequence)
            case _:
                pass
        self.memory.drop(sequence)
        if sequence.status is not Status.PARKED:
            self._wait(sequence)

    def _halt(self, sequence: Sequence) -> None:
        """Take a sequence out of its queue of those that run."""
        if sequence.status is Status.PREFILL:
            self.prefilling.remove(sequence)
            self.waiting.refund(sequence, sequence.uncharged)
        else:
            self.decoding.remove(sequence)
        self._vacate(sequence)

    def _wait(self, sequence: Sequence) -> None:
        """For a slot, or for blocks and a slot."""
        sequence.status = Status.WAITING
        if sequence.blocks:
            self.returning.append(sequence)
        else:
            self.waiting.push(sequence)

    def _open_slots(self) -> int:
        """Free slots that no fork of a running prompt is going to take."""
        return len(self._free_slots) - sum(len(s.forks) for s in self.prefilling)

    def _start(self, sequence: Sequence, status: Status, queue: list[Sequence]) -> None:
        self._occupy(sequence)
        sequence.status = status
        queue.append(sequence)

    def _occupy(self, sequence: Sequence) -> None:
        sequence.slot = self._free_slots.pop()
        sequence.account.running += 1
        self.memory.enter(sequence)

    def _vacate(self, sequence: Sequence) -> None:
        self._free_slots.append(sequence.slot)
        sequence.account.running -= 1
        sequence.slot = NO_SLOT


def _skipped(sequence: Sequence) -> bool:
    """Whether tokens were appended to a decoding sequence that no forward pass drew (`engine.forced`)."""
    return sequence.computed + 1 < len(sequence.tokens)


def _charge(sequence: Sequence, length: int) -> None:
    """Charge a tenant for the next ``length`` tokens of a sequence, unless they are computed again."""
    end = sequence.computed + length
    tokens = end - max(sequence.computed, sequence.charged)
    if tokens > 0:
        sequence.charged = end
        sequence.account.charge(tokens)
        if sequence.status is Status.PREFILL:
            sequence.account.owed -= tokens


def _cut(sequence: Sequence, budget: int, chunks: list[tuple[Sequence, int]]) -> int:
    """Plan a chunk of a prompt within ``budget`` tokens; returns what is left of it."""
    length = min(budget, len(sequence.tokens) - sequence.computed)
    if length > 0:
        chunks.append((sequence, length))
    return budget - length
