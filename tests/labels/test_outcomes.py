"""Returns, risk and reward, excursions, directions and thresholds against definitions written out slowly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.labels.direction import candle_direction, threshold
from tapeline.labels.encoding import DirectionEncoder
from tapeline.labels.excursions import adverse_excursion, edge_ratio, favourable_excursion
from tapeline.labels.risk_reward import risk_reward
from tapeline.labels.scaled_return import excess_return, future_returns, scaled_return
from tapeline.labels.volatility import causal_volatility
from tests.core.samples import eurusd, rough_bars


def slow_risk_reward(bars, *, side, stop, target, width, horizon, minutes):
    """The definition over plain numbers: row by row, the position's own view of each bar."""
    rows = list(bars[["open", "high", "low", "close"]].itertuples(index=False, name=None))
    closes = list(bars["close_ts"])
    found = []
    for t in range(len(rows) - 1):
        if not width[t] > 0:
            continue
        entry = rows[t + 1][0]
        sign = 1 if side == "long" else -1
        bad, good = entry * (1 - sign * stop * width[t]), entry * (1 + sign * target * width[t])
        deadline = closes[t] + pd.Timedelta(minutes=minutes) if minutes else None
        held = list(range(t + 1, min(t + horizon, len(rows) - 1) + 1))
        if deadline is not None:
            held = [j for j in held if closes[j] <= deadline] or held[:1]
        answer = None
        for j in held:
            opened, high, low, _ = rows[j]
            lost = low <= bad if side == "long" else high >= bad
            won = high >= good if side == "long" else low <= good
            if sign * (opened - bad) <= 0:
                answer = (-1, opened, j)
            elif sign * (opened - good) >= 0:
                answer = (1, opened, j)
            elif lost:
                answer = (-1, bad, j)
            elif won:
                answer = (1, good, j)
            if answer:
                break
        if not answer:
            last = held[-1]
            by_bars = last == t + horizon
            by_time = deadline is not None and (closes[last] >= deadline or last + 1 < len(rows))
            if not (by_bars or by_time):
                continue
            known = last if by_bars or closes[last] >= deadline else last + 1
            answer = (0, rows[last][3], known)
        value, price, row = answer
        outcome = sign * (price / entry - 1)
        found.append((bars.index[t], value, closes[row], outcome, outcome / (stop * width[t])))
    return pd.DataFrame(found, columns=["ts", "value", "t_end", "outcome", "multiple"]).set_index("ts")


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize("unit", ["fixed", "atr", "volatility"])
@pytest.mark.parametrize(("horizon", "minutes"), [(12, 0), (1000, 450), (6, 450), (5, 30)])
@pytest.mark.parametrize("real", [True, False])
def test_risk_and_reward_against_the_definition(side, unit, horizon, minutes, real) -> None:
    bars = eurusd().iloc[200:900] if real else rough_bars(600, seed=4).iloc[150:]
    stop, target = (0.1, 0.2) if unit == "fixed" else (1.0, 1.7)
    arrays = [np.ascontiguousarray(bars[name].to_numpy()) for name in ("high", "low", "close")]
    width = (
        np.full(len(bars), 0.01)
        if unit == "fixed"
        else causal_volatility(*arrays, kind="atr" if unit == "atr" else "ewm", window=10)
    )
    ours = risk_reward(bars, side, stop, target, unit, horizon, minutes, 10)
    slow = slow_risk_reward(bars, side=side, stop=stop, target=target, width=width, horizon=horizon, minutes=minutes)
    assert list(ours.index) == list(slow.index)
    assert list(ours["t_end"]) == list(slow["t_end"])
    np.testing.assert_array_equal(ours["value"], slow["value"])
    np.testing.assert_allclose(ours[["outcome", "multiple"]], slow[["outcome", "multiple"]], atol=1e-12)
    assert len(set(ours["value"])) >= 2


def bars_of(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    ts = pd.date_range("2017-01-02", periods=len(rows), freq="1h", tz="UTC", name="ts").as_unit("ns")
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=ts, dtype=float)
    return frame.assign(close_ts=ts + pd.Timedelta(hours=1), volume=1.0)


