"""Backtests: the account agrees with the simulator and with its own fills, and a run is known by its content."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.account_tables import ACCOUNT_TABLES, DECISIONS, EQUITY, FILLS, ORDERS, SIGNALS, TRADES
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.lake.content import content_hash
from tapeline.strategy.backtest import ACCOUNT, BacktestResult, cost_sentences, run_backtest
from tapeline.strategy.costs import ExchangeRates
from tapeline.strategy.financing import Financing
from tapeline.strategy.portfolio_report import reconcile
from tapeline.strategy.signal_sources import Surroundings
from tapeline.strategy.simulator import SimulationSettings, simulate
from tapeline.strategy.strategy import Strategy, parse_strategy
from tapeline.strategy.strategy_decisions import decide
from tests.core.samples import eurusd
from tests.support import make_bars

H1 = Timeframe.parse("H1")
TABLES = {
    "name": "mine",
    "signals": {"source": "moving_average_cross", "fast": 5, "slow": 20},
    "sizing": {"method": "fixed_fraction", "share": 0.01},
    "protection": {"initial": {"kind": "atr", "value": 2}, "trailing": {"kind": "chandelier", "window": 10}},
    "costs": {"half_spread_bps": 1},
    "terms": {"commission": {"taker_bps": 0.5}, "slippage": {"kind": "fixed", "bps": 0.3}},
}
BARS = make_bars(800, seed=8)


def strategy(**tables) -> Strategy:
    return parse_strategy({**TABLES, **tables})


@pytest.fixture(scope="module")
def ran() -> BacktestResult:
    return run_backtest(strategy(), {"EURUSD": BARS}, H1, calendar="crypto")


def test_one_symbol_is_the_simulators_account_to_the_last_bit(ran: BacktestResult):
    terms = ran.settings.terms_of("EURUSD")
    plain = simulate(
        BARS,
        decide(strategy(), BARS, Surroundings("EURUSD", H1)).decisions,
        SimulationSettings(commission=terms.commission, slippage=terms.slippage, protect_by_distance=True),
        half_spread=BARS["open"].to_numpy() * 1e-4,
    )
    assert ran.simulation.equity["equity"].tolist() == plain.equity.tolist()
    assert ran.simulation.fills["price"].tolist() == plain.fills["price"].tolist()
    assert len(plain.trades) > 20
    assert {"stop"} <= set(plain.fills["reason"].astype(str))


def test_each_rung_costs_what_it_is_named_after(ran: BacktestResult):
    table = ran.ladder.table.set_index("rung")
    fills = ran.simulation.fills
    assert (table["taken"].dropna().iloc[:3] > 0).all()
    assert table["taken"]["+ delay"] == 0
    paid = (fills["quantity"].abs() * fills["price"] * 0.5e-4).sum()
    assert fills["commission"].sum() == pytest.approx(paid, abs=0.01 * len(fills))
    assert table["net"].iloc[-1] == pytest.approx(ran.statistics.total_return * 100_000)
    assert ran.trades["net"] == pytest.approx(table["net"].iloc[-1])


def test_late_orders_fill_at_later_opens(ran: BacktestResult):
    late = run_backtest(strategy(costs={"half_spread_bps": 1, "latency": {"median_ms": 1}}), {"EURUSD": BARS}, H1)
    first = [one.simulation.fills["ts"].iloc[0] for one in (ran, late)]
    # A millisecond after the close the next open has passed.
    assert first[1] - first[0] == pd.Timedelta("1h")
    assert late.ladder.table["net"].iloc[3] != late.ladder.table["net"].iloc[4]


def test_holding_is_charged_where_the_file_says_so(ran: BacktestResult):
    nights = {"half_spread_bps": 1, "financing": {"EURUSD": {"swap_long": -1e-4, "swap_short": -2e-4}}}
    found = run_backtest(strategy(costs=nights), {"EURUSD": BARS}, H1)
    assert found.simulation.fills["price"].tolist() == ran.simulation.fills["price"].tolist()
    opens = pd.DatetimeIndex(BARS.index)
    carried = np.r_[0.0, ran.simulation.positions["quantity"].to_numpy()[:-1]]
    night = nights["financing"]["EURUSD"]
    charge = np.where(carried > 0, -night["swap_long"], -night["swap_short"]) * np.abs(carried)
    paid = (charge * Financing().carry(opens).nights).sum()
    assert paid > 100
    lost = ran.simulation.equity["equity"].iloc[-1] - found.simulation.equity["equity"].iloc[-1]
    assert lost == pytest.approx(paid, rel=1e-9)
    assert found.ladder.table["taken"].iloc[1] == pytest.approx(paid + ran.ladder.table["taken"].iloc[1], rel=1e-6)


def test_a_run_is_known_by_what_it_is_made_of(ran: BacktestResult):
    again = run_backtest(strategy(), {"EURUSD": BARS.copy()}, H1)
    assert again.run == ran.run
    moved = BARS.copy()
    moved.iloc[700, moved.columns.get_loc("close")] *= 1.0001
    others = [
        run_backtest(strategy(), {"EURUSD": moved}, H1),
        run_backtest(strategy(), {"GBPUSD": BARS}, H1),
        run_backtest(strategy(), {"EURUSD": BARS}, H1, capital=5e4),
        run_backtest(strategy(costs={"half_spread_bps": 2}), {"EURUSD": BARS}, H1),
    ]
    assert len({ran.run, *(one.run for one in others)}) == 5


def test_the_rows_fit_their_tables_and_repeat(ran: BacktestResult):
    tables = ran.tables()
    assert list(tables) == ["EURUSD", str(ACCOUNT)]
    rows = {spec.path: spec.to_arrow(frame) for made in tables.values() for spec, frame in made}
    assert set(rows) == {spec.path for spec in ACCOUNT_TABLES}
    assert rows[EQUITY.path].num_rows == len(BARS)
    assert rows[FILLS.path].num_rows == len(ran.simulation.fills)
    assert rows[SIGNALS.path].num_rows >= rows[TRADES.path].num_rows > 20
    assert rows[DECISIONS.path].num_rows > rows[ORDERS.path].num_rows / 2
    assert {run for table in rows.values() for run in table["run"].to_pylist()} == {ran.run}
    again = run_backtest(strategy(), {"EURUSD": BARS}, H1).tables()
    for name, made in tables.items():
        for (spec, mine), (_, theirs) in zip(made, again[name], strict=True):
            assert content_hash(spec.to_arrow(mine)) == content_hash(spec.to_arrow(theirs)), spec.path


def test_many_symbols_share_one_account_in_its_currency():
    yen = BARS.assign(**{name: BARS[name] * 100 for name in ("open", "high", "low", "close")})
    bars = {"EURUSD": make_bars(800, seed=9), "USDJPY": yen}
    # The rate is known an hour before the first close.
    known = pd.DatetimeIndex(yen["close_ts"]) - pd.Timedelta("1h")
    rates = ExchangeRates({"USDJPY": pd.Series(yen["close"].to_numpy(), known)})
    one = strategy(account={"currency": "USD", "hedging": True}, risk={"gross_leverage": 1.0})
    found = run_backtest(one, bars, H1, rates=rates)
    reconcile(found.simulation)
    fills = found.simulation.fills
    assert set(fills["symbol"]) == {"EURUSD", "USDJPY"}
    assert set(fills["tag"]) == {"mine"}
    assert fills.loc[fills["symbol"] == "USDJPY", "rate"].between(0.005, 0.02).all()
    entries = found.decided["USDJPY"].steps.query("reason == 'entry'")
    risked = entries["units"] * entries["stop_distance"] * entries["rate"]
    assert np.allclose(risked, 1000)
    assert found.refusals["reason"].tolist() == ["gross_leverage"]
    assert found.simulation.equity["gross"].max() < 1.2 * found.simulation.equity["equity"].max()
    held = 50_000 * bars["EURUSD"]["close"].iloc[-1] / bars["EURUSD"]["close"].iloc[0]
    held += 50_000 * yen["close"].iloc[-1] / yen["close"].iloc[0]
    assert found.benchmark.total_return == pytest.approx(held / 100_000 - 1)
    rows = found.tables()
    assert sum(len(frame) for name in bars for spec, frame in rows[name] if spec is FILLS) == len(fills)
    with pytest.raises(ConfigurationError, match="JPY"):
        run_backtest(one, bars, H1)


def test_the_verdict_says_trials_and_sample(ran: BacktestResult):
    plain = ran.verdict()
    assert "take it as in sample" in plain
    assert "one configuration was tried" in plain
    told = ran.verdict(trials=12, sample="out of sample")
    assert "Out of sample" in told
    assert "12 configurations were tried" in told
    net = ran.ladder.table["net"].iloc[-1]
    assert f"net {net:+,.0f} USD" in told


def test_costs_are_told_in_words(ran: BacktestResult):
    told = cost_sentences(ran.strategy, ran.symbols, ran.settings)
    assert told[0] == "Commission 0.5 bp taker, 0 bp maker (USD); half spread 1 bp of the open; slippage 0.3 bp."
    assert told[2] == "Holding a position costs nothing."
    late = strategy(costs={"latency": {"kind": "lognormal", "median_ms": 5, "sigma": 1, "seed": 3}})
    assert "delay of kind 'lognormal', seed 3" in cost_sentences(late, ("EURUSD",), ran.settings)[1]


def test_real_hours_reconcile_and_the_free_rung_is_the_best():
    bars = eurusd()
    bars = bars if "close_ts" in bars else bars.assign(close_ts=H1.closes(pd.DatetimeIndex(bars.index)))
    found = run_backtest(strategy(), {"EURUSD": bars}, H1)
    assert len(found.simulation.trades) > 100
    assert found.ladder.table["net"].idxmax() == 0
    assert found.signals["signals"].sum() == len(found.decided["EURUSD"].signals)


def test_without_bars_there_is_nothing_to_test():
    with pytest.raises(DataError, match="there are no bars"):
        run_backtest(strategy(), {}, H1)
