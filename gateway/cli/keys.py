"""``sluice keys create | list | revoke``: API keys in the database. A running server takes them up within a second."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.limits import Limit

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "keys",
        help="make, list and revoke API keys",
        description="API keys in the database, beside those of the settings. A running server needs no restart.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it, this once")
    create.add_argument("name", metavar="NAME", help="what usage calls it; no other key ever has the same")
    create.add_argument("--tenant", required=True, metavar="TENANT", help="whose requests these are")
    create.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="WHAT/WINDOW=AMOUNT",
        help="requests, tokens or usd a minute, day, month or in total, as in usd/month=25.50; may be repeated",
    )
    create.set_defaults(run=run_create)
    listing = actions.add_parser("list", help="print names, tenants and limits of all keys")
    listing.set_defaults(run=run_list)
    revoke = actions.add_parser("revoke", help="end a key")
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(run=run_revoke)
    for action in (create, listing, revoke):
        action.add_argument("--config", metavar="FILE", help="settings, as TOML (default: what $SLUICE_CONFIG names)")


def run_create(options: argparse.Namespace) -> int:
    return asyncio.run(_create(options))


def run_list(options: argparse.Namespace) -> int:
    return asyncio.run(_list(options))


def run_revoke(options: argparse.Namespace) -> int:
    return asyncio.run(_revoke(options))


async def _create(options: argparse.Namespace) -> int:
    from gateway.cli.database import opened
    from gateway.keys.registry import create_key

    limits = [limit(text) for text in options.limit]
    async with opened(options.config) as (database, settings):
        minted = await create_key(database, options.name, options.tenant, limits, settings.auth.keys)
    print(minted.key)
    return 0


async def _list(options: argparse.Namespace) -> int:
    from gateway.cli.database import opened
    from gateway.keys.registry import limits_of, list_keys

    async with opened(options.config) as (database, _):
        keys = await list_keys(database)
    for key in keys:
        limits = ", ".join(text for limit in limits_of(key) for text in spelled(limit)) or "no limits"
        ended = f", revoked {_day(key.revoked_at)}" if key.revoked_at else ""
        print(f"{key.name}  tenant {key.tenant}, {limits}, made {_day(key.created_at)}{ended}")
    return 0


async def _revoke(options: argparse.Namespace) -> int:
    from gateway.cli.database import opened
    from gateway.keys.registry import revoke_key

    async with opened(options.config) as (database, _):
        await revoke_key(database, options.name)
    return 0


def limit(text: str) -> Limit:
    """``usd/month=25.50``. Raises `KeyProblem`."""
    import msgspec

    from gateway.keys.problem import KeyProblem
    from schemas.limits import Limit

    what, _, rest = text.partition("/")
    per, _, amount = rest.partition("=")
    if what not in ("requests", "tokens", "usd"):
        raise KeyProblem(f"a limit is of requests, tokens or usd, as in usd/month=25.50, not '{text}'")
    try:
        return msgspec.convert({"per": per, what: amount}, Limit, strict=False)
    except msgspec.ValidationError as error:
        raise KeyProblem(f"'{text}' is no limit: {error}") from None


def spelled(limit: Limit) -> list[str]:
    """As `limit` reads them."""
    amounts = {"requests": limit.requests, "tokens": limit.tokens, "usd": limit.usd}
    return [f"{what}/{limit.per}={amount}" for what, amount in amounts.items() if amount is not None]


def _day(microseconds: int) -> str:
    return f"{datetime.fromtimestamp(microseconds / 1e6, UTC):%Y-%m-%d}"
