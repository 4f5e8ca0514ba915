"""The migrations make exactly the tables that the code declares, and can be taken back."""

from __future__ import annotations

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

from gateway.database.database import Database
from gateway.database.revisions import FOLDER
from gateway.database.tables import METADATA


async def test_migrated_tables_are_the_declared_ones(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA)

    assert await database.write(differences) == []


async def test_migrations_can_be_taken_back(database: Database) -> None:
    def downgrade(connection: Connection) -> list[str]:
        config = Config()
        config.set_main_option("script_location", str(FOLDER))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        return inspect(connection).get_table_names()

    assert await database.write(downgrade) == ["alembic_version"]
