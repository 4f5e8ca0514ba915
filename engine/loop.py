"""The step loop: continuous batching (Yu et al., Orca, OSDI 2022) with constraints.

    schedule → run → sample → advance → emit

Requests come in as messages of `schemas.engine`, events go out as lists of them, one list a step. There is no thread,
process or socket here: whoever owns the loop calls the input methods between steps, and `step` while `can_step`.

Constraints are seen only in batch form: after sampling, one `Masks.advance` over the tokens drawn and one `Masks.rows`
for the masks of the next step. For a single sequence that means:

* A token belongs to the text once the machine has advanced over it. A token that meets an unexpanded state waits with
  its sequence, which is parked until `grammar_ready`; nobody else waits.
* Whether a text is complete is known once the row of its state is; with ``track_complete``, its token is told then.
* An end-of-sequence or stop id ends the choice where its text is complete, which without a constraint is everywhere,
  and is not part of the text. Elsewhere a stop id is a token like others, and masks allow no end of sequence.
* Where a mask allows nothing but end-of-sequence ids, the choice ends at once, a forward pass earlier than otherwise:
  "stop", even when that was the last of its ``max_tokens``.
* With ``close``, a token from which the text could not be completed in time gives way to one from which it can
  (`engine/closing.py`); the choice ends with "stop".
* A token that the mask allowed and the machine refuses is a fault of ours: its request fails as "internal".

An exception while a batch is run fails the requests of that batch and is logged; the loop and all others live on.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from contextlib import contextmanager

import numpy as np

from engine.base import MISS, OK, REFUSED, HostMemory, Logits, Masks, Runner, SamplingKernel
from engine.batch import Step
from engine.blocks import BlockPool
from engine.closing import BUSY, TOO_FAR, Closer, too_long
from engine.host_tier import HostTier
from engine.mask_columns import MaskColumns
from engine.outbox import Outbox
from engine.prefix_cache import PrefixCache
from engine.refusal import malformed, no_candidates
from engine.sampler import Sampler
from engine.scheduler import Limits, Scheduler
from engine.sequence import Group, Sequence, Status
from schemas.engine import Event, Failed, Pin, Report, Score, Started, Submit, TokenLogprobs
from schemas.tenants import Tenant

logger = logging.getLogger(__name__)

Forced = Callable[[int, int, int], tuple[tuple[int, ...], int] | None]
"""(program, state, row) → tokens that follow in any case and the state after them, None on a miss (`engine.forced`)."""

Drawn = tuple[list[Sequence], list[int], list[TokenLogprobs | None]]
"""Sequences, the token drawn for each, and its log-probabilities where they were asked for."""


class StepLoop:
    """Serves one model. Not thread-safe.

    ``eos_ids``: end-of-sequence ids of the model, the same that the masks speak of. ``end_early``: end a choice whose
    mask allows only those without asking the model which. ``sampling``: where the runner's logits are not on the CPU.
    ``forced``: the tokens that follow in any case, where the model need not be asked. ``host``: the runner's second
    tier of KV memory. ``tenants``: those about whom something was settled. ``clock``: seconds, monotonic.
    """

    def __init__(
        self,
        runner: Runner,
        masks: Masks,
        *,
        model: str,
        eos_ids: Several[int],
        limits: Limits,
        end_early: bool = True,
        sampling: SamplingKernel | None = None,
        forced: Forced | None = None,
        host: HostMemory | None = None,
        tenants: Several[Tenant] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if masks.pool.vocab_size != runner.vocab_size:
            raise ValueError(f"masks of {masks.pool.vocab_size} ids do not fit a model of {runner.vocab_size}")
        self._runner = runner
        self._host = host
        tier = HostTier(host.num_blocks if host else 0)
        self._pool = BlockPool(runner.num_blocks, runner.block_size, tier.store)
        self._cache = PrefixCache(self._pool, model, tier, runner.windows)
        weights = {tenant.name: tenant.weight for tenant in tenants}
        self._sharing = {tenant.name: tenant.cache_group for tenant in tenants}
        self._scheduler = Scheduler(self._cache, runner.context_length, limits, weights)
        self._sampler = Sampler(masks.pool, limits.max_sequences, sampling)
        self._eos_ids = frozenset(eos_ids)
        self._masks = MaskColumns(masks, self._eos_ids, limits.max_sequences)
        self._closer = Closer(masks, self._masks)
        self._limits = limits
        self._end_early = end_early
        self._forced = forced
        self._clock = clock
        self._groups: dict[str, Group] = {}
        self._unresolved: dict[Sequence, None] = {}
        self._outbox = Outbox(clock)
        self._arrivals = 0
        self._queued = 0

    # Input

    def submit(self, request: Submit, program: int = 0, contract: str = "", reasons: Several[str] = ()) -> None:
        """Queue a request under a compiled constraint (program 0: none). The next step answers: Started or Failed."""
        self._submit(request, program, contract, reasons)

    def score(self, request: Score) -> None:
        """Queue a request for scores instead of tokens. Once its prompt is computed a step answers: Scored, or
        Failed."""
        problem = no_candidates(request.candidates, self._runner.vocab_size)
        if problem is not None:
            self._outbox.failed(Failed(request.id, "invalid_request", problem))
            return
        prompt = Submit(request.id, request.model, request.prompt, 1, tenant=request.tenant, priority=request.priority)
        self._submit(prompt, 0, "", (), request.candidates)

    def pin(self, request: Pin) -> None:
        """Queue a prefix whose blocks are to be kept for good, in up to half of the memory. Once it is computed a step
        answers: Pinned, or Failed."""
        problem = self._scheduler.memory.unpinnable(len(request.prompt))
        if problem is not None:
            message = f"prompt: {problem}"
            self._outbox.failed(Failed(request.id, "invalid_request", message))
            return
        prompt = Submit(request.id, request.model, request.prompt, 1, tenant=request.tenant)
        self._submit(prompt, 0, "", (), [], pinning=True)

    def _submit(
        self,
        request: Submit,
        program: int,
        contract: str,
        reasons: Several[str],
        candidates: list[int] | None = None,
        pinning: bool = False,
    ) -> None:
        refusal = self._refusal(request, program)
        if refusal is not None:
            self._outbox.failed(refusal)
            return
        seed = request.sampling.seed
        group = Group(
            request,
            program,
            seed=secrets.randbits(64) if seed is None else seed & 0xFFFFFFFFFFFFFFFF,
            arrival=self._arrivals,
            stops=frozenset(request.stop_token_ids) | (frozenset() if request.ignore_eos else self._eos_ids),
            submitted=self._clock(),
            candidates=candidates,
            pinning=pinning,
        )
        root = self._cache.root(request.tenant, self._sharing.get(request.tenant))
        leader = Sequence(group, 0, request.prompt.copy(), [root], list(range(1, request.n)))
        group.sequences.append(leader)
        self._groups[request.id] = group
        self._arrivals += 1
        self._queued += 1
        self._scheduler.park(leader)
        with self._contained([leader]):
            leader.state = self._masks.start(program)
            self._unresolved[leader] = None
            started = Started(request.id, contract, list(reasons))
            if request.close:
                group.opening = started
            else:
                self._outbox.started(started)

    def cancel(self, id: str, choice: int | None = None) -> None:
        """End a request, or one choice of it, and free its blocks now. An id that is unknown has just ended."""
        group = self._groups.get(id)
        if group is None:
            return
        with self._contained(group.sequences):
            for sequence in group.sequences.copy():
                choices = [sequence.choice, *sequence.forks]
                if choice is None or choices == [choice]:
                    self._finish(sequence, "cancelled", self._masks.accepting([sequence])[0])
                elif choice in choices:
                    self._outbox.finished(group, choice, "cancelled", self._masks.accepting([sequence])[0])
                    choices.remove(choice)
                    sequence.choice, *sequence.forks = choices

    def grammar_ready(self, program: int) -> None:
        """More of a program is expanded: its parked sequences are asked about again in the next step."""
        self._unresolved.update(dict.fromkeys(s for s in self._scheduler.parked if s.group.program == program))

    def grammar_failed(self, program: int, kind: str, message: str, pointer: str = "") -> None:
        """A program will not be expanded further (deadline, fuel): the requests that wait for it fail."""
        for group in dict.fromkeys(s.group for s in self._scheduler.parked if s.group.program == program):
            self._fail(group, kind, message, pointer)

    @property
    def can_step(self) -> bool:
        """`step` has something to do. False while everything waits for input."""
        return bool(self._outbox or self._unresolved or self._scheduler.can_run)

    @property
    def idle(self) -> bool:
        """Nothing is left: every request has ended and every event was handed out."""
        return not self._groups and not self._outbox

    def rows_in_use(self) -> Iterator[int]:
        """The mask rows that sequences know by number."""
        return (sequence.row for group in self._groups.values() for sequence in group.sequences)

    # One step

    def step(self) -> list[Event]:
        """Move all that can move by one token, or by one chunk of its prompt."""
        step = self._schedule()
        if step is not None:
            with self._contained([*step.sequences, *step.admitted]):
                logits = self._run(step)
                drawn = self._sample(step, logits)
                self._advance(drawn)
        return self._emit()

    def _schedule(self) -> Step | None:
        self._closer.new_step()
        self._resolve()
        step = self._scheduler.schedule()
        if step is not None:
            self._note_admissions(step.admitted)
        return step

    def _run(self, step: Step) -> Logits:
        if self._host and (step.stores or step.loads):
            self._host.move(step.stores, step.loads)
            self._cache.host.settle()
        for source, target in step.copies:
            self._runner.copy_block(source, target)
        logits = self._runner.forward(step.batch)
        self._scheduler.computed(step)
        return logits

    def _sample(self, step: Step, logits: Logits) -> Drawn:
        """Draw a token each. Where a prompt is computed its choices are born, and draw from the same logits."""
        sequences = step.sampled
        if any(sequence.group.candidates is not None for sequence in sequences):
            sequences, logits = self._score(sequences, logits)
        if any(sequence.forks for sequence in sequences):
            families = [[sequence, *self._fork(sequence)] for sequence in sequences]
            logits = logits[np.repeat(np.arange(len(families)), [len(family) for family in families])]
            sequences = [sequence for family in families for sequence in family]
        tokens, logprobs = self._sampler.draw(logits, sequences)
        self._outbox.count("generated_tokens", len(tokens))
        return sequences, tokens, logprobs

    def _score(self, sequences: list[Sequence], logits: Logits) -> tuple[list[Sequence], Logits]:
        """Tell the scores of those who asked for them, keep what is to be pinned, and let them go; returns the
        others."""
        drawing: list[int] = []
        for i, sequence in enumerate(sequences):
            group = sequence.group
            if group.candidates is None:
                drawing.append(i)
                continue
            if group.pinning:
                self._outbox.pinned(group, self._scheduler.memory.pin(sequence))
            else:
                self._outbox.scored(group, self._sampler.score(logits, i, group.candidates))
            self._leave(sequence)
        return [sequences[i] for i in drawing], logits[np.array(drawing, np.int64)]

    def _advance(self, drawn: Drawn) -> None:
        """Take the tokens into the texts, end the choices that are done, and find the masks of the next step."""
        going = self._end_at_stops(drawn)
        self._find_rows(self._take(going))

    def _emit(self) -> list[Event]:
        return self._outbox.take()

    # Tokens into texts

    def _end_at_stops(self, drawn: Drawn) -> Drawn:
        """End the choices that drew a stop id where their text is complete; returns the others."""
        sequences, tokens, logprobs = drawn
        stopping = [s for s, token in zip(sequences, tokens, strict=True) if token in s.group.stops]
        if not stopping:
            return drawn
        for sequence, complete in zip(stopping, self._masks.accepting(stopping), strict=True):
            if complete:
                self._finish(sequence, "stop", True)
        going = [i for i, sequence in enumerate(sequences) if sequence.status is not Status.FINISHED]
        return [sequences[i] for i in going], [tokens[i] for i in going], [logprobs[i] for i in going]

    def _take(self, drawn: Drawn) -> list[Sequence]:
        """Advance over the tokens; returns the sequences whose texts have grown."""
        sequences, tokens, logprobs = drawn
        if not sequences:
            return []
        states, statuses = self._masks.advance(sequences, tokens)
        grown: list[Sequence] = []
        for sequence, token, logprob, state, status in zip(sequences, tokens, logprobs, states, statuses, strict=True):
            if sequence.status is Status.FINISHED:  # with another choice of its request
                continue
            if status == OK and sequence.way is not None:
                status, token, state = self._closer.keep(sequence, token, state)
            if status == OK:
                sequence.state = state
                sequence.pending = None
                sequence.tokens.append(token)
                if sequence.group.request.track_complete:
                    sequence.untold = token, logprob
                else:
                    self._outbox.token(sequence, token, logprob)
                grown.append(sequence)
            elif status in (MISS, BUSY):
                sequence.pending = token, logprob
                self._park(sequence, again=status == BUSY)
            elif status == TOO_FAR:
                self._finish(sequence, "stop", True)
            else:
                self._fail(sequence.group, "internal", f"the constraint refused token {token}, which its mask allowed")
        return [sequence for sequence in grown if sequence.status is not Status.FINISHED]

    def _has_way(self, sequence: Sequence) -> bool:
        """Whether a sequence that must not be cut knows how to end: only then does its request start. It is asked again
        while that cannot be known; where it cannot end in time its request fails."""
        group = sequence.group
        if group.opening is None:
            return True
        verdict = self._closer.begin(sequence)
        if verdict == OK:
            self._outbox.started(group.opening)
            group.opening = None
        elif verdict in (MISS, BUSY):
            self._park(sequence, again=verdict == BUSY)
        elif verdict == TOO_FAR:
            self._fail(group, "invalid_request", too_long(sequence))
        return verdict == OK

    def _find_rows(self, sequences: list[Sequence]) -> None:
        """Find the masks of the next tokens; end what needs no further token, park what has no mask yet."""
        if not sequences:
            return
        rows, statuses, over = self._masks.rows(sequences)
        self._tell_tracked([s for s, status in zip(sequences, statuses, strict=True) if s.untold and status == OK])
        full: list[Sequence] = []
        longer: list[Sequence] = []
        for i, (sequence, row, status) in enumerate(zip(sequences, rows, statuses, strict=True)):
            if sequence.status is Status.FINISHED:  # with another choice of its request
                continue
            if status == MISS:
                self._park(sequence)
            elif status == REFUSED:
                self._fail(sequence.group, "internal", "the constraint allows no token and no end here")
            elif i in over and self._end_early:
                self._finish(sequence, "stop", True)
            elif len(sequence.tokens) == sequence.group.longest:
                full.append(sequence)
            elif (run := self._forced_run(sequence, row)) is None:
                self._park(sequence)
            elif run[0]:
                tokens, sequence.state = run
                sequence.tokens += tokens
                self._outbox.forced(sequence, tokens)
                longer.append(sequence)
            else:
                sequence.row = row
                if sequence.status is Status.PARKED:
                    self._scheduler.unpark(sequence)
        full = [sequence for sequence in full if sequence.status is not Status.FINISHED]
        if full:
            for sequence, complete in zip(full, self._masks.accepting(full), strict=True):
                self._finish(sequence, "stop" if complete and sequence.group.request.close else "length", complete)

        self._find_rows(longer)

    def _forced_run(self, sequence: Sequence, row: int) -> tuple[tuple[int, ...], int] | None:
        """Tokens to be appended without asking the model, if there are any. A request that wants to know more of each
        token than its id is spared; so is one that has not begun, since its choices may not be born yet."""
        asked = sequence.group.request
        apart = asked.track_complete or asked.close or asked.sampling.logprobs is not None
        if self._forced is None or sequence.first_token is None or apart:
            return (), sequence.state
        run = self._forced(sequence.group.program, sequence.state, row)
        room = sequence.group.longest - len(sequence.tokens)
        return run if run is None or len(run[0]) <= room else ((), sequence.state)

    def _resolve(self) -> None:
        """Ask about parked sequences: new ones for the first time, others because their grammar has grown."""
        if not self._unresolved:
            return
        asked, self._unresolved = list(self._unresolved), {}
        with self._contained(asked):
            without = [sequence for sequence in asked if sequence.pending is None and self._has_way(sequence)]
            held = [(sequence, *sequence.pending) for sequence in asked if sequence.pending is not None]
            grown = self._take(([s for s, _, _ in held], [token for _, token, _ in held], [p for _, _, p in held]))
            self._find_rows(without + grown)

    # Comings and goings

    def _refusal(self, request: Submit, program: int) -> Failed | None:
        if self._queued >= self._limits.max_waiting:
            return Failed(request.id, "overloaded", f"{self._queued} requests are waiting")
        message = (
            f"id: {request.id!r} is the id of a request that is running"
            if request.id in self._groups
            else malformed(request, self._runner.vocab_size, constrained=program != 0)
            or self._scheduler.refusal(request)
        )
        return None if message is None else Failed(request.id, "invalid_request", message)

    def _fork(self, leader: Sequence) -> list[Sequence]:
        twins = self._scheduler.fork(leader)
        leader.group.sequences += twins
        return twins

    def _park(self, sequence: Sequence, again: bool = False) -> None:
        """Until its grammar has grown; ``again``: until the next step."""
        if again:
            self._unresolved[sequence] = None
        else:
            self._outbox.count("mask_misses")
        if sequence.status is not Status.PARKED:
            self._scheduler.park(sequence)

    def _finish(self, sequence: Sequence, reason: str, complete: bool) -> None:
        """End a choice, and with it those that were to be born from it."""
        for choice in (sequence.choice, *sequence.forks):
            self._outbox.finished(sequence.group, choice, reason, complete)
        self._outbox.decoded(sequence)
        self._leave(sequence)

    def _fail(self, group: Group, kind: str, message: str, pointer: str = "") -> None:
        """End a request with an error."""
        self._outbox.failed(Failed(group.request.id, kind, message, pointer))
        for sequence in group.sequences.copy():
            self._leave(sequence)

    def _leave(self, sequence: Sequence) -> None:
        group = sequence.group
        self._scheduler.remove(sequence)
        self._unresolved.pop(sequence, None)
        self._closer.forget(sequence)
        group.sequences.remove(sequence)
        if not group.sequences:
            del self._groups[group.request.id]
            if group.admitted is None:
                self._queued -= 1

    @contextmanager
    def _contained(self, sequences: list[Sequence]) -> Iterator[None]:
        """What goes wrong inside ends the requests of ``sequences``, not the loop."""
        try:
            yield
        except Exception as error:
            groups = [group for group in dict.fromkeys(s.group for s in sequences) if group.sequences]
            logger.exception("%d requests fail", len(groups))
            for group in groups:
                self._fail(group, "internal", f"{type(error).__name__} in the engine")

    # Telling

    def _tell_tracked(self, sequences: list[Sequence]) -> None:
        """Tell the tokens that were held back until their rows, and with them `Masks.accepting`, were known."""
        if not sequences:
            return
        for sequence, complete in zip(sequences, self._masks.accepting(sequences), strict=True):
            assert sequence.untold is not None
            self._outbox.token(sequence, *sequence.untold, [complete])
            sequence.untold = None

    def _note_admissions(self, admitted: list[Sequence]) -> None:
        for sequence in admitted:
            if sequence.group.admitted is None:
                self._queued -= 1
                self._outbox.admitted(sequence.group, sequence.computed, sequence.restored)

    def report(self, id: str = "") -> Report:
        """Gauges of this moment, counters and new observations; `Figures` names them."""
        scheduler = self._scheduler
        return self._outbox.report(
            id,
            {
                "running": len(scheduler.prefilling) + len(scheduler.decoding),
                "waiting": len(scheduler.waiting) + len(scheduler.returning) + len(self._unresolved),
                "parked": len(scheduler.parked) - len(self._unresolved),
                "kv_blocks_used": self._pool.n_used,
                "kv_blocks_total": self._pool.num_blocks,
                "kv_blocks_pinned": scheduler.memory.pinned_blocks,
                "host_blocks_used": len(self._cache.host),
                "host_blocks_total": self._cache.host.num_blocks,
                "tenants_waiting": scheduler.waiting.tenants,
                "prefix_hit_tokens": self._cache.hit_tokens,
                "prefix_restored_tokens": self._cache.restored_tokens,
                "prefix_asked_tokens": self._cache.asked_tokens,
            },
            {
                "preemptions": scheduler.preemptions,
                "displaced": scheduler.displaced,
                "host_stored_blocks": self._cache.host.stored,
                "host_loaded_blocks": self._cache.host.loaded,
            },
        )

    def check(self) -> None:
        """Hold the block pool against the living sequences, and the host tier against itself. AssertionError names the
        first fault."""
        self._pool.check(self._scheduler.block_tables())
        self._cache.host.check()
