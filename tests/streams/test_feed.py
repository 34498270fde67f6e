"""Quotes, forming bars, statuses and subscribers."""

from __future__ import annotations

import asyncio
import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.candles.builder import build_candles
from tapeline.candles.time_bars import TimeCandles
from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol
from tapeline.streams.feed import BarUpdate, LiveFeed, StatusUpdate
from tapeline.streams.messages import Quote, Trade
from tapeline.streams.quotes import LiveQuote, QuoteBoard
from tapeline.streams.subscribers import SlowSubscriberError, Subscriber
from tapeline.streams.timing import Timing

BTC, ETH = Symbol.parse("BTCUSDT"), Symbol.parse("ETHUSDT")


def quote(bid: float, ask: float, sequence: int | None = None, symbol: Symbol = BTC) -> Quote:
    return Quote(symbol, None, bid, 3.0, ask, 1.0, sequence)


def drain(reader: Subscriber) -> list:
    found = []
    while (update := reader.take()) is not None:
        found.append(update)
    return found


@given(st.lists(st.tuples(st.floats(90, 110), st.floats(-1, 5)), min_size=2, max_size=50))
def test_the_statistics_of_the_spread_are_those_of_the_textbook(rows):
    board = QuoteBoard()
    spreads = []
    for number, (bid, width) in enumerate(rows):
        live = board.take(quote(bid, bid + width, number), number * 1_000)
        spreads.append((live.ask - live.bid) / (live.ask + live.bid) * 2e4)
    sound = [spread for spread in spreads if spread >= 0]
    found = board.statistics(BTC)
    assert (found.quotes, found.crossed) == (len(sound), len(spreads) - len(sound))
    if len(sound) > 1:
        assert found.mean == pytest.approx(statistics.fmean(sound), abs=1e-9)
        assert found.deviation == pytest.approx(statistics.stdev(sound), rel=1e-6, abs=1e-6)
        assert (found.minimum, found.maximum) == pytest.approx((min(sound), max(sound)), abs=1e-9)
    standing = [spread for spread in spreads[:-1] if spread >= 0]  # each stood equally long, the last not at all
    if standing:
        assert found.time_weighted == pytest.approx(statistics.fmean(standing), abs=1e-9)


def test_a_quote_says_spread_mid_and_microprice_and_an_older_one_is_not_believed():
    board = QuoteBoard()
    live = board.take(quote(99.0, 101.0, 7), 5)
    assert (live.spread, live.mid, live.spread_bps, live.microprice) == (2.0, 100.0, 200.0, 100.5)
    assert board.take(quote(98.0, 101.0, 7), 6) is None
    assert (board.stale, board.quote("BTCUSDT")) == (1, live)
    assert math.isnan(LiveQuote(BTC, None, 0, 1.0, math.nan, 2.0, math.nan).microprice)


def test_every_subscriber_gets_what_it_asked_for_and_nothing_else():
    feed = LiveFeed()
    everything = feed.subscribe()
    bitcoin = feed.subscribe(["BTCUSDT"], topics=["quote"])
    feed.quote(quote(1.0, 2.0, 1), 1)
    feed.quote(quote(3.0, 4.0, 1, ETH), 2)
    assert [update.bid for update in drain(bitcoin)] == [1.0]
    found = drain(everything)
    assert [update.bid for update in found if isinstance(update, LiveQuote)] == [1.0, 3.0]
    assert [(update.symbol, update.status) for update in found if isinstance(update, StatusUpdate)] == [
        (BTC, "open"),
        (ETH, "open"),
    ]
    feed.unsubscribe(bitcoin)
    feed.quote(quote(5.0, 6.0, 2), 3)
    assert drain(bitcoin) == []
    with pytest.raises(ConfigurationError):
        feed.subscribe(topics=["prices"])
    with pytest.raises(ConfigurationError, match="forms no bars"):
        feed.subscribe(topics=["bar"])


