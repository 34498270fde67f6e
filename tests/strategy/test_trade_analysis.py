from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import BarRequest
from tapeline.sources.sample import SampleSource
from tapeline.strategy.costs import Commission
from tapeline.strategy.implementation_shortfall import PARTS, fill_shortfall, missed_orders, shortfall_summary
from tapeline.strategy.simulator import SimulationSettings, simulate
from tapeline.strategy.slippage import FixedSlippage
from tapeline.strategy.trade_analysis import (
    excursion_reach,
    excursions,
    holding_times,
    mean_interval,
    positions,
    stop_scenarios,
    trade_statistics,
    traded_value,
)
from tapeline.strategy.trade_attribution import attribution, attributions, entry_decisions, trade_keys
from tests.strategy.cases import Case

SETTINGS = SimulationSettings(
    commission=Commission(taker_bps=0.5), slippage=FixedSlippage(bps=0.5), protect_by_distance=True
)


@pytest.fixture(scope="module")
def euro():
    """A cross of averages on a real year of hours, with stops and targets."""
    bars = SampleSource().fetch(BarRequest(Symbol.parse("EURUSD"), Timeframe.parse("H1"))).bars
    bars = bars.assign(close_ts=bars.index + pd.Timedelta("1h"))
    close = bars["close"]
    side = np.sign(close.rolling(10).mean() - close.rolling(40).mean()).iloc[40:]
    turns = side[side != side.shift()]
    decisions = pd.DataFrame({"target": turns * 100_000, "stop": 0.004, "take": 0.01})
    return bars, decisions, simulate(bars, decisions, SETTINGS, half_spread=5e-5)


def test_every_attribution_sums_to_the_account_to_the_cent(euro) -> None:
    bars, _, found = euro
    decided = entry_decisions(found, found.orders)
    regimes = pd.Series(
        np.where(bars["close"].diff().abs().rolling(24).mean() > 1e-3, "wild", "calm"),
        pd.DatetimeIndex(bars["close_ts"]),
    )
    keys = trade_keys(found.trades, tags=[f"rule {ts.day % 3}" for ts in decided], regimes=regimes.iloc[500:])
    tables = attributions(found.trades, keys, samples=50)
    assert set(tables) == {"side", "exit reason", "hour", "weekday", "tag", "regime"}
    total = found.equity.iloc[-1] - SETTINGS.capital
    assert len(found.trades) > 150
    for name, table in tables.items():
        assert table["net"].sum() == pytest.approx(total, abs=0.005), name
        assert table["trades"].sum() == len(found.trades), name
        assert table["share"].abs().sum() == pytest.approx(1.0), name
    assert tables["regime"]["group"].tolist() == ["calm", "wild", "unknown"]
    assert tables["weekday"]["group"].tolist() == ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Sunday"]
    assert tables["hour"]["group"].is_monotonic_increasing
    assert trade_statistics(found.trades)["net"] == pytest.approx(total, abs=0.005)
    few = tables["hour"]
    assert (few["note"] != "").equals(few["trades"] < 30)


def test_a_regime_is_the_one_known_at_the_entry() -> None:
    entry = pd.DatetimeIndex(["2024-01-02 09:00", "2024-01-02 10:00", "2024-01-02 09:59"], tz="UTC")
    trades = pd.DataFrame({"entry_at": entry, "quantity": [1.0, -1.0, 1.0], "reason": "signal", "net": 1.0})
    regimes = pd.Series(["b", "a"], pd.DatetimeIndex(["2024-01-02 10:00", "2024-01-02 09:30"], tz="UTC"))
    keys = trade_keys(trades, regimes=regimes, tags=["x", None, "y"])
    assert keys["regime"].tolist() == ["unknown", "b", "a"]
    assert keys["tag"].tolist() == ["x", "unknown", "y"]
    assert keys["side"].tolist() == ["long", "short", "long"]
    # What becomes known later changes nothing.
    later = pd.concat([regimes, pd.Series(["z"], pd.DatetimeIndex(["2024-01-02 10:00:01"], tz="UTC"))])
    pd.testing.assert_frame_equal(keys, trade_keys(trades, regimes=later, tags=["x", None, "y"]))
    with pytest.raises(ConfigurationError, match="zone 'Mars/Base'"):
        trade_keys(trades, zone="Mars/Base")
    with pytest.raises(DataError, match="2 tags for 3 trades"):
        trade_keys(trades, tags=["x", "y"])
    with pytest.raises(DataError, match="1 keys for 3 trades"):
        attribution(trades, keys["tag"].iloc[:1])


