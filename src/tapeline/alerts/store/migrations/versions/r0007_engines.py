"""The schema grows: engines that report themselves."""

from __future__ import annotations

from typing import Final

revision: Final = "0007"
down_revision: Final = "0006"


def upgrade() -> None:
    """Build the tables."""
