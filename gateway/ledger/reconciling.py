"""What becomes of legs in doubt: somebody looks into the provider's own account and says what was used."""

from __future__ import annotations

import json
from functools import partial

from sqlalchemy import select

from gateway.database.database import Database
from gateway.ledger.problem import LedgerProblem
from gateway.ledger.statements import Ending, State, end
from gateway.ledger.tables import Leg
from providers.base import Usage


async def doubtful_legs(database: Database, limit: int = 1000) -> list[Leg]:
    """Legs that are unknown, the oldest first."""
    async with database.reading() as session:
        unknown = select(Leg).where(Leg.state == "unknown").order_by(Leg.reserved_at).limit(limit)
        return list(await session.scalars(unknown))


async def reconcile(database: Database, id: str, usage: Usage, nano_usd: int | None) -> None:
    """Charge an unknown leg with what it used; with nothing at all, it is released. Raises `LedgerProblem`."""
    async with database.reading() as session:
        leg = await session.get(Leg, id)
    if leg is None or leg.state != "unknown":
        raise LedgerProblem(f"there is no leg {id} that is unknown" if leg is None else f"the leg {id} is {leg.state}")
    tokens = usage.prompt + usage.completion
    state: State = "settled" if tokens or nano_usd else "released"
    row = {
        "leg": id,
        "state": state,
        "charged_nano": nano_usd,
        "charged_tokens": tokens,
        "prompt_tokens": usage.prompt,
        "cached_tokens": usage.cached,
        "completion_tokens": usage.completion,
        "enforcement": leg.enforcement,
        "first_token_us": leg.first_token_us,
        "total_us": leg.total_us,
    }
    change = (nano_usd or 0) - (leg.charged_nano or 0)
    ending = Ending(row, json.loads(leg.meters), tokens - leg.charged_tokens, change)
    if not await database.write(partial(end, ending=ending)):
        raise LedgerProblem(f"the leg {id} was ended by somebody else")
