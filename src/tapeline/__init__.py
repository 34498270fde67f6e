"""Tapeline: market data from the ticker tape to the decision."""

from __future__ import annotations

__version__ = "0.1.0"