def test_a_bar_that_holds_both_barriers_was_stopped_on_either_side() -> None:
    bars = bars_of((100, 100, 100, 100), (100, 103, 97, 100))
    for side in ("long", "short"):
        found = risk_reward(bars, side, 1.0, 2.0, "fixed", 5).iloc[0]
        assert (found["value"], found["multiple"]) == (-1.0, pytest.approx(-1.0))


def test_a_gap_through_the_stop_loses_more_than_one_r_and_a_target_pays_its_ratio() -> None:
    gap = bars_of((100, 100, 100, 100), (100, 100.5, 99.5, 100), (95, 103, 95, 100))
    assert risk_reward(gap, "long", 1.0, 2.0, "fixed", 5)["multiple"].iloc[0] == pytest.approx(-5.0)
    assert risk_reward(gap, "short", 1.0, 2.0, "fixed", 5)["multiple"].iloc[0] == pytest.approx(5.0)
    hit = bars_of((100, 100, 100, 100), (100, 102.5, 99.5, 100))
    assert risk_reward(hit, "long", 1.0, 2.0, "fixed", 5)["multiple"].iloc[0] == pytest.approx(2.0)


def test_returns_over_many_horizons_with_their_ends() -> None:
    bars = eurusd().head(400)
    wide = future_returns(bars, (1, 5, 24), "log")
    for h in (1, 5, 24):
        for row in (0, 100, 399 - h):
            expected = np.log(bars["close"].iloc[row + h] / bars["open"].iloc[row + 1])
            assert wide[f"return_{h}"].iloc[row] == pytest.approx(expected)
            assert wide[f"t_end_{h}"].iloc[row] == bars["close_ts"].iloc[row + h]
        assert wide[[f"return_{h}", f"t_end_{h}"]].iloc[400 - h :].isna().all().all()
    with pytest.raises(ConfigurationError, match="1 or more"):
        future_returns(bars, (1, 1))
    with pytest.raises(ConfigurationError, match="1 or more"):
        future_returns(bars, (0,))


def test_excess_and_scaled_returns_against_their_definitions() -> None:
    bars = eurusd().head(500)
    benchmark = pd.Series(np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-3, 500))), bars.index)
    excess = excess_return(bars.assign(index_close=benchmark), 6, "index_close")
    width = causal_volatility(*(bars[c].to_numpy() for c in ("high", "low", "close")), kind="ewm", window=20)
    scaled = scaled_return(bars, 6, "ewm", 20)
    for row in (30, 200, 493):
        own = np.log(bars["close"].iloc[row + 6] / bars["open"].iloc[row + 1])
        assert excess["value"].iloc[row] == pytest.approx(own - np.log(benchmark.iloc[row + 6] / benchmark.iloc[row]))
        assert scaled.loc[bars.index[row], "value"] == pytest.approx(own / (width[row] * np.sqrt(6)))
    assert len(excess) == 494
    assert len(scaled) == 494 - 20
    # A benchmark unknown at either end leaves no label.
    holes = benchmark.where(benchmark.index != bars.index[100])
    fewer = excess_return(bars.assign(index_close=holes), 6, "index_close")
    assert set(excess.index) - set(fewer.index) == {bars.index[100], bars.index[94]}


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize("horizon", [1, 7])
def test_excursions_against_the_definition(side, horizon) -> None:
    bars = eurusd().head(300)
    worst, best = adverse_excursion(bars, horizon, side), favourable_excursion(bars, horizon, side)
    assert len(worst) == len(best) == 300 - horizon
    for row in range(0, 300 - horizon, 11):
        ahead = bars.iloc[row + 1 : row + horizon + 1]
        entry = ahead["open"].iloc[0]
        losses = 1 - ahead["low"] / entry if side == "long" else ahead["high"] / entry - 1
        gains = ahead["high"] / entry - 1 if side == "long" else 1 - ahead["low"] / entry
        assert worst["value"].iloc[row] == pytest.approx(max(losses.max(), 0.0))
        assert best["value"].iloc[row] == pytest.approx(max(gains.max(), 0.0))
        assert worst["bars"].iloc[row] == (losses.to_numpy().argmax() + 1 if losses.max() > 0 else 0)
        assert best["bars"].iloc[row] == (gains.to_numpy().argmax() + 1 if gains.max() > 0 else 0)
        falls = []
        for j in range(horizon):
            seen = [entry, *ahead["close"].iloc[:j]]
            top = max(seen) if side == "long" else min(seen)
            falls.append((top - ahead["low"].iloc[j]) / top if side == "long" else (ahead["high"].iloc[j] - top) / top)
        assert worst["drawdown"].iloc[row] == pytest.approx(max(*falls, 0.0))
        assert worst["drawdown_bars"].iloc[row] == (int(np.argmax(falls)) + 1 if max(falls) > 0 else 0)
        assert worst["t_end"].iloc[row] == ahead["close_ts"].iloc[-1]
    both = worst["value"] > 0
    np.testing.assert_allclose(best["edge"][both], (best["value"] / worst["value"])[both])
    assert best["edge"][~both].isna().all()
    assert edge_ratio(best, worst) == pytest.approx(best["value"].mean() / worst["value"].mean())


