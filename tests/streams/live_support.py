"""What the tests of live feeds share: a sink that can be awaited, and timings of milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tapeline.streams.collector import CollectorOptions
from tapeline.streams.connection import ConnectionOptions
from tapeline.streams.messages import Trade
from tapeline.streams.timing import Backoff
from tapeline.streams.trade_sequence import Collected

FAST = ConnectionOptions(
    stale_after=0.25,
    ping_every=0.05,
    pong_timeout=0.15,
    watch_every=0.02,
    life=3600,
    overlap=0.05,
    healthy_after=0.05,
    close_timeout=0.05,
    backoff=Backoff(first=0.002, cap=0.02),
)
QUICK = CollectorOptions(grace=0.01, flush_every=0.001, backoff=Backoff(first=0.005, cap=0.02), patience=None)


class MemorySink:
    """Keeps rows; can fail on command, and tells when it has what a test waits for."""

    def __init__(self) -> None:
        self.rows: list[Collected] = []
        self.fail = 0
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def append(self, records: Sequence[Collected]) -> None:
        if self.fail:
            self.fail -= 1
            raise OSError("no space left on device")
        self.rows += records
        self._loop.call_soon_threadsafe(self._changed.set)

    def ids(self, symbol: str) -> list[int]:
        return [
            int(row.record.id) for row in self.rows if isinstance(row.record, Trade) and row.record.symbol == symbol
        ]

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
