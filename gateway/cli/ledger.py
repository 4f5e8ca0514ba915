"""``sluice ledger doubts`` and ``sluice ledger settle``: legs of which nobody knows what they used."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "ledger",
        help="list and settle what is in doubt",
        description="A leg is in doubt when its server was killed, or its provider did not say what it used. It stays "
        "charged at the most that it can have cost until it is settled here.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    doubts = actions.add_parser("doubts", help="print the legs in doubt, the oldest first")
    doubts.set_defaults(run=run_doubts)
    settle = actions.add_parser("settle", help="say what a leg used, as the provider's own account has it")
    settle.add_argument("leg", metavar="LEG", help="its id")
    settle.add_argument("--prompt-tokens", type=_count, default=0, metavar="N")
    settle.add_argument("--completion-tokens", type=_count, default=0, metavar="N")
    settle.add_argument("--usd", default="0", help="dollars, as in 0.0125; with nothing at all the leg is released")
    settle.set_defaults(run=run_settle)
    for action in (doubts, settle):
        action.add_argument("--config", metavar="FILE", help="settings, as TOML (default: what $SLUICE_CONFIG names)")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number of tokens")
    return int(text)


def run_doubts(options: argparse.Namespace) -> int:
    return asyncio.run(_doubts(options))


def run_settle(options: argparse.Namespace) -> int:
    return asyncio.run(_settle(options))


async def _doubts(options: argparse.Namespace) -> int:
    from gateway.cli.database import opened
    from gateway.ledger.reconciling import doubtful_legs
    from schemas.money import usd_text

    async with opened(options.config) as (database, _):
        legs = await doubtful_legs(database)
    for leg in legs:
        when = datetime.fromtimestamp(leg.reserved_at / 1e6, UTC)
        held = "price unknown" if leg.charged_nano is None else f"${usd_text(leg.charged_nano)}"
        who = f"{leg.provider}/{leg.model}, tenant {leg.tenant or 'none'}, key {leg.key or 'none'}"
        print(f"{leg.id}  {when:%Y-%m-%d %H:%M:%S}  {who}, {leg.charged_tokens} tokens, {held}")
    return 0


async def _settle(options: argparse.Namespace) -> int:
    import msgspec

    from gateway.cli.database import opened
    from gateway.ledger.problem import LedgerProblem
    from gateway.ledger.reconciling import reconcile
    from providers.base import Usage
    from schemas.money import Usd, nano_usd

    try:
        nano = nano_usd(msgspec.convert(options.usd, Usd))
    except msgspec.ValidationError:
        raise LedgerProblem(f"'{options.usd}' is no amount of dollars, such as 0.0125") from None
    async with opened(options.config) as (database, _):
        await reconcile(database, options.leg, Usage(options.prompt_tokens, 0, options.completion_tokens), nano)
    return 0
