"""The programs of the engine process: which exist, who waits for them, and the grammar workers behind them.

    request(spec) ──▶ known program             ready at once
                  └─▶ Compile to a worker  ──▶ poll(): Ready | Refusal, later
    misses of a step ─▶ Expand             ──▶ poll(): Grown

Everything here runs on the step loop's thread except the readers, which only put decoded replies into a queue. Programs
are shared by equal constraints (refusals too) and counted by the sequences that use them. Where all programs together
hold more than a quarter of ``cache_bytes``, those that are not used are put to sleep, least recently used first: packed
to a fortieth, ready again without a compile, and forgotten only where the sleeping hold the rest. A worker that misses
its deadline is killed: what it was compiling is refused as too large, and the other programs it owned are compiled
again elsewhere, with their expansions replayed in the same order, before they are expanded further.
"""

from __future__ import annotations

import hashlib
import queue
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from engine import grammar_worker as worker
from engine.worker_link import Replies, Spare, WorkerLink
from fsm.image import Image
from fsm.runtime import Miss, Runtime, Sleeping
from schemas.constraint import ConstraintSpec, LarkSpec

AWAKE = 4
"""One part of the cache in so many is for programs that are awake: the others hold a hundred times as many asleep."""


@dataclass(frozen=True)
class Ready:
    """A constraint is compiled: its program number, contract, reasons and limits, and the compile's seconds (0.0 when
    it was known)."""

    key: bytes
    program: int
    contract: str
    reasons: list[str]
    limits: dict[str, int | str]
    seconds: float


@dataclass(frozen=True)
class Refusal:
    """A constraint is refused. ``kind`` as in `schemas.engine.Failed`."""

    key: bytes
    kind: str
    message: str
    pointer: str


@dataclass(frozen=True)
class Grown:
    """Sequences parked on ``program`` may be asked again."""

    program: int


@dataclass(frozen=True)
class Broken:
    """``program`` cannot be expanded any further: its sequences fail."""

    program: int
    message: str


MAX_REFUSALS = 1000
"""Refusals that are remembered."""

AHEAD = 4
"""Expansions asked for as soon as a program is ready, from its start on: its first tokens take longer than that to
come, and most programs then never miss."""


News = Ready | Refusal | Grown | Broken


class _Known(msgspec.Struct, array_like=True):
    """What there is to know of a program beside its image; ``log``: the expansions that were asked for."""

    spec: ConstraintSpec
    contract: str = ""
    reasons: list[str] = []
    limits: dict[str, int | str] = {}
    log: list[list[Miss]] = []


class _Asleep(NamedTuple):
    image: Sleeping
    known: bytes
    """`_Known`, compressed."""

    @property
    def nbytes(self) -> int:
        return self.image.nbytes + len(self.known)


@dataclass(slots=True)
class _Entry:
    key: bytes
    known: _Known
    ticket: int
    program: int = 0
    """0 while compiling."""
    users: int = 0
    refusal: Refusal | None = None
    owner: WorkerLink | None = None
    deadline: float | None = None
    """When the pending job must have answered."""
    expanding: list[Miss] = field(default_factory=list)
    start: int = 0
    ahead: int = 0
    """Expansions still to be asked for before anybody needs them."""


