"""What the ledger forgets, and what it must not."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.cli.main import main
from gateway.database.database import Database
from gateway.database.place import database_at
from gateway.database.sweeping import ROWS, Sweeping, swept
from gateway.ledger.forgetting import Forgetting
from gateway.ledger.ids import first_id, new_id
from gateway.ledger.ledger import Ledger
from gateway.ledger.limiting import LimitBook
from providers.base import Usage
from schemas.config import Retention
from schemas.limits import ScopedLimit
from tests.gateway.ledger.accounts import asking, books

DAY = 86_400.0
BOOK = LimitBook([ScopedLimit(key="ci", per="total", tokens=10**9)])


async def filled(database: Database, ages: list[float]) -> None:
    """A leg reserved so many days ago, each; one of each age stays open and one in doubt."""
    now = time.time()
    for age in ages:
        ledger = Ledger(database, BOOK, clock=lambda age=age: now - age * DAY)
        await (await ledger.reserve(asking(f"ended {age}"))).settle(Usage(3, 0, 2), 7)
        await ledger.reserve(asking(f"open {age}"))
        await (await ledger.reserve(asking(f"doubtful {age}"))).unknown()


async def test_what_ended_long_ago_is_forgotten_and_nothing_else(database: Database) -> None:
    await filled(database, [0.0, 9.9, 10.1, 400.0])
    before = await books(database)
    assert await swept(database, Forgetting(Retention())) == 0
    assert await swept(database, Forgetting(Retention(ledger_days=10.0)), pause_seconds=0) == 2
    after = await books(database)
    gone = {leg.request for leg in before.legs} - {leg.request for leg in after.legs}
    assert gone == {"ended 10.1", "ended 400.0"}
    assert after.meters == before.meters, "a limit was loosened"


async def test_many_go_in_small_transactions_and_writers_get_between_them(database: Database) -> None:
    now = time.time()
    old = Ledger(database, LimitBook([]), clock=lambda: now - 20 * DAY)
    for number in range(2 * ROWS + 1):
        await (await old.reserve(asking(str(number)))).release()
    sizes: list[int] = []
    forgetting = Forgetting(Retention(ledger_days=10.0))

    def counted(connection: object, *, now: int, limit: int) -> int:
        sizes.append(forgetting(connection, now=now, limit=limit))  # type: ignore[arg-type]
        return sizes[-1]

    sweeping = asyncio.create_task(swept(database, counted, pause_seconds=0.02))
    between: list[int] = []
    young = Ledger(database, LimitBook([]))
    while not sweeping.done():
        await young.reserve(asking())
        between.append(len(sizes))
        await asyncio.sleep(0.005)
    assert await sweeping == 2 * ROWS + 1 and sizes == [ROWS, ROWS, 1]
    assert len(set(between)) >= 2


async def test_a_server_sweeps_by_itself(database: Database) -> None:
    await filled(database, [20.0])
    sweeping = Sweeping(database, {"legs": Forgetting(Retention(ledger_days=10.0))}, every_seconds=0.01)
    sweeping.open()
    for _ in range(500):
        if (await books(database)).states["settled"] == 0:
            break
        await asyncio.sleep(0.01)
    await sweeping.aclose()
    assert (await books(database)).states == {"reserved": 1, "unknown": 1}


def test_ids_lie_in_the_order_of_their_times() -> None:
    for one in (0, 15, 16, 10**15, 16**14 - 2):
        assert first_id(one) < new_id(one) < first_id(one + 1)
        assert len(new_id(one)) <= 40


def test_prune_by_hand(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SLUICE_DATABASE__URL", database_url)

    async def fill() -> None:
        database = database_at(database_url)
        await database.open()
        await filled(database, [0.0, 20.0])
        await database.aclose()

    asyncio.run(fill())
    assert main(["database", "prune"]) == 0
    assert main(["database", "prune", "--ledger-days", "10"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "legs" in line] == ["deleted 0 legs", "deleted 1 legs"]
    assert {"deleted 0 responses", "deleted 0 conversations"} <= set(said)
    assert main(["database", "prune", "--ledger-days", "0"]) == 1
    assert "--ledger-days 0: " in capsys.readouterr().err