def test_a_slow_reader_is_conflated_or_cut_off_but_never_grows():
    feed = LiveFeed()
    slow = feed.subscribe(topics=["quote"], policy="conflate", size=10)
    strict = feed.subscribe(topics=["quote"], policy="disconnect", size=10)
    for number in range(1_000):
        feed.quote(quote(1.0 + number, 2_000.0, number), number)
        assert len(slow) <= 1
        assert len(strict) <= 10
    assert [update.bid for update in drain(slow)] == [1_000.0]
    assert (slow.conflated, slow.dropped) == (999, 0)
    with pytest.raises(SlowSubscriberError):
        strict.take()
    assert (strict.dropped, feed.disconnected, feed.subscribers) == (11, 1, [slow])


def test_a_conflated_queue_is_bounded_over_instruments_too():
    reader = Subscriber("conflate", size=100)
    for number in range(5_000):
        reader.offer(("quote", number), number)
    assert (len(reader), reader.dropped, reader.take()) == (100, 4_900, 4_900)


def test_waiting_readers_wake_and_end():
    async def run():
        feed = LiveFeed()
        reader = feed.subscribe(topics=["quote"], policy="disconnect")
        reading = asyncio.create_task(_all(reader))
        await asyncio.sleep(0)
        for number in range(3):
            feed.quote(quote(1.0, 2.0 + number, number), number)
            await asyncio.sleep(0)
        feed.unsubscribe(reader)
        assert [update.ask for update in await reading] == [2.0, 3.0, 4.0]

    asyncio.run(asyncio.wait_for(run(), 5))


async def _all(reader: Subscriber) -> list:
    return [update async for update in reader]


def test_live_bars_are_those_of_the_batch_and_the_forming_one_is_read_when_asked():
    generator = np.random.default_rng(3)
    ts = np.cumsum(generator.integers(0, 3_000_000_000, 500))
    prices, sizes = 100 + generator.normal(0, 1, 500).cumsum() / 10, generator.random(500)
    feed = LiveFeed(timeframes=["M1"])
    reader = feed.subscribe(topics=["bar", "forming"], policy="disconnect")
    for number in range(500):
        feed.trade(Trade(BTC, int(ts[number]), float(prices[number]), float(sizes[number]), 1, str(number)))
    index = pd.DatetimeIndex(ts.view("M8[ns]"), name="ts").tz_localize("UTC")
    batch = build_candles(
        pd.DataFrame({"price": prices, "size": sizes, "side": np.ones(500, np.int8)}, index=index),
        TimeCandles("M1"),
        forming=True,
    )
    found = drain(reader)
    final = [bar for bar in found if bar.final]
    (forming,) = [bar for bar in found if not bar.final]
    rows = [(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in [*final, forming]]
    assert rows == [tuple(row) for row in batch[["open", "high", "low", "close", "volume"]].to_numpy().tolist()]
    assert [bar.ts for bar in [*final, forming]] == batch.index.as_unit("ns").asi8.tolist()
    assert isinstance(forming, BarUpdate)
    assert reader.conflated == 499
    feed.trade(Trade(BTC, 0, 1.0, 1.0, 1, "0"))
    assert feed.late_for_bar == 1


def test_the_status_follows_calendar_venue_and_silence():
    now, open_now = [0.0], [True]
    timing = Timing(monotonic=lambda: now[0], wall=lambda: int(now[0] * 1e9))
    feed = LiveFeed(stale_after=10, is_open=lambda symbol, at: open_now[0], timing=timing)
    reader = feed.subscribe(topics=["status"], policy="disconnect")
    assert feed.status("BTCUSDT") == "stale"
    feed.quote(quote(1.0, 2.0, 1), 0)
    now[0] = 10.5
    feed.check()
    feed.check()
    feed.quote(quote(1.0, 2.0, 2), 0)
    feed.venue_status("BTCUSDT", "halted")
    open_now[0] = False
    feed.check()
    open_now[0] = True
    feed.venue_status("BTCUSDT", "open")
    feed.venue_status("BTCUSDT", "closed")
    assert [update.status for update in drain(reader)] == [
        "open",
        "stale",
        "open",
        "halted",
        "closed",
        "open",
        "closed",
    ]
