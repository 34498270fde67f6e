"""Profiles against medians taken one by one, planted costs that timing must find, noise in which it must find none."""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.entry_momentum import waiting_drift
from tapeline.strategy.entry_timing import TimingSettings, best_entry, evaluate_entries, learn_timing
from tapeline.strategy.intraday_profile import learn_profile
from tapeline.strategy.slippage import FixedSlippage, SquareRootSlippage
from tests.core.samples import eurusd
from tests.support import make_bars

HOURS_WIDE = (20, 21, 22)


def spreads(bars: pd.DataFrame) -> np.ndarray:
    """A spread of 4 basis points in three hours of the day, of 1 otherwise, with noise."""
    wide = bars.index.hour.isin(HOURS_WIDE)
    noise = np.random.default_rng(1).uniform(0.8, 1.2, len(bars))
    return bars["close"].to_numpy() * np.where(wide, 2e-4, 0.5e-4) * noise


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return make_bars(24 * 90, seed=8)


@pytest.fixture(scope="module")
def wide(bars):
    return learn_timing(bars, half_spread=spreads(bars))


def decisions(bars: pd.DataFrame, first: int = 400) -> pd.DataFrame:
    side = np.random.default_rng(3).choice([-1, 1], len(bars) - first - 20)
    return pd.DataFrame({"side": side}, index=bars.index[first:-20])


def turning(share: float, rows: int = 3000) -> pd.DataFrame:
    """Random bars of which each gives back a share of the move before."""
    steps = np.random.default_rng(2).normal(0, 1e-3, rows)
    steps[1:] -= share * steps[:-1]
    bars = make_bars(rows, seed=1, gaps=False)
    bars["close"] = 1.1 * np.exp(np.cumsum(steps))
    bars["open"] = np.r_[1.1, bars["close"].to_numpy()[:-1]]
    bars["high"], bars["low"] = bars[["open", "close"]].max(axis=1), bars[["open", "close"]].min(axis=1)
    return bars


