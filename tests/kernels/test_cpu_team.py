"""Threads that share work: each item done once, no phase before its time, nobody waited for who has nothing to do."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from kernels.cpu import team
from kernels.cpu.team import Team

PHASES = 300
ITEMS = 7


@njit("int64(int64, int64[::1], int64[:, ::1])", nogil=True)
def relay(number, control, work):  # type: ignore[no-untyped-def]
    """Add one to each item of each phase, and count those that do not stand at the step's number once a phase is
    over."""
    words = control.ctypes.data
    wrong = 0
    if team.ended(words, number):
        return 0
    for phase in range(PHASES):
        items = phase % ITEMS
        item = team.take(words, number, phase, items)
        while item >= 0:
            for other in range((phase - 1) % ITEMS if phase > 0 else 0):
                wrong += work[phase - 1, other] != number
            work[phase, item] += 1
            team.done(words, number, phase, items)
            item = team.take(words, number, phase, items)
        team.finish(words, number, phase, items)
    return wrong


@njit("void(int64, int64[::1], int64[:, ::1], int64[::1])", nogil=True)
def serve(me, control, work, wrong):  # type: ignore[no-untyped-def]
    number = control[team.ENDED]
    while True:
        number = team.follow(control.ctypes.data, number)
        if number < 0:
            return
        wrong[me] += relay(number, control, work)


@njit("int64(int64[::1], int64[:, ::1])", nogil=True)
def lead(control, work):  # type: ignore[no-untyped-def]
    number = team.begin(control.ctypes.data)
    wrong = relay(number, control, work)
    team.end(control.ctypes.data, number)
    return wrong


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_item_is_done_once_and_before_the_next_phase(threads: int) -> None:
    crew = Team(threads, PHASES)
    work: NDArray[np.int64] = np.zeros((PHASES, ITEMS), np.int64)
    wrong: NDArray[np.int64] = np.zeros(threads, np.int64)
    items = np.arange(ITEMS)[None] < (np.arange(PHASES) % ITEMS)[:, None]
    # Twice: a team that was dismissed can be started again. Dismissing begins a step that nobody runs.
    for _ in range(2):
        crew.start(partial(serve, control=crew.control, work=work, wrong=wrong))
        for _ in range(20):
            assert lead(crew.control, work) == 0
            np.testing.assert_array_equal(work, items * crew.control[team.STEP])
        crew.stop()
        work += items * (crew.control[team.STEP] - crew.control[team.ENDED])
        assert (wrong == 0).all()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cpu-kernel")]


def test_a_step_needs_no_thread_but_the_leader() -> None:
    """Followers that never come, as if the machine gave them no core."""
    crew = Team(4, PHASES)
    work: NDArray[np.int64] = np.zeros((PHASES, ITEMS), np.int64)
    for _ in range(3):
        assert lead(crew.control, work) == 0
    assert work.max() == 3


def test_dismissing_wakes_sleepers() -> None:
    crew = Team(3, PHASES)
    crew.start(
        partial(serve, control=crew.control, work=np.zeros((PHASES, ITEMS), np.int64), wrong=np.zeros(3, np.int64))
    )
    pause = threading.Event()
    while crew.control[team.ASLEEP] < 2:
        pause.wait(0.01)
    crew.stop()


@pytest.mark.parametrize(("total", "threads"), [(0, 3), (1, 4), (7, 3), (72, 2), (5, 5)])
def test_shares_cover_all_once(total: int, threads: int) -> None:
    parts = [team.share(total, me, threads) for me in range(threads)]
    assert [first for first, _ in parts] == [0, *(last for _, last in parts[:-1])]
    assert parts[-1][1] == total
    assert max(last - first for first, last in parts) - min(last - first for first, last in parts) <= 1
