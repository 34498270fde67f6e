"""The timeframes that rules may name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tapeline.core.nanoseconds import DAY, HOUR, MINUTE

TIMEFRAMES: Final[Mapping[str, int]] = MappingProxyType(
    {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": HOUR, "4h": 4 * HOUR, "1d": DAY}
)
"""Nanoseconds by name, the shortest first. Bars begin at whole multiples since 1970 in UTC."""
