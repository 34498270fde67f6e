"""Each candle type against its slow definition, on tapes whose sums are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.candles.builder import build_candles
from tapeline.candles.heikin_ashi import HeikinAshiCandles
from tapeline.candles.information_bars import ImbalanceCandles, RunCandles
from tapeline.candles.range_bars import AdaptiveCandles, RangeCandles
from tapeline.candles.renko_bars import AtrRenkoCandles, RenkoCandles
from tapeline.candles.threshold_bars import DollarCandles, TickCandles, VolumeCandles
from tapeline.candles.time_bars import TimeCandles
from tapeline.core.timeframe import Timeframe
from tests.candles import oracles
from tests.candles.tape import exact_ticks, rows_of, same, trades_frame

MINUTE = 60_000_000_000
TRIES = settings(max_examples=60, deadline=None)


@TRIES
@given(exact_ticks(), st.sampled_from(["S30", "M1", "M5", "H1", "W1"]))
def test_time(ticks, timeframe):
    length = Timeframe.parse(timeframe).nanoseconds
    if timeframe == "W1":
        ticks = [(ts + 3 * 86_400_000_000_000, *rest) for ts, *rest in ticks]
        monday = 4 * 86_400_000_000_000
        shifted = [(ts - monday, *rest) for ts, *rest in ticks]
        expected = [(ts + monday, close + monday, *rest) for ts, close, *rest in oracles.time_bars(shifted, length)]
    else:
        expected = oracles.time_bars(ticks, length)
    same(rows_of(build_candles(trades_frame(ticks), TimeCandles(timeframe))), expected)


@TRIES
@given(exact_ticks(), st.integers(1, 9))
def test_tick(ticks, count):
    same(rows_of(build_candles(trades_frame(ticks), TickCandles(count))), oracles.tick_bars(ticks, count))


@TRIES
@given(exact_ticks(), st.integers(1, 80))
def test_volume(ticks, quarters):
    volume = quarters / 4
    same(rows_of(build_candles(trades_frame(ticks), VolumeCandles(volume))), oracles.volume_bars(ticks, volume))


@TRIES
@given(exact_ticks(most=60), st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0, 32.0]))
def test_volume_with_split_trades(ticks, volume):
    bars = build_candles(trades_frame(ticks), VolumeCandles(volume, split=True))
    expected = oracles.split_volume_bars(ticks, volume)
    assert len(bars) == len(expected)
    found = rows_of(bars)
    # A part of a trade is size * (part / size): exact to the last digit only.
    assert [row[:6] for row in found] == [row[:6] for row in expected]
    assert [row[6:8] for row in found] == [row[6:8] for row in expected]
    np.testing.assert_allclose([row[8] for row in found], [row[8] for row in expected], rtol=1e-14, atol=1e-14)


@TRIES
@given(exact_ticks(), st.integers(1, 4000))
def test_dollar(ticks, value):
    same(rows_of(build_candles(trades_frame(ticks), DollarCandles(value))), oracles.dollar_bars(ticks, value))


@TRIES
@given(
    exact_ticks(least=20),
    st.sampled_from(["tick", "volume", "dollar"]),
    st.booleans(),
    st.integers(1, 4),
    st.integers(4, 12),
)
def test_imbalance_and_run(ticks, measure, run, shortest, longest):
    options = {"expected_length": 4, "span": 3, "shortest": shortest, "longest": longest}
    candle = (RunCandles if run else ImbalanceCandles)(measure, **options)
    bars = build_candles(trades_frame(ticks), candle)
    same(rows_of(bars, "threshold"), oracles.information_bars(ticks, measure, run=run, **options))


@TRIES
@given(exact_ticks(), st.integers(1, 40))
def test_range(ticks, steps):
    same(rows_of(build_candles(trades_frame(ticks), RangeCandles(steps / 64))), oracles.range_bars(ticks, steps / 64))


@TRIES
@given(exact_ticks(), st.sampled_from([1, 2, 4, 8]), st.sampled_from(["bricks", "merge"]), st.booleans())
def test_renko(ticks, steps, gaps, wicks):
    # A size of a power of two keeps the oracle's quotient exact.
    bars = build_candles(trades_frame(ticks), RenkoCandles(steps / 64, gaps=gaps, wicks=wicks))
    same(rows_of(bars, "phantom"), oracles.renko_bars(ticks, steps / 64, gaps=gaps, wicks=wicks))


@TRIES
@given(exact_ticks(least=40), st.integers(1, 6), st.sampled_from([0.5, 1.0, 3.0]))
def test_renko_of_the_average_true_range(ticks, window, multiple):
    candle = AtrRenkoCandles("M1", smallest=1 / 64, window=window, multiple=multiple)
    expected = oracles.atr_renko_bars(ticks, MINUTE, smallest=1 / 64, window=window, multiple=multiple)
    same(rows_of(build_candles(trades_frame(ticks), candle), "phantom"), expected)


@TRIES
@given(exact_ticks(least=40), st.integers(2, 6), st.sampled_from([0.5, 2.0]), st.sampled_from([0.25, float("inf")]))
def test_adaptive(ticks, window, multiple, largest):
    options = {"smallest": 1 / 64, "largest": largest, "multiple": multiple, "window": window, "fast": 2}
    bars = build_candles(trades_frame(ticks), AdaptiveCandles("M1", **options))
    same(rows_of(bars, "range"), oracles.adaptive_bars(ticks, MINUTE, **options))


@TRIES
@given(exact_ticks())
def test_heikin_ashi(ticks):
    plain = build_candles(trades_frame(ticks), TimeCandles("M1"))
    candles = build_candles(trades_frame(ticks), HeikinAshiCandles("M1"))
    names = ["open", "high", "low", "close"]
    assert candles[names].to_numpy().tolist() == [list(row) for row in oracles.heikin_ashi(plain[names].to_numpy())]
    rest = [name for name in plain.columns if name not in names]
    assert candles[rest].equals(plain[rest])


def test_the_oracles_see_bars_at_all():
    """A property that holds on empty results proves nothing: one long tape must fill every type."""
    generator = np.random.default_rng(3)
    ticks, price = [], 3200
    for j in range(4000):
        price += int(generator.integers(-6, 7))
        ticks.append(
            (1_400_000_000_000_000_000 + j * 7_000_000_000, price / 64, float(generator.integers(1, 9)), 0, 0.0)
        )
    information = {"expected_length": 20, "span": 5, "shortest": 5, "longest": 100}
    pairs = [
        (
            ImbalanceCandles("volume", **information),
            oracles.information_bars(ticks, "volume", run=False, **information),
            "threshold",
        ),
        (
            RunCandles("dollar", **information),
            oracles.information_bars(ticks, "dollar", run=True, **information),
            "threshold",
        ),
        (
            AdaptiveCandles("M1", smallest=1 / 64),
            oracles.adaptive_bars(ticks, MINUTE, smallest=1 / 64, largest=np.inf, multiple=2.0, window=20, fast=3),
            "range",
        ),
        (
            AtrRenkoCandles("M1", smallest=1 / 64),
            oracles.atr_renko_bars(ticks, MINUTE, smallest=1 / 64, window=14, multiple=1.0),
            "phantom",
        ),
    ]
    for candle, expected, extra in pairs:
        assert len(expected) > 20, candle
        same(rows_of(build_candles(trades_frame(ticks), candle), extra), expected)


@pytest.mark.parametrize("kind", [ImbalanceCandles, RunCandles])
def test_lengths_neither_explode_nor_collapse(kind):
    """A tape that is balanced for long, then one-sided, then balanced: the recursion's known trap."""
    side = np.r_[np.tile([1, -1], 4000), np.ones(4000), np.tile([1, -1], 4000)].astype(int)
    ticks = [(j * 1_000_000_000, 10.0, 1.0, int(s), 0.0) for j, s in enumerate(side)]
    bars = build_candles(trades_frame(ticks), kind("tick", expected_length=50, span=10, shortest=20, longest=400))
    assert bars["tick_count"].between(20, 400).all()
    assert bars["tick_count"].nunique() > 3
