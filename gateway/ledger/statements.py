"""What the ledger does to its tables, each a part of one transaction of `gateway.database`.

                      ┌─▶ settled     the provider said what it used
    reserved ─────────┼─▶ estimated   cut short, and what was used could be counted
       │              ├─▶ released    nothing was sent
       ▼              │
    unknown ──────────┘   charged at the reserved maximum until somebody finds out

An end is written only over `reserved` and `unknown`, so a leg is ended once, whoever tries. Meters move with their legs
in the same transaction: a meter shows exactly what its legs are charged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import Connection, Table, delete, insert, select, update

from gateway.database.statement import Statement
from gateway.ledger.limiting import Amounts, MeterLimit
from gateway.ledger.refusals import Exceeded
from gateway.ledger.tables import Leg, Meter, Worker

State = Literal["reserved", "settled", "estimated", "released", "unknown"]

LEGS = cast(Table, Leg.__table__)
METERS = cast(Table, Meter.__table__)
WORKERS = cast(Table, Worker.__table__)

KEPT_MICROSECONDS = 24 * 3600 * 1_000_000
"""How long a meter stays after its window, for legs that end late."""

COLUMNS = [column for column in LEGS.c.keys() if column not in ("first_token_us", "total_us")]
"""Of a leg that is reserved."""

_RESERVE = Statement(f"INSERT INTO legs ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{name}' for name in COLUMNS)})")
_CHARGE = Statement(
    """
    INSERT INTO meters (id, requests, tokens, nano, ends_at) VALUES (:id, :requests, :tokens, :nano, :ends_at)
    ON CONFLICT (id) DO UPDATE SET
        requests = meters.requests + excluded.requests,
        tokens = meters.tokens + excluded.tokens,
        nano = meters.nano + excluded.nano
    WHERE meters.requests + excluded.requests <= :max_requests
        AND meters.tokens + excluded.tokens <= :max_tokens
        AND (meters.nano + excluded.nano <= :max_nano OR excluded.nano = 0)
    RETURNING requests, tokens, nano
    """
)
_LEVEL = Statement("SELECT requests, tokens, nano FROM meters WHERE id = :id")
_END = Statement(
    """
    UPDATE legs SET state = :state, charged_nano = :charged_nano, charged_tokens = :charged_tokens,
        prompt_tokens = :prompt_tokens, cached_tokens = :cached_tokens, completion_tokens = :completion_tokens,
        enforcement = :enforcement, first_token_us = :first_token_us, total_us = :total_us
    WHERE id = :leg AND state IN ('reserved', 'unknown')
    """
)
_ADJUST = Statement("UPDATE meters SET tokens = tokens + :tokens, nano = nano + :nano WHERE id = :id")
_DOUBT = Statement("UPDATE legs SET state = 'unknown' WHERE id = :leg AND state = 'reserved'")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a leg ends. ``row``: the parameters of `_END`. ``meters``: sorted ids. ``tokens``, ``nano``: what the charge
    changes by."""

    row: dict[str, Any]
    meters: Sequence[str]
    tokens: int
    nano: int


def reserve(connection: Connection, row: dict[str, Any], meters: list[MeterLimit], asked: Amounts) -> list[Amounts]:
    """Write a leg down and charge it, or do neither. Gives the meters' levels. Raises `Exceeded`."""
    levels = [_charge(connection, meter, asked) for meter in meters]
    _RESERVE.run(connection, row)
    return levels


def _charge(connection: Connection, meter: MeterLimit, asked: Amounts) -> Amounts:
    ceiling = meter.ceiling
    if not asked.within(ceiling):
        raise Exceeded(meter, _level(connection, meter), asked)
    parameters = {
        "id": meter.id,
        "requests": asked.requests,
        "tokens": asked.tokens,
        "nano": asked.nano,
        "ends_at": meter.ends_at,
        "max_requests": ceiling.requests,
        "max_tokens": ceiling.tokens,
        "max_nano": ceiling.nano,
    }
    charged = _CHARGE.run(connection, parameters).fetchone()
    if charged is None:
        raise Exceeded(meter, _level(connection, meter), asked)
    return Amounts(*charged)


def _level(connection: Connection, meter: MeterLimit) -> Amounts:
    level = _LEVEL.run(connection, {"id": meter.id}).fetchone()
    return Amounts(*level) if level else Amounts(0, 0, 0)


def end(connection: Connection, ending: Ending) -> bool:
    """Whether the leg was still open."""
    if _END.run(connection, ending.row).rowcount != 1:
        return False
    if ending.tokens or ending.nano:
        for meter in ending.meters:
            _ADJUST.run(connection, {"id": meter, "tokens": ending.tokens, "nano": ending.nano})
    return True


def doubt(connection: Connection, leg: str) -> bool:
    """From reserved to unknown, if it was reserved."""
    return _DOUBT.run(connection, {"leg": leg}).rowcount == 1


def beat(connection: Connection, worker: str, now: int) -> dict[str, int]:
    """Show that ``worker`` lives. Gives every worker's beats."""
    beats = update(WORKERS).where(WORKERS.c.id == worker).values(beats=WORKERS.c.beats + 1)
    if connection.execute(beats).rowcount == 0:
        connection.execute(insert(WORKERS).values(id=worker, beats=0, started_at=now))
    connection.execute(delete(METERS).where(METERS.c.ends_at < now - KEPT_MICROSECONDS))
    return dict(connection.execute(select(WORKERS.c.id, WORKERS.c.beats)).all())


def bury(connection: Connection, silent: dict[str, int]) -> int:
    """Take ``silent`` workers (id → beats) off the list, unless they have beaten since, and put what nobody on the list
    has reserved in doubt: that many legs."""
    for id, beats in silent.items():
        connection.execute(delete(WORKERS).where(WORKERS.c.id == id, WORKERS.c.beats == beats))
    orphaned = LEGS.c.worker.not_in(select(WORKERS.c.id))
    return connection.execute(update(LEGS).where(LEGS.c.state == "reserved", orphaned).values(state="unknown")).rowcount
