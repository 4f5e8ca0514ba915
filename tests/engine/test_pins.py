"""Pinned prefixes: they stay, whatever else is asked, and belong to their tenant."""

from __future__ import annotations

import msgspec
import pytest

from engine.loop import StepLoop
from engine.scheduler import Limits
from schemas.config import Settings
from schemas.engine import Event, Failed, Pin, Pinned, Tokens
from tests.engine.driver import ask
from tests.engine.fakes import EOS, FakeMasks, HashRunner

PREFIX = list(range(22))


def run(loop: StepLoop) -> list[Event]:
    events: list[Event] = []
    while not loop.idle:
        events += loop.step()
        loop.check()
    return events


def a_loop() -> StepLoop:
    return StepLoop(HashRunner(16), FakeMasks(), model="fake", eos_ids=EOS, limits=Limits(4, 16))


def cached(loop: StepLoop, id: str, tenant: str) -> int:
    loop.submit(ask(id, [*PREFIX, 40, 41], 2, tenant=tenant))
    return sum(event.cached for event in run(loop) if isinstance(event, Tokens))


def test_what_is_pinned_stays_for_its_tenant() -> None:
    loop = a_loop()
    loop.pin(Pin("p", "fake", PREFIX, "a"))
    assert run(loop)[-1:] == [Pinned("p", 20)]
    for i in range(8):
        loop.submit(ask(f"r{i}", [i] * 30, 8, tenant="a", ignore_eos=True))
    run(loop)
    assert (cached(loop, "x", "a"), cached(loop, "y", "b")) == (20, 0)
    gauges = loop.report().gauges
    assert gauges["kv_blocks_pinned"] == gauges["kv_blocks_used"] == 5


def test_a_prefix_that_is_there_already_is_pinned_where_it_lies() -> None:
    loop = a_loop()
    loop.submit(ask("a", [*PREFIX, 9], 1))
    run(loop)
    for id in ("p", "q"):
        loop.pin(Pin(id, "fake", PREFIX))
    assert [event for event in run(loop) if isinstance(event, Pinned)] == [Pinned("p", 20), Pinned("q", 20)]
    assert loop.report().gauges["kv_blocks_used"] == 5


def test_half_of_the_memory_is_left_to_requests() -> None:
    loop = a_loop()
    loop.pin(Pin("p", "fake", PREFIX))
    run(loop)
    loop.pin(Pin("q", "fake", [*range(30, 46)]))
    (failed,) = run(loop)
    assert isinstance(failed, Failed) and "with 20 that are pinned already" in failed.message
    loop.submit(ask("r", [1] * 40, 8))
    (failed,) = run(loop)
    assert isinstance(failed, Failed) and "KV memory of 44 tokens" in failed.message


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ({"model": "none", "system": "x"}, "is no model of this server's engine"),
        ({"model": "smollm2-135m-instruct"}, "by `system` or by `file`"),
        ({"model": "smollm2-135m-instruct", "system": "x", "file": "y"}, "by `system` or by `file`"),
    ],
)
def test_settings_name_a_model_and_one_text(pin: dict[str, str], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"pins": [pin]}, Settings)
