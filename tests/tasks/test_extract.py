from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.core.schemas import RAW_BARS, RAW_TICKS, RAW_TRADES
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.sources.base import BarRequest, open_source
from tapeline.sources.extractor import choose, options
from tasks.extract import COLUMNS, extract_from_lake, extract_from_source
from tasks.ingest import stamp_arrival
from tests.candles.real import freqtrade_minutes, freqtrade_trades

NAME = Symbol.parse("EURUSD")
M1, M5, H1, H4, TICK = (Timeframe.parse(text) for text in ("M1", "M5", "H1", "H4", "tick"))
LATER = pd.Timestamp("2030-01-01", tz="UTC")


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def put_bars(lake: Lake, bars: pd.DataFrame, timeframe: Timeframe) -> None:
    frame = stamp_arrival(bars.drop(columns="close_ts"), timeframe, source="test", now=LATER)
    lake.write(RAW_BARS, frame, NAME, timeframe, lineage=Lineage("run", "test"))


def put_rows(lake: Lake, spec, frame: pd.DataFrame) -> None:
    arrival = {"known_at": frame.index, "known_at_is_estimate": True, "source": "test", "revision": 0}
    lake.write(spec, frame.assign(**arrival), NAME, TICK, lineage=Lineage("run", "test"))


def quotes(rows: int = 400) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    ts = pd.DatetimeIndex(at("2021-01-04") + pd.to_timedelta(np.arange(rows) * 7, unit="s"), name="ts").as_unit("ns")
    bid = 1.1 + generator.normal(0, 1e-4, rows).cumsum()
    frame = pd.DataFrame({"sequence": 0, "bid": bid, "ask": bid + 1e-4, "last": np.nan, "volume": np.nan}, index=ts)
    return frame.assign(flags=np.int32(6))


def test_the_order_of_choice():
    held = [("ticks", TICK), ("trades", TICK), ("bars", M1), ("bars", M5), ("bars", H4), ("bars", H1)]
    assert [str(choice) for choice in options(H1, held)] == ["native bars", "M5 bars", "M1 bars", "trades", "ticks"]
    assert choose(H1, held, origin="ticks").timeframe == TICK
    assert [str(choice) for choice in options(M1, [("bars", H1)])] == []
    with pytest.raises(DataError, match=r"there is H4 bars"):
        choose(H1, [("bars", H4)])
    with pytest.raises(DataError, match="nothing"):
        choose(H1, [])


def test_the_lake_gives_the_same_bars_from_ticks_from_finer_bars_and_its_own(tmp_path):
    lake = Lake(tmp_path)
    put_rows(lake, RAW_TICKS, quotes())
    by_ticks = extract_from_lake(lake, NAME, M5, None, None, now=LATER)
    assert by_ticks.choice.origin == "ticks"
    minute = extract_from_lake(lake, NAME, M1, None, None, now=LATER).bars
    put_bars(lake, minute, M1)
    by_minutes = extract_from_lake(lake, NAME, M5, None, None, now=LATER)
    assert str(by_minutes.choice) == "M1 bars"
    pd.testing.assert_frame_equal(by_minutes.bars.drop(columns="spread"), by_ticks.bars.drop(columns="spread"))
    assert by_ticks.bars["spread"].round(6).eq(1e-4).all()
    put_bars(lake, by_ticks.bars, M5)
    native = extract_from_lake(lake, NAME, M5, None, None, now=LATER)
    assert native.choice.origin == "native bars"
    pd.testing.assert_frame_equal(native.bars, by_ticks.bars, check_freq=False)
    assert all(tuple(e.bars.columns) == COLUMNS for e in (by_ticks, by_minutes, native))
    again = extract_from_lake(lake, NAME, M5, None, None, now=LATER, origin="ticks")
    pd.testing.assert_frame_equal(again.bars, by_ticks.bars)
    # Against pandas: the peer.
    oracle = quotes()["bid"].resample("5min").ohlc()
    np.testing.assert_array_equal(by_ticks.bars[["open", "high", "low", "close"]], oracle)


def test_trades_carry_their_volume(tmp_path):
    lake = Lake(tmp_path)
    ts = quotes().index
    frame = pd.DataFrame({"sequence": 0, "price": 2.0, "size": 1.5, "side": np.int8(1), "id": "x"}, index=ts)
    put_rows(lake, RAW_TRADES, frame)
    result = extract_from_lake(lake, NAME, M5, None, None, now=LATER)
    assert result.choice.origin == "trades"
    assert result.bars["volume"].sum() == 600.0
    assert result.bars["spread"].isna().all()


def test_ranges_and_the_clock_cut_whole_bars(tmp_path):
    lake = Lake(tmp_path)
    put_rows(lake, RAW_TICKS, quotes())
    whole = extract_from_lake(lake, NAME, M5, None, None, now=LATER).bars
    part = extract_from_lake(lake, NAME, M5, at("2021-01-04 00:07"), at("2021-01-04 00:22"), now=LATER).bars
    pd.testing.assert_frame_equal(part, whole[2:5], check_freq=False)
    early = extract_from_lake(lake, NAME, M5, None, at("2021-01-04 00:20"), now=at("2021-01-04 00:14:59")).bars
    pd.testing.assert_frame_equal(early[:2], whole[:2], check_freq=False)


def test_a_source_without_the_timeframe_is_asked_for_a_finer_one():
    source = open_source("sample", load_settings())
    native = extract_from_source(source, BarRequest(NAME, H1, at("2017-03-01"), at("2017-03-02")), now=LATER)
    assert native.choice.origin == "native bars"
    assert len(native.bars) == 24
    joined = extract_from_source(source, BarRequest(NAME, H4, at("2017-03-01"), at("2017-03-02")), now=LATER)
    assert str(joined.choice) == "H1 bars"
    oracle = native.bars["volume"].resample("4h").sum()
    np.testing.assert_allclose(joined.bars["volume"], oracle, rtol=1e-12)
    assert joined.bars["high"].tolist() == native.bars["high"].resample("4h").max().tolist()
    assert joined.bars["tick_count"].isna().all(), "counted bars are not counted ticks"
    with pytest.raises(DataError, match="serves no bars"):
        extract_from_source(source, BarRequest(NAME, M1, at("2017-03-01"), at("2017-03-02")), now=LATER)


def test_recorded_trades_in_the_lake_give_the_recorded_minutes(tmp_path, test_data):
    lake = Lake(tmp_path)
    trades = freqtrade_trades(test_data).sort_index(kind="stable")
    trades.index = trades.index.as_unit("ns")
    sequence = trades.groupby(trades.index).cumcount().astype("int64")
    frame = trades.assign(sequence=sequence, side=trades["side"].astype("int8"), id=trades["id"].astype(str))
    put_rows(lake, RAW_TRADES, frame)
    minutes = freqtrade_minutes(test_data)
    minutes = minutes[minutes["volume"] > 0]
    made = extract_from_lake(lake, NAME, M1, None, None, now=LATER).bars
    both = made.index.intersection(minutes.index)
    assert len(both) == 2469
    names = ["open", "high", "low", "close"]
    np.testing.assert_array_equal(made.loc[both, names], minutes.loc[both, names])
    np.testing.assert_allclose(made.loc[both, "volume"], minutes.loc[both, "volume"], rtol=1e-9)