def test_long_and_short_mirror_each_other() -> None:
    bars = eurusd().head(200)
    np.testing.assert_array_equal(
        adverse_excursion(bars, 5, "long")["value"], favourable_excursion(bars, 5, "short")["value"]
    )
    np.testing.assert_array_equal(
        adverse_excursion(bars, 5, "long")["outcome"], -adverse_excursion(bars, 5, "short")["outcome"]
    )


@pytest.mark.parametrize("candles", [1, 4])
def test_the_direction_of_the_next_candles(candles) -> None:
    bars = eurusd().head(400)
    ours = candle_direction(bars, candles, doji=0.2)
    for row in range(len(ours)):
        ahead = bars.iloc[row + 1 : row + candles + 1]
        body = ahead["close"].iloc[-1] - ahead["open"].iloc[0]
        expected = 0.0 if abs(body) <= 0.2 * (ahead["high"].max() - ahead["low"].min()) else np.sign(body)
        assert ours["value"].iloc[row] == expected
        assert ours["t_end"].iloc[row] == ahead["close_ts"].iloc[-1]
    assert set(ours["value"]) == {-1.0, 0.0, 1.0}
    assert (candle_direction(bars, candles, doji=0.0)["value"] != 0).sum() > (ours["value"] != 0).sum()


def test_thresholds_by_percent_by_volatility_and_after_costs() -> None:
    bars = eurusd().head(600)
    moved = bars["close"].shift(-6) / bars["open"].shift(-1) - 1
    fixed = threshold(bars, 6, "fixed", 0.05, cost=0.02)
    expected = np.sign(moved).where(moved.abs() > 0.0007, 0.0).dropna()
    np.testing.assert_array_equal(fixed["value"], expected.loc[fixed.index])
    assert len(fixed) == 594
    width = causal_volatility(*(bars[c].to_numpy() for c in ("high", "low", "close")), kind="ewm", window=20)
    least = pd.Series(0.8 * np.sqrt(6) * width + 0.0001, bars.index)
    aware = threshold(bars, 6, "volatility", 0.8, 0.01, 20)
    np.testing.assert_array_equal(aware["value"], np.sign(moved).where(moved.abs() > least, 0.0).loc[aware.index])
    assert len(aware) == 574
    assert (threshold(bars, 6, "fixed", 0.05)["value"] != 0).sum() > (fixed["value"] != 0).sum()


def test_codes_and_back_and_weights_that_balance() -> None:
    encoder = DirectionEncoder()
    values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 500, p=[0.6, 0.1, 0.3])
    codes = encoder.encode(values)
    assert codes.min() == 0
    assert codes.max() == 2
    np.testing.assert_array_equal(encoder.decode(codes), values)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 2]), y=codes)
    np.testing.assert_allclose(list(encoder.class_weights(values).values()), expected)
    assert DirectionEncoder((1.0, -1.0)).encode([-1, 1]).tolist() == [0, 1]
    for wrong in ([0.5], [np.nan], [2.0]):
        with pytest.raises(DataError, match="is no direction"):
            encoder.encode(wrong)
    for wrong_code in ([3], [-1], [0.5]):
        with pytest.raises(DataError, match="is no class code"):
            encoder.decode(wrong_code)
