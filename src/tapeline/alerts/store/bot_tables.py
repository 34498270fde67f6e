"""Tables: signals to trading bots and alerts that come in."""

from __future__ import annotations
