"""The schema grows: who owns which shard, since which epoch."""

from __future__ import annotations

from typing import Final

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    """Build the tables."""
