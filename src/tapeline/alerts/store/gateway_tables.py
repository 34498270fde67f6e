"""Tables: answers kept for a repeated request; and the index by which an owner's rules are read in pages."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Index, Integer, LargeBinary, Table

from tapeline.alerts.store.metadata import metadata, rule, text_column, whole_column

repeated: Final = Table(
    "alert_repeated",
    metadata,
    text_column("owner", key=True),
    # A hash of the Idempotency-Key: as long as it need be, whatever was sent.
    text_column("key", key=True),
    text_column("fingerprint"),
    # running, written (what it did stands, its answer does not yet) or done
    text_column("state"),
    text_column("token"),
    whole_column("begun_at"),
    whole_column("lease_until"),
    Column("status", Integer, nullable=False),
    # Sealed: an answer may hold a secret that is shown once.
    Column("answer", LargeBinary, nullable=False),
    Index("alert_repeated_begun", "begun_at"),
)
"""One row a request that came with an Idempotency-Key."""

Index("alert_rule_page", rule.c.owner, rule.c.id)
