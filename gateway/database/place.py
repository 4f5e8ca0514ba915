"""Where the database is: what `database.url` means."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from gateway.database.database import Database
from gateway.database.errors import DatabaseError
from gateway.database.postgres import PostgresDatabase
from gateway.database.sqlite import SqliteDatabase, TemporaryDatabase

IN_MEMORY = (None, "", ":memory:")


def database_at(url: str | None) -> Database:
    """The database that a URL names, not yet open. None is one that goes with the server.

    Raises:
        DatabaseError: not a URL, or of another kind of database.
    """
    if url is None:
        return TemporaryDatabase()
    try:
        place = make_url(url)
    except ArgumentError:
        raise DatabaseError(f"`database.url` is not a URL: {url}") from None
    match place.get_backend_name():
        case "sqlite" if place.database in IN_MEMORY:
            return TemporaryDatabase()
        case "sqlite":
            _make_private(Path(str(place.database)))
            return SqliteDatabase(place)
        case "postgresql":
            return PostgresDatabase(place)
        case other:
            raise DatabaseError(f"`database.url` names a database of kind {other}; sqlite and postgresql are served.")


def _make_private(file: Path) -> None:
    """Let nobody else read what will be in a new file; SQLite gives the files beside it the same permissions."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError as error:
        raise DatabaseError(f"{file} cannot be used: {error.strerror}") from None


def default_url() -> str:
    """A file in ``$XDG_DATA_HOME/sluice``, else ``~/.local/share/sluice``."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share").expanduser()
    return f"sqlite:///{data / 'sluice' / 'sluice.db'}"
