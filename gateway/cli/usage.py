"""``sluice usage``: what requests came to, out of the ledger."""

from __future__ import annotations

import argparse
import asyncio
import csv
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "usage",
        help="print requests, tokens and dollars by day, model and key",
        description="Sums of the ledger: requests, attempts, tokens, dollars, and dollars held for what is under way "
        "or in doubt.",
    )
    parser.add_argument("--since", metavar="DAY", help="first day (UTC), as YYYY-MM-DD (default: 30 days back)")
    parser.add_argument("--until", metavar="DAY", help="last day (default: today)")
    parser.add_argument(
        "--by",
        metavar="GROUPS",
        default="day,tenant,key,model",
        help="of day, model, provider, key and tenant, with commas between (default: %(default)s)",
    )
    parser.add_argument("--tenant", help="only this tenant's")
    parser.add_argument("--csv", action="store_true", help="comma-separated, with a line of names")
    parser.add_argument("--config", metavar="FILE", help="settings, as TOML (default: what $SLUICE_CONFIG names)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    import msgspec

    from gateway.cli.database import opened
    from gateway.errors import ApiError
    from gateway.ledger.usage import GROUPS, read_query, usage

    try:
        query = read_query(options.since, options.until, options.by, options.tenant, GROUPS)
        async with opened(options.config) as (database, _):
            report = await usage(database, query)
    except ApiError as error:
        print(f"sluice: {error.message}", file=sys.stderr)
        return 1
    names = [*query.group_by, *FIGURES]
    lines: list[dict[str, Any]] = msgspec.to_builtins(report.data)
    rows = [names, *([str(line[name]) for name in names] for line in lines)]
    if options.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
    else:
        _print_table(rows)
    return 0


FIGURES = (
    "requests",
    "attempts",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "usd",
    "held_usd",
    "unpriced",
)


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
