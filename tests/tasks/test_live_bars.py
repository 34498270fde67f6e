"""Bars of a live feed against the same bars as a batch: the same verdicts, the same lake, the same quarantine."""

from __future__ import annotations

import asyncio

import numpy as np
import pandas as pd
import pytest

from tapeline.core.schemas import GAPS, OHLCV, QUARANTINE, RAW_BARS
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.lake.trace import trace
from tapeline.quality.bar_sink import BarSink
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.checks import STRUCTURAL
from tapeline.sources.base import Data
from tapeline.streams.messages import Candle
from tasks.clean import clean_bars
from tasks.ingest import store_bars
from tasks.job import Job
from tests.quality.batches import sample_bars
from tests.streams.sessions import SESSIONS
from tests.tasks.live_support import DepthExchange, fast_run, row_of, running, settings_for, until

EURUSD, BITCOIN = Symbol.parse("EURUSD"), Symbol.parse("BTCUSDT")
H1, M1 = Timeframe.parse("H1"), Timeframe.parse("M1")
NAN = float("nan")


@pytest.fixture(scope="module")
def faulty() -> pd.DataFrame:
    """Three weeks of real hourly bars, with absent hours, repetitions and faults of every kind planted."""
    bars = sample_bars()[list(OHLCV)].iloc[500:900].copy()
    bars = bars.drop(bars.index[[30, 31, 32, 200]])
    bars.iloc[10, bars.columns.get_loc("high")] = bars["low"].iloc[10] - 0.01
    bars.iloc[20, bars.columns.get_loc("close")] = NAN
    bars.iloc[40, bars.columns.get_loc("volume")] = -1.0
    bars.iloc[50, bars.columns.get_loc("open")] = 0.0
    index = bars.index.to_series()
    index.iloc[60] += pd.Timedelta(minutes=7)
    bars.index = pd.DatetimeIndex(index, name="ts").as_unit("ns")
    again, other = bars.iloc[[70]], bars.iloc[[80]].assign(close=bars["low"].iloc[80])
    return pd.concat([bars.iloc[:90], again, other, bars.iloc[90:]])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Gives a lake by its name, with the settings of a project of that name."""
    monkeypatch.setattr("tasks.gaps.show_table", lambda key, rows, description: None)

    def enter(name: str) -> Lake:
        monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path / name))
        monkeypatch.setenv("TAPELINE_CALENDARS__SOURCES", '{"feed": "24x5"}')
        monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
        return Lake(load_settings().lake_path)

    return enter


def as_candles(bars: pd.DataFrame) -> list[Candle]:
    stamps = pd.DatetimeIndex(bars.index).as_unit("ns").asi8.tolist()
    return [
        Candle(EURUSD, ts, "1h", *map(float, row), closed=True, sent=ts + H1.nanoseconds)
        for ts, row in zip(stamps, bars[list(OHLCV)].to_numpy(), strict=True)
    ]


def stream(lake: Lake, bars: pd.DataFrame, sizes: list[int]) -> BarSink:
    """The bars one after the other, written in chunks of the given sizes, again and again."""
    sink = BarSink(source="feed", calendar_of=lambda symbol: MarketCalendar.parse("24x5"))
    candles, start, turn = as_candles(bars), 0, 0
    while start < len(candles):
        size = sizes[turn % len(sizes)]
        for candle in candles[start : start + size]:
            sink.take(candle, candle.sent + 250_000_000)
        sink.write(writer(lake))
        start, turn = start + size, turn + 1
    return sink


def writer(lake: Lake):
    lineage = Lineage("live", "stream", ("feed",))
    return lambda spec, rows, symbol, timeframe: lake.write(spec, rows, symbol, timeframe, lineage=lineage)


def refused(lake: Lake) -> pd.DataFrame:
    held = lake.read(QUARANTINE, EURUSD, H1).reset_index()
    held["reasons"] = held["reasons"].map(list)
    return held[["id", "ts", "stage", "source", "reasons"]].sort_values("id", ignore_index=True).astype({"stage": str})


@pytest.mark.parametrize("sizes", [[1_000], [1], [7, 1, 30]], ids=["at once", "one by one", "in chunks"])
def test_the_same_bars_as_batch_and_as_stream_get_the_same_verdicts(project, faulty, sizes):
    batch = project("batch")
    job = Job("batch", "feed", EURUSD, H1)
    rejected = pd.DataFrame({"row_number": [], "record": [], "reasons": []})
    answer = Data(faulty, rejected, "feed", "a test", ts_origin="exchange")
    store_bars(answer, job, batch, now=pd.Timestamp("2020-01-01", tz="UTC"), stage="ingest")
    clean_bars.fn(job)

    live = project("live")
    sink = stream(live, faulty, sizes)
    found = refused(live)
    pd.testing.assert_frame_equal(found, refused(batch))
    assert set(found["stage"]) == {"ingest", "validate"}
    assert found["reasons"].str.len().ge(1).all()
    codes = {reason.split(":")[0] for reasons in found["reasons"] for reason in reasons}
    assert codes == {
        "high_below_low", "not_finite", "negative_volume", "not_positive", "off_grid", "duplicate_time",
        "conflicting_time",
    }  # fmt: skip
    columns = [*OHLCV, "close_ts", "source", "volume_kind", "ts_origin"]
    one, other = (lake.read(RAW_BARS, EURUSD, H1)[columns] for lake in (batch, live))
    pd.testing.assert_frame_equal(one, other)

    # The holes are those of the batch's gap table, and cleaning what came live refuses nothing more.
    clean_bars.fn(job)
    pd.testing.assert_frame_equal(refused(live), found)
    tally = sink.tallies[EURUSD, H1]
    gaps = [lake.read(GAPS, EURUSD, H1) for lake in (batch, live)]
    assert tally.missing == gaps[0]["missing_bars"].sum() == gaps[1]["missing_bars"].sum()
    assert tally.missing >= 4 + 5, "the absent hours, and those of the refused bars"
    assert sum(hole.missing for hole in sink.holes()) == tally.missing
    assert tally.quarantined == len(found)
    assert tally.bars == len(faulty) - len(found)


def test_a_bar_is_known_at_its_receipt_but_never_before_its_close(project, faulty):
    lake = project("live")
    sink = BarSink(source="feed")
    late, early = as_candles(faulty.iloc[:2])
    sink.take(late, late.sent + 900_000_000)
    sink.take(early, early.sent - 1_270_000_000)  # a venue whose clock is ahead of ours
    sink.write(writer(lake))
    held = lake.read(RAW_BARS, EURUSD, H1)
    waited = (held["known_at"] - held["close_ts"]).dt.total_seconds().tolist()
    assert waited == [0.9, 0.0]
    assert not held["known_at_is_estimate"].any()


def test_what_cannot_be_written_waits_with_its_verdict(project, faulty):
    lake = project("live")
    sink = BarSink(source="feed")
    failing = iter([OSError("the disk is full")])

    def write(*given):
        for error in failing:
            raise error
        return writer(lake)(*given)

    for candle in as_candles(faulty.iloc[:30]):
        sink.take(candle, candle.sent)
    with pytest.raises(OSError, match="disk is full"):
        sink.write(write)
    assert sink.waiting > 0
    sink.write(write)
    assert sink.waiting == 0
    assert len(lake.read(RAW_BARS, EURUSD, H1)) == 30
    assert len(refused(lake)) == 2
    assert sink.tallies[EURUSD, H1].quarantined == 2, "judged once"


def test_the_stages_of_a_batch_are_named_by_the_faults(faulty):
    sink = BarSink(source="feed")
    rows = []
    for candle in as_candles(faulty):
        sink.take(candle, candle.sent)
    sink.write(lambda spec, frame, symbol, timeframe: rows.append(frame) if spec is QUARANTINE else None)
    structural = {reason.code for reason in STRUCTURAL}
    for row in pd.concat(rows).itertuples():
        faults = {text.split(":")[0] for text in row.reasons}
        assert faults <= structural if row.stage == "ingest" else faults.isdisjoint(structural)


async def kline(exchange: DepthExchange, minute: int, *, closed: bool = True, high: float = 102.0) -> None:
    opened = 1_700_000_040_000 + 60_000 * minute  # on a whole minute
    bar = {"t": opened, "T": opened + 59_999, "s": "BTCUSDT", "i": "1m", "x": closed, "v": "3.5"}
    bar |= {"o": "100.0", "h": str(high), "l": "99.0", "c": f"{100 + minute % 2}.0"}
    await exchange.send("btcusdt@kline_1m", {"e": "kline", "E": opened + 60_000, "s": "BTCUSDT", "k": bar})


@pytest.mark.network_shape
def test_closed_candles_of_a_venue_are_judged_stored_counted_and_told(tmp_path):
    told = []

    async def session(exchange, minutes, **options) -> None:
        live = fast_run(("BTCUSDT",), settings_for(tmp_path, exchange), channels=["aggTrade", "kline_1m"], **options)
        async with running(live, exchange):
            for minute, high in minutes:
                await kline(exchange, minute, closed=False)
                await kline(exchange, minute, high=high)
            await until(lambda: sum(each.bars for each in live._bar_tallies(BITCOIN)) == 3)
        return live.status()

    async def run():
        async with DepthExchange(("BTCUSDT",)).serving() as exchange:
            first = await session(exchange, [(0, 102.0), (1, 98.0), (2, 102.0), (4, 102.0)], notify=told.append)
            second = await session(exchange, [(8, 102.0), (9, 102.0), (10, 102.0)], notify=told.append)
            return first, second

    first, second = asyncio.run(run())
    lake = Lake(tmp_path / "data")
    bars = lake.read(RAW_BARS, BITCOIN, M1)
    assert len(bars) == 7, "each closed one once, what was still forming never; the faulty one stays raw"
    assert set(bars["source"].astype(str)) == {"binance"}
    row = row_of(first, "BTCUSDT")
    assert (row["bars"], row["quarantined"], row["missing_bars"]) == (3, 1, 1 + 1)
    held = lake.read(QUARANTINE, BITCOIN, M1)
    assert [reason.split(":")[0] for reason in held["reasons"].iloc[0]] == ["high_below_low"]
    assert first.reasons == {"high_below_low": 1}
    assert row_of(second, "BTCUSDT")["missing_bars"] == 3, "continuity spans the restart"
    bodies = [notification.body for notification in told if "gap unfilled" in notification.title]
    assert any("BTCUSDT M1: 3 bars absent" in body for body in bodies)
    (step,) = trace(lake, RAW_BARS, BITCOIN, M1, bars.index[0])
    (origin,) = step.origins
    assert (origin.source_id, origin.ts_origin) == ("binance", "exchange")
    assert [(lineage.stage, lineage.inputs) for lineage in origin.brought_by] == [("stream", ("binance",))]
    assert np.isfinite(bars["volume"]).all()


def test_the_closed_candles_of_a_recorded_session_become_bars(test_data, tmp_path):
    sink, seen = BarSink(source="binance-futures", calendar_of=lambda symbol: MarketCalendar.parse("24x7")), 0
    for received, record in SESSIONS["binance futures 2021"].records(test_data):
        if isinstance(record, Candle):
            seen += 1
            sink.take(record, received)
    lake = Lake(tmp_path)
    assert sink.write(writer(lake)) == 4
    assert seen == 67
    held = {str(symbol): lake.read(RAW_BARS, symbol, M1) for symbol, _ in sink.tallies}
    assert sorted(held) == ["AKROUSDT", "CTKUSDT", "KEEPUSDT", "SUSHIUSDT"]
    for symbol, bars in held.items():
        assert bars.index.tolist() == [pd.Timestamp("2021-07-22 22:25", tz="UTC")]
        assert bars["known_at"].iloc[0] >= bars["close_ts"].iloc[0]
        assert sink.tallies[Symbol.parse(symbol), M1].quarantined == 0
    assert held["SUSHIUSDT"][list(OHLCV)].iloc[0].tolist() == [7.608, 7.618, 7.607, 7.617, 3005.0]
