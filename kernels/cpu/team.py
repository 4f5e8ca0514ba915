"""Threads that run one kernel together: work by ticket, phases without a barrier, and sleep without Python's lock.

Replaces OpenMP and a Python thread pool. A step is a row of phases, a phase a number of items; every thread goes
through all phases, takes items while there are any, and goes on when all are *done*. That is weaker than a barrier,
where all threads must *arrive*: a thread that was put to sleep or out of its core while it waited holds up nobody, and
when it comes back it runs through the phases it missed, finding nothing to do. On a busy machine a team so degrades to
the speed of the threads that do run.

    control words (int64), a cache line each
    STEP      number of the current step; a new one begins it
    ENDED     number of the last step that is complete
    STOP      1: the threads return instead
    ASLEEP    threads that sleep or are about to
    MUTEX, CONDITION   POSIX objects, opaque
    PHASES    a line a phase: items taken, items done, each as step · 2^32 + count

The counts begin anew with each step without anyone resetting them: what an earlier step left is smaller than the new
step's zero. Who waits spins for some microseconds and then sleeps on a POSIX condition variable; Python's lock is not
involved, so a step begins even if another Python thread is computing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from kernels.cpu import vector as v

STEP, ENDED, STOP, ASLEEP, MUTEX, CONDITION, PHASES = (8 * i for i in (0, 1, 2, 3, 4, 6, 8))
"""The POSIX objects are at most 64 and 48 bytes, each with a line to spare."""

SPINS = 2000
"""Pauses (15 to 40 ns each) before a waiting thread sleeps: longer than a phase of a decode step takes."""

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


@v.native(types.boolean(types.int64, types.int64, types.int64))
def exchange(b: v.Builder, address: v.Value, held: v.Value, new: v.Value) -> v.Value:
    """Atomically set the int64 at an address to ``new`` if it is ``held``; whether it was."""
    result = b.cmpxchg(v.pointer(b, address, v.I64), held, new, "seq_cst")
    return b.extract_value(result, 1)


@v.native(types.void())
def pause(b: v.Builder) -> None:
    """Tell the core that this is a spin loop, where there is an instruction for it."""
    if v.path != "portable":
        v.call(b, "llvm.x86.sse2.pause", v.ir.VoidType(), [])


@njit(nogil=True)
def wait(control: int, address: int, least: int) -> None:
    """Return when the int64 at an address is at least ``least``: spin first, then sleep until `wake`."""
    for _ in range(SPINS):
        if read(address) >= least:
            return
        pause()
    _lock(control + 8 * MUTEX)
    fetch_add(control + 8 * ASLEEP, 1)
    while read(address) < least:
        _sleep(control + 8 * CONDITION, control + 8 * MUTEX)
    fetch_add(control + 8 * ASLEEP, -1)
    _unlock(control + 8 * MUTEX)


@njit(nogil=True)
def wake(control: int) -> None:
    """Have sleepers look again, after a change.

    No wake-up is lost: a sleeper counts itself before it looks a last time, and is looked for after the change.
    """
    if read(control + 8 * ASLEEP) > 0:
        _lock(control + 8 * MUTEX)
        _wake(control + 8 * CONDITION)
        _unlock(control + 8 * MUTEX)


@njit(nogil=True)
def take(control: int, step: int, phase: int, items: int) -> int:
    """Number of an item of a phase that nobody has taken, now the caller's; -1 when none is left."""
    address = control + 8 * (PHASES + 8 * phase)
    zero = step << 32
    while True:
        held = read(address)
        taken = max(held, zero)
        if taken >= zero + items:
            return -1
        if exchange(address, held, taken + 1):
            return taken - zero


@njit(nogil=True)
def done(control: int, step: int, phase: int, items: int) -> None:
    """An item that was taken is done; the last one lets the others go on."""
    address = control + 8 * (PHASES + 8 * phase + 1)
    zero = step << 32
    while True:
        held = read(address)
        new = max(held, zero) + 1
        if exchange(address, held, new):
            break
    if new == zero + items:
        wake(control)


@njit(nogil=True)
def finish(control: int, step: int, phase: int, items: int) -> None:
    """Wait until all items of a phase are done; what was written for them is then seen by the caller."""
    if items > 0:
        wait(control, control + 8 * (PHASES + 8 * phase + 1), (step << 32) + items)


@njit(nogil=True)
def begin(control: int) -> int:
    """The leader begins the next step; its number."""
    step = fetch_add(control + 8 * STEP, 1) + 1
    wake(control)
    return step


@njit(nogil=True)
def end(control: int, step: int) -> None:
    """The leader ends a step. From here on its inputs may change."""
    write(control + 8 * ENDED, step)


@njit(nogil=True)
def follow(control: int, step: int) -> int:
    """Any other thread waits for a step after ``step``; its number, or -1 when the team is dismissed."""
    wait(control, control + 8 * STEP, step + 1)
    return -1 if read(control + 8 * STOP) == 1 else read(control + 8 * STEP)


@njit(nogil=True)
def ended(control: int, step: int) -> bool:
    """Whether a step is over. What a thread read of its inputs before it asked is of this step only if not."""
    return read(control + 8 * ENDED) >= step


@njit("void(int64[::1])", nogil=True, cache=True)
def prepare(control: NDArray[np.int64]) -> None:
    """Initialise the POSIX objects in fresh control words, all zero."""
    _new_mutex(control.ctypes.data + 8 * MUTEX, 0)
    _new_condition(control.ctypes.data + 8 * CONDITION, 0)


@njit("void(int64[::1])", nogil=True, cache=True)
def dismiss(control: NDArray[np.int64]) -> None:
    """Make every sleeper return."""
    write(control.ctypes.data + 8 * STOP, 1)
    begin(control.ctypes.data)


class Team:
    """The threads of a runner but the caller's own, which leads and is number 0.

    ``control``: int64 words for ``phases`` phases a step, shared by all.
    """

    def __init__(self, threads: int, phases: int) -> None:
        self.threads = threads
        self.control = np.zeros(PHASES + 8 * phases, np.int64)
        self._followers: list[threading.Thread] = []
        prepare(self.control)

    def start(self, serve: Callable[[int], None]) -> None:
        """Run ``serve(me)`` in threads 1 .. threads - 1; it returns when `stop` dismisses the team."""
        self.control[STOP] = 0
        self.control[ENDED] = self.control[STEP]
        self._followers = [
            threading.Thread(target=serve, args=(me,), name=f"cpu-kernel-{me}", daemon=True)
            for me in range(1, self.threads)
        ]
        for thread in self._followers:
            thread.start()

    def stop(self) -> None:
        """Dismiss the threads and wait for them. Nothing to do when none run."""
        if self._followers:
            dismiss(self.control)
            for thread in self._followers:
                thread.join()
            self._followers = []


@njit(nogil=True)
def share(total: int, me: int, threads: int) -> tuple[int, int]:
    """The part [first, last) of ``total`` items that thread ``me`` takes."""
    return total * me // threads, total * (me + 1) // threads