def test_the_decision_of_a_trade_is_that_of_its_first_fill() -> None:
    for seed in range(60):
        case = Case(seed)
        found = simulate(case.bars, case.decisions, case.settings, **case.options, latency=case.latency)
        decided = entry_decisions(found, found.orders)
        assert len(decided) == len(found.trades)
        assert (decided.to_numpy() <= found.trades["entry_at"].to_numpy()).all()
        for when, quantity in zip(decided, found.trades["quantity"], strict=True):
            wanted = case.decisions["target"].reindex(case.bars.index)[when]
            assert wanted * quantity > 0
        assert (positions(found)[-1] != 0) == found.trades["exit_at"].isna().any()


def test_figures_of_trades_by_hand() -> None:
    net = [5.0, -2.0, 3.0, 1.0, -4.0, -1.0, 0.0]
    ended = pd.Series(pd.date_range("2024-01-01", periods=7, freq="1h", tz="UTC")).where(lambda at: at.dt.hour < 6)
    found = trade_statistics(pd.DataFrame({"net": net, "exit_at": ended, "commission": 0.5}))
    assert (found["trades"], found["open"], found["net"], found["commission"]) == (7, 1, 2.0, 3.5)
    assert found["win_rate"] == 3 / 7
    assert found["payoff"] == pytest.approx(3.0 / (7 / 3))
    assert found["profit_factor"] == pytest.approx(9 / 7)
    assert (found["winning_streak"], found["losing_streak"], found["best"], found["worst"]) == (2, 2, 5.0, -4.0)
    assert found["expectancy_low"] < found["expectancy"] < found["expectancy_high"]
    assert found["note"] == "few trades: 7 of 30"
    from scipy import stats

    peer = stats.ttest_1samp(net, 0.0)
    assert (found["t"], found["p_value"]) == pytest.approx((peer.statistic, peer.pvalue))
    # Wilson 1927, for 3 of 7, as statsmodels' proportion_confint gives it.
    from statsmodels.stats.proportion import proportion_confint

    assert (found["win_rate_low"], found["win_rate_high"]) == pytest.approx(proportion_confint(3, 7, method="wilson"))
    none = trade_statistics(pd.DataFrame({"net": [], "exit_at": pd.DatetimeIndex([], tz="UTC")}))
    assert none["trades"] == none["net"] == 0
    assert math.isnan(none["expectancy"])


def test_an_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, 900)
    low, high = mean_interval(values, samples=4_000)
    half = 1.96 * values.std() / 30
    assert low == pytest.approx(values.mean() - half, abs=0.12 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.12 * half)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_shortfall_of_every_fill_is_the_sum_of_its_steps(euro) -> None:
    bars, _, found = euro
    table = fill_shortfall(bars, found.fills, found.orders)
    assert table[list(PARTS)].sum(axis=1).to_numpy() == pytest.approx(table["shortfall"].to_numpy(), abs=1e-9)
    market = table[table["kind"] == "market"]
    row = market.iloc[3]
    order = found.orders.iloc[found.fills["order"].iloc[market.index[3]]]
    assert row["decision"] == bars["close"][order["decided_at"]]
    assert row["arrival"] == bars["open"][order["arrived_at"]]
    assert (market["waiting"] == 0).all()
    # Half a spread of 0.5 points and half a basis point on each unit.
    paid = 5e-5 + 0.5e-4 * market["reference"]
    assert market["impact"].to_numpy() == pytest.approx((paid * market["quantity"].abs()).to_numpy(), rel=1e-9)
    stops = table[table["reason"] == "stop"]
    assert len(stops) > 20
    assert (stops["waiting"] >= -1e-9).all()  # a stop never fills at a better price than its own
    assert (stops["waiting"] > 1e-9).any()  # and gaps are seen
    targets = table[table["reason"] == "target"]
    assert (targets["waiting"] <= 1e-9).all()
    total = shortfall_summary(table).iloc[-1]
    assert total["fills"] == len(found.fills)
    assert total["shortfall"] == pytest.approx(table["shortfall"].sum())
    assert total["commission"] == pytest.approx(found.trades["commission"].sum())
    assert total["mean_bps"] == pytest.approx(
        1e4 * table["shortfall"].sum() / (table["quantity"] * table["decision"]).abs().sum()
    )
    with pytest.raises(DataError, match="there are 1"):
        fill_shortfall(bars, found.fills, found.orders.iloc[:1])
    with pytest.raises(DataError, match="time of no bar"):
        fill_shortfall(bars.iloc[1_000:], found.fills, found.orders)


