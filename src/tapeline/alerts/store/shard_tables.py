"""Tables: who owns which shard, since which epoch."""

from __future__ import annotations
