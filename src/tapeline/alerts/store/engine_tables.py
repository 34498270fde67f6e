"""Tables: engines that report themselves."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Table

from tapeline.alerts.store.metadata import metadata, text_column, whole_column

engine: Final = Table(
    "alert_engine",
    metadata,
    text_column("instance", key=True),
    whole_column("started_at"),
    whole_column("beat_at"),
    text_column("status"),
)
"""One row an engine, written anew with each of its beats; ``status`` is JSON."""
