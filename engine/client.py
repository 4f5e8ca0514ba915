"""The HTTP side of the engine process: starts it, sends requests, routes events to whoever waits. Imports no torch.

Frames are read by a thread and handed to the event loop, one call a frame (a frame holds all events of a step). Events
of a request go to its queue; a queue is never bounded, because the engine itself bounds what a request can produce
(max_tokens).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import msgspec

from engine.process import main
from schemas.config import Settings
from schemas.engine import (
    Cancel,
    Drain,
    Event,
    Failed,
    Finished,
    Inspect,
    Inspected,
    ModelCard,
    Pin,
    Pinned,
    Probe,
    Ready,
    Report,
    Score,
    Scored,
    Started,
    StartFailed,
    Submit,
    ToEngine,
    Tokens,
)  # fmt: skip

RequestEvent = Started | Tokens | Finished | Failed


class EngineGone(Exception):
    """The engine process has ended, or could not start; the message says why where it is known."""


class EngineClient:
    """One engine process. All methods belong to the event loop that called `start`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: SpawnProcess | None = None
        self._queues: dict[str, asyncio.Queue[RequestEvent | EngineGone]] = {}
        self._probes: dict[str, asyncio.Future[Report]] = {}
        self._asked: dict[str, asyncio.Future[Inspected | Scored | Pinned | Failed]] = {}
        self._encoder = msgspec.msgpack.Encoder()
        self._gone: EngineGone | None = EngineGone("the engine has not been started")
        self.models: list[ModelCard] = []

    @property
    def alive(self) -> bool:
        return self._gone is None

    def launch(self) -> None:
        """Start the process ahead of `start`, so that models load while the caller does something else."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        settings = msgspec.json.encode(self._settings)
        self._process = context.Process(target=main, args=(theirs, settings), name="sluice-engine")
        self._process.start()
        theirs.close()

    def kill(self) -> None:
        """End a process that was launched and never started. Nothing, where `aclose` has ended it."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join()

    async def start(self) -> None:
        """Start the process; return when its models are loaded. Raises EngineGone."""
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[list[ModelCard]] = self._loop.create_future()
        if self._process is None:
            await asyncio.to_thread(self.launch)
        self._gone = None
        self._reader = threading.Thread(target=self._read, args=(self._connection,), daemon=True)
        self._reader.start()
        self.models = await self._ready

    async def aclose(self, patience: float = 10.0) -> None:
        """Let running requests finish for up to ``patience`` seconds, then end the process."""
        if self._gone is None:
            self._send(Drain())
        process = self._process
        if process is None:
            return
        await asyncio.to_thread(process.join, patience)
        if process.is_alive():
            process.kill()
            await asyncio.to_thread(process.join)
        self._connection.close()

    def submit(self, request: Submit) -> asyncio.Queue[RequestEvent | EngineGone]:
        """Send a request; its events arrive in the returned queue. Call `forget` when done with it. Raises
        EngineGone."""
        if self._gone is not None:
            raise self._gone
        events: asyncio.Queue[RequestEvent | EngineGone] = asyncio.Queue()
        self._queues[request.id] = events
        self._send(request)
        return events

    def cancel(self, id: str, choice: int | None = None) -> None:
        """Stop a request or one of its choices; unknown ids are ignored."""
        if self._gone is None:
            self._send(Cancel(id, choice))

    def forget(self, id: str) -> None:
        """Drop a request's queue; events that still arrive for it are ignored."""
        self._queues.pop(id, None)

    async def inspect(self, request: Inspect) -> Inspected | Failed:
        """What a constraint promises. Raises EngineGone."""
        answer = await self._ask(request)
        assert isinstance(answer, Inspected | Failed)
        return answer

    async def pin(self, request: Pin) -> Pinned | Failed:
        """Keep a prefix in the cache for good. Raises EngineGone."""
        answer = await self._ask(request)
        assert isinstance(answer, Pinned | Failed)
        return answer

    async def score(self, request: Score) -> Scored | Failed:
        """How likely some tokens are. Raises EngineGone. A caller cancelled in here leaves nothing behind."""
        try:
            answer = await self._ask(request)
        except asyncio.CancelledError:
            self.cancel(request.id)
            raise
        assert isinstance(answer, Scored | Failed)
        return answer

    async def _ask(self, request: Inspect | Score | Pin) -> Inspected | Scored | Pinned | Failed:
        """The one answer to a request that has no more."""
        if self._gone is not None:
            raise self._gone
        answer: asyncio.Future[Inspected | Scored | Pinned | Failed] = self._loop.create_future()
        self._asked[request.id] = answer
        self._send(request)
        try:
            return await answer
        finally:
            self._asked.pop(request.id, None)

    async def report(self) -> Report:
        """Figures of the engine. Raises EngineGone."""
        if self._gone is not None:
            raise self._gone
        id = f"probe-{len(self._probes)}-{self._loop.time()}"
        answer: asyncio.Future[Report] = self._loop.create_future()
        self._probes[id] = answer
        self._send(Probe(id))
        try:
            return await answer
        finally:
            self._probes.pop(id, None)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _send(self, message: ToEngine) -> None:
        try:
            self._connection.send_bytes(self._encoder.encode(message))
        except (BrokenPipeError, OSError):
            pass  # the reader reports the end

    def _read(self, connection: Connection) -> None:
        decoder = msgspec.msgpack.Decoder(list[Event])
        while True:
            try:
                frame: list[Event] | None = decoder.decode(connection.recv_bytes())
            except (EOFError, OSError):
                frame = None
            try:
                self._loop.call_soon_threadsafe(self._dispatch, frame)
            except RuntimeError:
                return  # the event loop is closed: nobody waits any more
            if frame is None:
                return

    def _dispatch(self, frame: list[Event] | None) -> None:
        if frame is None:
            self._end("the engine process has ended")
            return
        for event in frame:
            self._route(event)

    def _route(self, event: Event) -> None:
        match event:
            case Ready():
                if not self._ready.done():
                    self._ready.set_result(event.models)
            case StartFailed():
                self._end(event.message)
            case Inspected() | Scored() | Pinned() | Failed() if event.id in self._asked:
                asked = self._asked[event.id]
                if not asked.done():
                    asked.set_result(event)
            case Inspected() | Scored() | Pinned():
                pass  # whoever asked has gone
            case Report():
                probe = self._probes.get(event.id)
                if probe is not None and not probe.done():
                    probe.set_result(event)
            case _:
                events = self._queues.get(event.id)
                if events is not None:
                    events.put_nowait(event)

    def _end(self, message: str) -> None:
        if self._gone is not None:
            return
        self._gone = EngineGone(message)
        if not self._ready.done():
            self._ready.set_exception(self._gone)
        for events in self._queues.values():
            events.put_nowait(self._gone)
        for waiting in (*self._probes.values(), *self._asked.values()):
            if not waiting.done():
                waiting.set_exception(self._gone)
