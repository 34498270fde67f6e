"""Tables: symbols and their names at each source, who holds them, and versions of configurations."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table

from tapeline.alerts.store.metadata import metadata, text_column, whole_column

symbol: Final = Table(
    "alert_symbol",
    metadata,
    text_column("symbol", key=True),
    text_column("base"),
    text_column("quote"),
    text_column("asset_class"),
    text_column("status"),
    text_column("changed_by"),
    whole_column("changed_at"),
)

alias: Final = Table(
    "alert_symbol_alias",
    metadata,
    text_column("source", key=True),
    text_column("name", key=True),
    text_column("symbol"),
    # A symbol has one name at a source, and a name one symbol.
    Index("alert_symbol_alias_symbol", "source", "symbol", unique=True),
)

reference: Final = Table(
    "alert_symbol_reference",
    metadata,
    text_column("kind", key=True),
    text_column("holder", key=True),
    text_column("symbol", key=True),
    text_column("owner"),
    # 0: until it is let go; a client's ends by itself, since a client that dies lets nothing go.
    whole_column("held_until"),
    Index("alert_symbol_reference_owner", "owner"),
)

configuration: Final = Table(
    "alert_configuration",
    metadata,
    text_column("owner", key=True),
    text_column("name", key=True),
    Column("version", BigInteger, nullable=False, primary_key=True, autoincrement=False),
    whole_column("created_at"),
    text_column("created_by"),
    text_column("comment"),
    text_column("digest"),
    text_column("body"),
)
