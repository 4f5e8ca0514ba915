"""``sluice database upgrade | check | downgrade | prune``."""

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
        help="bring the database to this version or back, look which it is of, delete what is past its time",
        description="The tables of the ledger, the keys and what is stored. `sluice serve` upgrades them by itself.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    upgrade = actions.add_parser("upgrade", help="bring the tables to this version's")
    upgrade.set_defaults(run=run_upgrade)
    check = actions.add_parser("check", help="say which version the tables have; exit status 1 if it is another one")
    check.set_defaults(run=run_check)
    downgrade = actions.add_parser(
        "downgrade",
        help="take the tables back to an older version's, while no server runs",
        description="For rolling back: an older Sluice refuses newer tables. Run this with the newer version, and stop "
        "all servers first. What only newer tables hold is lost: back up before.",
    )
    downgrade.add_argument("revision", metavar="REVISION", help="the one that the older version wants: its `check`")
    downgrade.set_defaults(run=run_downgrade)
    prune = actions.add_parser(
        "prune",
        help="delete now what servers would delete in time",
        description="Deletes what is past its time, a few rows at a time: servers go on meanwhile.",
    )
    prune.add_argument(
        "--ledger-days",
        type=float,
        metavar="DAYS",
        help="legs of the ledger that ended longer ago (default: `retention.ledger_days` of the settings)",
    )
    prune.set_defaults(run=run_prune)
    for action in (upgrade, check, downgrade, prune):
        action.add_argument("--config", metavar="FILE", help="settings, as TOML (default: what $SLUICE_CONFIG names)")


def run_upgrade(options: argparse.Namespace) -> int:
    return asyncio.run(_report(options, migrate=True))


def run_check(options: argparse.Namespace) -> int:
    return asyncio.run(_report(options, migrate=False))


def run_downgrade(options: argparse.Namespace) -> int:
    return asyncio.run(_downgrade(options))


def run_prune(options: argparse.Namespace) -> int:
    return asyncio.run(_prune(options))


async def _downgrade(options: argparse.Namespace) -> int:
    async with opened(options.config, migrate=False) as (database, _):
        await database.downgrade(options.revision)
        print(f"{database.name}: at revision {(await database.revisions()).found}")
        return 0


async def _prune(options: argparse.Namespace) -> int:
    import msgspec

    from gateway.database.errors import DatabaseError
    from gateway.database.sweeping import swept
    from gateway.database.sweeps import sweeps
    from gateway.ledger.forgetting import Forgetting
    from schemas.config import Retention

    async with opened(options.config) as (database, settings):
        days = options.ledger_days
        try:
            told = settings.retention if days is None else msgspec.convert({"ledger_days": days}, Retention)
        except msgspec.ValidationError as error:
            raise DatabaseError(f"--ledger-days {days:g}: {error}") from None
        for what, sweep in sweeps(Forgetting(told)).items():
            print(f"deleted {await swept(database, sweep)} {what}")
    return 0


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
