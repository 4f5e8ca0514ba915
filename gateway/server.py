"""Runs the application under uvicorn, in this process, until SIGTERM or SIGINT.

SIGHUP reloads the settings (`gateway.reloading`).

Draining: the port is closed, running requests have ``drain_seconds`` to finish, then what is left is cancelled and the
provider is stopped.

uvicorn rather than granian: in `bench/gateway.py` it took less CPU time for a plain answer (0.76 against 1.26 ms, of 64
deltas each) and as much for a streamed event (40 against 41 µs), and it is one object in this process, without workers.
"""

from __future__ import annotations

import math
import os
import signal

import uvicorn

from gateway import logs
from gateway.app import create_app
from gateway.reloading import Reloading
from gateway.tracing import Tracing
from providers.base import Provider
from schemas.config import Settings

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections in their pools, so that it is the client who closes them."""


def run(settings: Settings, provider: Provider, reloading: Reloading | None = None) -> None:
    """Serve the configured models until told to stop. SystemExit with status 1 when the server cannot start.
    ``reloading`` happens on SIGHUP."""
    logs.configure(settings.server.log_level)
    serving = server(settings, provider, reloading=reloading)
    if reloading is not None:
        _reload_on_hangup(serving, reloading)
    serving.run()
    if not serving.started:
        raise SystemExit(1)


def server(
    settings: Settings, provider: Provider, tracing: Tracing | None = None, reloading: Reloading | None = None
) -> uvicorn.Server:
    """The server over any provider, not yet running. ``tracing`` replaces what the settings say."""
    config = uvicorn.Config(
        create_app(provider, settings, tracing, reloading),  # type: ignore[arg-type]
        host=settings.server.host,
        port=settings.server.port,
        timeout_graceful_shutdown=math.ceil(settings.server.drain_seconds),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="on",
    )
    return uvicorn.Server(config)


def _reload_on_hangup(serving: uvicorn.Server, reloading: Reloading) -> None:
    """Where the server was started from a terminal, and that is gone, the same signal means its end."""
    attached = os.isatty(0)

    def hung_up(*_: object) -> None:
        if attached and not os.isatty(0):
            serving.should_exit = True
        else:
            reloading.ask()

    signal.signal(signal.SIGHUP, hung_up)
