"""Tables: signals to trading bots and alerts that come in."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Double, Index, Table, text

from tapeline.alerts.store.metadata import delivery, metadata, text_column, whole_column

signal: Final = Table(
    # What each bot was given, in its order; it outlives the outbox's row, which is cleaned away sooner.
    "alert_signal",
    metadata,
    text_column("bot", key=True),
    Column("sequence", BigInteger, nullable=False, primary_key=True, autoincrement=False),
    text_column("id"),
    text_column("delivery"),
    text_column("owner"),
    text_column("symbol"),
    text_column("body"),
    whole_column("created_at"),
    whole_column("expires_at"),
    whole_column("sent_at"),
    text_column("state"),
    whole_column("state_at"),
    Column("fill_price", Double, nullable=True),
    Column("fill_quantity", Double, nullable=True),
    text_column("note"),
    whole_column("due_at"),
    whole_column("told_at"),
    Index("alert_signal_delivery", "delivery", unique=True),
    Index("alert_signal_id", "bot", "id"),
    Index(
        "alert_signal_untold",
        "due_at",
        sqlite_where=text("state = 'open' AND told_at = 0"),
        postgresql_where=text("state = 'open' AND told_at = 0"),
    ),
)

signal_counter: Final = Table(
    # How far the outbox was taken, and each bot's last sequence: updated under a lock, so that none is given twice.
    "alert_signal_counter",
    metadata,
    text_column("name", key=True),
    whole_column("value"),
)

bot_deliveries: Final = Index(
    "alert_delivery_bot",
    delivery.c.number,
    sqlite_where=text("channel = 'bot'"),
    postgresql_where=text("channel = 'bot'"),
)
"""The outbox's rows for bots in their order; it costs rows of other channels nothing."""

inbound: Final = Table(
    "alert_inbound",
    metadata,
    # A hash of what makes an alert the same one: the key refuses it the second time.
    text_column("id", key=True),
    text_column("owner"),
    text_column("source"),
    whole_column("received_at"),
    whole_column("sent_at"),
    text_column("address"),
    text_column("body"),
    text_column("settings"),
    text_column("state"),
    whole_column("finished_at"),
    text_column("firing"),
    text_column("reason"),
    Index(
        "alert_inbound_waiting",
        "received_at",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
    Index("alert_inbound_owner", "owner", "received_at"),
)

inbound_token: Final = Table(
    "alert_inbound_token",
    metadata,
    # Only the digest of a token is kept.
    text_column("digest", key=True),
    text_column("owner"),
    text_column("source"),
    whole_column("created_at"),
    whole_column("expires_at"),
    text_column("settings"),
    Index("alert_inbound_token_source", "owner", "source"),
)