def test_a_profile_is_the_median_of_the_days_before(bars) -> None:
    half = spreads(bars)
    profile = learn_profile(bars, half, days=7, minimum=3, slot_minutes=120, zone="America/New_York")
    local = bars.index.tz_convert("America/New_York")
    rows = [
        (stamp.date(), stamp.hour // 2, spread / bar["close"], np.log(bar["close"] / bar["open"]) ** 2, bar["volume"])
        for stamp, spread, (_, bar) in zip(local[:600], half[:600], bars.iloc[:600].iterrows(), strict=True)
    ]
    for row in (130, 300, 451):
        days = sorted({one[0] for one in rows if one[0] < local[row].date()})[-7:]
        slot = local[row].hour // 2
        by_day = [[one for one in rows if one[0] == day and one[1] == slot] for day in days]
        means = [[statistics.fmean(one[place] for one in day) for day in by_day if day] for place in (2, 3, 4)]
        at = pd.DatetimeIndex([bars.index[row]])
        spread, volatility, volume = profile.usual(at, at)
        assert spread[0] == pytest.approx(statistics.median(means[0]))
        assert volatility[0] == pytest.approx(statistics.fmean(means[1]) ** 0.5)
        assert volume[0] == pytest.approx(statistics.median(means[2]))


def test_waiting_drift_is_the_fit_written_out() -> None:
    bars = turning(0.4, 700)
    opened, close = np.log(bars["open"].to_numpy()), np.log(bars["close"].to_numpy())
    found = waiting_drift(bars, 4, momentum_bars=3, memory=300)
    assert (found[:, 0] == 0).all()
    for row, wait in ((500, 1), (650, 3)):
        last = row - 1 - wait
        x = np.array([close[t] - close[t - 3] for t in range(last - 299, last + 1)])
        y = np.array([opened[t + 1 + wait] - opened[t + 1] for t in range(last - 299, last + 1)])
        slope = (x * y).sum() / (x * x).sum()
        overlap = 1 + 2 * sum((1 - lag / 3) * (1 - lag / wait) for lag in range(1, min(3, wait)))
        error = (((y - slope * x) ** 2).mean() * overlap / (x * x).sum()) ** 0.5
        expected = np.sign(slope) * max(abs(slope) - 2 * error, 0.0) * (close[row] - close[row - 3])
        assert found[row, wait] == pytest.approx(expected, rel=1e-6, abs=1e-15)
    assert found[500, 1] != 0.0


def test_components_and_choice_are_explained(bars, wide) -> None:
    at = bars.index[(bars.index.hour == 19) & (np.arange(len(bars)) > 1000)][0]
    plan = best_entry(wide, at, 1)
    assert plan.act_at.hour == 23
    assert plan.wait == 3
    assert plan.costs.index[0] == at + pd.Timedelta(hours=1)
    assert np.allclose(plan.costs[["spread", "impact", "momentum", "risk"]].sum(axis=1), plan.costs["total"])
    assert plan.costs["spread"].iloc[0] == pytest.approx(2.0, rel=0.15)
    assert plan.costs["spread"].iloc[3] == pytest.approx(0.5, rel=0.15)
    assert plan.costs["risk"].is_monotonic_increasing
    assert plan.expected == plan.costs["total"].iloc[3]
    assert plan.saving == pytest.approx(plan.costs["total"].iloc[0] - plan.expected)
    assert "after 3 bars" in plan.explanation
    assert (
        f"spread {plan.costs['spread'].iloc[3]:.2f} instead of {plan.costs['spread'].iloc[0]:.2f}" in plan.explanation
    )
    early = best_entry(wide, bars.index[(bars.index.hour == 9) & (np.arange(len(bars)) > 1000)][0], -1)
    assert early.wait == 0
    assert early.saving == 0.0
    assert early.explanation.startswith("sell at once")


def test_aversion_to_risk_ends_the_waiting(bars) -> None:
    at = bars.index[(bars.index.hour == 19) & (np.arange(len(bars)) > 1000)][0]
    averse = learn_timing(bars, TimingSettings(risk_aversion=1.0), half_spread=spreads(bars))
    assert best_entry(averse, at, 1).wait == 0


def test_impact_waits_for_volume(bars) -> None:
    thick = bars.assign(volume=np.where(bars.index.hour == 15, 1e6, 1e4))
    settings = TimingSettings(slippage=SquareRootSlippage(), risk_aversion=0.0)
    at = bars.index[(bars.index.hour == 11) & (np.arange(len(bars)) > 1000)][0]
    plan = best_entry(learn_timing(thick, settings), at, 1, quantity=5_000.0)
    assert plan.act_at.hour == 15
    assert plan.costs["impact"].iloc[3] < 0.3 * plan.costs["impact"].iloc[0]


def test_a_spread_that_is_wide_at_times_is_saved_out_of_sample(bars, wide) -> None:
    found = evaluate_entries(wide, decisions(bars))
    assert found.low > 0
    assert found.verdict.startswith("timing saves")
    waited = found.table[found.table["wait"] > 0]
    assert 0.05 < found.waited < 0.3
    assert set((waited.index + pd.Timedelta(hours=1)).hour) <= set(HOURS_WIDE)
    assert waited["expected"].mean() == pytest.approx(1.45, abs=0.15)
    assert (found.table.loc[found.table["wait"] == 0, "saving"] == 0).all()


def test_the_shortfall_is_the_fill_against_the_close_of_the_decision(bars, wide) -> None:
    found = evaluate_entries(wide, decisions(bars))
    half = pd.Series(spreads(bars), bars.index)
    for when in (found.table.index[found.table["wait"] > 0][3], found.table.index[0]):
        line = found.table.loc[when]
        row = bars.index.get_loc(when)
        for column, at in (("at_once", bars.index[row + 1]), ("timed", line["acted_at"])):
            fill = bars["open"][at] + line["side"] * half[at]
            assert line[column] == pytest.approx(line["side"] * (fill / bars["close"].iloc[row] - 1) * 1e4)
        assert line["acted_at"] >= when + (1 + line["wait"]) * pd.Timedelta(hours=1)


def test_a_flat_spread_and_a_random_walk_leave_nothing_to_time(bars) -> None:
    found = evaluate_entries(learn_timing(bars, half_spread=1e-4), decisions(bars))
    assert found.waited < 0.1
    assert found.low <= 0 <= found.high
    assert found.verdict.startswith("no evidence")


def test_prices_that_turn_are_waited_for() -> None:
    bars = turning(0.4)
    settings = TimingSettings(momentum_bars=1, memory=1000, horizon=4)
    found = evaluate_entries(learn_timing(bars, settings), decisions(bars, 1200))
    assert found.low > 0.5
    row = pd.DatetimeIndex(bars.index).get_indexer(found.table.index)
    rose = np.sign(bars["close"].to_numpy()[row] - bars["close"].to_numpy()[row - 1])
    waited = found.table["wait"].to_numpy() > 0
    assert (rose[waited] == found.table["side"].to_numpy()[waited]).all()


def test_the_future_changes_no_choice_before_it(bars, wide) -> None:
    cut = 1500
    changed = bars.copy()
    changed.iloc[cut:, :5] = bars.iloc[cut:, :5].to_numpy()[::-1] * 3.0
    half = spreads(bars)
    half[cut:] = 1.0
    other = learn_timing(changed, half_spread=half)
    for row in (cut - 1, cut - 2, cut - 30):
        one, two = best_entry(wide, bars.index[row], 1), best_entry(other, bars.index[row], 1)
        pd.testing.assert_frame_equal(one.costs, two.costs)
        assert one.explanation == two.explanation
    assert best_entry(other, bars.index[-1], 1).expected != best_entry(wide, bars.index[-1], 1).expected
    cut_short = learn_timing(bars.iloc[:cut], half_spread=spreads(bars)[:cut])
    assert best_entry(cut_short, bars.index[cut - 1], 1).costs.equals(best_entry(wide, bars.index[cut - 1], 1).costs)


def test_nothing_known_means_at_once(bars, wide) -> None:
    plan = best_entry(wide, bars.index[3], 1)
    assert plan.wait == 0
    assert np.isnan(plan.expected)


def test_real_hours_are_timed_by_what_was_known() -> None:
    real = eurusd().iloc[:3500]
    settings = TimingSettings(slippage=SquareRootSlippage(), risk_aversion=0.0)
    timing = learn_timing(real, settings, half_spread=0.00005)
    found = evaluate_entries(timing, decisions(real, 800).assign(quantity=0.02 * real["volume"].median()))
    # Hours differ in volume and movement, so that some are waited for, and the wait is a risk.
    assert 0.1 < found.waited < 1.0
    assert found.timed_deviation > found.at_once_deviation
    assert found.low < found.saving < found.high
    night, day = (timing.profile.volume.iloc[-1][hour] for hour in (22, 14))
    assert day > 3 * night


def test_what_cannot_be_timed_is_refused(bars, wide) -> None:
    with pytest.raises(DataError, match="no bar's"):
        best_entry(wide, bars.index[0] + pd.Timedelta(minutes=1), 1)
    with pytest.raises(DataError, match="side other than"):
        best_entry(wide, bars.index[900], 0)
    with pytest.raises(DataError, match="not in order"):
        evaluate_entries(wide, decisions(bars).iloc[::-1])
    with pytest.raises(DataError, match="2 or more"):
        evaluate_entries(wide, pd.DataFrame({"side": [1]}, index=bars.index[-1:]))
    with pytest.raises(DataError, match="half_spread has 3"):
        learn_timing(bars, half_spread=[1.0, 1.0, 1.0])
    with pytest.raises(ConfigurationError, match="minimum = 30"):
        learn_timing(bars, TimingSettings(minimum_days=30))
    with pytest.raises(ConfigurationError, match="horizon = 0"):
        waiting_drift(bars, 0)
    with pytest.raises(ConfigurationError, match="tick_size"):
        best_entry(learn_timing(bars, TimingSettings(slippage=FixedSlippage(ticks=1))), bars.index[900], 1)
