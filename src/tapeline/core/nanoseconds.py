"""Lengths of time in nanoseconds, the unit of every instant."""

from __future__ import annotations

from typing import Final

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
