"""Tables: channels, symbols and their names at each source."""

from __future__ import annotations
