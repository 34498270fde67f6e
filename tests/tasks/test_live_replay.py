"""Recorded sessions of real venues through the whole live path into a lake, counted against the recordings."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter

import pandas as pd
import pytest

from tapeline.core.schemas import QUARANTINE, RAW_DEPTH, RAW_TICKS, RAW_TRADES
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake
from tapeline.quality.feed_sink import FeedSink
from tapeline.streams.book_keeper import BookKeeper, DepthOptions
from tapeline.streams.collector import CollectorOptions, TickCollector
from tapeline.streams.messages import BookDelta, BookSnapshot, Quarantined
from tapeline.streams.timing import Timing
from tasks.live_run import LiveRun
from tasks.live_venue import TICK, VenueStatus, parse_stream
from tests.streams.sessions import SESSIONS, Session
from tests.tasks.live_support import settings_for

BITCOIN = Symbol.parse("BTCUSDT")
SECOND = 1_000_000_000


class RecordedVenue:
    """A venue that plays a recording: what another venue has to bring to be plugged in."""

    def __init__(self, session: Session, folder, sink: FeedSink, clock: list[int], depth: DepthOptions) -> None:
        self.keeper = BookKeeper(session.market, depth)
        self._session, self._folder, self._sink, self._clock = session, folder, sink, clock
        self.finished, self._stopped = asyncio.Event(), asyncio.Event()
        self._collector = TickCollector(sink, None, options=CollectorOptions(patience=1, grace=0.0))

    async def run(self) -> None:
        storing = asyncio.create_task(self._collector.run())
        for number, (received, record) in enumerate(self._session.records(self._folder)):
            self._clock[0] = received
            self.keeper.take(record, received)
            if isinstance(record, Quarantined):
                self._sink.refuse(record, received, Symbol.parse("recorded"))
            self._collector.take(record, received)
            if number % 500 == 0:
                await self._collector.gate.wait()
                await asyncio.sleep(0)
        await self._collector.settle()
        await self._collector.stop()
        await storing
        self.finished.set()
        await self._stopped.wait()

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        pass

    def status(self) -> VenueStatus:
        return VenueStatus(connected=True)


def replayed(session: Session, folder, root, *, levels: int, interval: int) -> tuple[Lake, LiveRun]:
    """The lake after a recording went through a live run."""
    clock = [0]

    def venue(request, settings, lake, sink, on_alert, timing):
        made.append(RecordedVenue(session, folder, sink, clock, DepthOptions(levels, interval)))
        return made[-1]

    made: list[RecordedVenue] = []
    live = LiveRun(
        parse_stream("binance", ["BTCUSDT"]),
        settings_for(root, drain_seconds=60),
        venue=venue,
        timing=Timing(wall=lambda: clock[0]),
    )

    async def run() -> None:
        task = asyncio.create_task(live.run())
        async with asyncio.timeout(60):
            while not made and not task.done():
                await asyncio.sleep(0.01)
            finished = asyncio.create_task(made[0].finished.wait())
            await asyncio.wait({task, finished}, return_when=asyncio.FIRST_COMPLETED)
        live.stop()
        await task

    asyncio.run(run())
    return Lake(root / "data"), live


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_every_recorded_trade_and_quote_is_in_the_lake_as_it_was_sent(test_data, tmp_path, market):
    """Counted with the json module and dictionaries, none of our parsers."""
    name = {"spot": "binance spot 2024", "usdm": "binance futures 2024"}[market]
    trades, quotes, messages, newest = {}, {}, 0, -1
    with gzip.open(test_data / f"data/binance_ws_l2_2024/{market}/btcusdt_20240808.gz", "rt") as lines:
        for line in lines:
            received, _, text = line.partition(" ")
            message = json.loads(text)
            messages += 1
            data, stream = message.get("data", {}), message.get("stream", "")
            if stream.endswith("@trade") and data.get("X", "MARKET") == "MARKET":
                trades[data["t"]] = (data["T"] * 1_000_000, float(data["p"]), float(data["q"]), -1 if data["m"] else 1)
            elif stream.endswith("@bookTicker"):
                stamp = data["E"] * 1_000_000 if "E" in data else int(received)
                if data["u"] > newest:
                    newest = data["u"]
                    quotes[newest] = (stamp, float(data["b"]), float(data["a"]))
    assert messages > 5_000
    lake, live = replayed(SESSIONS[name], test_data, tmp_path, levels=1, interval=SECOND)
    held = lake.read(RAW_TRADES, BITCOIN, TICK)
    rows = zip(held.index.asi8, held["price"], held["size"], held["side"], strict=True)
    assert dict(zip(held["sequence"].tolist(), rows, strict=True)) == trades
    ticks = lake.read(RAW_TICKS, BITCOIN, TICK)
    rows = zip(ticks.index.asi8, ticks["bid"], ticks["ask"], strict=True)
    assert dict(zip(ticks["sequence"].tolist(), rows, strict=True)) == quotes
    assert len(held) == len(trades) > 5_000
    assert lake.read(QUARANTINE, BITCOIN, TICK).empty
    assert live._sink.unreadable == 0


@pytest.mark.parametrize("name", list(SESSIONS))
def test_the_sampled_depth_of_every_recorded_session_is_what_its_books_showed(test_data, tmp_path, name):
    session, interval, levels = SESSIONS[name], SECOND, 5
    books, wanted, due, latest = session.new_books(), Counter(), {}, None
    for received, record in session.records(test_data):
        if latest is not None and received - latest > 30 * SECOND:
            books.disconnect()
        latest = received if latest is None else max(received, latest)
        if isinstance(record, BookDelta | BookSnapshot):
            symbol = record.symbol
            due.setdefault(symbol, -(-received // interval) * interval)
            while due[symbol] < received:
                if books[symbol].live:
                    for side, held in ((1, books[symbol].book.bids), (-1, books[symbol].book.asks)):
                        for level, found in enumerate(held.top(levels)):
                            wanted[symbol, due[symbol], side, level, found[0], found[1]] += 1
                due[symbol] += interval
        books.take(record)
    lake, live = replayed(session, test_data, tmp_path, levels=levels, interval=interval)
    found = Counter()
    for live_book in live._venue.keeper.books:
        held = lake.read(RAW_DEPTH, live_book.symbol, TICK).reset_index()
        stamps = pd.DatetimeIndex(held["ts"]).as_unit("ns").asi8.tolist()
        columns = [held[column].tolist() for column in ("side", "level", "price", "size")]
        found.update((live_book.symbol, *row) for row in zip(stamps, *columns, strict=True))
    assert found == wanted
    assert len(wanted) > 50
    assert max(found.values()) == 1
