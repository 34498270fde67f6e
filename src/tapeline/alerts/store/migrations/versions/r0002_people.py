"""The schema grows: users, API keys, token families and the audit log."""

from __future__ import annotations

from typing import Final

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Build the tables."""
