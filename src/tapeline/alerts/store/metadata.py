"""The tables, once for both databases: migrations build them, and every identifier in a statement comes from here."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, Table, Text, text

SCHEMA_REVISION: Final = "0007"
"""The newest migration: what an open store's schema must be at."""
REVISION_TABLE: Final = "alert_schema_revision"
"""Not Alembic's own name for it: other programs keep theirs in the same PostgreSQL database."""

metadata: Final = MetaData()


def text_column(name: str, *, key: bool = False) -> Column[str]:
    """Text that is never null."""
    return Column(name, Text, nullable=False, primary_key=key)


def whole_column(name: str) -> Column[int]:
    """A whole number of 64 bits that is never null; times are nanoseconds."""
    return Column(name, BigInteger, nullable=False)


counter: Final = Table(
    # A number is taken by updating its row, which holds back every other writer until the transaction ends: so numbers
    # become visible in their order, which a sequence does not promise.
    "alert_counter",
    metadata,
    text_column("name", key=True),
    whole_column("value"),
)

firing: Final = Table(
    "alert_firing",
    metadata,
    # PostgreSQL wants the column that partitions in every unique key; an id follows from the symbol, so the pair is
    # as unique as the id.
    text_column("id", key=True),
    text_column("symbol", key=True),
    whole_column("number"),
    text_column("dedupe_key"),
    text_column("rule"),
    text_column("rule_version"),
    text_column("owner"),
    text_column("kind"),
    whole_column("ts"),
    whole_column("detected_at"),
    Column("price", Double, nullable=True),
    whole_column("sequence"),
    Column("late", Boolean, nullable=False),
    whole_column("lateness"),
    Column("bar", BigInteger, nullable=True),
    Column("at_close", Boolean, nullable=False),
    text_column("priority"),
    text_column("sides"),
    text_column("labels"),
    Index("alert_firing_number", "number"),
    Index("alert_firing_ts", "ts", "number"),
    Index("alert_firing_rule", "rule", "ts", "number"),
    Index("alert_firing_symbol", "symbol", "ts", "number"),
    Index("alert_firing_owner", "owner", "ts", "number"),
    postgresql_partition_by="HASH (symbol)",
)

_OPEN: Final = text("finished_at IS NULL")

delivery: Final = Table(
    "alert_delivery",
    metadata,
    text_column("id", key=True),
    whole_column("number"),
    text_column("firing"),
    text_column("channel"),
    text_column("endpoint"),
    text_column("body"),
    whole_column("created_at"),
    whole_column("not_before"),
    whole_column("expires_at"),
    text_column("order_key"),
    text_column("group_key"),
    text_column("priority"),
    Column("attempts", Integer, nullable=False),
    Column("tried_before", Integer, nullable=False),
    text_column("state"),
    whole_column("lease_until"),
    whole_column("token"),
    Column("finished_at", BigInteger, nullable=True),
    text_column("outcome"),
    Column("status", Integer, nullable=False),
    text_column("detail"),
    Index("alert_delivery_firing", "firing"),
    Index("alert_delivery_created", "created_at"),
    Index("alert_delivery_endpoint", "endpoint", "number"),
    Index("alert_delivery_open", "channel", "order_key", "number", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index(
        "alert_delivery_dead",
        "finished_at",
        "number",
        sqlite_where=text("state = 'dead'"),
        postgresql_where=text("state = 'dead'"),
    ),
)

attempt: Final = Table(
    "alert_attempt",
    metadata,
    text_column("delivery", key=True),
    Column("number", Integer, nullable=False, primary_key=True, autoincrement=False),
    whole_column("started_at"),
    whole_column("ended_at"),
    text_column("outcome"),
    Column("status", Integer, nullable=False),
    text_column("detail"),
    whole_column("retry_at"),
)

rule: Final = Table(
    "alert_rule",
    metadata,
    text_column("id", key=True),
    text_column("owner"),
    Column("enabled", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    whole_column("number"),
    whole_column("changed_at"),
    text_column("changed_by"),
    text_column("body"),
    Index("alert_rule_owner", "owner"),
)

rule_revision: Final = Table(
    "alert_rule_revision",
    metadata,
    text_column("id", key=True),
    Column("revision", Integer, nullable=False, primary_key=True, autoincrement=False),
    whole_column("number"),
    whole_column("changed_at"),
    text_column("changed_by"),
    Column("deleted", Boolean, nullable=False),
    text_column("body"),
    Index("alert_rule_revision_number", "number"),
)

rule_state: Final = Table(
    "alert_rule_state",
    metadata,
    text_column("rule", key=True),
    text_column("symbol", key=True),
    text_column("phase"),
    text_column("body"),
)

position: Final = Table("alert_position", metadata, text_column("feed", key=True), whole_column("position"))

silence: Final = Table(
    "alert_silence",
    metadata,
    text_column("id", key=True),
    text_column("owner"),
    text_column("matchers"),
    whole_column("begins_at"),
    whole_column("ends_at"),
    text_column("comment"),
    text_column("created_by"),
    Index("alert_silence_ends", "ends_at"),
)

acknowledgement: Final = Table(
    "alert_acknowledgement",
    metadata,
    text_column("firing", key=True),
    whole_column("number"),
    text_column("rule"),
    text_column("symbol"),
    text_column("acknowledged_by"),
    whole_column("acknowledged_at"),
    text_column("comment"),
    Index("alert_acknowledgement_number", "number"),
)

endpoint: Final = Table(
    "alert_endpoint",
    metadata,
    text_column("id", key=True),
    text_column("owner"),
    text_column("channel"),
    text_column("address"),
    # What the caller encrypted: opaque bytes, several secrets in one value.
    Column("secrets", LargeBinary, nullable=False),
    Column("enabled", Boolean, nullable=False),
    text_column("reason"),
    Column("failures", Integer, nullable=False),
    whole_column("failing_since"),
    text_column("settings"),
    whole_column("created_at"),
    whole_column("changed_at"),
    Index("alert_endpoint_owner", "owner"),
    Index("alert_endpoint_channel", "channel"),
)
