"""Threads that run one kernel together: atomics, a barrier, and sleep without Python's lock.

Replaces OpenMP and a Python thread pool. All threads of a team run the same function over the same memory and meet at a
barrier between its phases. Who waits, there or for the next step, spins for some microseconds and then sleeps on a
POSIX condition variable: on a busy machine the core that falls idle so takes over the thread that is being waited for,
where a spinning or yielding one would keep it out for a whole time slice. Python's lock is not involved; a step begins
even if another Python thread is computing.

    control words (int64), a cache line each
    STEP      number of the current step; a new one begins it
    STOP      1: the threads return instead
    ARRIVED   threads waiting at the barrier
    PHASE     barriers passed; a new one lets them go
    TICKET    next item of work of the phase
    JOINED    the last step before the threads were started
    ASLEEP    threads that sleep or are about to
    MUTEX, CONDITION   POSIX objects, opaque
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from kernels.cpu import vector as v

STEP, STOP, ARRIVED, PHASE, TICKET, JOINED, ASLEEP, MUTEX, CONDITION = (8 * i for i in (0, 1, 2, 3, 4, 5, 6, 7, 9))
WORDS = 8 * 11
"""The POSIX objects are at most 64 and 48 bytes, each with a line to spare."""

SPINS = 2000
"""Pauses (15 to 40 ns each) before a waiting thread sleeps: longer than a phase of a decode step is uneven."""

_lock = types.ExternalFunction("pthread_mutex_lock", types.int32(types.intp))
_unlock = types.ExternalFunction("pthread_mutex_unlock", types.int32(types.intp))
_sleep = types.ExternalFunction("pthread_cond_wait", types.int32(types.intp, types.intp))
_wake = types.ExternalFunction("pthread_cond_broadcast", types.int32(types.intp))
_new_mutex = types.ExternalFunction("pthread_mutex_init", types.int32(types.intp, types.intp))
_new_condition = types.ExternalFunction("pthread_cond_init", types.int32(types.intp, types.intp))


@v.native(types.int64(types.int64, types.int64))
def fetch_add(b: v.Builder, address: v.Value, amount: v.Value) -> v.Value:
    """Atomically add to the int64 at an address; what it held before."""
    return b.atomic_rmw("add", v.pointer(b, address, v.I64), amount, "seq_cst")


@v.native(types.int64(types.int64))
def read(b: v.Builder, address: v.Value) -> v.Value:
    """Atomically read the int64 at an address."""
    return b.load_atomic(v.pointer(b, address, v.I64), "seq_cst", 8)


@v.native(types.void(types.int64, types.int64))
def write(b: v.Builder, address: v.Value, value: v.Value) -> None:
    """Atomically set the int64 at an address."""
    b.store_atomic(value, v.pointer(b, address, v.I64), "seq_cst", 8)


@v.native(types.void())
def pause(b: v.Builder) -> None:
    """Tell the core that this is a spin loop, where there is an instruction for it."""
    if v.path != "portable":
        v.call(b, "llvm.x86.sse2.pause", v.ir.VoidType(), [])


@njit(nogil=True)
def wait(control: int, word: int, old: int) -> None:
    """Return when a control word no longer holds ``old``: spin first, then sleep until `change` wakes."""
    for _ in range(SPINS):
        if read(control + 8 * word) != old:
            return
        pause()
    _lock(control + 8 * MUTEX)
    fetch_add(control + 8 * ASLEEP, 1)
    while read(control + 8 * word) == old:
        _sleep(control + 8 * CONDITION, control + 8 * MUTEX)
    fetch_add(control + 8 * ASLEEP, -1)
    _unlock(control + 8 * MUTEX)


@njit(nogil=True)
def change(control: int, word: int) -> None:
    """Add one to a control word and wake who waits for it.

    No wake-up is lost: a sleeper counts itself before it looks at the word a last time, and is looked for after the
    change.
    """
    fetch_add(control + 8 * word, 1)
    if read(control + 8 * ASLEEP) > 0:
        _lock(control + 8 * MUTEX)
        _wake(control + 8 * CONDITION)
        _unlock(control + 8 * MUTEX)


@njit(nogil=True)
def meet(control: int, threads: int) -> None:
    """Wait until all ``threads`` are here; what each wrote before is then seen by all. ``control``: address of the
    words."""
    phase = read(control + 8 * PHASE)
    if fetch_add(control + 8 * ARRIVED, 1) == threads - 1:
        write(control + 8 * ARRIVED, 0)
        change(control, PHASE)
    else:
        wait(control, PHASE, phase)


@njit("void(int64[::1])", nogil=True, cache=True)
def prepare(control: NDArray[np.int64]) -> None:
    """Initialise the POSIX objects in fresh control words [WORDS], all zero."""
    _new_mutex(control.ctypes.data + 8 * MUTEX, 0)
    _new_condition(control.ctypes.data + 8 * CONDITION, 0)


@njit("void(int64[::1])", nogil=True, cache=True)
def dismiss(control: NDArray[np.int64]) -> None:
    """Make every sleeper return."""
    write(control.ctypes.data + 8 * STOP, 1)
    change(control.ctypes.data, STEP)


class Team:
    """The threads of a runner but the caller's own, which is number 0. ``control``: int64 [WORDS], shared by all."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.control = np.zeros(WORDS, np.int64)
        self._sleepers: list[threading.Thread] = []
        prepare(self.control)

    def start(self, serve: Callable[[int], None]) -> None:
        """Run ``serve(me)`` in threads 1 .. threads - 1; it returns when `stop` dismisses the team."""
        self.control[STOP] = 0
        self.control[JOINED] = self.control[STEP]
        self._sleepers = [
            threading.Thread(target=serve, args=(me,), name=f"cpu-kernel-{me}", daemon=True)
            for me in range(1, self.threads)
        ]
        for thread in self._sleepers:
            thread.start()

    def stop(self) -> None:
        """Dismiss the threads and wait for them. Nothing to do when none run."""
        if self._sleepers:
            dismiss(self.control)
            for thread in self._sleepers:
                thread.join()
            self._sleepers = []


@njit(nogil=True)
def share(total: int, me: int, threads: int) -> tuple[int, int]:
    """The part [first, last) of ``total`` items that thread ``me`` takes."""
    return total * me // threads, total * (me + 1) // threads
