"""The live run end to end: a scripted exchange on the loopback, real sockets, journal and lake."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal

import pytest

from tapeline.core.errors import ConfigurationError, TemporaryError
from tapeline.core.schemas import QUARANTINE, RAW_DEPTH, RAW_TICKS
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake
from tapeline.streams.alerts import FeedAlert, FeedLostError
from tasks.live_alerts import notification_of
from tasks.live_run import LiveRun, run_live
from tasks.live_venue import TICK, parse_stream
from tests.streams.fake_exchange import BAD_MESSAGES, play
from tests.tasks.live_support import DepthExchange, fast_run, request_for, row_of, running, settings_for, stored, until

pytestmark = pytest.mark.network_shape


async def finish(exchange: DepthExchange, live: LiveRun) -> None:
    """A last trade of each instrument; then everything before it must be durable."""
    for symbol in exchange.made:
        await exchange.trade(symbol)
    await until(lambda: all(live._sink.last_ids.get(name) == exchange.ids(name)[-1] for name in exchange.made))


@pytest.mark.parametrize("seed", range(4))
def test_the_lake_has_every_trade_once_whatever_the_exchange_does(tmp_path, seed):
    async def run():
        async with DepthExchange().serving() as exchange:
            live = fast_run(exchange.made, settings_for(tmp_path, exchange), depth_levels=5)
            async with running(live, exchange):
                for symbol in exchange.made:
                    await exchange.trade(symbol)
                await until(lambda: len(live._sink.last_ids) == 2)
                done = await play(exchange, random.Random(seed), 50)
                exchange.rest_faults.clear()
                await finish(exchange, live)
            return exchange, live.status(), done

    exchange, status, done = asyncio.run(run())
    for symbol in exchange.made:
        assert stored(tmp_path, symbol) == exchange.ids(symbol)
        assert row_of(status, symbol)["trades"] == len(exchange.ids(symbol))
    assert status.backlog_rows == 0
    assert sum(row["gaps_filled"] for row in status.symbols) > 0 or "drop" not in done
    assert sum(row["gaps_unfilled"] for row in status.symbols) == 0
    refused = Lake(tmp_path / "data").read(QUARANTINE, Symbol.parse("binance"), TICK)
    assert (len(refused) > 0) == ("bad" in done)
    assert len(refused) == status.unreadable


def test_a_restart_goes_on_behind_the_last_stored_trade(tmp_path):
    async def run():
        async with DepthExchange(("BTCUSDT",)).serving() as exchange:
            settings = settings_for(tmp_path, exchange)
            for _ in range(3):
                live = fast_run(exchange.made, settings)
                async with running(live, exchange):
                    for _ in range(5):
                        await exchange.trade("BTCUSDT")
                    await finish(exchange, live)
                for _ in range(7):
                    exchange.make("BTCUSDT")
            async with running(fast_run(exchange.made, settings), exchange):
                # Nothing is streamed: what was missed is asked for at the start.
                await until(lambda: stored(tmp_path, "BTCUSDT") == exchange.ids("BTCUSDT"))
            return exchange

    exchange = asyncio.run(run())
    assert stored(tmp_path, "BTCUSDT") == exchange.ids("BTCUSDT")
    assert len(exchange.ids("BTCUSDT")) == 39


def test_what_cannot_be_read_or_is_out_of_range_is_in_quarantine_with_its_reason(tmp_path):
    async def run():
        async with DepthExchange(("BTCUSDT",)).serving() as exchange:
            live = fast_run(exchange.made, settings_for(tmp_path, exchange))
            async with running(live, exchange):
                await exchange.trade("BTCUSDT")
                for raw in BAD_MESSAGES:
                    await exchange.bad_message(raw)
                future = exchange.make("BTCUSDT") | {"T": 4_000_000_000_000}
                await exchange.tell("BTCUSDT", future)
                await finish(exchange, live)
            return exchange, live.status(), future

    exchange, status, future = asyncio.run(run())
    lake = Lake(tmp_path / "data")
    unreadable = lake.read(QUARANTINE, Symbol.parse("binance"), TICK)
    assert len(unreadable) == len(BAD_MESSAGES) == status.unreadable
    assert all(reasons[0].startswith("unreadable: ") for reasons in unreadable["reasons"])
    assert sorted(json.loads(text)["length"] for text in unreadable["record"]) == sorted(map(len, BAD_MESSAGES))
    refused = lake.read(QUARANTINE, Symbol.parse("BTCUSDT"), TICK)
    assert [list(reasons) for reasons in refused["reasons"]] == [
        ["future: the bar opens later than the clock says it is"]
    ]
    assert json.loads(refused["record"].iloc[0])["sequence"] == future["a"]
    assert stored(tmp_path, "BTCUSDT") == [number for number in exchange.ids("BTCUSDT") if number != future["a"]]
    assert status.reasons == {"future": 1}
    assert status.quarantined == 5


def test_quotes_and_depth_are_stored_and_a_gap_in_the_book_is_resynchronised(tmp_path):
    async def run():
        async with DepthExchange(("BTCUSDT",)).serving() as exchange:
            live = fast_run(exchange.made, settings_for(tmp_path, exchange), depth_levels=3, stale=None)
            async with running(live, exchange):
                keeper = live._venue.keeper
                await exchange.deepen("BTCUSDT", 0, 100.0, 7.0)
                await until(lambda: len(keeper.books) == 1 and keeper.books["BTCUSDT"].live)
                for number in range(5):
                    await exchange.quote("BTCUSDT", number + 1)
                await exchange.quote("BTCUSDT", 2)
                exchange.change("BTCUSDT", 1, 101.0, 0.0)  # lost
                await exchange.deepen("BTCUSDT", 0, 100.5, 4.0)
                await until(lambda: keeper.books["BTCUSDT"].live and exchange.depth_requests >= 2)
                await until(lambda: keeper.samples + keeper.waiting_rows > 30)
                await until(lambda: live._sink.tallies[Symbol.parse("BTCUSDT")].ticks == 5)
                gaps = keeper.books["BTCUSDT"].counters.gaps
            return exchange, live.status(), gaps

    exchange, status, gaps = asyncio.run(run())
    assert gaps == 1
    lake = Lake(tmp_path / "data")
    quotes = lake.read(RAW_TICKS, Symbol.parse("BTCUSDT"), TICK)
    assert quotes["sequence"].tolist() == [1, 2, 3, 4, 5]
    assert set(zip(quotes["bid"], quotes["ask"], strict=True)) == {(100.0, 100.5)}
    depth = lake.read(RAW_DEPTH, Symbol.parse("BTCUSDT"), TICK)
    assert row_of(status, "BTCUSDT")["depth_rows"] == len(depth) > 30
    assert set(depth["source"].astype(str)) == {"binance"}
    assert depth["data_version"].notna().all()
    assert depth["ingested_at"].notna().all()
    last = depth[depth.index == depth.index[-1]].sort_values(["side", "level"])
    bids, asks = exchange.levels["BTCUSDT"]
    assert last[last["side"] == 1]["price"].tolist() == sorted(bids, reverse=True)[:3] == [100.5, 100.0, 99.0]
    assert last[last["side"] == -1]["price"].tolist() == sorted(asks)[:3] == [102.0, 103.0, 104.0]
    assert row_of(status, "BTCUSDT")["spread_bps"] == pytest.approx(1e4 * 0.5 / 100.25)


def test_a_lost_feed_fails_after_its_alert_and_what_was_collected_is_stored(tmp_path):
    told = []

    async def run():
        async with DepthExchange(("BTCUSDT",)).serving() as exchange:
            settings = settings_for(tmp_path, exchange)
            live = fast_run(exchange.made, settings, attempts=1, notify=told.append)
            task = asyncio.create_task(live.run())
            await exchange.subscribed()
            for _ in range(9):
                await exchange.trade("BTCUSDT")
            await until(lambda: live._sink.last_ids.get("BTCUSDT") == exchange.ids("BTCUSDT")[-1])
            exchange.refuse_connections = 100
            exchange.reset()
            with pytest.raises(FeedLostError, match="gave up"):
                await task
            return exchange

    exchange = asyncio.run(run())
    assert stored(tmp_path, "BTCUSDT") == exchange.ids("BTCUSDT")
    assert "feed binance-0: gave up" in [notification.title for notification in told]


def test_two_runs_of_one_feed_are_refused_and_a_cancelled_one_has_stored_everything(tmp_path):
    async def run():
        async with DepthExchange(("BTCUSDT",)).serving() as exchange:
            settings = settings_for(tmp_path, exchange, drain_seconds=60)
            live = fast_run(exchange.made, settings)
            task = asyncio.create_task(live.run())
            await exchange.subscribed()
            for _ in range(20):
                await exchange.trade("BTCUSDT")
            await until(lambda: live._sink.last_ids.get("BTCUSDT") == exchange.ids("BTCUSDT")[-1])
            with pytest.raises(TemporaryError, match="another process holds"):
                await fast_run(exchange.made, settings).run()
            assert stored(tmp_path, "BTCUSDT") == []
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return exchange

    exchange = asyncio.run(run())
    assert stored(tmp_path, "BTCUSDT") == exchange.ids("BTCUSDT")


def test_a_venue_that_breaks_is_started_again_and_given_up_in_the_end(tmp_path, monkeypatch):
    told, runs = [], []

    class Broken:
        keeper = None

        async def run(self):
            runs.append(1)
            raise TemporaryError("the line is dead")

        def stop(self):
            pass

        def close(self):
            runs.append("closed")

        def status(self):
            from tasks.live_venue import VenueStatus

            return VenueStatus()

    monkeypatch.setattr("tasks.live_run.Backoff", lambda **_: type("Quick", (), {"delay": lambda *a: 0.001})())
    live = LiveRun(request_for(["BTCUSDT"]), settings_for(tmp_path), notify=told.append, venue=lambda *given: Broken())
    with pytest.raises(FeedLostError, match="6 times in a row"):
        run_live(live)
    assert runs == [1] * 6 + ["closed"]
    assert [notification.title for notification in told] == ["feed binance: gave up"]


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_in_good_order(tmp_path, which):
    before = signal.getsignal(which)

    async def serve(ready: asyncio.Event):
        async with DepthExchange(("BTCUSDT",)).serving() as exchange:
            live = fast_run(exchange.made, settings_for(tmp_path, exchange, drain_seconds=60))
            from tasks.live_run import stopped_by_signals

            with stopped_by_signals(live.stop):
                task = asyncio.create_task(live.run())
                await exchange.subscribed()
                for _ in range(20):
                    await exchange.trade("BTCUSDT")
                await until(lambda: live._sink.last_ids.get("BTCUSDT") == exchange.ids("BTCUSDT")[-1])
                os.kill(os.getpid(), which)
                status = await task
            return exchange, status

    exchange, status = asyncio.run(serve(asyncio.Event()))
    assert stored(tmp_path, "BTCUSDT") == exchange.ids("BTCUSDT")
    assert status.rows == 20
    assert signal.getsignal(which) == before


def test_a_run_with_an_end_ends_by_itself_and_reports(tmp_path):
    seen = []

    async def run():
        async with DepthExchange(("BTCUSDT",)).serving() as exchange:
            live = fast_run(exchange.made, settings_for(tmp_path, exchange), maximum_seconds=0.4, report=seen.append)
            return await live.run()

    status = asyncio.run(run())
    assert 0.4 <= status.elapsed < 5
    assert len(seen) >= 3
    assert seen[-1].maximum_seconds == 0.4


def test_alerts_of_one_trouble_have_one_key_and_different_ones_differ():
    def key(kind, detail, at=1):
        return notification_of(FeedAlert("binance", kind, detail, at)).key

    assert key("drift", "clock drift of binance raised at 2024-01-01 00:00:00: +1270 ms") == key(
        "drift", "clock drift of binance raised at 2024-02-01 00:10:00: -1310 ms", 2
    )
    assert key("drift", "raised") != key("drift", "cleared")
    assert key("gap_unfilled", "BTCUSDT: trades 4 to 5") != key("gap_unfilled", "ETHUSDT: trades 4 to 5")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"source": "yahoo"}, "has no live feed"),
        ({"symbols": []}, "no symbol"),
        ({"symbols": ["../x"]}, "not a valid instrument"),
        ({"channels": ["ticker"]}, "are not collected"),
        ({"channels": ["kline_7m"]}, "7m"),
        ({"channels": ["trade", "aggTrade"]}, "numbered twice"),
        ({"depth_levels": 1_001}, "from 1 to 1000"),
        ({"depth_levels": 5, "depth_seconds": 0.0}, "from 0.1 to 3600"),
        ({"maximum_seconds": 0}, "must be positive"),
        ({"source": "mt5", "depth_levels": 2}, "no channels"),
    ],
)
def test_a_request_out_of_bounds_is_refused_by_name(asked, message):
    given = {"source": "binance", "symbols": ["BTCUSDT"], **asked}
    with pytest.raises(ConfigurationError, match=message):
        parse_stream(given.pop("source"), given.pop("symbols"), given.pop("channels", None), **given)
