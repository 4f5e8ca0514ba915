"""Who gives way to the first that waits, so that a flood of requests cannot keep others out.

Somebody of a later class of priority always does. Within a class it is done only for a tenant that has nothing running:

    slots    cost nothing to give: their sequence keeps its blocks and goes on when there is a slot again. All but the
             first sequence of each tenant gives its own; the first does once its tenant was served `LEAD` tokens more
    blocks   mean that tokens are computed again: only tenants that were served `LEAD` tokens more give theirs

So where there are more tenants than places, they take turns, and nothing is computed again for less than `LEAD` tokens
of real progress.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from engine.account import Account
from engine.sequence import Sequence, Status

LEAD = 256
"""Tokens, over the weight."""

Standing = tuple[int, float, int, int]


def standing(sequence: Sequence) -> Standing:
    return sequence.standing


def expendable(sequence: Sequence) -> tuple[bool, Standing]:
    """The largest is whoever gives its blocks to those that run: parked sequences first."""
    return sequence.status is Status.PARKED, sequence.standing


def slot_givers(head: Sequence, holders: Iterable[Sequence]) -> list[Sequence]:
    """Those of ``holders`` that give their slots to ``head``, in that order."""
    later, rivals = _below(head, holders)
    firsts = [sequences.pop(0) for sequences in rivals.values()]
    ranked = [
        ((rank / account.weight, account.served, sequence.group.arrival), sequence)
        for account, sequences in rivals.items()
        for rank, sequence in enumerate(sequences, start=1)
    ]
    ranked.sort(key=lambda ranking: ranking[0], reverse=True)
    limit = head.account.served + LEAD
    led = sorted((first for first in firsts if first.account.served > limit), key=standing, reverse=True)
    return later + [sequence for _, sequence in ranked] + led


def block_givers(head: Sequence, holders: Iterable[Sequence]) -> list[Sequence]:
    """Those of ``holders`` that give their blocks to ``head``, in that order."""
    later, rivals = _below(head, holders)
    limit = head.account.served + LEAD
    led = [sequence for account, sequences in rivals.items() if account.served > limit for sequence in sequences]
    return later + sorted(led, key=expendable, reverse=True)


def _below(head: Sequence, holders: Iterable[Sequence]) -> tuple[list[Sequence], dict[Account, list[Sequence]]]:
    """Sequences of later classes, the last first; and, where the tenant of ``head`` has nothing running, those of other
    tenants of its class, each tenant's in order."""
    later: list[Sequence] = []
    rivals: defaultdict[Account, list[Sequence]] = defaultdict(list)
    starving = head.account.running == 0
    for sequence in holders:
        if sequence.priority > head.priority:
            later.append(sequence)
        elif starving and sequence.priority == head.priority and sequence.account is not head.account:
            rivals[sequence.account].append(sequence)
    for sequences in rivals.values():
        sequences.sort(key=standing)
    return sorted(later, key=expendable, reverse=True), rivals
