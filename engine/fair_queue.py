"""Who is next among those that wait: by class of priority, then fairly between tenants, then by arrival.

Each tenant has an account in each class, the tokens computed for it over its weight, and whoever's is lowest is next
(Sheng et al., Fairness in Serving Large Language Models, OSDI 2024; before it Goyal et al., Start-time Fair Queuing,
SIGCOMM 1996). So tenants that always want something get tokens in proportion to their weights, however many requests
each of them sends. A tenant with nothing in the queue joins where the next in line stands: being idle saves nothing up,
and leaving for a moment is forgiven nothing, as long as anybody else of the class is there.

    tenant a   served 900 │ owed 100 │            b is next: 700 < 1,000
    tenant b   served 700 │                       a prompt of 400 tokens is admitted, which b then owes;
    tenant c   served 700 ▒▒▒ weight 2            then c is, whose tokens count half

Choosing costs O(log tenants): accounts lie in a heap, and one whose key has grown is put back when it surfaces.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush, heapreplace

from engine.account import Account
from engine.sequence import Sequence


class _Class:
    """The accounts of one priority."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.living = 0
        self.heap: list[tuple[float, int, int, Account]] = []
        self.last: Account | None = None
        """The one that was chosen last."""


class FairQueue:
    """Waiting sequences. ``weights``: of tenants whose weight is not 1."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._classes: dict[int, _Class] = {}
        self._queues: dict[Account, list[Sequence]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sequence]:
        """All of them, in no order that means anything."""
        return (sequence for queue in self._queues.values() for sequence in queue)

    @property
    def tenants(self) -> int:
        """Tenants that wait, counted once a class."""
        return len(self._queues)

    def open(self, tenant: str, priority: int) -> Account:
        """The account of a tenant for one more sequence; `close` when that has ended."""
        among = self._classes.setdefault(priority, _Class())
        account = among.accounts.get(tenant)
        if account is None:
            account = among.accounts[tenant] = Account(self._weights.get(tenant, 1.0))
        account.living += 1
        among.living += 1
        return account

    def close(self, account: Account, priority: int) -> None:
        """A sequence has ended. Accounts are forgotten when nobody of their class is left to compare with."""
        account.living -= 1
        among = self._classes[priority]
        among.living -= 1
        if among.living == 0:
            del self._classes[priority]

    def push(self, sequence: Sequence) -> None:
        account = sequence.account
        queue = self._queues.get(account)
        if queue is None:
            queue = self._queues[account] = []
            account.served = max(account.served, self._floor(self._classes[sequence.priority]))
        insort(queue, sequence, key=_arrival)
        self._length += 1
        if queue[0] is sequence:
            self._enter(sequence)

    def head(self) -> Sequence | None:
        """Who is next."""
        for priority in sorted(self._classes):
            account = self._first(self._classes[priority])
            if account is not None:
                return self._queues[account][0]
        return None

    def take(self, sequence: Sequence) -> None:
        """Take out one that was chosen."""
        self._classes[sequence.priority].last = sequence.account
        self.remove(sequence)

    def remove(self, sequence: Sequence) -> None:
        account = sequence.account
        queue = self._queues[account]
        queue.remove(sequence)
        self._length -= 1
        if not queue:
            del self._queues[account]
            account.entry = None

    def refund(self, sequence: Sequence, tokens: int) -> None:
        """Tokens that were owed to an admitted prompt will not be computed now."""
        account = sequence.account
        account.owed -= tokens
        if account in self._queues:
            self._enter(self._queues[account][0])

    def _enter(self, first: Sequence) -> None:
        """Place an account in its heap by what it has come to; ``first`` of it waits longest."""
        account = first.account
        account.entry = (account.committed, *_arrival(first), account)
        heappush(self._classes[first.priority].heap, account.entry)

    def _first(self, among: _Class) -> Account | None:
        heap = among.heap
        while heap:
            entry = heap[0]
            account = entry[-1]
            if account.entry is not entry:
                heappop(heap)
                continue
            now = (account.committed, *_arrival(self._queues[account][0]), account)
            if now[:3] == entry[:3]:
                return account
            account.entry = now
            heapreplace(heap, now)
        return None

    def _floor(self, among: _Class) -> float:
        """Where a tenant joins: at the next in line, or, where nobody waits, at the one that was chosen last."""
        first = self._first(among) or among.last
        return 0.0 if first is None else first.served


def _arrival(sequence: Sequence) -> tuple[int, int]:
    return sequence.group.arrival, sequence.choice