def test_what_did_not_fill_is_counted_at_the_decisions_price(euro) -> None:
    bars, decisions, _ = euro
    limits = decisions[["target"]].assign(limit=bars["close"] - np.sign(decisions["target"]) * 0.002)
    found = simulate(bars, limits, SimulationSettings(bars_in_force=5))
    missed = missed_orders(bars, found.orders)
    assert (missed["status"] == "expired").sum() > 30
    row = missed.iloc[0]
    expected = row["unfilled"] * (bars["close"][row["ended_at"]] - bars["close"][row["decided_at"]])
    assert row["missed"] == pytest.approx(expected)
    # A limit that did not fill was mostly right to be early: the price went away.
    assert missed["missed"].mean() > 0


def test_excursions_hold_what_trades_made(euro) -> None:
    _, _, found = euro
    table = excursions(found.trades)
    assert table.loc["all", "trades"] == table.loc[["winners", "losers"], "trades"].sum()
    assert table.loc["losers", "adverse 50%"] < table.loc["winners", "adverse 50%"] <= 0
    reach = excursion_reach(found.trades, [0.001, 0.002, 0.01])
    assert reach["losers_met"].is_monotonic_decreasing
    assert (reach["winners_met"] <= reach["losers_met"]).all()
    assert reach["net_of_met"][0] == pytest.approx(found.trades.loc[found.trades["adverse"] <= -0.001, "net"].sum())
    with pytest.raises(ConfigurationError, match="distance = 0"):
        excursion_reach(found.trades, [0.0])


def test_moved_stops_are_simulated_again(euro) -> None:
    bars, decisions, found = euro
    table = stop_scenarios(bars, decisions, SETTINGS, factors=(0.25, 1, 2, math.inf), half_spread=5e-5).set_index(
        "factor"
    )
    assert table.loc[1.0, "net"] == found.equity.iloc[-1] - SETTINGS.capital
    assert table.loc[1.0, "stopped"] == (found.trades["reason"] == "stop").mean()
    assert table["stopped"].is_monotonic_decreasing
    assert table.loc[math.inf, "stopped"] == 0
    bare = simulate(bars, decisions[["target", "take"]], SETTINGS, half_spread=5e-5)
    assert table.loc[math.inf, "net"] == bare.equity.iloc[-1] - SETTINGS.capital
    # As prices: half the distance from the decision's close is the same order in the market.
    side, close = np.sign(decisions["target"]), bars["close"].reindex(decisions.index)
    priced = pd.DataFrame({"target": decisions["target"], "stop": close - side * 0.004})
    nearer = simulate(bars, priced.assign(stop=close - side * 0.002))
    halved = stop_scenarios(bars, priced, SimulationSettings(), factors=(0.5,))
    assert halved["net"][0] == pytest.approx(nearer.equity.iloc[-1] - 100_000, abs=1e-6)
    with pytest.raises(DataError, match="no column 'stop'"):
        stop_scenarios(bars, decisions[["target"]], SETTINGS)
    with pytest.raises(ConfigurationError, match="factor = 0"):
        stop_scenarios(bars, decisions, SETTINGS, factors=(0,))


def test_times_held_and_value_traded(euro) -> None:
    bars, _, found = euro
    table = holding_times(found.trades, bars["close_ts"].iloc[-1])
    rows = found.trades[found.trades["net"] > 0]
    held = rows["exit_at"].fillna(bars["close_ts"].iloc[-1]) - rows["entry_at"]
    assert table.loc["winners", "50%"] == held.median()
    assert table.loc["all", "trades"] == len(found.trades)
    assert traded_value(found.fills) == pytest.approx((found.fills["quantity"].abs() * found.fills["price"]).sum())
    assert traded_value(found.fills.assign(rate=2.0)) == pytest.approx(2 * traded_value(found.fills))
    held_now = pd.Series(positions(found), found.equity.index)
    trade = found.trades.iloc[3]
    inside = held_now[trade["entry_at"] : trade["exit_at"]].iloc[:-1]
    assert (inside == trade["quantity"]).all()
