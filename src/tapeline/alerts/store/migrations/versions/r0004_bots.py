"""The schema grows: signals to trading bots and alerts that come in."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    """Build the tables, and the index by which the outbox's signals are found."""
    op.create_table(
        "alert_signal",
        sa.Column("bot", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("delivery", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("state_at", sa.BigInteger, nullable=False),
        sa.Column("fill_price", sa.Double, nullable=True),
        sa.Column("fill_quantity", sa.Double, nullable=True),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("told_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("bot", "sequence"),
    )
    op.create_index("alert_signal_delivery", "alert_signal", ["delivery"], unique=True)
    op.create_index("alert_signal_id", "alert_signal", ["bot", "id"])
    untold = sa.text("state = 'open' AND told_at = 0")
    op.create_index("alert_signal_untold", "alert_signal", ["due_at"], sqlite_where=untold, postgresql_where=untold)
    op.create_table(
        "alert_signal_counter",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    bots = sa.text("channel = 'bot'")
    op.create_index("alert_delivery_bot", "alert_delivery", ["number"], sqlite_where=bots, postgresql_where=bots)
    op.create_table(
        "alert_inbound",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=False),
        sa.Column("firing", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "alert_inbound_waiting", "alert_inbound", ["received_at"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_index("alert_inbound_owner", "alert_inbound", ["owner", "received_at"])
    op.create_table(
        "alert_inbound_token",
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("alert_inbound_token_source", "alert_inbound_token", ["owner", "source"])
