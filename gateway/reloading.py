"""Settings that change while the server runs: by SIGHUP, or when their file changes.

    ask ─▶ load ─┬─ cannot be used ─▶ what was in force stays in force; `problem` says why
                 └─ settings ─▶ apply what can be applied ─▶ in force; `waiting`: what a restart would change

What can be applied is `RELOADED`. Everything is prepared before anything changes, and then all of it changes between
two steps of the event loop, so no request is dropped and none sees half of it. (nginx and Envoy keep the old
configuration in the same way; the figures are named like Prometheus's own.)
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from msgspec.structs import fields, replace
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.config import ConfigError, refuse_open_door
from providers.base import ProviderError
from schemas.config import Settings

RELOADED = frozenset({"auth", "limits", "policy", "policies", "routes", "facts", "prices", "providers", "retention"})
"""Sections that take effect without a restart."""

WATCH_SECONDS = 2.0
"""Between two looks at the file."""

log = structlog.get_logger()

Apply = Callable[[Settings], Awaitable[None]]


class Reloading:
    """``load`` reads the settings again, as ``told`` were read at the start; raises `ConfigError`. A ``file`` is
    watched. `ask` may be called from a signal handler, everything else on the event loop that called `open`."""

    def __init__(
        self,
        told: Settings,
        load: Callable[[], Settings],
        file: Path | None = None,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self.problem = ""
        """Why the last settings were not taken; "" if they were."""
        self.waiting: tuple[str, ...] = ()
        """Settings, as ``section.key``, that differ from those in force until a restart."""
        self._in_force = told
        self._load = load
        self._file = file
        self._watch_seconds = watch_seconds
        self._task: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    def open(self, apply: Apply, registry: CollectorRegistry) -> None:
        """``apply`` brings settings into force; raises `ProviderError`, and then nothing has changed."""
        self._apply = apply
        self._reloads = Counter("sluice_config_reloads", "Attempts to reload.", ("outcome",), registry=registry)
        self._well = Gauge("sluice_config_last_reload_successful", "0 while settings were refused.", registry=registry)
        self._well.set(1)
        self._when = Gauge(
            "sluice_config_last_reload_success_timestamp_seconds", "When settings came into force.", registry=registry
        )
        self._when.set(time.time())
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ask(self) -> None:
        """Reload soon. Nothing before `open`."""
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._asked.set)

    async def reload(self) -> None:
        """Load and apply; what goes wrong is in `problem`."""
        try:
            told = await asyncio.to_thread(self._load)
            settings, waiting = taken_up(self._in_force, told)
            await self._apply(settings)
        except (ConfigError, ProviderError) as error:
            self.problem = str(error)
            self._well.set(0)
            self._reloads.labels("refused").inc()
            log.error("settings were not taken; those before stay in force", reason=self.problem)
            return
        self._in_force, self.problem, self.waiting = settings, "", waiting
        self._well.set(1)
        self._when.set(time.time())
        self._reloads.labels("taken").inc()
        log.info("settings were taken", waiting_for_restart=list(waiting))

    async def _run(self) -> None:
        seen = self._stamp()
        while True:
            try:
                await asyncio.wait_for(self._asked.wait(), None if self._file is None else self._watch_seconds)
            except TimeoutError:
                if self._stamp() == seen:
                    continue
            self._asked.clear()
            seen = self._stamp()
            await self.reload()

    def _stamp(self) -> tuple[int, int, int] | None:
        """Changes when the file does, also where it is a link that leads elsewhere now."""
        if self._file is None:
            return None
        try:
            status = os.stat(self._file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def taken_up(in_force: Settings, told: Settings) -> tuple[Settings, tuple[str, ...]]:
    """``told`` as far as it can come into force, and what cannot before a restart. Raises `ConfigError` where the two
    do not go together."""
    kept = [field.name for field in fields(Settings) if field.name not in RELOADED]
    waiting = tuple(place for name in kept for place in _differences(name, in_force, told))
    try:
        settings = replace(told, **{name: getattr(in_force, name) for name in kept})
    except ValueError as error:
        raise ConfigError(f"{error}, before a restart takes up {', '.join(waiting)}") from None
    refuse_open_door(settings)
    return settings, waiting


def _differences(name: str, one: Settings, other: Settings) -> list[str]:
    before, after = getattr(one, name), getattr(other, name)
    if before == after:
        return []
    if isinstance(before, tuple):
        return [name]
    keys = (field.name for field in fields(before))
    return [f"{name}.{key}" for key in keys if getattr(before, key) != getattr(after, key)]
