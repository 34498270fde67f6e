"""Tables: answers kept for a repeated request."""

from __future__ import annotations
