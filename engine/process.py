"""The engine process: models and their step loops behind one pipe (docs/architecture.md §1).

One thread runs the models in turns; another only reads the pipe and decodes. The process ends when the parent closes
the pipe, or drained after `Drain`.
"""

from __future__ import annotations

import queue
import signal
import threading
import traceback
from multiprocessing.connection import Connection

import msgspec

from schemas.config import Settings
from schemas.engine import (
    Cancel,
    Drain,
    Event,
    Failed,
    Inspect,
    Pin,
    Probe,
    Ready,
    Report,
    Score,
    StartFailed,
    Submit,
    ToEngine,
)

GRAMMAR_TICK_S = 0.1
"""How often deadlines of grammar workers are looked at when nothing else happens."""


_encoder = msgspec.msgpack.Encoder()


def main(connection: Connection, settings_json: bytes) -> None:
    """Entry point of the spawned process. ``settings_json``: `schemas.config.Settings` with resolved model paths."""
    for sent_to_all in (signal.SIGINT, signal.SIGHUP):
        signal.signal(sent_to_all, signal.SIG_IGN)  # the parent decides when to end: it drains first
    settings = msgspec.json.decode(settings_json, type=Settings)
    inbox: queue.SimpleQueue[ToEngine | EOFError | None] = queue.SimpleQueue()
    try:
        engine = _Engine(settings, connection, inbox)
    except Exception as error:
        traceback.print_exception(error)
        connection.send_bytes(_encoder.encode([StartFailed(f"{type(error).__name__}: {error}")]))
        return
    threading.Thread(target=_read, args=(connection, inbox), daemon=True).start()
    engine.serve()


def _read(connection: Connection, inbox: queue.SimpleQueue[ToEngine | EOFError | None]) -> None:
    decoder = msgspec.msgpack.Decoder(ToEngine)
    while True:
        try:
            inbox.put(decoder.decode(connection.recv_bytes()))
        except (EOFError, OSError):
            inbox.put(EOFError())
            return


class _Engine:
    def __init__(
        self, settings: Settings, connection: Connection, inbox: queue.SimpleQueue[ToEngine | EOFError | None]
    ) -> None:
        from engine.service import ModelTooLarge, Service

        self._connection = connection
        self._inbox = inbox
        self._services = {
            model.name: Service(model, settings, wake=lambda: inbox.put(None)) for model in settings.models
        }
        held = sum(sum(service.memory.values()) for service in self._services.values())
        budget = settings.engine.memory_mb
        if budget is not None and held > budget << 20:
            raise ModelTooLarge(f"the models need {held >> 20} MiB, engine.memory_mb allows {budget}")
        self._draining = False
        self._open = True

    def serve(self) -> None:
        services = list(self._services.values())
        self._send([Ready([service.card for service in services])])
        while self._open and not (self._draining and all(service.idle for service in services)):
            self._take_in()
            events: list[Event] = []
            for service in services:
                events += service.turn()
            if events:
                self._send(events)
        for service in services:
            service.close()

    def _take_in(self) -> None:
        """Handle what has arrived; wait for it only when no model has anything to do."""
        services = self._services.values()
        busy = any(service.can_turn for service in services)
        timeout = GRAMMAR_TICK_S if any(service.waiting_for_grammar for service in services) else None
        try:
            self._handle(self._inbox.get(block=not busy, timeout=timeout))
            while True:
                self._handle(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _handle(self, message: ToEngine | EOFError | None) -> None:
        match message:
            case Submit() | Score() | Pin() | Inspect():
                self._submit(message)
            case Cancel():
                for service in self._services.values():
                    service.cancel(message.id, message.choice)
            case Probe():
                self._send([_merged(message.id, [service.report(message.id) for service in self._services.values()])])
            case Drain():
                self._draining = True
            case EOFError():
                self._open = False
            case None:
                pass

    def _submit(self, request: Submit | Score | Pin | Inspect) -> None:
        service = self._services.get(request.model)
        if service is None:
            self._send([Failed(request.id, "unknown_model", f"there is no model `{request.model}`")])
        elif self._draining:
            self._send([Failed(request.id, "overloaded", "the engine is shutting down")])
        else:
            service.submit(request)

    def _send(self, events: list[Event]) -> None:
        try:
            self._connection.send_bytes(_encoder.encode(events))
        except (BrokenPipeError, OSError):
            self._open = False


def _merged(id: str, reports: list[Report]) -> Report:
    """Figures of all models together."""
    total = Report(id, {}, {}, {})
    for report in reports:
        for name, value in report.gauges.items():
            total.gauges[name] = total.gauges.get(name, 0.0) + value
        for name, value in report.counters.items():
            total.counters[name] = total.counters.get(name, 0.0) + value
        for name, values in report.observations.items():
            total.observations.setdefault(name, []).extend(values)
    return total
