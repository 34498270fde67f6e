"""Chunks, single ticks and one batch give the same bars to the last bit; a saved builder goes on where it was."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.candles.builder import CandleBuilder, build_candles
from tapeline.candles.finished import Candle
from tapeline.candles.heikin_ashi import HeikinAshiCandles, heikin_ashi
from tapeline.candles.information_bars import ImbalanceCandles, RunCandles
from tapeline.candles.range_bars import AdaptiveCandles, RangeCandles
from tapeline.candles.renko_bars import AtrRenkoCandles, RenkoCandles
from tapeline.candles.threshold_bars import DollarCandles, TickCandles, VolumeCandles
from tapeline.candles.time_bars import TimeCandles
from tapeline.core.errors import ConfigurationError, DataError
from tests.candles.tape import in_chunks, rough_trades

BOUNDS = {"expected_length": 12, "span": 5, "shortest": 4, "longest": 60}
CANDLES = [
    TimeCandles("S30"),
    TimeCandles("S5", empty="flag"),
    TimeCandles("S5", empty="previous_close"),
    HeikinAshiCandles("M1"),
    TickCandles(7),
    VolumeCandles(9.1),
    VolumeCandles(0.7, split=True),
    DollarCandles(8.3),
    *(ImbalanceCandles(measure, **BOUNDS) for measure in ("tick", "volume", "dollar")),
    *(RunCandles(measure, **BOUNDS) for measure in ("tick", "volume", "dollar")),
    RangeCandles(0.0005),
    AdaptiveCandles("M1", smallest=0.0001, window=5, fast=2),
    RenkoCandles(0.0003),
    RenkoCandles(0.0003, gaps="merge", wicks=True),
    AtrRenkoCandles("M1", smallest=0.00005, window=5, multiple=0.5),
]
ROWS = 600
TAPE = rough_trades(ROWS)
BATCH = {candle: build_candles(TAPE, candle, forming=True) for candle in CANDLES}
IDS = [f"{j}-{type(candle).__name__}" for j, candle in enumerate(CANDLES)]


@pytest.mark.parametrize("candle", CANDLES, ids=IDS)
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, ROWS), max_size=12).map(sorted))
def test_any_chunks_are_one_batch(candle, cuts):
    whole = BATCH[candle]
    assert len(whole) > 5, "a tape that fills no bars proves nothing"
    bars, builder = in_chunks(TAPE, candle, cuts)
    bars = pd.concat([bars, builder.forming()]) if len(builder.forming()) else bars
    pd.testing.assert_frame_equal(bars, whole, check_exact=True)


@pytest.mark.parametrize("candle", CANDLES, ids=IDS)
def test_single_ticks_are_one_batch(candle):
    builder = CandleBuilder(candle, columns=["volume", "side"])
    candles: list[Candle] = []
    for ts, price, size, side in zip(TAPE.index.asi8.tolist(), *(TAPE[n].tolist() for n in TAPE), strict=True):
        candles.extend(builder.push(ts, price, size, side))
    builder = CandleBuilder.restore(candle, json.loads(json.dumps(builder.state())))
    whole = pd.concat([pd.DataFrame(index=BATCH[candle].index), BATCH[candle]], axis=1)
    last = builder.forming()
    assert len(candles) + len(last) == len(whole)
    for found, (ts, row) in zip(candles, whole.iterrows(), strict=False):
        assert (found.ts, found.close_ts, found.tick_count) == (ts.value, row["close_ts"].value, row["tick_count"])
        names = ["open", "high", "low", "close", "volume", "buy_volume", "vwap"]
        np.testing.assert_array_equal([getattr(found, name) for name in names], row[names].astype(float))
        if candle.extra in row:
            np.testing.assert_array_equal(found.extra, float(row[candle.extra]))


def test_quotes_pushed_and_in_chunks_agree():
    generator = np.random.default_rng(5)
    bid = 1.1 + np.cumsum(generator.normal(0, 1e-5, 400))
    ask = bid + generator.normal(1e-5, 1e-5, 400)
    ticks = pd.DataFrame({"bid": bid, "ask": ask}, index=rough_trades(400).index)
    assert (ticks["bid"] > ticks["ask"]).mean() > 0.05
    candle = TickCandles(9)
    whole = build_candles(ticks, candle, price="bid")
    np.testing.assert_allclose(whole["spread"], (ask - bid)[: len(whole) * 9].reshape(-1, 9).mean(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(whole["spread_close"], (ask - bid)[8 : len(whole) * 9 : 9])
    builder = CandleBuilder(candle, columns=["spread"])
    pushed = [c for ts, b, a in zip(ticks.index.asi8, bid, ask, strict=True) for c in builder.push(ts, b, spread=a - b)]
    np.testing.assert_array_equal([c.spread for c in pushed], whole["spread"])
    np.testing.assert_array_equal([c.spread_close for c in pushed], whole["spread_close"])
    assert "vwap" not in whole.columns
    assert all(math.isnan(c.vwap) for c in pushed)


@pytest.mark.parametrize("candle", CANDLES, ids=IDS)
def test_no_bar_depends_on_what_comes_later(candle):
    """Cut the tape anywhere: the bars that were complete by then are those of the whole tape."""
    whole = build_candles(TAPE, candle)
    for rows in (1, 50, 123, 400, ROWS - 1):
        early = build_candles(TAPE.iloc[:rows], candle)
        pd.testing.assert_frame_equal(early, whole.iloc[: len(early)], check_exact=True)
        assert (early["close_ts"] <= TAPE.index[rows - 1] + pd.Timedelta(len(early), unit="ns")).all()


@pytest.mark.parametrize("candle", CANDLES, ids=IDS)
def test_bars_are_consistent(candle):
    bars = BATCH[candle].dropna(subset=["open"])
    assert bars.index.is_unique
    assert bars.index.is_monotonic_increasing
    assert (bars["close_ts"] >= bars.index).all()
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    assert (bars["buy_volume"] <= bars["volume"] * (1 + 1e-12)).all()
    if candle.traded_range:
        traded = bars.dropna(subset=["vwap"])
        assert ((traded["vwap"] >= traded["low"]) & (traded["vwap"] <= traded["high"])).all()


def test_nothing_traded_is_lost():
    for candle in (TickCandles(7), VolumeCandles(0.7, split=True), RenkoCandles(0.0003), TimeCandles("S30")):
        bars = BATCH[candle]
        np.testing.assert_allclose(bars["volume"].sum(), TAPE["size"].sum(), rtol=1e-9)
        np.testing.assert_allclose(bars["buy_volume"].sum(), TAPE.query("side > 0")["size"].sum(), rtol=1e-9)
    assert (build_candles(TAPE, VolumeCandles(0.7, split=True))["volume"] == 0.7).all()


def test_bars_of_one_instant_get_distinct_stamps():
    ts = pd.DatetimeIndex([pd.Timestamp("2020-01-01", tz="UTC")] * 5).append(
        pd.DatetimeIndex([1577836800000000002], tz="UTC")
    )
    trades = pd.DataFrame({"price": 1.0, "size": 1.0}, index=ts)
    bars = build_candles(trades, TickCandles(1))
    assert (bars.index.asi8 - ts[0].value).tolist() == [0, 1, 2, 3, 4, 5]
    assert (bars["close_ts"] == bars.index).all()
    assert (bars.index.floor("us") == ts[0]).all()


def test_sums_are_compensated():
    """Ten times 0.1 is one: a plain sum stops at 0.9999999999999999 and waits for an eleventh trade."""
    trades = pd.DataFrame({"price": 1.0, "size": 0.1}, index=pd.date_range("2020", periods=100, freq="s", tz="UTC"))
    assert build_candles(trades, VolumeCandles(1.0))["tick_count"].tolist() == [10] * 10
    trades["size"] = np.r_[1e16, np.ones(99)]
    assert build_candles(trades, TickCandles(100))["volume"].tolist() == [1e16 + 99]


def test_a_range_is_reached_in_decimal():
    prices = [1.1, 1.1005, 1.1, 1.1005]
    assert 1.1005 - 1.1 < 0.0005
    ts = pd.date_range("2020", periods=4, freq="s", tz="UTC")
    trades = pd.DataFrame({"price": prices, "size": 1.0}, index=ts)
    assert build_candles(trades, RangeCandles(0.0005))["tick_count"].tolist() == [2, 2]
    assert build_candles(trades, RenkoCandles(0.0005))["close"].tolist() == [1.1005]


def test_a_phantom_brick_has_traded_nothing():
    ts = pd.date_range("2020", periods=3, freq="s", tz="UTC")
    trades = pd.DataFrame({"price": [10.0, 13.5, 10.5], "size": [1.0, 2.0, 4.0]}, index=ts)
    bars = build_candles(trades, RenkoCandles(1.0))
    assert bars["phantom"].tolist() == [False, True, True, False]
    assert bars["open"].tolist() == [10.0, 11.0, 12.0, 12.0]
    assert bars["close"].tolist() == [11.0, 12.0, 13.0, 11.0]
    assert bars["volume"].tolist() == [3.0, 0.0, 0.0, 4.0]
    assert bars["vwap"].isna().tolist() == [False, True, True, False]
    merged = build_candles(trades, RenkoCandles(1.0, gaps="merge", wicks=True))
    assert merged[["open", "close", "low", "high"]].to_numpy().tolist() == [[10, 13, 10, 13], [12, 11, 11, 12]]


def test_heikin_ashi_of_a_frame_is_that_of_the_builder():
    bars = build_candles(TAPE, TimeCandles("M1"))
    names = ["open", "high", "low", "close"]
    assert heikin_ashi(bars)[names].equals(build_candles(TAPE, HeikinAshiCandles("M1"))[names])


def test_a_refused_chunk_changes_nothing():
    builder = CandleBuilder(VolumeCandles(3.0, split=True))
    builder.update(TAPE.iloc[:10])
    before = builder.state()
    later = TAPE.iloc[10:20].assign(size=[1.0] * 9 + [1e9])
    with pytest.raises(DataError, match=r"size 1000000000.0 at row 9 would make more than 100000 bars"):
        builder.update(later)
    assert builder.state() == before
    renko = CandleBuilder(RenkoCandles(1e-9))
    with pytest.raises(DataError, match=r"would make \d+ bars, more than 100000"):
        renko.update(TAPE)
    assert renko.state() == CandleBuilder(RenkoCandles(1e-9)).state()


def test_records_may_not_go_back_nor_change_their_kind():
    builder = CandleBuilder(TickCandles(7))
    builder.update(TAPE.iloc[20:40])
    with pytest.raises(DataError, match="earlier than the last one"):
        builder.update(TAPE.iloc[:5])
    with pytest.raises(DataError, match="those before knew ticks with volume, side"):
        builder.update(TAPE.iloc[40:50].drop(columns="side"))
    with pytest.raises(DataError, match="earlier than the last one"):
        builder.push(TAPE.index[0].value, 1.0, 1.0, 1)
    with pytest.raises(DataError, match="price is nan at row 0"):
        builder.push(TAPE.index[50].value, math.nan, 1.0, 1)
    with pytest.raises(DataError, match="side is 3"):
        builder.push(TAPE.index[50].value, 1.0, 1.0, 3)
    with pytest.raises(ConfigurationError, match="does not know which columns"):
        CandleBuilder(TickCandles(7)).push(0, 1.0)


def test_a_copy_shares_nothing_with_the_original():
    builder = CandleBuilder(TickCandles(3), columns=["volume"])
    builder.push(1, 10.0, 1.0)
    for make in (copy.copy, copy.deepcopy, lambda original: pickle.loads(pickle.dumps(original))):
        before = builder.state()
        other = make(builder)
        assert other.state() == before
        other.push(2, 11.0, 1.0)
        assert other.push(3, 12.0, 1.0)[0].tick_count == 3
        assert builder.state() == before


def test_a_state_of_something_else_is_refused():
    state = CandleBuilder(TickCandles(7)).state()
    with pytest.raises(ConfigurationError, match="TickCandles"):
        CandleBuilder.restore(TickCandles(8), state)
    for damage in (
        {"format": 0},
        {"floats": ["zz"]},
        {"floats": []},
        {"integers": [10**30] * 24},
        {"price": "x"},
        {"integers": [9] * 24},
        {"floats": ["0x0p+0"] * 48},
    ):
        with pytest.raises(DataError):
            CandleBuilder.restore(TickCandles(7), {**state, **damage})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimeCandles("H7"), "H7"),
        (lambda: TimeCandles("H1", empty="forward"), "empty = 'forward'"),
        (lambda: HeikinAshiCandles("H1", empty="flag"), "empty = 'flag'"),
        (lambda: TickCandles(0), "count = 0"),
        (lambda: VolumeCandles(math.nan), "volume = nan"),
        (lambda: DollarCandles(-1.0), "value = -1.0"),
        (lambda: RangeCandles(math.inf), "size = inf"),
        (lambda: RenkoCandles(1.0, gaps="none"), "gaps = 'none'"),
        (lambda: AtrRenkoCandles("M1", smallest=0.0), "smallest = 0.0"),
        (lambda: AdaptiveCandles("W1", smallest=1.0), "timeframe = 'W1'"),
        (lambda: AdaptiveCandles("M1", smallest=2.0, largest=1.0), "largest = -1.0"),
        (lambda: ImbalanceCandles("volume", shortest=50, expected_length=20), "expected_length = 20"),
        (lambda: RunCandles("size"), "measure = 'size'"),
    ],
)
def test_parameters_are_refused_by_name(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
