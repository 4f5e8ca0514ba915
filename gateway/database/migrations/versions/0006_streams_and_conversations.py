"""Events and items of stored responses, and conversations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("responses") as responses:
        responses.add_column(sa.Column("streamed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "response_events",
        sa.Column("response", sa.String(100), primary_key=True),
        sa.Column("last", sa.Integer, primary_key=True),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_conversations_expires_at", "conversations", ["expires_at"])
    op.create_table(
        "items",
        sa.Column("owner", sa.String(100), primary_key=True),
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_index("ix_items_tenant", "items", ["tenant", "id"])


def downgrade() -> None:
    for table in ("items", "conversations", "response_events"):
        op.drop_table(table)
    with op.batch_alter_table("responses") as responses:
        responses.drop_column("streamed")
