"""A sequence is one choice of a request while it is being generated; a group is the request.

             ┌────────── preempted ─────────┐
             ▼                              │
    PARKED ─▶ WAITING ─▶ PREFILL ─▶ DECODE ─┴─▶ FINISHED      (any status → FINISHED: cancelled or failed)
      ▲                               │  ▲
      └──── a state is unexpanded ────┘  └── expanded, and a slot is free (else WAITING)

PARKED sequences wait for the grammar, WAITING ones for memory or a slot. Both may hold blocks: parked ones and those
that only lost their slot keep theirs, and lose them only to somebody who can run. A preempted sequence keeps its tokens
and computes their keys and values again.

A request for n choices begins as one sequence with ``forks``, the choices still to be born; it splits when the prompt
is computed, and from then on its choices are scheduled, preempted and finished one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from engine.account import Account
from schemas.engine import Started, Submit, TokenLogprobs

NO_SLOT = -1


class Status(Enum):
    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    PARKED = "parked"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Group:
    """A request with its unfinished choices. Times are the loop's clock, in seconds."""

    request: Submit
    program: int
    seed: int
    """Of the sampling noise, uint64; a choice adds its index to the key, not to the seed."""
    arrival: int
    """Running number of the request."""
    stops: frozenset[int]
    """Ids that may end a choice: end of sequence and the request's own."""
    submitted: float
    sequences: list[Sequence] = field(default_factory=list)
    opening: Started | None = None
    """What to tell once it is known that the text can be closed in time (`Submit.close`)."""
    admitted: float | None = None
    cached: int = 0
    """Prompt tokens found in the prefix cache at the first admission."""
    restored: int = 0
    """How many of those came back from the host's memory."""
    account: Account | None = None
    """Its tenant's, once a scheduler has the request."""
    begun: bool = False
    """A first token was told."""
    candidates: list[int] | None = None
    """Ids to score instead of drawing a token."""
    pinning: bool = False
    """Nothing is drawn or scored: the prompt's blocks are to be kept."""
    longest: int = field(init=False)
    """Tokens of prompt and text at which a choice is cut."""

    def __post_init__(self) -> None:
        self.longest = len(self.request.prompt) + self.request.max_tokens


@dataclass(slots=True, eq=False)
class Sequence:
    """One choice. ``tokens``: prompt and generated ids; the last one is never computed before the next is drawn."""

    group: Group
    choice: int
    tokens: list[int]
    chain: list[bytes]
    """Prefix digests of the first full blocks, behind the tenant's root."""
    forks: list[int] = field(default_factory=list)
    """Other choices that are born when this one's prompt is computed."""
    state: int = 0
    """State of the constraint after ``tokens``."""
    row: int = 0
    """Mask of the next token; of no meaning while PARKED."""
    status: Status = Status.PARKED
    pending: tuple[int, TokenLogprobs | None] | None = None
    """A token that was drawn but met an unexpanded state: not yet part of ``tokens``."""
    untold: tuple[int, TokenLogprobs | None] | None = None
    """The last of ``tokens``, if its event waits until it is known whether the text is complete there."""
    tables: list[list[int]] = field(default_factory=list)
    """Blocks in order, for each group of layers; empty while nothing is held."""
    computed: int = 0
    """Tokens whose keys and values are in ``tables``."""
    room: int = 0
    """Tokens that certainly have a place in ``tables`` that is its own; more may."""
    published: int = 0
    """Leading columns of ``tables`` that came from the prefix cache or were offered to it."""
    passed: list[int] = field(default_factory=list)
    """Of each table, leading blocks that were released since no layer of the group sees them any more; in their places
    stand held ones."""
    charged: int = 0
    """Leading tokens that its tenant's account has been charged for, if more than ``computed``."""
    restored: int = 0
    """Of the tokens found in the prefix cache, those that came back from the host's memory."""
    slot: int = NO_SLOT
    """Place in the persistent arrays of scheduler and sampler, while PREFILL or DECODE."""
    way: tuple[int, ...] | None = None
    """Of a request that must not be cut: tokens that complete the text from ``state`` (`engine.closing`)."""
    first_token: float | None = None
    """When it was told, on the loop's clock."""

    @property
    def priority(self) -> int:
        """The lower number comes first."""
        return self.group.request.priority

    @property
    def blocks(self) -> list[int]:
        """The table of the first group; those of others are as long."""
        return self.tables[0] if self.tables else []

    @property
    def account(self) -> Account:
        account = self.group.account
        assert account is not None, "the scheduler has not seen this request"
        return account

    @property
    def standing(self) -> tuple[int, float, int, int]:
        """Who goes on where not all can: the lower priority number, then the tenant that was served less, then the
        earlier request, then the lower choice."""
        return self.group.request.priority, self.account.served, self.group.arrival, self.choice

    @property
    def uncharged(self) -> int:
        """Tokens that will be charged for when they are computed."""
        return max(0, len(self.tokens) - max(self.computed, self.charged))

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.group.request.prompt)

    @property
    def weight(self) -> int:
        """Slots it will need: its own and its forks'."""
        return 1 + len(self.forks)

    def fork(self, choice: int) -> Sequence:
        """A copy for another choice that shares the blocks; the caller counts the references."""
        self.room = 0
        twin = Sequence(self.group, choice, self.tokens.copy(), self.chain.copy())
        twin.state, twin.row, twin.status, twin.way = self.state, self.row, self.status, self.way
        twin.tables, twin.passed = [table.copy() for table in self.tables], self.passed.copy()
        twin.computed, twin.published, twin.charged = self.computed, self.published, self.charged
        return twin

    def forget(self) -> None:
        """Its blocks were released: nothing is computed any more, though it was charged for."""
        self.tables, self.passed = [], []
        self.charged = max(self.charged, self.computed)
        self.computed = self.published = self.room = 0
