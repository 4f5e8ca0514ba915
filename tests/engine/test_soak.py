"""2,000 mixed requests on little memory: cancellations, preemptions, evictions, swaps. Everybody is answered, what was
held is given back, and memory is flat.

Once over the loop's fakes, where every answer is known, with the host's memory as a second tier; and once over a small
model with real constraints, as a server runs it.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import gc
import queue
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine.scheduler import Limits
from engine.service import Service
from schemas.config import Engine, Grammar, ModelSettings, Settings
from schemas.constraint import ChoiceSpec, ConstraintSpec, RegexSpec
from schemas.engine import Failed, Finished, Sampling, Started, Submit, Tokens
from schemas.tenants import Tenant
from tests.engine.driver import Driver, ask
from tests.engine.fakes import generate_alone, random_automaton
from tests.engine.families import make, write_gguf

pytestmark = pytest.mark.slow

REQUESTS = 2000
TENANTS = ("", "a", "b", "c")
FLAT = 16 << 20
"""Bytes that resident memory may grow in the second half: 16 KiB a request, less than a leaked block table with its
events, or a leaked row, would take."""


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


class Growth:
    """Resident memory over the second half of a soak."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, int]] = []

    def note(self, done: int) -> None:
        if done >= REQUESTS // 2 and (not self._seen or done >= self._seen[-1][0] + 50):
            gc.collect()
            self._seen.append((done, resident()))

    def check(self) -> None:
        """The slope of a line through what was seen, so that one late allocation does not decide."""
        done, size = np.array(self._seen, float).T
        slope = np.polyfit(done, size, 1)[0]
        assert slope * REQUESTS / 2 < FLAT, f"{slope:.0f} bytes a request"


def test_what_the_loop_answers_and_gives_back() -> None:
    random.seed(0)
    automata = [random_automaton(seed, lazy=True) for seed in range(6)]
    driver = Driver(
        *automata, num_blocks=40, host_blocks=60, limits=Limits(12, 24), skip_forced=True,
        tenants=(Tenant(name="a", weight=3), Tenant(name="b", cache_group="g"), Tenant(name="c", cache_group="g")),
    )  # fmt: skip
    asked: dict[str, tuple[Submit, int]] = {}
    running: list[str] = []
    growth = Growth()
    ends: Counter[str] = Counter()

    def judge() -> None:
        """Hold the requests that have ended against what each choice says alone, and forget them."""
        for id in running.copy():
            request, program = asked[id]
            answers = driver.heard[id].answers
            if sum(bool(answer.reason) for answer in answers.values()) < request.n:
                continue
            running.remove(id)
            del asked[id], driver.heard[id]
            for choice, answer in answers.items():
                ends[answer.reason] += 1
                alone = generate_alone(request, choice, automata[program - 1] if program else None)
                cut = answer.reason == "cancelled"
                assert answer.ids == alone.ids[: len(answer.ids)] if cut else answer == alone

    for number in range(REQUESTS):
        program = random.choice((0, 0, *range(1, 7)))
        prompt = [random.randrange(3), *(i * i % 40 for i in range(random.randrange(30)))]
        sampling = Sampling(random.choice((0.0, 1.0)), seed=random.getrandbits(64))
        request = ask(
            f"r{number}", prompt, random.randint(1, 30), n=random.choice((1, 1, 1, 3)), sampling=sampling,
            ignore_eos=program == 0, tenant=random.choice(TENANTS), priority=random.choice((0, 0, 1)),
        )  # fmt: skip
        asked[request.id] = request, program
        running.append(request.id)
        driver.loop.submit(request, program)
        if random.random() < 0.1:
            driver.loop.cancel(random.choice(running), random.choice((None, 0)))
        for _ in range(random.randrange(4)) if len(running) < 30 else range(6):
            driver.step()
        if random.random() < 0.5:
            driver.expand()
        judge()
        growth.note(number)
    driver.drain()
    judge()
    assert not running
    growth.check()
    counters = driver.report.counters
    for happened in ("preemptions", "displaced", "host_stored_blocks", "host_loaded_blocks"):
        assert counters[happened] > 100, happened
    assert counters["mask_misses"] > 10
    assert min(ends[reason] for reason in ("stop", "length", "cancelled")) > 50


def constraint_of(number: int) -> ConstraintSpec | None:
    """None, one of a few that come again and again, or one that is new."""
    match number % 7:
        case 0 | 1 | 2:
            return None
        case 3:
            return ChoiceSpec(["path", "then", f"th{'abc'[number % 3]}"])
        case 4:
            return RegexSpec(f"[a-z]{{3,{10 + number % 5}}}[0-9]+")
        case 5:
            return RegexSpec(f"(ab|cd[0-9]{{2}}){{1,9}}n{'x' * (number // 7 % 50)}{number}")
        case _:
            return RegexSpec("a{2}b(") if number % 49 == 6 else RegexSpec("(the|path|[A-Z][a-z]+)+")


def test_what_a_server_answers_and_gives_back(tmp_path: Path) -> None:
    random.seed(1)
    path = write_gguf("llama 2", make("llama 2", num_hidden_layers=1), tmp_path / "small.gguf")
    bell: queue.SimpleQueue[None] = queue.SimpleQueue()
    options = Settings(
        engine=Engine(kv_memory_mb=1, max_sequences=24, max_batch_tokens=64, threads=1),
        grammar=Grammar(cache_mb=1),
        tenants=(Tenant(name="a", weight=3),),
    )
    service = Service(ModelSettings(name="m", path=str(path)), options, wake=lambda: bell.put(None))
    left: dict[str, int] = {}
    ends: Counter[str] = Counter()
    growth = Growth()

    def turn() -> None:
        if not service.can_turn:
            try:
                bell.get(timeout=0.05)
            except queue.Empty:
                pass
        for event in service.turn():
            match event:
                case Finished():
                    ends[event.reason] += 1
                    left[event.id] -= 1
                case Failed():
                    ends[event.kind] += 1
                    left[event.id] = 0
                case Started() | Tokens():
                    assert left[event.id] > 0, "something is said after the end"
                case _:
                    raise AssertionError(event)
            if left[event.id] == 0:
                del left[event.id]

    try:
        for number in range(REQUESTS):
            id, constraint = f"r{number}", constraint_of(number)
            n = random.choice((1, 1, 1, 3))
            left[id] = n
            prompt = [random.randrange(3), *(i * i % 60 for i in range(random.randrange(1, 120)))]
            request = Submit(
                id, "m", prompt, random.randint(1, 60), n=n, constraint=constraint, ignore_eos=constraint is None,
                sampling=Sampling(seed=number), tenant=random.choice(TENANTS), priority=random.choice((0, 0, 1)),
            )  # fmt: skip
            service.submit(request)
            if random.random() < 0.1:
                gone = random.choice(list(left))
                waited = any(request.id == gone for jobs in service._compiling.values() for request in jobs)
                service.cancel(gone, None)
                if waited:  # for its constraint: nobody is told
                    del left[gone]
            turn()
            while len(left) > 60:
                turn()
            growth.note(number)
        while left:
            turn()
        growth.check()
        report = service.report("end")
        service.loop.check()
        programs = service._programs
        assert all(entry.users == 0 for entry in programs._entries.values())
    finally:
        service.close()
    assert report.counters["broken_invariants"] == report.gauges["kv_blocks_used"] == 0
    assert report.counters["preemptions"] > 100 and report.counters["cached_tokens"] > 1000
    assert min(ends[reason] for reason in ("stop", "length", "cancelled", "invalid_constraint")) > 20, ends
