"""Tables: engines that report themselves."""

from __future__ import annotations
