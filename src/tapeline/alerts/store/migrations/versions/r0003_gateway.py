"""The schema grows: answers kept for a repeated request, and indexes for what callers ask."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Build the table and the indexes."""
    op.create_table(
        "alert_repeated",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("begun_at", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("owner", "key"),
    )
    op.create_index("alert_repeated_begun", "alert_repeated", ["begun_at"])
    op.create_index("alert_rule_page", "alert_rule", ["owner", "id"])
    op.create_index("alert_delivery_endpoint", "alert_delivery", ["endpoint", "number"])
