"""The schema grows: symbols and their names at each source, who holds them, and versions of configurations."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    """Build the tables."""
    op.create_table(
        "alert_symbol",
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("quote", sa.Text, nullable=False),
        sa.Column("asset_class", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("symbol"),
    )
    op.create_table(
        "alert_symbol_alias",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("source", "name"),
    )
    op.create_index("alert_symbol_alias_symbol", "alert_symbol_alias", ["source", "symbol"], unique=True)
    op.create_table(
        "alert_symbol_reference",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("held_until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "holder", "symbol"),
    )
    op.create_index("alert_symbol_reference_owner", "alert_symbol_reference", ["owner"])
    op.create_table(
        "alert_configuration",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", "version"),
    )
