"""The feed manager: a venue's streams, its history, the collector, the live feed and the drift monitor as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tapeline.clock.drift import DriftMonitor
from tapeline.core.errors import ProviderError, TemporaryError
from tapeline.streams.alerts import FeedAlert, OnAlert, ignore
from tapeline.streams.binance import SPOT, BinanceHistory, BinanceStreams, stream_names
from tapeline.streams.collector import CollectorOptions, Sink, TickCollector, describe
from tapeline.streams.connection import ConnectionOptions
from tapeline.streams.feed import LiveFeed
from tapeline.streams.messages import Quarantined, Quote, Record, Trade
from tapeline.streams.timing import Timing
from tapeline.streams.trade_sequence import Collected


class FeedManager:
    """Runs the live feed of one venue's instruments.

    Parameters
    ----------
    symbols, channels:
        What to stream, such as ``["BTCUSDT"]`` and ``["aggTrade", "bookTicker"]``.
    sink:
        Takes every trade once and in order, and every quote; see :class:`~tapeline.streams.collector.Sink`.
    history:
        The venue's REST side; None leaves gaps unfilled, and says so.
    feed:
        Where subscribers read.
    last_ids:
        By instrument, the last trade id that the sink has.
    on_record:
        Sees every other record: books, tickers, what could not be read.
    on_break:
        Called when a connection was lost: what was kept from it, as a book, is no longer what the venue shows.
    on_alert:
        Takes all alerts, also those of the venue's clock.
    check_every, statuses_every:
        Seconds between two looks for stale instruments, and between two requests for the venue's statuses (or None).
    """

    def __init__(
        self,
        symbols: Iterable[str],
        channels: Iterable[str],
        sink: Sink,
        *,
        history: BinanceHistory | None,
        feed: LiveFeed | None = None,
        last_ids: Mapping[str, int] | None = None,
        on_record: Callable[[Record, int], None] | None = None,
        on_break: Callable[[], None] | None = None,
        on_alert: OnAlert = ignore,
        url: str = SPOT,
        name: str = "binance",
        connection: ConnectionOptions | None = None,
        collector: CollectorOptions | None = None,
        drift: DriftMonitor | None = None,
        timing: Timing | None = None,
        check_every: float = 1.0,
        statuses_every: float | None = 60.0,
    ) -> None:
        self.name, self.timing = name, timing or Timing()
        self.feed = feed or LiveFeed(timing=self.timing)
        self.drift = drift or DriftMonitor()
        self.breaks = self.quarantined = self.status_failures = 0
        self._history, self._on_record, self._on_alert, self._on_break = history, on_record, on_alert, on_break
        self._check_every, self._statuses_every = check_every, statuses_every
        self.collector = TickCollector(
            sink,
            history,
            last_ids=last_ids,
            on_rows=self._rows,
            on_alert=on_alert,
            options=collector,
            timing=self.timing,
            name=f"{name}-collector",
        )
        self.streams = BinanceStreams(
            stream_names(symbols, channels),
            self._record,
            url=url,
            name=name,
            on_break=self._broken,
            on_session=self.collector.catch_up,
            on_alert=on_alert,
            gate=self.collector.gate,
            options=connection,
            timing=self.timing,
        )

    async def run(self) -> None:
        """Run until :meth:`stop`; the sink then has everything that was released.

        Raises
        ------
        FeedLostError
            A connection gave up, after its alert; the others ran on until they were stopped.
        """
        storing = asyncio.create_task(self.collector.run())
        checking = asyncio.create_task(self._check())
        asking = asyncio.create_task(self._ask_statuses())
        streaming = asyncio.create_task(self.streams.run())
        try:
            await asyncio.wait({streaming, storing, checking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (checking, asking, streaming):
                task.cancel()
            await asyncio.wait({checking, asking, streaming})
            await self.collector.stop()
            await storing
        if not streaming.cancelled():
            streaming.result()

    def stop(self) -> None:
        """End the streams; ``run`` returns when the sink has what was released."""
        self.streams.stop()

    def metrics(self) -> dict[str, Any]:
        """Every counter by name."""
        connections = {}
        for shard in self.streams.shards:
            counters = shard.connection.counters
            connections[shard.connection.name] = {**vars(counters), "connected": shard.connection.connected}
        return {
            "connections": connections,
            "collector": describe(self.collector),
            "quarantined": self.quarantined,
            "breaks": self.breaks,
            "late_for_bar": self.feed.late_for_bar,
            "subscribers": len(self.feed.subscribers),
            "subscribers_disconnected": self.feed.disconnected,
        }

    def _record(self, record: Record, received: int) -> None:
        if isinstance(record, Trade | Quote):
            self.collector.take(record, received)
            if record.ts is not None:
                alert = self.drift.add(self.name, record.ts, received)
                if alert is not None:
                    self._on_alert(FeedAlert(self.name, "drift", str(alert), received))
            return
        if isinstance(record, Quarantined):
            self.quarantined += 1
        if self._on_record is not None:
            self._on_record(record, received)

    def _rows(self, rows: list[Collected]) -> None:
        for row in rows:
            if isinstance(row.record, Trade):
                self.feed.trade(row.record)
            elif isinstance(row.record, Quote):
                self.feed.quote(row.record, row.known_at)

    def _broken(self, _reason: str) -> None:
        self.breaks += 1
        if self._on_break is not None:
            self._on_break()

    async def _check(self) -> None:
        while True:
            await self.timing.sleep(self._check_every)
            self.feed.check()

    async def _ask_statuses(self) -> None:
        while self._history is not None and self._statuses_every is not None:
            try:
                for symbol, status in (await self._history.statuses()).items():
                    self.feed.venue_status(symbol, status)
            except (TemporaryError, ProviderError):
                self.status_failures += 1
            await self.timing.sleep(self._statuses_every)
