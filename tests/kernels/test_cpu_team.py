"""Threads that meet: no thread runs ahead of a phase, more threads than cores go on, and dismissed ones are gone."""

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


@njit("int64(int64, int64, int64[::1], int64[:, ::1])", nogil=True)
def relay(me, threads, control, seen):  # type: ignore[no-untyped-def]
    """In every phase each thread adds one to its row, and after the barrier counts the rows that lag behind."""
    behind = 0
    words = control.ctypes.data
    for _ in range(PHASES):
        seen[me, 0] += 1
        team.meet(words, threads)
        for other in range(threads):
            behind += seen[other, 0] != seen[me, 0]
        team.meet(words, threads)
    return behind


@njit("void(int64, int64, int64[::1], int64[:, ::1])", nogil=True)
def serve(me, threads, control, seen):  # type: ignore[no-untyped-def]
    step = control[team.JOINED]
    while True:
        team.wait(control.ctypes.data, team.STEP, step)
        if control[team.STOP] == 1:
            return
        step += 1
        seen[me, 1] += relay(me, threads, control, seen)


@njit("int64(int64, int64[::1], int64[:, ::1])", nogil=True)
def lead(threads, control, seen):  # type: ignore[no-untyped-def]
    team.change(control.ctypes.data, team.STEP)
    return relay(0, threads, control, seen)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_no_thread_runs_ahead(threads: int) -> None:
    crew = Team(threads)
    seen: NDArray[np.int64] = np.zeros((threads, 8), np.int64)
    # Twice: a team that was dismissed can be started again.
    for start in range(2):
        crew.start(partial(serve, threads=threads, control=crew.control, seen=seen))
        for _ in range(3):
            assert lead(threads, crew.control, seen) == 0
        crew.stop()
        assert (seen[:, 0] == (start + 1) * 3 * PHASES).all()
        assert (seen[:, 1] == 0).all()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cpu-kernel")]


def test_dismissing_wakes_sleepers() -> None:
    crew = Team(3)
    crew.start(partial(serve, threads=3, control=crew.control, seen=np.zeros((3, 8), np.int64)))
    deadline = threading.Event()
    while crew.control[team.ASLEEP] < 2:
        assert not deadline.wait(0.01)
    crew.stop()


@pytest.mark.parametrize(("total", "threads"), [(0, 3), (1, 4), (7, 3), (72, 2), (5, 5)])
def test_shares_cover_all_once(total: int, threads: int) -> None:
    parts = [team.share(total, me, threads) for me in range(threads)]
    assert [first for first, _ in parts] == [0, *(last for _, last in parts[:-1])]
    assert parts[-1][1] == total
    assert max(last - first for first, last in parts) - min(last - first for first, last in parts) <= 1
