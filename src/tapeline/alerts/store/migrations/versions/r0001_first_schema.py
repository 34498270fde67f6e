"""The first schema: firings (in PostgreSQL partitioned by symbol), outbox, rules, silences, endpoints."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None
PARTITIONS: Final = 16


def upgrade() -> None:
    """Build every table; in PostgreSQL the partitions of firings too."""
    op.create_table(
        "alert_counter",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "alert_firing",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("dedupe_key", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("rule_version", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("detected_at", sa.BigInteger, nullable=False),
        sa.Column("price", sa.Double, nullable=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("late", sa.Boolean, nullable=False),
        sa.Column("lateness", sa.BigInteger, nullable=False),
        sa.Column("bar", sa.BigInteger, nullable=True),
        sa.Column("at_close", sa.Boolean, nullable=False),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("sides", sa.Text, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", "symbol"),
        postgresql_partition_by="HASH (symbol)",
    )
    op.create_index("alert_firing_number", "alert_firing", ["number"])
    op.create_index("alert_firing_owner", "alert_firing", ["owner", "ts", "number"])
    op.create_index("alert_firing_rule", "alert_firing", ["rule", "ts", "number"])
    op.create_index("alert_firing_symbol", "alert_firing", ["symbol", "ts", "number"])
    op.create_index("alert_firing_ts", "alert_firing", ["ts", "number"])
    op.create_table(
        "alert_delivery",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("firing", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("order_key", sa.Text, nullable=False),
        sa.Column("group_key", sa.Text, nullable=False),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("tried_before", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=True),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_delivery_created", "alert_delivery", ["created_at"])
    op.create_index(
        "alert_delivery_dead",
        "alert_delivery",
        ["finished_at", "number"],
        sqlite_where=sa.text("state = 'dead'"),
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_index("alert_delivery_firing", "alert_delivery", ["firing"])
    op.create_index(
        "alert_delivery_open",
        "alert_delivery",
        ["channel", "order_key", "number"],
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "alert_attempt",
        sa.Column("delivery", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("retry_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("delivery", "number"),
    )
    op.create_table(
        "alert_rule",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_rule_owner", "alert_rule", ["owner"])
    op.create_table(
        "alert_rule_revision",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", "revision"),
    )
    op.create_index("alert_rule_revision_number", "alert_rule_revision", ["number"])
    op.create_table(
        "alert_rule_state",
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("rule", "symbol"),
    )
    op.create_table(
        "alert_position",
        sa.Column("feed", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("feed"),
    )
    op.create_table(
        "alert_silence",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("matchers", sa.Text, nullable=False),
        sa.Column("begins_at", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_silence_ends", "alert_silence", ["ends_at"])
    op.create_table(
        "alert_acknowledgement",
        sa.Column("firing", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("acknowledged_by", sa.Text, nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("firing"),
    )
    op.create_index("alert_acknowledgement_number", "alert_acknowledgement", ["number"])
    op.create_table(
        "alert_endpoint",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("secrets", sa.LargeBinary, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("failing_since", sa.BigInteger, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_endpoint_channel", "alert_endpoint", ["channel"])
    op.create_index("alert_endpoint_owner", "alert_endpoint", ["owner"])
    op.execute("INSERT INTO alert_counter (name, value) VALUES ('commit', 0), ('rule', 0), ('acknowledgement', 0)")
    if op.get_bind().dialect.name == "postgresql":
        for remainder in range(PARTITIONS):
            op.execute(
                f"CREATE TABLE alert_firing_{remainder:02d} PARTITION OF alert_firing"
                f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {remainder})"
            )


def downgrade() -> None:
    """There is nothing before the first schema."""
    raise NotImplementedError("a schema is never taken back: restore a backup")
