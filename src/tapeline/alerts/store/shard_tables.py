"""Tables: who owns which shard since which epoch, who is alive, and what a new owner goes on from."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Table

from tapeline.alerts.store.metadata import metadata, text_column, whole_column


def _shard_column() -> Column[int]:
    return Column("shard", Integer, nullable=False, primary_key=True, autoincrement=False)


def _position_column() -> Column[int]:
    return Column("position", BigInteger, nullable=False, primary_key=True, autoincrement=False)


instance: Final = Table(
    # One row an engine, renewed again and again by the database's clock; who lets it grow old is taken for dead.
    "alert_instance",
    metadata,
    text_column("name", key=True),
    whole_column("renewed_at"),
    whole_column("lease"),
    Column("engine", Boolean, nullable=False),
)

shard: Final = Table(
    # Renewals do not touch this table: a commit that reads its row to be sure of the epoch waits for takeovers only.
    "alert_shard",
    metadata,
    _shard_column(),
    text_column("owner"),
    whole_column("epoch"),
    whole_column("since"),
)

shard_snapshot: Final = Table(
    "alert_shard_snapshot",
    metadata,
    _shard_column(),
    _position_column(),
    whole_column("epoch"),
    text_column("feeds"),
    Column("kernel", LargeBinary, nullable=False),
    Column("processor", LargeBinary, nullable=False),
    text_column("digest"),
)

shard_rules: Final = Table(
    # Changes of the rules and, now and then, all that stood; see rule_epochs.
    "alert_shard_rules",
    metadata,
    _shard_column(),
    Column("number", BigInteger, nullable=False, primary_key=True, autoincrement=False),
    Column("base", Boolean, nullable=False, primary_key=True),
    whole_column("position"),
    Column("body", LargeBinary, nullable=False),
)
