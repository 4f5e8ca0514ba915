"""What was in doubt is settled once, with what it did use."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway.cli.main import main
from gateway.database.database import Database
from gateway.database.place import database_at
from gateway.ledger.ledger import Ledger
from gateway.ledger.limiting import Amounts, LimitBook
from gateway.ledger.problem import LedgerProblem
from gateway.ledger.reconciling import doubtful_legs, reconcile
from providers.base import Usage
from schemas.limits import ScopedLimit
from tests.gateway.ledger.accounts import asking, books

BOOK = LimitBook([ScopedLimit(key="ci", per="total", tokens=1000, usd="1")])


async def test_a_doubt_is_settled_once(database: Database) -> None:
    ledger = Ledger(database, BOOK)
    kept, doubted, gone = [await ledger.reserve(asking(request)) for request in ("kept", "doubted", "gone")]
    await doubted.unknown()
    await gone.unknown()
    assert [leg.request for leg in await doubtful_legs(database)] == ["doubted", "gone"]
    await reconcile(database, doubted.id, Usage(3, 0, 4), 60)
    await reconcile(database, gone.id, Usage(0, 0, 0), 0)
    found = await books(database)
    assert {leg.request: leg.state for leg in found.legs} == {
        "kept": "reserved",
        "doubted": "settled",
        "gone": "released",
    }
    assert found.meters == {"key:ci:total:": Amounts(3, 10 + 7, 100 + 60)}
    assert await doubtful_legs(database) == []
    for id, reason in ((doubted.id, "is settled"), (kept.id, "is reserved"), ("leg_none", "there is no leg")):
        with pytest.raises(LedgerProblem, match=reason):
            await reconcile(database, id, Usage(1, 0, 0), 0)


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'sluice.db'}"
    for variable in [name for name in os.environ if name.startswith("SLUICE_") and name != "SLUICE_CACHE"]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SLUICE_DATABASE__URL", url)

    async def doubt() -> str:
        database = database_at(url)
        await database.open()
        leg = await Ledger(database, BOOK).reserve(asking())
        await leg.unknown()
        await database.aclose()
        return leg.id

    id = asyncio.run(doubt())
    assert main(["ledger", "doubts"]) == 0
    assert f"{id}  " in (listed := capsys.readouterr().out) and "10 tokens, $0.0000001" in listed
    assert main(["ledger", "settle", id, "--usd", "free"]) == 1
    assert "'free' is no amount of dollars" in capsys.readouterr().err
    assert main(["ledger", "settle", id, "--usd", "0.00000005", "--prompt-tokens", "4"]) == 0
    assert main(["ledger", "settle", id]) == 1
    assert "is settled" in capsys.readouterr().err
    assert main(["usage", "--by", "key", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "ci,1,1,4,0,0,0.00000005,0,0"
