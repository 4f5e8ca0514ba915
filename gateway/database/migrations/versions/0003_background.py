"""Responses that are made in the background: by which process."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("responses") as responses:
        responses.add_column(sa.Column("worker", sa.String(40), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("responses") as responses:
        responses.drop_column("worker")
