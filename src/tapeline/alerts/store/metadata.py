"""The tables, once for both databases: migrations build them, and every identifier in a statement comes from here."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, Table, Text, text

SCHEMA_REVISION: Final = "0001"
"""The newest migration: what an open store's schema must be at."""
REVISION_TABLE: Final = "alert_schema_revision"
"""Not Alembic's own name for it: other programs keep theirs in the same PostgreSQL database."""

metadata: Final = MetaData()


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=False, primary_key=key)


def _whole(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


counter: Final = Table(
    # A number is taken by updating its row, which holds back every other writer until the transaction ends: so numbers
    # become visible in their order, which a sequence does not promise.
    "alert_counter",
    metadata,
    _text("name", key=True),
    _whole("value"),
)

firing: Final = Table(
    "alert_firing",
    metadata,
    # PostgreSQL wants the column that partitions in every unique key; an id follows from the symbol, so the pair is
    # as unique as the id.
    _text("id", key=True),
    _text("symbol", key=True),
    _whole("number"),
    _text("dedupe_key"),
    _text("rule"),
    _text("rule_version"),
    _text("owner"),
    _text("kind"),
    _whole("ts"),
    _whole("detected_at"),
    Column("price", Double, nullable=True),
    _whole("sequence"),
    Column("late", Boolean, nullable=False),
    _whole("lateness"),
    Column("bar", BigInteger, nullable=True),
    Column("at_close", Boolean, nullable=False),
    _text("priority"),
    _text("sides"),
    _text("labels"),
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
    _text("id", key=True),
    _whole("number"),
    _text("firing"),
    _text("channel"),
    _text("endpoint"),
    _text("body"),
    _whole("created_at"),
    _whole("not_before"),
    _whole("expires_at"),
    _text("order_key"),
    _text("group_key"),
    _text("priority"),
    Column("attempts", Integer, nullable=False),
    Column("tried_before", Integer, nullable=False),
    _text("state"),
    _whole("lease_until"),
    _whole("token"),
    Column("finished_at", BigInteger, nullable=True),
    _text("outcome"),
    Column("status", Integer, nullable=False),
    _text("detail"),
    Index("alert_delivery_firing", "firing"),
    Index("alert_delivery_created", "created_at"),
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
    _text("delivery", key=True),
    Column("number", Integer, nullable=False, primary_key=True, autoincrement=False),
    _whole("started_at"),
    _whole("ended_at"),
    _text("outcome"),
    Column("status", Integer, nullable=False),
    _text("detail"),
    _whole("retry_at"),
)

rule: Final = Table(
    "alert_rule",
    metadata,
    _text("id", key=True),
    _text("owner"),
    Column("enabled", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    _whole("number"),
    _whole("changed_at"),
    _text("changed_by"),
    _text("body"),
    Index("alert_rule_owner", "owner"),
)

rule_revision: Final = Table(
    "alert_rule_revision",
    metadata,
    _text("id", key=True),
    Column("revision", Integer, nullable=False, primary_key=True, autoincrement=False),
    _whole("number"),
    _whole("changed_at"),
    _text("changed_by"),
    Column("deleted", Boolean, nullable=False),
    _text("body"),
    Index("alert_rule_revision_number", "number"),
)

rule_state: Final = Table(
    "alert_rule_state",
    metadata,
    _text("rule", key=True),
    _text("symbol", key=True),
    _text("phase"),
    _text("body"),
)

position: Final = Table("alert_position", metadata, _text("feed", key=True), _whole("position"))

silence: Final = Table(
    "alert_silence",
    metadata,
    _text("id", key=True),
    _text("owner"),
    _text("matchers"),
    _whole("begins_at"),
    _whole("ends_at"),
    _text("comment"),
    _text("created_by"),
    Index("alert_silence_ends", "ends_at"),
)

acknowledgement: Final = Table(
    "alert_acknowledgement",
    metadata,
    _text("firing", key=True),
    _whole("number"),
    _text("rule"),
    _text("symbol"),
    _text("acknowledged_by"),
    _whole("acknowledged_at"),
    _text("comment"),
    Index("alert_acknowledgement_number", "number"),
)

endpoint: Final = Table(
    "alert_endpoint",
    metadata,
    _text("id", key=True),
    _text("owner"),
    _text("channel"),
    _text("address"),
    # What the caller encrypted: opaque bytes, several secrets in one value.
    Column("secrets", LargeBinary, nullable=False),
    Column("enabled", Boolean, nullable=False),
    _text("reason"),
    Column("failures", Integer, nullable=False),
    _whole("failing_since"),
    _text("settings"),
    _whole("created_at"),
    _whole("changed_at"),
    Index("alert_endpoint_owner", "owner"),
    Index("alert_endpoint_channel", "channel"),
)
