"""The requests that a step loop has, from their submission to the end of their last choice.

    enter ─▶ parked ⇄ running ─▶ finish   a choice, with what it says last
                             └─▶ fail     a request, with an error; `contained` does so for what an exception concerns

A sequence that is *unresolved* is asked about in the next step: it is new, or its grammar has grown since it was
parked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from engine.closing import Closer
from engine.outbox import Outbox
from engine.scheduler import Scheduler
from engine.sequence import Group, Sequence, Status
from schemas.engine import Failed

logger = logging.getLogger(__name__)


class Roster:
    """``max_waiting``: requests that may wait for their first admission."""

    def __init__(self, scheduler: Scheduler, outbox: Outbox, closer: Closer, max_waiting: int) -> None:
        self.groups: dict[str, Group] = {}
        self.unresolved: dict[Sequence, None] = {}
        self._scheduler = scheduler
        self._outbox = outbox
        self._closer = closer
        self._max_waiting = max_waiting
        self._queued = 0

    def crowded(self) -> str | None:
        """Why nobody can enter now, or None."""
        return f"{self._queued} requests are waiting" if self._queued >= self._max_waiting else None

    def enter(self, leader: Sequence) -> None:
        """A request is there, parked until its constraint was asked."""
        group = leader.group
        group.sequences.append(leader)
        self.groups[group.request.id] = group
        self._queued += 1
        self._scheduler.park(leader)

    def resolve_later(self, sequence: Sequence) -> None:
        self.unresolved[sequence] = None

    def admitted(self, admitted: list[Sequence]) -> None:
        """These left the queue for a step."""
        for sequence in admitted:
            if sequence.group.admitted is None:
                self._queued -= 1
                self._outbox.admitted(sequence.group, sequence.computed, sequence.restored)

    def fork(self, leader: Sequence) -> list[Sequence]:
        """The other choices of a sequence whose prompt is computed."""
        twins = self._scheduler.fork(leader)
        leader.group.sequences += twins
        return twins

    def park(self, sequence: Sequence, again: bool = False) -> None:
        """Until its grammar has grown; ``again``: until the next step."""
        if again:
            self.unresolved[sequence] = None
        else:
            self._outbox.count("mask_misses")
        if sequence.status is not Status.PARKED:
            self._scheduler.park(sequence)

    def finish(self, sequence: Sequence, reason: str, complete: bool) -> None:
        """End a choice, and with it those that were to be born from it."""
        for choice in (sequence.choice, *sequence.forks):
            self._outbox.finished(sequence.group, choice, reason, complete)
        self._outbox.decoded(sequence)
        self.leave(sequence)

    def fail(self, group: Group, kind: str, message: str, pointer: str = "") -> None:
        """End a request with an error."""
        self._outbox.failed(Failed(group.request.id, kind, message, pointer))
        for sequence in group.sequences.copy():
            self.leave(sequence)

    def leave(self, sequence: Sequence) -> None:
        """A sequence is no more, and its request neither if it was the last one."""
        group = sequence.group
        self._scheduler.remove(sequence)
        self.unresolved.pop(sequence, None)
        self._closer.forget(sequence)
        group.sequences.remove(sequence)
        if not group.sequences:
            del self.groups[group.request.id]
            if group.admitted is None:
                self._queued -= 1

    @contextmanager
    def contained(self, sequences: list[Sequence]) -> Iterator[None]:
        """What goes wrong inside ends the requests of ``sequences``, not the loop."""
        try:
            yield
        except Exception as error:
            groups = [group for group in dict.fromkeys(s.group for s in sequences) if group.sequences]
            logger.exception("%d requests fail", len(groups))
            for group in groups:
                self.fail(group, "internal", f"{type(error).__name__} in the engine")
