"""The schema grows: answers kept for a repeated request."""

from __future__ import annotations

from typing import Final

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Build the tables."""
