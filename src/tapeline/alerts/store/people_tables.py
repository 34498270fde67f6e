"""Tables: users, API keys, token families and the audit log."""

from __future__ import annotations
