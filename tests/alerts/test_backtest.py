"""A rule on history fires as it would live, whatever the batches; what followed is measured from the firing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.alerts.backtest import backtest_rule, coarser, history_batch
from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine.layout import TIMEFRAMES
from tapeline.alerts.external import External
from tapeline.alerts.rule import Rule
from tapeline.core.errors import ConfigurationError, DataError
from tests.quality.batches import sample_bars
from tests.support import make_bars


def rule(condition: str, **more) -> Rule:
    return Rule(**{"id": "r", "owner": "me", "condition": condition, "symbols": ("A",)} | more)


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return make_bars(1_500, timeframe="M1", seed=5, gaps=False)


@pytest.mark.parametrize(
    "condition",
    ["crosses_up(close, sma(20))", 'rsi(14, "5m", "closed") < 40 and close > open', "close > lowest(5) for 3 bars"],
)
def test_a_history_fires_as_its_trades_do_live_in_any_batches(bars, condition) -> None:
    other = make_bars(1_500, timeframe="M1", seed=6, gaps=False)
    both = {"A": bars, "B": other}
    wanted = rule(condition, symbols=("A", "B"))
    outcome = backtest_rule(wanted, both)
    engine = Evaluator(both)
    engine.add(compile_rule(wanted), list(both))
    batch = history_batch(engine, both)
    cuts = np.sort(np.random.default_rng(1).integers(0, batch.times.size, 40)).tolist()
    found = []
    for begin, end in zip([0, *cuts], [*cuts, batch.times.size], strict=True):
        fired = engine.process(Batch(*(column[begin:end] for column in batch)))
        found += list(zip(fired.firings["ts"].tolist(), fired.firings["price"].tolist(), strict=True))
    assert len(found) >= 10
    told = outcome.firings
    assert found == list(zip(told["ts"].astype("int64").tolist(), told["price"].tolist(), strict=True))
    assert set(told["symbol"]) == {"A", "B"}
    assert told["id"].is_unique
    assert outcome.per_day.sum() == len(told)


def test_closes_of_a_longer_timeframe_agree_with_pandas(bars) -> None:
    wanted = rule("close > sma(5)", frequency="once_per_bar_close", timeframe="15m")
    frame = coarser(bars, TIMEFRAMES["15m"])
    pd.testing.assert_series_equal(
        frame["high"], bars["high"].resample("15min").max(), check_freq=False, check_names=False
    )
    above = frame["close"] > frame["close"].rolling(5).mean()
    expected = frame["close_ts"][above].tolist()
    found = backtest_rule(wanted, bars, path="close").firings
    assert found["ts"].tolist() == expected
    assert found["at_close"].all()
    # What followed: the close so many bars after the bar that closed.
    rows = frame.index.get_indexer(found["ts"] - pd.Timedelta(minutes=15))
    for ahead in (1, 4, 24):
        later = frame["close"].shift(-ahead).to_numpy()[rows] / frame["close"].to_numpy()[rows] - 1
        np.testing.assert_allclose(found[f"return_{ahead}"], later)


def test_the_path_of_a_bar_reaches_both_extremes_in_the_likely_order() -> None:
    ts = pd.date_range("2026-01-05", periods=2, freq="min", tz="UTC", name="ts").as_unit("ns")
    frame = pd.DataFrame(
        {"open": [10.0, 13], "high": [14.0, 15], "low": [9.0, 8], "close": [13.0, 9], "volume": [4.0, 5],
         "close_ts": ts + pd.Timedelta(minutes=1)}, index=ts,
    )  # fmt: skip
    engine = Evaluator(["A"])
    batch = history_batch(engine, {"A": frame})
    assert batch.prices[:-1].tolist() == [10, 9, 14, 13, 13, 15, 8, 9]
    assert batch.sizes[:-1].tolist() == [0, 0, 0, 4, 0, 0, 0, 5]
    assert batch.times[-1] == frame["close_ts"].iloc[-1].value
    assert backtest_rule(rule("close < 9.5"), frame).firings["price"].tolist() == [9.0, 8.0]
    assert backtest_rule(rule("close < 9.5"), frame, path="close").firings["price"].tolist() == [9.0]


def test_the_life_of_a_rule_is_that_of_the_processor(bars) -> None:
    level = float(bars["close"].median())
    plain = backtest_rule(rule(f"close > {level}"), bars).firings
    calm = backtest_rule(rule(f"close > {level}", pending="PT10M", notify_resolved=True), bars).firings
    assert 0 < (calm["kind"] == "firing").sum() < len(plain)
    assert set(calm["kind"]) == {"firing", "resolved"}
    assert calm["price"].notna().all()
    cool = backtest_rule(rule(f"close > {level}", cooldown="PT1H"), bars).firings
    assert cool["ts"].diff().min() >= pd.Timedelta(hours=1)


def test_series_from_outside_are_taken_at_their_times(bars) -> None:
    at = int(bars.index[100].value) + 1
    records = [External(at, "A", "sentiment:level", -0.9), External(at + 5, "A", "sentiment:level", 0.1)]
    found = backtest_rule(rule("sentiment < -0.5"), bars, external=records).firings
    assert found["ts"].astype("int64").tolist() == [at]
    assert found["explanation"][0] == [{"text": "sentiment < -0.5", "left": -0.9, "right": -0.5, "held": True}]


def test_patterns_are_found_on_bars_of_their_timeframe(bars) -> None:
    from tapeline.charts.scan import choose, scan

    events = scan(coarser(bars, TIMEFRAMES["5m"]), choose(["fair_value_gap"]))
    found = backtest_rule(rule('pattern("fair_value_gap", "5m", "up")'), bars).firings
    assert found["ts"].tolist() == events.loc[events["direction"] == 1, "confirmed_at"].tolist()
    assert len(found) >= 5


def test_bars_that_cannot_answer_are_refused(bars) -> None:
    with pytest.raises(ConfigurationError, match="give finer bars"):
        backtest_rule(rule("close > 1"), make_bars(10))
    with pytest.raises(DataError, match="no bars of B"):
        backtest_rule(rule("close > 1", symbols=("A", "B")), {"A": bars})
    with pytest.raises(ConfigurationError, match="watches 2 symbols"):
        backtest_rule(rule("close > 1", symbols=("A", "B")), bars)
    with pytest.raises(DataError, match="must not overlap"):
        backtest_rule(rule("close > 1"), bars.iloc[[1, 0]])
    with pytest.raises(DataError, match="must be finite"):
        backtest_rule(rule("close > 1"), bars.assign(high=np.nan))
    empty = backtest_rule(rule("close > 1000000"), bars)
    assert empty.firings.empty
    assert empty.per_day.sum() == 0


def test_on_real_bars_it_fires_at_the_closes_that_talib_names() -> None:
    talib = pytest.importorskip("talib")
    real = sample_bars().iloc[:2_000]
    real = real.assign(close_ts=real.index + pd.Timedelta(hours=1))
    close = real["close"].to_numpy()
    upper, _, _ = talib.BBANDS(close, 20, 2.0, 2.0)
    expected = real["close_ts"][(talib.RSI(close, 14) > 70) & (close > upper)].tolist()
    wanted = rule("rsi(14) > 70 and close > bollinger_upper(20, 2)", timeframe="1h", frequency="once_per_bar_close")
    found = backtest_rule(wanted, real).firings
    assert len(expected) >= 10
    assert found["ts"].tolist() == expected
