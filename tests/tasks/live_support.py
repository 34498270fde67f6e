"""What the tests of the live run share: an exchange with books, settings of milliseconds, runs that are stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qs, urlsplit

from tapeline.core.schemas import RAW_TRADES
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake
from tasks.live_run import LiveRun, StreamStatus
from tasks.live_venue import TICK, BinanceVenue, parse_stream
from tests.streams.fake_exchange import FakeExchange, _answer
from tests.streams.live_support import FAST, QUICK


class DepthExchange(FakeExchange):
    """A venue that also has books: ``levels`` is the truth, by symbol and side, price to size."""

    def __init__(self, symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT"), **options) -> None:
        super().__init__(symbols, **options)
        self.levels = {
            symbol: ({100.0 - n: 1.0 + n for n in range(10)}, {101.0 + n: 2.0 + n for n in range(10)})
            for symbol in symbols
        }
        self.update = dict.fromkeys(symbols, 10)
        self.depth_requests = 0

    def change(self, symbol: str, side: int, price: float, size: float) -> dict:
        """A level changes; nobody is told."""
        if size:
            self.levels[symbol][side][price] = size
        else:
            self.levels[symbol][side].pop(price, None)
        self.update[symbol] += 1
        rows = [[f"{price:.2f}", f"{size:.4f}"]]
        number = self.update[symbol]
        empty: list = []
        return {
            "e": "depthUpdate", "E": 1_700_000_000_000, "s": symbol, "U": number, "u": number,
            "b": rows if side == 0 else empty, "a": rows if side == 1 else empty,
        }  # fmt: skip

    async def deepen(self, symbol: str, side: int, price: float, size: float) -> None:
        await self.send(f"{symbol.lower()}@depth@100ms", self.change(symbol, side, price, size))

    async def quote(self, symbol: str, number: int) -> None:
        data = {"u": number, "s": symbol, "b": "100.0", "B": "1", "a": "100.5", "A": "2"}
        await self.send(f"{symbol.lower()}@bookTicker", data)

    def _http(self, connection, request):
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/api/v3/depth" and query.get("symbol") in self.levels and not self.rest_faults:
            self.depth_requests += 1
            bids, asks = self.levels[query["symbol"]]
            body = {
                "lastUpdateId": self.update[query["symbol"]],
                "bids": [[f"{p:.2f}", f"{s:.4f}"] for p, s in sorted(bids.items(), reverse=True)],
                "asks": [[f"{p:.2f}", f"{s:.4f}"] for p, s in sorted(asks.items())],
            }
            return _answer(200, json.dumps(body).encode(), {})
        return super()._http(connection, request)


def settings_for(root, exchange: FakeExchange | None = None, **stream) -> Settings:
    """Settings of a project below ``root`` that reach the exchange."""
    rules = {"drain_seconds": 0.05, "report_seconds": 0.1, "poll_seconds": 0.01, "stale_seconds": 0.3, **stream}
    if exchange is not None:
        rules |= {"binance_stream": exchange.url, "binance_rest": exchange.rest}
    return Settings(root=root, stream=rules)


def fast_run(
    symbols,
    settings: Settings,
    *,
    attempts: int | None = None,
    stale: float | None = 0.25,
    notify=None,
    report=None,
    **asked,
) -> LiveRun:
    """A run with connections that are watched and come back within milliseconds."""
    venue = partial(
        BinanceVenue, connection=replace(FAST, maximum_attempts=attempts, stale_after=stale), collector=QUICK
    )
    given = {name: value for name, value in (("notify", notify), ("report", report)) if value is not None}
    return LiveRun(request_for(symbols, **asked), settings, venue=venue, **given)


def request_for(symbols, *, depth_levels=0, depth_seconds=0.1, source="binance", channels=None, **rest):
    return parse_stream(source, list(symbols), channels, depth_levels=depth_levels, depth_seconds=depth_seconds, **rest)


@asynccontextmanager
async def running(live: LiveRun, exchange: FakeExchange | None = None):
    """A run that is stopped at the end, and whose result is then in ``result``."""
    opened = exchange.opened if exchange is not None else 0
    task = asyncio.create_task(live.run())
    try:
        if exchange is not None:
            subscribed = asyncio.create_task(exchange.subscribed(after=opened))
            await asyncio.wait({task, subscribed}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                subscribed.cancel()
                task.result()
        yield task
    finally:
        live.stop()
        await task


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def stored(root, symbol: str) -> list[int]:
    """The trade ids of the lake, in order of the ids."""
    held = Lake(root / "data").read(RAW_TRADES, Symbol.parse(symbol), TICK, columns=["sequence"])
    return sorted(held["sequence"].tolist())


def row_of(status: StreamStatus, symbol: str) -> dict:
    return next(row for row in status.symbols if row["symbol"] == symbol)
