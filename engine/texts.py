"""Texts that grow by a token a step: where they end, which constraint states they reach, and which masks come next.

    drawn ─▶ end at stops ─▶ take into the texts ─▶ find the rows of the next tokens ─▶ the next step draws under them
                  │                  │  miss: parked           │  miss: parked           ▲
                  └─ "stop"          └─ "stop", "internal"     ├─ "stop", "length"       │
                                                               └─ forced text ───────────┘ is appended and asked again

All sequences of a step are asked in one call of `Masks.advance` and one of `Masks.rows`. For a single one:

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
"""

from __future__ import annotations

from collections.abc import Callable

from engine.base import MISS, OK, REFUSED
from engine.closing import BUSY, TOO_FAR, Closer, too_long
from engine.mask_columns import MaskColumns
from engine.outbox import Outbox
from engine.roster import Roster
from engine.scheduler import Scheduler
from engine.sequence import Sequence, Status
from schemas.engine import TokenLogprobs

Forced = Callable[[int, int, int], tuple[tuple[int, ...], int] | None]
"""(program, state, row) → tokens that follow in any case and the state after them, None on a miss (`engine.forced`)."""

Drawn = tuple[list[Sequence], list[int], list[TokenLogprobs | None]]
"""Sequences, the token drawn for each, and its log-probabilities where they were asked for."""


class Texts:
    """``end_early`` and ``forced``: as of `engine.loop.StepLoop`."""

    def __init__(
        self,
        masks: MaskColumns,
        closer: Closer,
        roster: Roster,
        scheduler: Scheduler,
        outbox: Outbox,
        *,
        end_early: bool,
        forced: Forced | None,
    ) -> None:
        self._masks = masks
        self._closer = closer
        self._roster = roster
        self._scheduler = scheduler
        self._outbox = outbox
        self._end_early = end_early
        self._forced = forced

    def advance(self, drawn: Drawn) -> None:
        """Take the tokens into the texts, end the choices that are done, and find the masks of the next step."""
        self._find_rows(self._take(self._end_at_stops(drawn)))

    def resolve(self) -> None:
        """Ask about parked sequences: new ones for the first time, others because their grammar has grown."""
        if not self._roster.unresolved:
            return
        asked, self._roster.unresolved = list(self._roster.unresolved), {}
        with self._roster.contained(asked):
            without = [sequence for sequence in asked if sequence.pending is None and self._has_way(sequence)]
            held = [(sequence, *sequence.pending) for sequence in asked if sequence.pending is not None]
            grown = self._take(([s for s, _, _ in held], [token for _, token, _ in held], [p for _, _, p in held]))
            self._find_rows(without + grown)

    def _end_at_stops(self, drawn: Drawn) -> Drawn:
        """End the choices that drew a stop id where their text is complete; returns the others."""
        sequences, tokens, logprobs = drawn
        stopping = [s for s, token in zip(sequences, tokens, strict=True) if token in s.group.stops]
        if not stopping:
            return drawn
        for sequence, complete in zip(stopping, self._masks.accepting(stopping), strict=True):
            if complete:
                self._roster.finish(sequence, "stop", True)
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
                self._roster.park(sequence, again=status == BUSY)
            elif status == TOO_FAR:
                self._roster.finish(sequence, "stop", True)
            else:
                self._roster.fail(
                    sequence.group, "internal", f"the constraint refused token {token}, which its mask allowed"
                )
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
            self._roster.park(sequence, again=verdict == BUSY)
        elif verdict == TOO_FAR:
            self._roster.fail(group, "invalid_request", too_long(sequence))
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
                self._roster.park(sequence)
            elif status == REFUSED:
                self._roster.fail(sequence.group, "internal", "the constraint allows no token and no end here")
            elif i in over and self._end_early:
                self._roster.finish(sequence, "stop", True)
            elif len(sequence.tokens) == sequence.group.longest:
                full.append(sequence)
            elif (run := self._forced_run(sequence, row)) is None:
                self._roster.park(sequence)
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
                self._roster.finish(
                    sequence, "stop" if complete and sequence.group.request.close else "length", complete
                )

        self._find_rows(longer)

    def _forced_run(self, sequence: Sequence, row: int) -> tuple[tuple[int, ...], int] | None:
        """Tokens to be appended without asking the model, if there are any. A request that wants to know more of each
        token than its id is spared; so is one that has not begun, since its choices may not be born yet."""
        if self._forced is None or sequence.group.program == 0 or sequence.first_token is None:
            return (), sequence.state
        asked = sequence.group.request
        if asked.track_complete or asked.close or asked.sampling.logprobs is not None:
            return (), sequence.state
        run = self._forced(sequence.group.program, sequence.state, row)
        room = sequence.group.longest - len(sequence.tokens)
        return run if run is None or len(run[0]) <= room else ((), sequence.state)

    def _tell_tracked(self, sequences: list[Sequence]) -> None:
        """Tell the tokens that were held back until their rows, and with them `Masks.accepting`, were known."""
        if not sequences:
            return
        for sequence, complete in zip(sequences, self._masks.accepting(sequences), strict=True):
            assert sequence.untold is not None
            self._outbox.token(sequence, *sequence.untold, [complete])
            sequence.untold = None
