"""Programs over a real grammar worker: shared, refused, evicted, and carried over when the worker dies."""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from engine.programs import Grown, News, Programs, Ready, Refusal
from fsm.runtime import Runtime
from fsm.steps import MISS, OK
from fsm.tokens import TokenTable
from schemas.constraint import ChoiceSpec, JsonSchemaSpec, RegexSpec

BYTES = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), None], [256])
WIDE = RegexSpec("[ab]*a[ab]{13}")
"""More states than are expanded ahead: most walks through it miss."""
EXPLODING = RegexSpec("(?=(a{97})+$)(?=(a{89})+$)(a{83})+", dialect="ecma")
"""Takes some ten seconds to use up ten times the fuel there is."""


class Desk:
    """`Programs` with a wait instead of a step loop."""

    def __init__(self, *, deadline_s: float = 30.0, **options: int) -> None:
        self.runtime = Runtime(BYTES)
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.programs = Programs(self.runtime, wake=lambda: self._bell.put(None), deadline_s=deadline_s, **options)

    def wait(self, for_kind: type[News]) -> list[News]:
        """The news up to and including the first of a kind."""
        heard: list[News] = []
        deadline = time.monotonic() + 60
        while not any(isinstance(news, for_kind) for news in heard):
            assert time.monotonic() < deadline, heard
            try:
                self._bell.get(timeout=0.05)
            except queue.Empty:
                pass
            heard += self.programs.poll()
        return heard

    def ready(self, spec: ChoiceSpec | RegexSpec | JsonSchemaSpec) -> Ready:
        self.programs.request(spec)
        return next(news for news in self.wait(Ready) if isinstance(news, Ready))

    def allowed(self, program: int, state: int) -> set[int]:
        self._ask(program, lambda out, status: self.runtime.rows(*_here(program, state), out, status))
        bits = np.unpackbits(self.runtime.pool.mask(self._out).view(np.uint8), bitorder="little")
        return set(np.flatnonzero(bits).tolist())

    def advance(self, program: int, state: int, token: int) -> int:
        tokens = np.array([token], np.int32)
        self._ask(program, lambda out, status: self.runtime.advance(*_here(program, state), tokens, out, status))
        return self._out

    def allowed_on_the_way(self, program: int, text: str) -> tuple[list[set[int]], int]:
        """`allowed` before each letter of a text, and the state after it."""
        state, found = self.runtime.start(program), list[set[int]]()
        for letter in text:
            found.append(self.allowed(program, state))
            state = self.advance(program, state, ord(letter))
        return found, state

    def _ask(self, program: int, call: Callable[[np.ndarray, np.ndarray], None]) -> None:
        out, status = np.empty(1, np.int32), np.empty(1, np.uint8)
        while True:
            call(out, status)
            if status[0] != MISS:
                break
            self.programs.ask(self.runtime.missing())
            self.wait(Grown)
        assert status[0] == OK
        self._out = int(out[0])


def _here(program: int, state: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([program], np.int32), np.array([state], np.int32)


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    made = Desk(**getattr(request, "param", {}))
    yield made
    made.programs.close()


def test_a_dead_worker_is_replaced_and_nobody_notices(desk: Desk) -> None:
    """Twice, so that what was expanded after the first death is in the log of the second."""
    program = desk.ready(WIDE).program
    desk.programs.acquire(program)
    draw, text, state = random.Random(3), "", desk.runtime.start(program)
    for step in range(60):
        if step in (20, 40):
            desk.programs._worker.process.kill()
            desk.programs._worker.process.join()
        ends = len(text) >= 14 and text[-14] == "a"
        assert desk.allowed(program, state) == {ord("a"), ord("b")} | ({256} if ends else set())
        text += draw.choice("ab")
        state = desk.advance(program, state, ord(text[-1]))


def test_equal_constraints_share_a_program_and_a_refusal(desk: Desk) -> None:
    first = desk.ready(ChoiceSpec(["yes", "no"]))
    assert desk.ready(ChoiceSpec(["yes", "no"])).program == first.program
    for _ in range(2):
        desk.programs.request(JsonSchemaSpec('{"type": "string", "minLength": 2, "maxLength": 1}'))
        refusal = next(news for news in desk.wait(Refusal) if isinstance(news, Refusal))
        assert refusal.kind == "unsatisfiable_constraint"


@pytest.mark.parametrize("desk", [{"cache_bytes": 0}], indirect=True)
def test_eviction_takes_no_program_that_is_used_or_promised(desk: Desk) -> None:
    used = desk.ready(ChoiceSpec(["a"])).program
    desk.programs.acquire(used)
    unused = desk.ready(ChoiceSpec(["b"])).program
    promised = desk.ready(ChoiceSpec(["c"])).program
    desk.programs.acquire(promised)
    assert desk.allowed(used, desk.runtime.start(used)) == {ord("a")}
    assert desk.allowed(promised, desk.runtime.start(promised)) == {ord("c")}
    # The place of the evicted one is free again.
    assert promised == unused
    again = desk.ready(ChoiceSpec(["b"])).program
    assert desk.allowed(again, desk.runtime.start(again)) == {ord("b")}


@pytest.mark.parametrize("desk", [{"deadline_s": 6.0, "fuel": 1_000_000}], indirect=True)
def test_a_late_compile_is_refused_and_the_others_go_on(desk: Desk) -> None:
    program = desk.ready(WIDE).program
    desk.programs.acquire(program)
    desk.programs.request(EXPLODING)
    refusal = next(news for news in desk.wait(Refusal) if isinstance(news, Refusal))
    assert refusal.kind == "constraint_too_large"
    state = desk.runtime.start(program)
    for letter in "abbabaabbaababbabaab":
        assert desk.allowed(program, state) >= {ord("a"), ord("b")}
        state = desk.advance(program, state, ord(letter))


@pytest.mark.parametrize("desk", [{"cache_bytes": 1 << 20}], indirect=True)
def test_a_program_that_slept_is_ready_without_a_compile_and_goes_on(desk: Desk) -> None:
    first = desk.ready(WIDE)
    allowed, state = desk.allowed_on_the_way(first.program, "abbabaabbaababbabaab")
    for i in range(20):  # others take its place
        desk.ready(JsonSchemaSpec(f'{{"type": "object", "properties": {{"p{i}": {{"type": "string"}}}}}}'))
    assert desk.runtime.nbytes() < 2 << 20
    again = desk.ready(WIDE)
    assert again.seconds == 0.0
    walked = desk.runtime.figures.cold
    known, state = desk.allowed_on_the_way(again.program, "abbabaabbaababbabaab")
    assert known == allowed
    assert desk.runtime.figures.cold == walked
    for letter in "bbabababbb":  # expands states that it has not seen, by a machine that is built anew
        state = desk.advance(again.program, state, ord(letter))
    assert ord("a") in desk.allowed(again.program, state)
