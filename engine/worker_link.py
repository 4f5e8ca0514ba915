"""The engine's end of the pipe to a grammar worker, and a worker that stands by to take over."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

import msgspec

from engine import grammar_worker as worker
from engine.grammar_process import run

Replies = queue.SimpleQueue[tuple["WorkerLink", "worker.FromWorker | None"]]
"""What has come, and from whom; None when that worker has ended."""


class WorkerLink:
    """A worker process and the thread that reads its replies."""

    def __init__(
        self,
        replies: Replies,
        wake: Callable[[], None],
        stand_by: bool = False,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=run, args=(theirs, stand_by), name="sluice-grammar", daemon=True)
        self.process.start()
        theirs.close()
        self._encoder = msgspec.msgpack.Encoder()
        threading.Thread(target=_read, args=(self, self.connection, replies, wake), daemon=True).start()

    def send(self, message: worker.ToWorker) -> None:
        try:
            self.connection.send_bytes(self._encoder.encode(message))
        except (BrokenPipeError, OSError):
            pass  # the reader reports the death

    def kill(self) -> None:
        self.process.kill()


class Spare:
    """A worker that stands by. The first is made when one had to be killed, since whoever sends constraints that
    explode sends more of them; then neither the step loop nor anybody's constraint waits for a process to start."""

    def __init__(self, make: Callable[[], WorkerLink]) -> None:
        self._make = make
        self._making: threading.Thread | None = None
        self._worker: WorkerLink | None = None

    def take(self) -> WorkerLink | None:
        """The worker, if there is one; another is made meanwhile, in a thread."""
        if self._making is not None and self._making.is_alive():
            return None
        taken, self._worker = self._worker, None
        self._making = threading.Thread(target=self._fill, daemon=True)
        self._making.start()
        return taken if taken is not None and taken.process.is_alive() else None

    def close(self) -> None:
        if self._making is not None:
            self._making.join()
        if self._worker is not None:
            self._worker.kill()

    def _fill(self) -> None:
        self._worker = self._make()


def _read(
    owner: WorkerLink,
    connection: Connection,
    replies: Replies,
    wake: Callable[[], None],
) -> None:
    decoder = msgspec.msgpack.Decoder(worker.FromWorker)
    while True:
        try:
            reply = decoder.decode(connection.recv_bytes())
        except (EOFError, OSError):
            reply = None
        replies.put((owner, reply))
        wake()
        if reply is None:
            return
