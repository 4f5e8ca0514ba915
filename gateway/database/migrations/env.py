"""Alembic's environment. The connection is the caller's, already inside a transaction."""

from __future__ import annotations

from alembic import context

from gateway.database.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
