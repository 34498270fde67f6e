"""The schema grows: signals to trading bots and alerts that come in."""

from __future__ import annotations

from typing import Final

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    """Build the tables."""
