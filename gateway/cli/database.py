"""``sluice database upgrade`` and ``sluice database check``."""

from __future__ import annotations

import argparse
import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.database.database import Database
    from schemas.config import Settings

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "database",
        help="bring the database to this version, or look whether it is",
        description="The tables of the ledger, the keys and what is stored. `sluice serve` upgrades them by itself.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    upgrade = actions.add_parser("upgrade", help="bring the tables to this version's")
    upgrade.set_defaults(run=run_upgrade)
    check = actions.add_parser("check", help="say which version the tables have; exit status 1 if it is another one")
    check.set_defaults(run=run_check)
    for action in (upgrade, check):
        action.add_argument("--config", metavar="FILE", help="settings, as TOML (default: what $SLUICE_CONFIG names)")


def run_upgrade(options: argparse.Namespace) -> int:
    return asyncio.run(_report(options, migrate=True))


def run_check(options: argparse.Namespace) -> int:
    return asyncio.run(_report(options, migrate=False))


async def _report(options: argparse.Namespace, *, migrate: bool) -> int:
    async with opened(options.config, migrate=migrate) as (database, _):
        revisions = await database.revisions()
        if not revisions.current:
            print(f"{database.name}: at revision {revisions.found or 'none'}, this version wants {revisions.wanted}")
            return 1
        print(f"{database.name}: up to date at revision {revisions.found}")
        return 0


@asynccontextmanager
async def opened(file: str | None, *, migrate: bool = True) -> AsyncIterator[tuple[Database, Settings]]:
    """The database of the settings, and these. Raises `ConfigError`, `DatabaseError`."""
    from gateway import config
    from gateway.database.place import database_at, default_url

    settings = config.load(file, os.environ)
    database = database_at(settings.database.url or default_url())
    try:
        await database.open(migrate=migrate)
        yield database, settings
    finally:
        await database.aclose()
