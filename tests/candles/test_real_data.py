"""Recorded ticks and trades rebuild the recorded bars exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.candles.builder import build_candles
from tapeline.candles.information_bars import ImbalanceCandles, RunCandles
from tapeline.candles.phases import Phase, candle_range_phases
from tapeline.candles.range_bars import AdaptiveCandles, RangeCandles
from tapeline.candles.records import records_from
from tapeline.candles.renko_bars import AtrRenkoCandles, RenkoCandles
from tapeline.candles.resample import resample
from tapeline.candles.sampling import SamplingController, saving
from tapeline.candles.threshold_bars import DollarCandles, TickCandles, VolumeCandles
from tapeline.candles.time_bars import TimeCandles
from tests.candles import oracles
from tests.candles.real import DAYS, FIRST_DAYS, freqtrade_minutes, freqtrade_trades, lean
from tests.candles.tape import in_chunks, rows_of, same

PRICES = ["open", "high", "low", "close"]


def test_trades_rebuild_every_recorded_candle(test_data):
    trades, minutes = freqtrade_trades(test_data), freqtrade_minutes(test_data)
    built = build_candles(trades, TimeCandles("M1"), forming=True)
    assert built.index.equals(minutes.index)
    assert len(built) == 2469
    assert (built[[*PRICES, "volume"]].to_numpy() == minutes[[*PRICES, "volume"]].to_numpy()).all()
    # Stamps repeat in this recording: each of the trades counts all the same.
    assert built["tick_count"].sum() == len(trades) == 12_477
    fives = build_candles(trades, TimeCandles("M5"), forming=True)
    joined = resample(minutes, "M5", bars_timeframe="M1", forming=True)
    assert len(fives) == 706
    assert fives[[*PRICES, "volume"]].equals(joined[[*PRICES, "volume"]])
    buys = trades.query("side > 0")["size"].groupby(trades.query("side > 0").index.floor("5min")).sum()
    np.testing.assert_array_equal(fives["buy_volume"], buys.reindex(fives.index, fill_value=0.0))


def test_quotes_rebuild_every_recorded_second_and_minute(test_data):
    minutes = first = crossed = 0
    for day in DAYS:
        ticks = lean(test_data, "fxcm", "tick", day)
        crossed += int((ticks["bid"] > ticks["ask"]).sum())
        recorded = lean(test_data, "fxcm", "minute", day)
        built = build_candles(ticks, TimeCandles("M1"), price="bid", forming=True)
        assert built[PRICES].equals(recorded[PRICES])
        minutes += len(built)
        first += len(built) if day in FIRST_DAYS else 0
        seconds = build_candles(ticks, TimeCandles("S1"), price="bid", forming=True)
        assert seconds[PRICES].equals(lean(test_data, "fxcm", "second", day)[PRICES])
        joined = resample(seconds, "M1", forming=True)
        exact = [*PRICES, "close_ts", "tick_count", "spread_close"]
        assert joined[exact].equals(built[exact])
        np.testing.assert_allclose(joined["spread"], built["spread"], rtol=0, atol=1e-15)
    assert (first, minutes) == (4341, 15_857)
    assert crossed == 116_871


def test_crossed_quotes_survive_in_every_type(test_data):
    ticks = lean(test_data, "fxcm", "tick", "20140502").iloc[:30_000]
    assert (ticks["bid"] > ticks["ask"]).mean() > 0.05
    cuts = [1, 777, 12_345, 29_999]
    for candle in (
        TimeCandles("M1"),
        TickCandles(100),
        RangeCandles(0.0002),
        RenkoCandles(0.0001),
        AtrRenkoCandles("M1", smallest=0.00005),
        AdaptiveCandles("M1", smallest=0.00005),
        ImbalanceCandles(),
        RunCandles(),
    ):
        bars = build_candles(ticks, candle)
        assert len(bars) > 20, candle
        assert (bars["spread_close"].dropna() < 0).any(), candle
        assert bars[PRICES].notna().all(axis=None)
        chunked, _ = in_chunks(ticks, candle, cuts)
        pd.testing.assert_frame_equal(chunked, bars, check_exact=True)


def test_real_trades_against_the_definitions(test_data):
    trades = freqtrade_trades(test_data)
    columns = (trades[name].tolist() for name in ("price", "size", "side"))
    ticks = [(*row, 0.0) for row in zip(trades.index.as_unit("ns").asi8.tolist(), *columns, strict=True)]
    same(rows_of(build_candles(trades, TickCandles(50))), oracles.tick_bars(ticks, 50))
    same(rows_of(build_candles(trades, VolumeCandles(5_000.0))), oracles.volume_bars(ticks, 5_000.0))
    dollars = build_candles(trades, DollarCandles(10.0))
    expected = oracles.dollar_bars(ticks, 10.0 * (1 - 1e-12))
    same(rows_of(dollars), expected)
    assert len(dollars) > 100


def test_adaptive_candles_need_fewer_when_the_market_moves_more(test_data):
    """Over a quiet and a busy day the candle count of a fixed range varies more than that of the adaptive one."""
    quiet, busy = (lean(test_data, "fxcm", "tick", day) for day in ("20140505", "20140508"))
    fixed = [len(build_candles(ticks, RangeCandles(0.0004))) for ticks in (quiet, busy)]
    adaptive = [len(build_candles(ticks, AdaptiveCandles("M5", smallest=0.0001))) for ticks in (quiet, busy)]
    assert min(fixed + adaptive) > 20
    assert adaptive[1] / adaptive[0] < 0.75 * fixed[1] / fixed[0]


def test_phases_occur_on_real_bars(test_data):
    ticks = lean(test_data, "fxcm", "tick", "20140508")
    bars = build_candles(ticks, TimeCandles("M5"))
    counts = candle_range_phases(bars)["phase"].value_counts()
    assert counts[Phase.ACCUMULATION] > counts[Phase.SWEEP] > counts[Phase.DISTRIBUTION] > 0


def test_sampling_saves_on_every_recorded_day(test_data):
    """At equal information loss against fixed sampling, on days with a full session, two brokers."""
    ours = theirs = 0.0
    for broker in ("fxcm", "oanda"):
        for day in ("20140501", "20140506", "20140508", "20140515"):
            records = records_from(lean(test_data, broker, "tick", day))
            samples = SamplingController().update(records)
            share, _ = saving(records, samples)
            assert share > 0.05, (broker, day, share)
            ours += samples.ts.size
            theirs += samples.ts.size / (1 - share)
    assert 1 - ours / theirs > 0.2
