"""All tables there are: Alembic compares them with what its migrations make. Each stands in the room that keeps it."""

from __future__ import annotations

from advanced_alchemy.base import orm_registry

import gateway.batches.tables
import gateway.files.tables
import gateway.keys.tables
import gateway.ledger.tables
import gateway.storing.tables  # noqa: F401

METADATA = orm_registry.metadata
