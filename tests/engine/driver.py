"""A step loop over the fakes: it is driven to its end, and every event and every block is looked at on the way."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from engine.loop import StepLoop
from engine.scheduler import Limits
from schemas.engine import Event, Failed, Finished, Sampling, Started, Submit, Tokens
from schemas.tenants import Tenant
from tests.engine.fakes import (
    EOS,
    Answer,
    Automaton,
    FakeMasks,
    HashHost,
    HashRunner,
)

GREEDY = Sampling(temperature=0.0, seed=0)


@dataclass
class Heard:
    """What the events said about one request."""

    started: int = 0
    cached: int = 0
    restored: int = 0
    failed: Failed | None = None
    answers: dict[int, Answer] = field(default_factory=lambda: defaultdict(Answer))


class Driver:
    """A loop with its fakes; collects events and checks their order and the block pool after every step."""

    def __init__(
        self,
        *automata: Automaton,
        num_blocks: int = 64,
        context_length: int = 64,
        limits: Limits = Limits(max_sequences=8, max_batch_tokens=16),  # noqa: B008
        end_early: bool = True,
        skip_forced: bool = False,
        host_blocks: int = 0,
        tenants: tuple[Tenant, ...] = (),
        windows: tuple[int, ...] = (0,),
    ) -> None:
        self.runner = HashRunner(num_blocks, context_length=context_length, windows=windows)
        self.masks = FakeMasks(*automata)
        self.now = 0.0
        self.loop = StepLoop(
            self.runner,
            self.masks,
            model="fake",
            eos_ids=EOS,
            limits=limits,
            end_early=end_early,
            forced=self.masks.forced if skip_forced else None,
            host=HashHost(self.runner, host_blocks) if host_blocks else None,
            tenants=tenants,
            clock=lambda: self.now,
        )
        self.heard: dict[str, Heard] = defaultdict(Heard)

    def step(self) -> list[Event]:
        self.now += 1.0
        events = self.loop.step()
        self.loop.check()
        for event in events:
            assert isinstance(event, Started | Tokens | Finished | Failed)
            heard = self.heard[event.id]
            assert heard.failed is None, f"{event} after the request failed"
            if isinstance(event, Started):
                heard.started += 1
            elif isinstance(event, Failed):
                heard.failed = event
            else:
                self._hear(heard, event)
        return events

    def _hear(self, heard: Heard, event: Tokens | Finished) -> None:
        assert heard.started == 1
        answer = heard.answers[event.choice]
        assert answer.reason == "", f"{event} after the choice has ended"
        if isinstance(event, Finished):
            answer.reason, answer.complete = event.reason, event.complete
            return
        answer.ids += event.ids
        heard.cached += event.cached
        heard.restored += event.restored
        answer.tracked += event.complete or []
        answer.logprobs += [(x.logprob, x.top_ids, x.top_logprobs) for x in event.logprobs or ()]

    def expand(self) -> bool:
        """Do what a grammar worker would; True if there was anything to do."""
        programs = self.masks.missing()
        for program in programs:
            self.masks.expand(program)
            self.loop.grammar_ready(program)
        return bool(programs)

    def drain(self, limit: int = 3000) -> None:
        """Run until idle, with expansions only where nothing else moves. Fails on a livelock or a deadlock."""
        for _ in range(limit):
            if self.loop.idle:
                break
            if self.loop.can_step:
                self.step()
            else:
                assert self.expand(), "neither a step nor an expansion is possible"
        assert self.loop.idle, "still busy after many steps"
        self.loop.check()
        self.report = self.loop.report("probe")
        gauges = self.report.gauges
        assert gauges["running"] == gauges["waiting"] == gauges["parked"] == gauges["kv_blocks_used"] == 0

    def run(self, *requests: tuple[Submit, int]) -> list[Heard]:
        for request, program in requests:
            self.loop.submit(request, program)
        self.drain()
        return [self.heard[request.id] for request, _ in requests]


def ask(id: str, prompt: list[int], max_tokens: int = 8, **fields) -> Submit:  # type: ignore[no-untyped-def]
    return Submit(id, "fake", prompt, max_tokens, **{"sampling": GREEDY, **fields})


def chain(*tokens: int, accepting: tuple[int, ...] = (), lazy: bool = False) -> Automaton:
    """Forces ``tokens`` one after the other; the last state and ``accepting`` ones may end."""
    edges = [{token: i + 1} for i, token in enumerate(tokens)]
    n = len(tokens) + 1
    return Automaton([*edges, {}], {*accepting, n - 1}, set() if lazy else set(range(n)))
