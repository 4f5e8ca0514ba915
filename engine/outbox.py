"""What a step loop tells: events for those who asked, figures for those who watch."""

from __future__ import annotations

from collections.abc import Callable

from engine.figures import Figures
from engine.sequence import Group, Sequence
from schemas.engine import Event, Failed, Finished, Pinned, Report, Scored, Started, TokenLogprobs, Tokens


class Outbox:
    """``clock``: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: list[Event] = []
        self._figures = Figures()

    def __bool__(self) -> bool:
        return bool(self._events)

    def take(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def count(self, counter: str, by: int = 1) -> None:
        """Add to a counter of `Figures`."""
        self._figures.counters[counter] += by

    def started(self, started: Started) -> None:
        self._events.append(started)

    def admitted(self, group: Group, cached: int, restored: int) -> None:
        """The first sequence of a request got its blocks; ``cached`` tokens of its prompt were in the prefix cache,
        ``restored`` of them in the host's memory."""
        group.admitted = self._clock()
        group.cached, group.restored = cached, restored
        self.count("prompt_tokens", len(group.request.prompt))
        self.count("cached_tokens", cached)
        self.count("restored_tokens", restored)
        self._figures.observe("queue_time", group.admitted - group.submitted)

    def token(
        self, sequence: Sequence, token: int, logprob: TokenLogprobs | None, complete: list[bool] | None = None
    ) -> None:
        group = sequence.group
        cached = restored = 0
        if sequence.first_token is None:
            sequence.first_token = self._clock()
            if not group.begun:
                group.begun = True
                cached, restored = group.cached, group.restored
                self._figures.observe("ttft", sequence.first_token - group.submitted)
        logprobs = None if logprob is None else [logprob]
        self._events.append(Tokens(group.request.id, sequence.choice, [token], logprobs, cached, complete, restored))

    def forced(self, sequence: Sequence, run: tuple[int, ...]) -> None:
        """Tokens that were not drawn."""
        self.count("forced_tokens", len(run))
        self._events.append(Tokens(sequence.group.request.id, sequence.choice, list(run)))

    def scored(self, group: Group, logprobs: list[float]) -> None:
        self.count("scored_prompts")
        self._events.append(Scored(group.request.id, logprobs, group.cached))

    def pinned(self, group: Group, tokens: int) -> None:
        self._events.append(Pinned(group.request.id, tokens))

    def finished(self, group: Group, choice: int, reason: str, complete: bool) -> None:
        self.count(f"finished_{reason}")
        self._events.append(Finished(group.request.id, choice, reason, complete))

    def decoded(self, sequence: Sequence) -> None:
        """A sequence has ended."""
        if sequence.first_token is not None and sequence.generated > 1:
            seconds = self._clock() - sequence.first_token
            self._figures.observe("time_per_output_token", seconds / (sequence.generated - 1))

    def failed(self, failed: Failed) -> None:
        self.count("failed")
        self._events.append(failed)

    def report(self, id: str, gauges: dict[str, float], totals: dict[str, int]) -> Report:
        """``totals``: counters that others keep."""
        for name, total in totals.items():
            self._figures.counters[name] = total
        return self._figures.report(id, gauges)
