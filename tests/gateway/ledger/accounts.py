"""What the ledger's tables say, read without the ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import select

from gateway.database.database import Database
from gateway.ledger.limiting import Amounts
from gateway.ledger.reservation import Reservation
from gateway.ledger.tables import Leg, Meter


@dataclass(frozen=True, slots=True)
class Books:
    """``legs`` in the order of their reservation; ``meters`` by id."""

    legs: list[Leg]
    meters: dict[str, Amounts]

    @property
    def states(self) -> Counter[str]:
        return Counter(leg.state for leg in self.legs)


async def states_become(database: Database, expected: dict[str, int], seconds: float = 5.0) -> None:
    """Fail unless the legs' states are soon as many as that."""
    found = Counter[str]()
    for _ in range(round(seconds / 0.02)):
        found = (await books(database)).states
        if found == expected:
            return
        await asyncio.sleep(0.02)
    assert found == expected


async def books(database: Database) -> Books:
    async with database.reading() as session:
        legs = list(await session.scalars(select(Leg).order_by(Leg.id)))
        meters = {m.id: Amounts(m.requests, m.tokens, m.nano) for m in await session.scalars(select(Meter))}
    return Books(legs, meters)


def asking(
    request: str = "r",
    *,
    tokens: int = 10,
    nano: int | None = 100,
    key: str = "ci",
    tenant: str = "acme",
    number: int = 0,
) -> Reservation:
    return Reservation(request, tenant, key, "local", "tiny", nano, tokens, number)
