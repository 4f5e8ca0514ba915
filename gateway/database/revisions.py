"""The tables' versions: Alembic's migrations, shipped in `migrations/` and applied when a server starts.

Each runs inside the caller's transaction, so a migration that fails leaves nothing behind, and two servers that start
together migrate one after the other: SQLite has its one writer, PostgreSQL an advisory lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from gateway.database.errors import DatabaseError

FOLDER = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Revisions:
    """``found``: of the database, None of an empty one. ``wanted``: of this version of Sluice."""

    found: str | None
    wanted: str

    @property
    def current(self) -> bool:
        return self.found == self.wanted


def revisions(connection: Connection) -> Revisions:
    """Raises `DatabaseError` for tables of a newer version."""
    scripts = ScriptDirectory(str(FOLDER))
    found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    wanted = scripts.get_current_head()
    assert wanted is not None
    if found is not None and found not in known:
        where = connection.engine.url.render_as_string()
        raise DatabaseError(f"{where} is at revision {found}, which is newer than {wanted}, this version's.")
    return Revisions(found, wanted)


def upgrade(connection: Connection) -> None:
    """Raises `DatabaseError` for tables of a newer version."""
    if not revisions(connection).current:
        command.upgrade(_config(connection), "head")


def downgrade(connection: Connection, wanted: str) -> None:
    """Back to revision ``wanted``. Raises `DatabaseError` for one that is unknown, or not before the one there is."""
    found = revisions(connection).found
    scripts = ScriptDirectory(str(FOLDER)).iterate_revisions(found, "base") if found else ()
    before = [script.revision for script in scripts][1:]
    if wanted not in before:
        raise DatabaseError(f"there is no revision {wanted} before {found}; there are: {', '.join(before) or 'none'}")
    command.downgrade(_config(connection), wanted)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
