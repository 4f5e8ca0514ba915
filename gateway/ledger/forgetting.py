"""How long the ledger remembers: legs that ended are deleted once they are old enough, if the settings say so.

Meters stay as they are, so no limit is loosened by it. What is under way or in doubt stays: it is charged, and
somebody may still find out what it came to.
"""

from __future__ import annotations

from sqlalchemy import Connection

from gateway.database.statement import Statement
from gateway.ledger.ids import DAY_MICROSECONDS, first_id
from schemas.config import Retention

_FORGET = Statement(
    """
    DELETE FROM legs WHERE id IN (
        SELECT id FROM legs
        WHERE id < :first_id AND reserved_at < :before AND state IN ('settled', 'estimated', 'released')
        ORDER BY id LIMIT :limit
    )
    """
)


class Forgetting:
    """A `gateway.database.sweeping.Sweep` of legs."""

    def __init__(self, retention: Retention) -> None:
        self.take(retention)

    def take(self, retention: Retention) -> None:
        """Go by this from now on."""
        self._days = retention.ledger_days

    def __call__(self, connection: Connection, *, now: int, limit: int) -> int:
        if self._days is None:
            return 0
        before = now - int(self._days * DAY_MICROSECONDS)
        row = {"first_id": first_id(before), "before": before, "limit": limit}
        return _FORGET.run(connection, row).rowcount
