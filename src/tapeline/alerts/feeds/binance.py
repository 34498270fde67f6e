"""Binance as a source: combined streams, gaps filled by REST, and REST alone while a stream is silent.

The connections, their reconnects and pings, the shards of 1,024 streams and the order of ids are those of
:mod:`tapeline.streams`; here they are joined to the data manager.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.fallback import Fallback, FallbackOptions
from tapeline.core.errors import DataError, ProviderError, TemporaryError, ThrottledError
from tapeline.core.symbol import Symbol
from tapeline.streams.alerts import FeedAlert, Kind, OnAlert, ignore
from tapeline.streams.binance import PAGE, SPOT, BinanceHistory, BinanceStreams, stream_names
from tapeline.streams.collector import CollectorOptions, TickCollector, describe
from tapeline.streams.connection import ConnectionOptions
from tapeline.streams.messages import Quarantined, Record, Trade
from tapeline.streams.timing import Timing
from tapeline.streams.trade_sequence import Collected, MissingIds

CHANNEL: Final = "aggTrade"
CONCURRENCY: Final = 4


class BinanceSource:
    """Every aggregate trade of its symbols once and in order, to a data manager.

    Parameters
    ----------
    manager:
        Watches the symbols under this source's name.
    symbols:
        As Binance spells them.
    history:
        The REST side: fills gaps and is the fallback. None: a gap is said, and nothing replaces a silent stream.
    last_ids:
        By symbol, as Binance spells it, the last id that was kept: collecting goes on behind it.
    check_every:
        Seconds between two looks for silent streams.
    """

    def __init__(
        self,
        manager: DataManager,
        symbols: Iterable[str],
        *,
        history: BinanceHistory | None,
        last_ids: Mapping[str, int] | None = None,
        url: str = SPOT,
        name: str = "binance",
        connection: ConnectionOptions | None = None,
        collector: CollectorOptions | None = None,
        fallback: FallbackOptions | None = None,
        on_alert: OnAlert = ignore,
        timing: Timing | None = None,
        check_every: float = 0.5,
    ) -> None:
        self.manager, self.name, self.timing = manager, name, timing or Timing()
        self.quarantined = self.breaks = 0
        self._symbols = [Symbol.parse(symbol) for symbol in dict.fromkeys(symbols)]
        self._history, self._on_alert, self._check_every = history, on_alert, check_every
        self._last: dict[Symbol, int | str] = {Symbol.parse(text): last for text, last in (last_ids or {}).items()}
        self._fetched: dict[Symbol, set[int]] = {}
        self._lost: dict[Symbol, deque[MissingIds]] = {}
        self._lost_seen = 0
        self._held: set[Symbol] = set()
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._settling: asyncio.Task[None] | None = None
        self.fallback = Fallback(self._symbols, options=fallback, timing=self.timing)
        self.collector = TickCollector(
            self,
            history,
            last_ids=last_ids,
            on_rows=self._released,
            on_alert=on_alert,
            options=collector,
            timing=self.timing,
            name=f"{name}-collector",
        )
        self.streams = BinanceStreams(
            stream_names(self._symbols, [CHANNEL]),
            self._record,
            url=url,
            name=name,
            on_break=self._broken,
            on_session=self._back,
            on_alert=on_alert,
            gate=self.collector.gate,
            options=connection,
            timing=self.timing,
        )

    async def run(self) -> None:
        """Run until :meth:`stop`; the manager then has everything that was in order.

        Raises
        ------
        FeedLostError
            A connection gave up, after its alert.
        """
        storing = asyncio.create_task(self.collector.run())
        falling = asyncio.create_task(self._fall_back())
        streaming = asyncio.create_task(self.streams.run())
        try:
            await asyncio.wait({streaming, storing, falling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending = [task for task in (falling, streaming, self._settling) if task is not None]
            for task in ending:
                task.cancel()
            await asyncio.wait(ending)
            await self.collector.stop()
            await storing
        for task in (streaming, falling):
            if not task.cancelled():
                task.result()

    def stop(self) -> None:
        """End the streams; ``run`` returns when the manager has what was in order."""
        self.streams.stop()

    async def subscribe(self, symbols: Iterable[str]) -> None:
        """Follow further symbols; the manager watches them already. What they traded before is not asked for."""
        fresh = [one for one in map(Symbol.parse, dict.fromkeys(symbols)) if one not in self._symbols]
        streams = stream_names(fresh, [CHANNEL])
        self._forget(fresh)
        self._symbols += fresh
        self.fallback.watch(fresh)
        await self.streams.subscribe(streams)

    async def unsubscribe(self, symbols: Iterable[str]) -> None:
        """Follow some no more."""
        gone = {Symbol.parse(symbol) for symbol in symbols}
        self._symbols = [symbol for symbol in self._symbols if symbol not in gone]
        self.fallback.forget(gone)
        await self.streams.unsubscribe(stream_names(sorted(gone), [CHANNEL]))
        self._forget(gone)

    def _forget(self, symbols: Iterable[Symbol]) -> None:
        for symbol in symbols:
            self.collector.forget([symbol])
            self._last.pop(symbol, None)
            self._fetched.pop(symbol, None)
            self._lost.pop(symbol, None)
            self._held.discard(symbol)

    def append(self, records: Sequence[Collected]) -> None:
        """Give rows to the manager: the sink of the collector, called in a thread. Waits while the batcher is full."""
        self._note_lost()
        ticks: list[Tick] = []
        for row in records:
            trade = row.record
            if not isinstance(trade, Trade):
                continue
            symbol, number = trade.symbol, int(trade.id)
            lost = self._lost.get(symbol)
            while lost and lost[0].last < number:
                self.manager.take(self.name, ticks)
                ticks = []
                gap = lost.popleft()
                self.manager.gap(self.name, symbol, trade.ts, f"trades {gap.first} to {gap.last} are lost")
            fetched = self._fetched.get(symbol)
            late = row.late
            if fetched:
                late = late or number in fetched
                fetched.discard(number)
            ticks.append(Tick(symbol, trade.ts, trade.price, trade.size, number, late))
        self.manager.take(self.name, ticks)

    def metrics(self) -> dict[str, Any]:
        """Every counter by name."""
        shards = self.streams.shards
        return {
            "connections": {shard.connection.name: vars(shard.connection.counters) for shard in shards},
            "collector": describe(self.collector),
            "fallback": {**asdict(self.fallback.counters), "active": len(self.fallback.active)},
            "quarantined": self.quarantined,
            "breaks": self.breaks,
        }

    def _record(self, record: Record, received: int) -> None:
        if isinstance(record, Trade):
            self.collector.take(record, received)
            if self.fallback.heard(record.symbol, record.id):
                self.fallback.released(record.symbol, self._last.get(record.symbol, -1))
        elif isinstance(record, Quarantined):
            self.quarantined += 1

    def _released(self, rows: list[Collected]) -> None:
        for row in rows:
            if isinstance(row.record, Trade):
                self._last[row.record.symbol] = row.record.id
                self.fallback.released(row.record.symbol, row.record.id)

    def _broken(self, _reason: str) -> None:
        """What came meanwhile is on its way: no bar closes before it."""
        self.breaks += 1
        self._held |= set(self._symbols)
        for symbol in self._symbols:
            self.manager.hold(self.name, symbol)

    def _back(self) -> None:
        self.collector.catch_up()
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        """Let the clock go on once all that was missed is with the manager."""
        await self.collector.settle()
        while self.collector.depth:
            await self.timing.sleep(self.collector.options.flush_every)
        held, self._held = self._held, set()
        await asyncio.to_thread(self._release, held)

    def _release(self, symbols: Iterable[Symbol]) -> None:
        for symbol in symbols:
            self.manager.release(self.name, symbol)

    async def _fall_back(self) -> None:
        """Ask the history for symbols whose streams are silent."""
        while True:
            await self.timing.sleep(self._check_every)
            history = self._history
            if history is not None:
                asked = [symbol for symbol in map(Symbol.parse, self.fallback.due()) if symbol in self._last]
                await asyncio.gather(*(self._ask(history, symbol) for symbol in asked))

    async def _ask(self, history: BinanceHistory, symbol: Symbol) -> None:
        async with self._slots:
            if symbol not in self._last:
                return
            first = int(self._last[symbol]) + 1
            try:
                page = await history.trades_from(symbol, first)
            except (TemporaryError, ProviderError, DataError) as error:
                wait = error.retry_after if isinstance(error, ThrottledError) else None
                self.fallback.failed(symbol, wait or 0.0)
                return
        if symbol not in self._last:
            # It was let go meanwhile.
            return
        self.manager.heard(self.name, symbol)
        received, last = self.timing.wall(), int(self._last[symbol])
        fresh = [trade for trade in page if int(trade.id) > last]
        if fresh and self.fallback.is_active(symbol):
            self._fetched.setdefault(symbol, set()).update(int(trade.id) for trade in fresh)
        for trade in fresh:
            self.collector.take(trade, received)
        if self.fallback.polled(symbol, found=len(fresh), more=len(page) >= PAGE):
            self._alert("stale", f"{symbol}: the stream is silent and the history has trades: it is asked instead")
        if len(page) < PAGE and symbol in self._held:
            self._held.discard(symbol)
            await asyncio.to_thread(self.manager.release, self.name, symbol)

    def _note_lost(self) -> None:
        """Sort the gaps that were given up by symbol."""
        for symbol, gap in self.collector.unfilled[self._lost_seen :]:
            self._lost.setdefault(symbol, deque()).append(gap)
            self._lost_seen += 1

    def _alert(self, kind: Kind, detail: str) -> None:
        self._on_alert(FeedAlert(self.name, kind, detail, self.timing.wall()))
