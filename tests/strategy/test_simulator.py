"""The simulator against the readable oracle, bar by bar against at once, and fills against cash to the cent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.core.example import example_bars
from tapeline.strategy.costs import Commission
from tapeline.strategy.simulator import (
    SimulationSettings,
    entries_to_decisions,
    positions_to_decisions,
    simulate,
    sweep,
)
from tapeline.strategy.simulator_stream import SimulatorStream
from tapeline.strategy.slippage import FixedSlippage
from tests.core.samples import eurusd
from tests.strategy.cases import Case, equal_simulations, same_bits
from tests.strategy.oracle import NAN

SEEDS = st.integers(0, 2**32)


def simulated(case):
    return simulate(case.bars, case.decisions, case.settings, latency=case.latency, **case.options)


def fill_rows(case, found):
    rows = case.bars.index.get_indexer(found.fills["ts"])
    return list(zip(rows.tolist(), *(found.fills[name].tolist() for name in found.fills.columns[1:]), strict=True))


@settings(max_examples=1_000, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(SEEDS)
def test_the_engine_is_the_oracle_to_the_last_bit(seed):
    case = Case(seed)
    oracle, found = case.oracle(), simulated(case)
    assert fill_rows(case, found) == oracle.fills
    assert same_bits(found.equity, oracle.equity)
    words = found.orders[["kind", "reason", "status"]].astype(str)
    assert words.to_numpy().tolist() == [[order["kind"], order["reason"], order["status"]] for order in oracle.orders]
    for name in ("quantity", "filled", "limit", "stop"):
        assert same_bits(found.orders[name], [order[name] for order in oracle.orders])
    for name, column in (("decided", "decided_at"), ("arrived", "arrived_at"), ("ended", "ended_at")):
        assert case.bars.index.get_indexer(found.orders[column]).tolist() == [order[name] for order in oracle.orders]


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_positions_money_and_trades_reconcile_with_fills(seed):
    case = Case(seed)
    found = simulated(case)
    oracle = case.oracle()
    fills, trades = found.fills, found.trades
    money = -(fills["quantity"] * fills["price"]).sum() - fills["commission"].sum() - sum(oracle.charged)
    position = fills["quantity"].sum()
    close = case.bars["close"].where(np.isfinite(case.bars["close"])).dropna()
    value = position * close.iloc[-1] if abs(position) > 1e-9 else 0.0
    assert found.equity.iloc[-1] == pytest.approx(case.settings.capital + money + value, abs=0.005)
    assert found.equity.iloc[-1] == pytest.approx(case.settings.capital + trades["net"].sum(), abs=0.005)
    assert trades["commission"].sum() == pytest.approx(fills["commission"].sum(), abs=0.005)
    paid = ((fills["price"] - fills["reference"]) * fills["quantity"]).sum()
    assert trades["slippage"].sum() == pytest.approx(paid, abs=0.005)
    assert (trades["adverse"] <= trades["favourable"]).all()
    by_order = fills.groupby("order")["quantity"].sum()
    assert np.allclose(found.orders["filled"].to_numpy()[by_order.index], by_order, atol=1e-9)


def excursions(case, found):
    """Worst and best move of each round trip, from its fills and the bars it was held through."""
    bars, moves = case.bars.reset_index(), []
    last = {}  # the mean price of entry that stood at the end of each bar, of the trip under way
    side = position = units = money = 0.0

    def end(until):
        row, mean = min(last), NAN
        for at in range(row, until):
            mean = last.get(at, mean)
            bar = bars.loc[at]
            if not (np.isfinite([bar["low"], bar["high"]]).all() and bar["low"] <= bar["high"]):
                continue
            worst, best = (bar["low"], bar["high"]) if side > 0 else (bar["high"], bar["low"])
            # Of the bar of the entry only the close is known to have come after it; the worst is feared.
            best = bar["close"] if at == row else best
            for price in (worst, best):
                # A close that lies beyond the worst price of its own bar was never traded.
                if np.isfinite(price) and side * (price - worst) >= 0:
                    moves[-1].append(side * (price - mean) / abs(mean))

    for row, _, _, quantity, price, *_ in fill_rows(case, found):
        left = quantity
        while abs(left) > 1e-9:
            if position == 0.0:
                side, units, money = np.sign(left), 0.0, 0.0
                last.clear()
                moves.append([0.0])
            if left * side > 0:
                units, money = units + abs(left), money + abs(left) * price
                position, left = position + left, 0.0
                last[row] = money / units
                continue
            part = min(abs(left), abs(position))
            moves[-1].append(side * (price - money / units) / abs(money / units))
            position, left = position - side * part, left + side * part
            if abs(position) < 1e-9:
                position = 0.0
                end(row)
    if position:
        end(len(bars))
    return [min(each) for each in moves], [max(each) for each in moves]


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(SEEDS)
@example(328012860)  # the close of an entry's bar lies outside its range
def test_the_extreme_moves_of_a_trade_are_those_of_the_bars_it_was_held_through(seed):
    case = Case(seed)
    found = simulated(case)
    worst, best = excursions(case, found)
    assert np.allclose(found.trades["adverse"], worst, rtol=0, atol=1e-12)
    assert np.allclose(found.trades["favourable"], best, rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_bars_one_at_a_time_are_the_history(seed):
    case = Case(seed)
    stream = SimulatorStream(case.settings)
    for row, (bar, decision) in enumerate(
        zip(case.bars.reset_index().to_dict("records"), case.decisions.to_dict("records"), strict=True)
    ):
        late = int(case.latency[row]) if len(case.latency) else 0
        extra = {name: float(values[row]) for name, values in case.options.items() if len(values)}
        # With its bar, or after it, when it is known what the bar left of the position.
        if row % 2:
            stream.push({**bar, **extra}, {**decision, "latency": late})
        else:
            stream.push({**bar, **extra})
            stream.decide({**decision, "latency": late})
        assert np.isnan(stream.entry_price) == (stream.position == 0)
    assert equal_simulations(stream.result(), simulated(case))


def test_a_decision_needs_a_bar_and_a_stream_says_what_was_paid():
    stream = SimulatorStream(SimulationSettings(slippage=FixedSlippage(bps=100.0)))
    with pytest.raises(DataError, match="without a bar"):
        stream.decide({"target": 1.0})
    for row, bar in enumerate(example_bars(100, 100, 104).reset_index().to_dict("records")):
        stream.push(bar)
        if row == 0:
            stream.decide({"target": 1.0})
            with pytest.raises(DataError, match="latency"):
                stream.decide({"target": 2.0, "latency": -1})
    assert (stream.position, stream.entry_price) == (1.0, 101.0)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(5, 29))
def test_no_fill_knows_what_comes_later(seed, cut):
    case = Case(seed)
    whole = simulated(case)
    case.bars.iloc[cut:, :5] *= 1.7
    case.decisions.iloc[cut:] = np.nan
    changed = simulated(case)
    assert same_bits(whole.equity.iloc[:cut], changed.equity.iloc[:cut])
    before = whole.fills["ts"] < case.bars.index[cut]
    assert whole.fills[before].equals(changed.fills[changed.fills["ts"] < case.bars.index[cut]])


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_a_sweep_ends_where_each_simulation_ends(seed):
    case = Case(seed, rows=400)
    plain = {name: case.options[name] for name in ("half_spread", "volatility")}
    targets = np.stack([case.decisions["target"], -case.decisions["target"]])
    found = sweep(
        case.bars, [targets], case.settings, stop=case.decisions["stop"], take=case.decisions["take"], **plain
    )
    for row, target in enumerate(targets):
        decisions = case.decisions[["stop", "take"]].assign(target=target)
        one = simulate(case.bars, decisions, case.settings, **plain)
        assert found["equity"][row] == one.equity.iloc[-1]
        assert found["fills"][row] == len(one.fills)
        assert found["commission"][row] == pytest.approx(one.fills["commission"].sum(), abs=1e-6)
        path = np.r_[case.settings.capital, one.equity]
        assert found["mean"][row] == pytest.approx(np.diff(path).mean(), abs=1e-6)
        assert found["deviation"][row] == pytest.approx(np.diff(path).std(), rel=1e-6, abs=1e-6)
        highest = np.maximum.accumulate(path)
        assert found["drawdown"][row] == pytest.approx(((highest - path) / highest).max(), rel=1e-9)


def one_trade(bars, decisions, **settings):
    found = simulate(bars, decisions, SimulationSettings(capital=10_000.0, **settings))
    return found, found.trades.iloc[0]


def test_the_entry_bar_can_be_stopped_and_a_stop_beats_a_target():
    bars = example_bars(100, 100, 104)
    decisions = pd.DataFrame({"target": [1.0], "stop": [99.0], "take": [101.0]}, index=bars.index[:1])
    found, trade = one_trade(bars, decisions)
    assert (trade["reason"], trade["exit_price"]) == ("stop", 99.0)
    assert trade["entry_at"] == trade["exit_at"] == bars.index[1]
    assert found.equity.iloc[-1] == 9_999.0


def test_a_gap_over_the_stop_is_paid_and_a_gap_over_the_target_is_had():
    bars = example_bars(100, 100, 100, 100)
    bars.iloc[2, :4] = [90.0, 91.0, 89.0, 90.0]
    decisions = pd.DataFrame({"target": [1.0], "stop": [95.0]}, index=bars.index[:1])
    assert one_trade(bars, decisions)[1]["exit_price"] == 90.0
    bars.iloc[2, :4] = [120.0, 121.0, 80.0, 120.0]
    decisions = pd.DataFrame({"target": [1.0], "stop": [95.0], "take": [110.0]}, index=bars.index[:1])
    assert one_trade(bars, decisions)[1]["exit_price"] == 120.0


def test_costs_are_paid_on_both_sides_of_a_short():
    bars = example_bars(100, 100, 90, 90)
    decisions = pd.DataFrame({"target": [-10.0, 0.0]}, index=bars.index[[0, 2]])
    costs = {"slippage": FixedSlippage(bps=10), "commission": Commission(taker_bps=10)}
    found = simulate(bars, decisions, SimulationSettings(capital=10_000.0, **costs), half_spread=0.1, short_rate=1e-3)
    assert found.fills["price"].tolist() == pytest.approx([99.8, 90.19])
    trade = found.trades.iloc[0]
    assert trade["gross"] == pytest.approx(10 * (99.8 - 90.19))
    assert trade["commission"] == pytest.approx(round(0.998, 2) + round(0.9019, 2))
    assert trade["slippage"] == pytest.approx(10 * 0.2 + 10 * 0.19)
    # Held into two bars, at the closes 100 and 90.
    assert trade["financing"] == pytest.approx(1.0 + 0.9)
    assert trade["net"] == pytest.approx(found.equity.iloc[-1] - 10_000.0)


def test_a_thin_market_fills_in_parts_and_the_rest_is_carried_or_expires():
    bars = example_bars(100, 100, 100, 100).assign(volume=10.0)
    decisions = pd.DataFrame({"target": [5.0]}, index=bars.index[:1])
    thin = {"slippage": FixedSlippage(volume_limit=0.25), "lot": 1.0}
    found, _ = one_trade(bars, decisions, **thin)
    assert found.fills["quantity"].tolist() == [2.0, 2.0, 1.0]
    assert found.orders["status"].tolist() == ["filled"]
    found, _ = one_trade(bars, decisions, bars_in_force=2, **thin)
    assert found.fills["quantity"].tolist() == [2.0, 2.0]
    assert found.orders["status"].tolist() == ["expired"]


def test_latency_is_a_later_bar_and_orders_arrive_in_the_order_in_which_they_left():
    bars = example_bars(100, 101, 102, 103, 104)
    decisions = pd.DataFrame({"target": [1.0, 3.0]}, index=bars.index[:2])
    hour = 3_600_000_000_000
    for late, times in ((0, [1, 2]), (1, [2, 3]), (hour, [2, 3]), (np.array([2 * hour, 0, 0, 0, 0]), [3])):
        fills = simulate(bars, decisions, latency=late).fills
        assert bars.index.get_indexer(fills["ts"]).tolist() == times
        assert fills["quantity"].sum() == 3.0


def test_want_of_margin_refuses_an_order_but_never_a_smaller_position():
    bars = example_bars(100, 100, 100, 100, 100)
    decisions = pd.DataFrame({"target": [150.0, 300.0, 0.0]}, index=bars.index[[0, 1, 2]])
    found, _ = one_trade(bars, decisions, margin=0.5)
    assert found.orders["status"].tolist() == ["filled", "rejected", "filled"]


def test_bars_without_prices_trade_nothing():
    bars = example_bars(100, 100, 100)
    bars[["open", "high", "low", "close"]] = np.nan
    found = simulate(bars, pd.DataFrame({"target": [1.0]}, index=bars.index[:1]))
    assert found.fills.empty
    assert found.trades.empty
    assert (found.equity == 100_000.0).all()


def test_no_bars_and_no_decisions():
    bars = example_bars(100, 100)
    none = pd.DataFrame({"target": []}, index=bars.index[:0], dtype=float)
    assert simulate(bars.iloc[:0], none).equity.empty
    assert (simulate(bars, none).equity == 100_000.0).all()


def test_the_log_grows_under_orders_that_wait():
    bars = example_bars(*([100.0] * 400))
    decisions = pd.DataFrame({"target": np.arange(400.0) % 7}, index=bars.index)
    late = np.zeros(400, np.int64)
    late[0] = 300 * 3_600_000_000_000
    found = simulate(bars, decisions, latency=late)
    assert len(found.orders) > 300
    # All that waited arrives at once and the last of it counts; from then on one a bar.
    assert len(found.fills) == 99


def test_an_average_cross_on_real_bars_earns_its_costs_less():
    bars = eurusd().head(2_000)
    fast, slow = bars["close"].rolling(10).mean(), bars["close"].rolling(50).mean()
    decisions = positions_to_decisions(np.sign(fast - slow).fillna(0.0) * 10_000)
    free = simulate(bars, decisions)
    paid = simulate(bars, decisions, SimulationSettings(commission=Commission(taker_bps=0.5)), half_spread=5e-5)
    assert len(free.trades) == len(paid.trades) > 20
    cost = free.equity.iloc[-1] - paid.equity.iloc[-1]
    assert cost == pytest.approx(paid.trades["commission"].sum() + paid.trades["slippage"].sum(), abs=0.005)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bars, decisions: (bars.drop(columns="volume"), decisions), "volume"),
        (lambda bars, decisions: (bars.iloc[::-1], decisions), "order of time"),
        (lambda bars, decisions: (bars, decisions.rename(columns={"target": "wanted"})), "target"),
        (lambda bars, decisions: (bars, decisions.assign(colour=1.0)), "colour"),
        (lambda bars, decisions: (bars, decisions.shift(freq="1min")), "no bar's"),
        (lambda bars, decisions: (bars, pd.concat([decisions, decisions])), "twice"),
        (lambda bars, decisions: (bars, decisions * np.inf), "infinite"),
        (lambda bars, decisions: (bars.tz_localize(None), decisions.tz_localize(None)), "zone"),
    ],
)
def test_wrong_input_is_refused(change, message):
    bars = example_bars(100, 101, 102)
    with pytest.raises(DataError, match=message):
        simulate(*change(bars, pd.DataFrame({"target": [1.0]}, index=bars.index[:1])))


def test_arrays_of_a_wrong_length_are_refused():
    bars = example_bars(100, 101, 102)
    decisions = pd.DataFrame({"target": [1.0]}, index=bars.index[:1])
    for wrong in ({"half_spread": [1.0, 2.0]}, {"half_spread": -1.0}, {"latency": [1, 2]}, {"latency": -1}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            simulate(bars, decisions, **wrong)
    with pytest.raises(DataError, match="block"):
        sweep(bars, [np.zeros(3)])


def test_entries_on_both_sides_at_once_are_refused():
    yes, no = pd.Series([True]), pd.Series([False])
    assert entries_to_decisions(no, no, yes)["target"].tolist() == [-1.0]
    with pytest.raises(DataError, match="long and short"):
        entries_to_decisions(yes, no, yes)
