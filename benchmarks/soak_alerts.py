"""Soak: the alert service under load for a while, with a flat memory and every firing stored.

``make soak-alerts-memory`` runs it for TAPELINE_SOAK_SECONDS (600) at 2,000 ticks and 200 firings a second on 2,000
symbols. It fails where the resident memory, after a fifth of the time, rises by a megabyte a minute or more, or where
a firing is missing.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.bench_alert_service import load, pressure

RATE, SYMBOLS = 2_000, 2_000
ALLOWED = 1.0
"""Megabytes a minute."""


def main() -> None:
    """Run, print, and fail where memory rises."""
    seconds = float(os.environ.get("TAPELINE_SOAK_SECONDS", "600"))
    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(
            load(RATE, SYMBOLS, seconds, Path(folder), lambda rss: seen.append((time.monotonic(), rss)))
        )
    times, sizes = (np.array(column, np.float64) for column in zip(*seen, strict=True))
    late = times > times[0] + seconds / 5
    slope = float(np.polyfit(times[late] / 60, sizes[late] / 1e6, 1)[0])
    print(
        f"{seconds:.0f} s, {found['firings']} firings, RSS {found['rss']:.0f} MB, slope {slope:+.2f} MB a minute, "
        f"p50 {found['p50']:.1f} ms, p99 {found['p99']:.1f} ms; {pressure()}"
    )
    if slope >= ALLOWED:
        raise SystemExit(f"the memory rises by {slope:.2f} MB a minute")


if __name__ == "__main__":
    main()
