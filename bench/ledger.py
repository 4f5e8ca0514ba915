"""What a leg of the ledger takes: reserved and settled, one after the other, without limits and under two.

    python -m bench.ledger [--legs 2000] [--database URL]

The database is a SQLite file of its own unless ``--database`` names another, whose tables are brought to this version's
and into which the legs go. Legs are counted for /metrics, as a server counts them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.database.place import database_at
from gateway.ledger.figures import LedgerFigures
from gateway.ledger.ledger import Ledger
from gateway.ledger.limiting import LimitBook
from gateway.ledger.reservation import Reservation
from providers.base import Usage
from schemas.limits import ScopedLimit

LIMITS = (
    ScopedLimit(key="bench", per="minute", requests=10**9, tokens=10**12),
    ScopedLimit(tenant="house", per="month", usd="1000000"),
)
USAGE = Usage(800, 0, 200)


async def legs(url: str, limits: tuple[ScopedLimit, ...], count: int) -> dict[str, float]:
    """Microseconds of a leg: the median by the clock, and the mean of this process's CPU time."""
    database = database_at(url)
    await database.open()
    ledger = Ledger(database, LimitBook(limits), figures=LedgerFigures(CollectorRegistry()))
    await ledger.open()
    times: list[float] = []
    began = 0.0
    for number in range(count + count // 10):
        if number == count // 10:  # what came before only warmed up
            began = time.process_time()
        start = time.perf_counter()
        leg = await ledger.reserve(Reservation(f"bench {number}", "house", "bench", "local", "tiny", 1000, 2000))
        await leg.settle(USAGE, 500)
        times.append(time.perf_counter() - start)
    cpu = (time.process_time() - began) / count
    await ledger.aclose()
    await database.aclose()
    return {"median_us": round(statistics.median(times[-count:]) * 1e6, 1), "cpu_us": round(cpu * 1e6, 1)}


async def run(url: str | None, count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        place = url or f"sqlite:///{Path(folder) / 'sluice.db'}"
        return {
            "bench": "ledger",
            "without_limits": await legs(place, (), count),
            "two_limits": await legs(place, LIMITS, count),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, default=2000)
    parser.add_argument("--database", metavar="URL", help="as `database.url` of the settings")
    options = parser.parse_args()
    found = asyncio.run(run(options.database, options.legs))
    for name in ("without_limits", "two_limits"):
        took = found[name]
        print(f"{name.replace('_', ' '):16}{took['median_us']:8.0f} µs a leg, {took['cpu_us']:.0f} of CPU")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
