"""The ledger, and API keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

OPEN = sa.text("state = 'reserved'")


def upgrade() -> None:
    op.create_table(
        "legs",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("request", sa.String(100), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(40), nullable=False),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("provider", sa.String(200), nullable=False),
        sa.Column("model", sa.String(500), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("reserved_nano", sa.BigInteger),
        sa.Column("reserved_tokens", sa.BigInteger, nullable=False),
        sa.Column("charged_nano", sa.BigInteger),
        sa.Column("charged_tokens", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("enforcement", sa.String(20), nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("meters", sa.Text, nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("reserved_at", sa.BigInteger, nullable=False),
        sa.Column("first_token_us", sa.BigInteger),
        sa.Column("total_us", sa.BigInteger),
    )
    op.create_index("ix_legs_tenant_day", "legs", ["tenant", "day"])
    op.create_index("ix_legs_open", "legs", ["worker"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_table(
        "meters",
        sa.Column("id", sa.String(500), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("nano", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger),
    )
    op.create_index("ix_meters_ends_at", "meters", ["ends_at"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("beats", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("lookup", sa.String(32), nullable=False, unique=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("revision", sa.BigInteger, nullable=False, unique=True),
    )


def downgrade() -> None:
    for table in ("keys", "workers", "meters", "legs"):
        op.drop_table(table)
