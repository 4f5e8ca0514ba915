"""The step loop: continuous batching (Yu et al., Orca, OSDI 2022) with constraints.

    schedule → run → sample → advance → emit

Requests come in as messages of `schemas.engine`, events go out as lists of them, one list a step. There is no thread,
process or socket here: whoever owns the loop calls the input methods between steps, and `step` while `can_step`.

Constraints are seen only in batch form: after sampling, one `Masks.advance` over the tokens drawn and one `Masks.rows`
for the masks of the next step (`engine.texts`). Who is there, and how requests leave, is in `engine.roster`.

An exception while a batch is run fails the requests of that batch and is logged; the loop and all others live on.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several

import numpy as np

from engine.base import HostMemory, Logits, Masks, Runner, SamplingKernel
from engine.batch import Step
from engine.blocks import BlockPool
from engine.closing import Closer
from engine.host_tier import HostTier
from engine.mask_columns import MaskColumns
from engine.outbox import Outbox
from engine.prefix_cache import PrefixCache
from engine.refusal import malformed, no_candidates
from engine.roster import Roster
from engine.sampler import Sampler
from engine.scheduler import Limits, Scheduler
from engine.sequence import Group, Sequence
from engine.texts import Drawn, Forced, Texts
from schemas.engine import Event, Failed, Pin, Report, Score, Started, Submit
from schemas.tenants import Tenant


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
        self._clock = clock
        self._outbox = Outbox(clock)
        self._roster = Roster(self._scheduler, self._outbox, self._closer, limits.max_waiting)
        self._texts = Texts(
            self._masks, self._closer, self._roster, self._scheduler, self._outbox, end_early=end_early, forced=forced
        )
        self._arrivals = 0

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
            self._outbox.failed(Failed(request.id, "invalid_request", f"prompt: {problem}"))
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
        self._arrivals += 1
        self._roster.enter(leader)
        with self._roster.contained([leader]):
            leader.state = self._masks.start(program)
            self._roster.resolve_later(leader)
            started = Started(request.id, contract, list(reasons))
            if request.close:
                group.opening = started
            else:
                self._outbox.started(started)

    def _refusal(self, request: Submit, program: int) -> Failed | None:
        crowded = self._roster.crowded()
        if crowded is not None:
            return Failed(request.id, "overloaded", crowded)
        message = (
            f"id: {request.id!r} is the id of a request that is running"
            if request.id in self._roster.groups
            else malformed(request, self._runner.vocab_size, constrained=program != 0)
            or self._scheduler.refusal(request)
        )
        return None if message is None else Failed(request.id, "invalid_request", message)

    def cancel(self, id: str, choice: int | None = None) -> None:
        """End a request, or one choice of it, and free its blocks now. An id that is unknown has just ended."""
        group = self._roster.groups.get(id)
        if group is None:
            return
        with self._roster.contained(group.sequences):
            for sequence in group.sequences.copy():
                choices = [sequence.choice, *sequence.forks]
                if choice is None or choices == [choice]:
                    self._roster.finish(sequence, "cancelled", self._masks.accepting([sequence])[0])
                elif choice in choices:
                    self._outbox.finished(group, choice, "cancelled", self._masks.accepting([sequence])[0])
                    choices.remove(choice)
                    sequence.choice, *sequence.forks = choices

    def grammar_ready(self, program: int) -> None:
        """More of a program is expanded: its parked sequences are asked about again in the next step."""
        self._roster.unresolved.update(dict.fromkeys(s for s in self._scheduler.parked if s.group.program == program))

    def grammar_failed(self, program: int, kind: str, message: str, pointer: str = "") -> None:
        """A program will not be expanded further (deadline, fuel): the requests that wait for it fail."""
        for group in dict.fromkeys(s.group for s in self._scheduler.parked if s.group.program == program):
            self._roster.fail(group, kind, message, pointer)

    @property
    def can_step(self) -> bool:
        """`step` has something to do. False while everything waits for input."""
        return bool(self._outbox or self._roster.unresolved or self._scheduler.can_run)

    @property
    def idle(self) -> bool:
        """Nothing is left: every request has ended and every event was handed out."""
        return not self._roster.groups and not self._outbox

    def rows_in_use(self) -> Iterator[int]:
        """The mask rows that sequences know by number."""
        return (sequence.row for group in self._roster.groups.values() for sequence in group.sequences)

    # One step

    def step(self) -> list[Event]:
        """Move all that can move by one token, or by one chunk of its prompt."""
        step = self._schedule()
        if step is not None:
            with self._roster.contained([*step.sequences, *step.admitted]):
                logits = self._run(step)
                drawn = self._sample(step, logits)
                self._texts.advance(drawn)
        return self._emit()

    def _schedule(self) -> Step | None:
        self._closer.new_step()
        self._texts.resolve()
        step = self._scheduler.schedule()
        if step is not None:
            self._roster.admitted(step.admitted)
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
            families = [[sequence, *self._roster.fork(sequence)] for sequence in sequences]
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
            self._roster.leave(sequence)
        return [sequences[i] for i in drawing], logits[np.array(drawing, np.int64)]

    def _emit(self) -> list[Event]:
        return self._outbox.take()

    # Figures and faults

    def report(self, id: str = "") -> Report:
        """Gauges of this moment, counters and new observations; `Figures` names them."""
        scheduler = self._scheduler
        return self._outbox.report(
            id,
            {
                "running": len(scheduler.prefilling) + len(scheduler.decoding),
                "waiting": len(scheduler.waiting) + len(scheduler.returning) + len(self._roster.unresolved),
                "parked": len(scheduler.parked) - len(self._roster.unresolved),
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