class Programs:
    """The programs of one vocabulary. Not thread-safe; ``wake`` is called from reader threads when `poll` has news."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        wake: Callable[[], None],
        deadline_s: float = 5.0,
        fuel: int | None = None,
        cache_bytes: int = 256 << 20,
    ) -> None:
        self.runtime = runtime
        self._wake = wake
        self._deadline_s = deadline_s
        self._fuel = fuel
        self._cache_bytes = cache_bytes
        self._spellable = bytes(runtime.table.spellable.tolist())
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._asleep: OrderedDict[bytes, _Asleep] = OrderedDict()
        self._by_ticket: dict[int, _Entry] = {}
        self._by_program: dict[int, _Entry] = {}
        self._tickets = 0
        self._replies: Replies = queue.SimpleQueue()
        self._news: list[News] = []
        self._worker = self._link()
        self._spare = Spare(lambda: self._link(stand_by=True))
        self._sleeping_bytes = 0
        self._refusals = 0
        self._settled = True
        """Nothing has changed since memory was last looked after."""
        self.compile_seconds: list[float] = []
        """Observations since the last report; the reader clears it."""

    def close(self) -> None:
        self._worker.kill()
        self._spare.close()

    @property
    def waiting(self) -> int:
        """Jobs that workers have not answered."""
        return sum(entry.deadline is not None for entry in self._entries.values())

    def nbytes(self) -> int:
        """Bytes of all programs, awake and asleep."""
        return sum(map(self.runtime.nbytes_of, self._by_program)) + self._sleeping_bytes

    def request(self, spec: ConstraintSpec) -> bytes:
        """Ask for a program; `poll` brings Ready or Refusal with the returned key (also when it is known already)."""
        key = hashlib.blake2b(msgspec.msgpack.encode(spec), digest_size=32).digest()
        if key in self._asleep:
            self._wake_up(key)
        entry = self._entries.get(key)
        if entry is None:
            self._compile(key, spec)
        elif entry.refusal is not None:
            self._news.append(entry.refusal)
        elif entry.program:
            self._news.append(_ready(entry, 0.0))
        self._entries.move_to_end(key)
        return key

    def acquire(self, program: int) -> None:
        """One more sequence group uses ``program``."""
        if program:
            self._by_program[program].users += 1

    def release(self, program: int) -> None:
        """One fewer; unused programs may be evicted."""
        if program:
            self._by_program[program].users -= 1
            self._settled = False

    def ask(self, programs: set[int]) -> None:
        """Send the misses of these programs to their worker. One batch a program is under way at a time."""
        for program in sorted(programs):
            entry = self._by_program[program]
            if entry.deadline is None:
                misses = self.runtime.take_misses(program)
                if misses:
                    self._expand(entry, misses)
                else:
                    self._news.append(Grown(program))

    def poll(self) -> list[News]:
        """What has become known since the last call. Programs told as Ready are to be acquired before the next one."""
        if not self._news and not self._settled:
            self._settled = True
            self._evict()
        while True:
            try:
                owner, reply = self._replies.get_nowait()
            except queue.Empty:
                break
            if owner is self._worker:
                self._handle(reply)
        self._check_deadlines()
        news, self._news = self._news, []
        return news

    # -- replies -------------------------------------------------------------------------------------------------------

    def _handle(self, reply: worker.FromWorker | None) -> None:
        if reply is None:
            self._replace_worker("the grammar worker ended unexpectedly")
            return
        entry = self._by_ticket.get(reply.program)
        if entry is None:
            return
        self._settled = False
        match reply:
            case worker.CompiledReply():
                entry.deadline = None
                self._compiled(entry, reply)
            case worker.Expanded():
                entry.deadline, entry.expanding = None, []
                self.runtime.apply(entry.program, reply.delta)
                self._news.append(Grown(entry.program))
                self._expand_ahead(entry, reply.delta.n_defined > 0)
            case worker.Refused():
                entry.deadline = None
                self._refuse(entry, reply.kind, reply.message, reply.pointer)

    def _compiled(self, entry: _Entry, reply: worker.CompiledReply) -> None:
        self.compile_seconds.append(reply.seconds)
        if entry.program:
            # Compiled again after a worker died: the image already has these tables, and the replay is complete.
            if entry.expanding:
                self._expand(entry, entry.expanding)
            return
        image = Image(reply.start, self.runtime.table.max_token_bytes)
        image.apply(reply.delta)
        entry.program = self.runtime.add(image)
        known = entry.known
        known.contract, known.reasons, known.limits = reply.contract, list(reply.reasons), reply.limits
        self._by_program[entry.program] = entry
        self._news.append(_ready(entry, reply.seconds))
        entry.start, entry.ahead = reply.start, AHEAD
        self._expand_ahead(entry, reply.delta.n_defined < reply.delta.n_states)

    def _refuse(self, entry: _Entry, kind: str, message: str, pointer: str) -> None:
        if entry.program:
            self._news.append(Broken(entry.program, message))
            return
        refusal = Refusal(entry.key, kind, message, pointer)
        # A refusal is as deterministic as a program, unless the deadline or a defect caused it.
        if kind in ("internal", "constraint_too_large"):
            self._forget(entry)
        else:
            entry.refusal = refusal
            self._refusals += 1
        self._news.append(refusal)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def _compile(self, key: bytes, spec: ConstraintSpec) -> None:
        entry = self._enter(key, _Known(spec))
        entry.owner = self._worker
        entry.deadline = time.monotonic() + self._deadline_s
        self._worker.send(self._job(entry))

    def _enter(self, key: bytes, known: _Known) -> _Entry:
        self._tickets += 1
        entry = self._entries[key] = self._by_ticket[self._tickets] = _Entry(key, known, self._tickets)
        return entry

    def _link(self, *, stand_by: bool = False) -> WorkerLink:
        link = WorkerLink(self._replies, self._wake, stand_by=stand_by)
        link.send(worker.Prepare(self._spellable))
        return link

    def _job(self, entry: _Entry, replay: Sequence[list[Miss]] = ()) -> worker.Compile:
        spec = entry.known.spec
        controls = self.runtime.table.controls if isinstance(spec, LarkSpec) else {}
        return worker.Compile(entry.ticket, spec, self._spellable, self._fuel, list(replay), controls)

    def _expand(self, entry: _Entry, misses: list[Miss]) -> None:
        entry.deadline = time.monotonic() + self._deadline_s
        entry.expanding = misses
        if entry.owner is not self._worker:
            # Its worker is gone: rebuild the machine first, up to where the image is.
            entry.owner = self._worker
            self._worker.send(self._job(entry, entry.known.log))
            return
        entry.known.log.append(misses)
        self._worker.send(worker.Expand(entry.ticket, misses))

    def _expand_ahead(self, entry: _Entry, grew: bool) -> None:
        """Ask for more states than are needed, together with those that are; no more of them where the last
        expansion found none."""
        if entry.ahead and grew:
            entry.ahead -= 1
            self._expand(entry, [*self.runtime.take_misses(entry.program), (entry.start, 0)])

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        late = [e for e in self._entries.values() if e.deadline is not None and e.deadline < now]
        if late:
            for entry in late:
                entry.deadline = None
                self._refuse(entry, "constraint_too_large", f"compiling took longer than {self._deadline_s:g} s", "")
            self._worker.kill()
            self._replace_worker("")

    def _replace_worker(self, reason: str) -> None:
        """Let another worker take over; give it the jobs that the old one still owed."""
        old, self._worker = self._worker, self._spare.take() or self._link()
        old.kill()
        for entry in list(self._entries.values()):
            if entry.deadline is None:
                continue
            if entry.program:
                pending, entry.expanding = entry.expanding, []
                if entry.known.log and entry.known.log[-1] == pending:
                    entry.known.log.pop()
                self._expand(entry, pending)
            elif reason:
                # It may be this one that killed the worker: do not try it twice.
                entry.deadline = None
                self._refuse(entry, "internal", reason, "")
            else:
                entry.owner = self._worker
                self._worker.send(self._job(entry))

    # -- eviction ------------------------------------------------------------------------------------------------------

    def _evict(self) -> None:
        """Put unused programs to sleep, and drop sleeping ones and old refusals, least recently used first, while they
        hold too much."""
        awake, most_awake = sum(map(self.runtime.nbytes_of, self._by_program)), self._cache_bytes // AWAKE
        for entry in list(self._entries.values()) if awake > most_awake or self._refusals > MAX_REFUSALS else ():
            if entry.refusal is not None and self._refusals > MAX_REFUSALS:
                self._forget(entry)
            elif awake > most_awake and entry.program and not entry.users and entry.deadline is None:
                awake -= self.runtime.nbytes_of(entry.program)
                self._put_to_sleep(entry)
        while self._asleep and self._sleeping_bytes > self._cache_bytes - most_awake:
            _, forgotten = self._asleep.popitem(last=False)
            self._sleeping_bytes -= forgotten.nbytes

    def _put_to_sleep(self, entry: _Entry) -> None:
        known = zlib.compress(msgspec.msgpack.encode(entry.known))
        asleep = self._asleep[entry.key] = _Asleep(self.runtime.sleep(entry.program), known)
        self._sleeping_bytes += asleep.nbytes
        self._strike_out(entry)

    def _wake_up(self, key: bytes) -> None:
        """Whoever expands the program next must build its machine first: it has no owner."""
        self._settled = False
        asleep = self._asleep.pop(key)
        self._sleeping_bytes -= asleep.nbytes
        entry = self._enter(key, msgspec.msgpack.decode(zlib.decompress(asleep.known), type=_Known))
        entry.program = self.runtime.wake(asleep.image)
        self._by_program[entry.program] = entry

    def _forget(self, entry: _Entry) -> None:
        self._refusals -= entry.refusal is not None
        if entry.program:
            self.runtime.drop(entry.program)
        self._strike_out(entry)

    def _strike_out(self, entry: _Entry) -> None:
        del self._entries[entry.key]
        del self._by_ticket[entry.ticket]
        if entry.program:
            del self._by_program[entry.program]
            if entry.owner is self._worker:
                self._worker.send(worker.Forget(entry.ticket))


def _ready(entry: _Entry, seconds: float) -> Ready:
    known = entry.known
    return Ready(entry.key, entry.program, known.contract, known.reasons, known.limits, seconds)
