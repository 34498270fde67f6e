"""Wrong input is refused by name, value, row and bound."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tapeline.candles.builder import build_candles
from tapeline.candles.records import records_from
from tapeline.candles.threshold_bars import DollarCandles, TickCandles, VolumeCandles
from tapeline.candles.time_bars import TimeCandles
from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tests.support import make_bars

INDEX = pd.date_range("2020-01-01", periods=3, freq="s", tz="UTC", name="ts")


def trades(**changes) -> pd.DataFrame:
    return pd.DataFrame({"price": [1.0, 2.0, 3.0], "size": [1.0, 1.0, 1.0], "side": [1, -1, 0], **changes}, index=INDEX)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (trades(price=[1.0, math.nan, 3.0]), r"price is nan at row 1 \(2020-01-01 00:00:01\+00:00\)"),
        (trades(price=[1.0, 2.0, -3.0]), "price is -3.0 at row 2"),
        (trades(price=[math.inf, 2.0, 3.0]), "price is inf at row 0"),
        (trades(size=[1.0, 0.0, -1.0]), "size is 0.0 at row 1.*2 of 3 rows"),
        (trades(size=[1.0, 1.0, math.nan]), "size is nan at row 2"),
        (trades(side=[1, 2, 0]), "side is 2"),
        (trades(side=[1, 0.5, 0]), "side is 0.5 at row 1"),
        (trades(side=np.array([1, -3, 0], dtype=np.int8)), "side is -3 at row 1"),
        (trades(side=[1, 257, 0]), "side is 257"),
        (trades().iloc[::-1], "ts decreases at row 1"),
        (trades().set_axis([INDEX[0], pd.NaT, INDEX[2]]), "ts is missing at row 1"),
        (pd.DataFrame({"bid": [1.0], "ask": [0.0]}, index=INDEX[:1]), "ask is 0.0 at row 0"),
        (pd.DataFrame({"bid": [1.0], "ask": [1.0], "volume": [-1.0]}, index=INDEX[:1]), "volume is -1.0"),
        (make_bars(5).assign(high=0.5), "high 0.5 and low"),
        (make_bars(5).assign(volume=math.nan), "volume is nan"),
        (make_bars(5).assign(buy_volume=math.nan), "buy_volume is nan.*drop the column"),
        (make_bars(5).assign(close_ts=lambda f: f.index[0]), "close_ts .* lies before ts"),
    ],
)
def test_wrong_values_are_named(frame, message):
    with pytest.raises(DataError, match=message):
        build_candles(frame, TimeCandles("M1"))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (trades().reset_index(drop=True), "expected UTC instants"),
        (trades().tz_localize(None), "no time zone"),
        (trades(price=["1", "x", "3"]), "'price' holds .*, expected numbers"),
        (trades(side=["buy", "sell", "buy"]), "'side' holds"),
        (pd.DataFrame({"x": [1.0]}, index=INDEX[:1]), "neither ticks"),
        (pd.DataFrame({"bid": [1.0]}, index=INDEX[:1]), r"\['ask'\] are missing for the price 'mid'"),
        (pd.concat([trades(), trades()[["price"]]], axis=1), "'price' is there 2 times"),
        (make_bars(5).drop(columns="volume"), "'volume' is missing"),
    ],
)
def test_wrong_shapes_are_named(frame, message):
    with pytest.raises(SchemaError, match=message):
        build_candles(frame, TimeCandles("M1"))


def test_volume_is_needed_where_it_is_measured():
    quotes = pd.DataFrame({"bid": [1.0], "ask": [1.0]}, index=INDEX[:1])
    for candle in (VolumeCandles(1.0), VolumeCandles(1.0, split=True), DollarCandles(1.0)):
        with pytest.raises(SchemaError, match="have no volume"):
            build_candles(quotes, candle)
    with pytest.raises(SchemaError, match="bars cannot be split"):
        build_candles(make_bars(5), VolumeCandles(1.0, split=True))
    with pytest.raises(ConfigurationError, match="price = 'close'"):
        build_candles(quotes, TickCandles(1), price="close")


def test_crossed_and_zero_volume_ticks_are_data():
    ticks = pd.DataFrame(
        {"bid": [1.2, 1.3], "ask": [1.1, 1.4], "last": [1.15, 1.35], "volume": [0.0, 2.0]}, index=INDEX[:2]
    )
    for price, expected in (("mid", [1.15, 1.35]), ("bid", [1.2, 1.3]), ("ask", [1.1, 1.4]), ("last", [1.15, 1.35])):
        records = records_from(ticks, price=price)
        np.testing.assert_allclose(records.close, expected)
        np.testing.assert_allclose(records.spread, [-0.1, 0.1])
    bar = build_candles(ticks, TickCandles(2))
    np.testing.assert_allclose(bar["spread"], [0.0], atol=1e-15)
    assert bar["vwap"].tolist() == [1.35]


def test_nothing_gives_no_bars():
    empty = trades().iloc[:0]
    for candle in (TimeCandles("M1"), TimeCandles("M1", empty="flag"), TickCandles(1)):
        assert build_candles(empty, candle, forming=True).empty
