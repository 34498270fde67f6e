from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.strategy.cost_ladder import RUNGS, charged_settings, cost_ladder, equity_of, portfolio_run, simulation_run
from tapeline.strategy.costs import Commission
from tapeline.strategy.portfolio import simulate_portfolio
from tapeline.strategy.portfolio_account import PortfolioSettings, SymbolTerms
from tapeline.strategy.simulator import SimulationSettings, simulate
from tapeline.strategy.slippage import FixedSlippage, SquareRootSlippage
from tapeline.strategy.trade_analysis import account_trades, positions
from tapeline.strategy.trade_attribution import attribution, entry_decisions, trade_keys
from tests.strategy.cases import Case
from tests.support import make_bars

SETTINGS = SimulationSettings(commission=Commission(taker_bps=1.0), slippage=FixedSlippage(bps=2.0, spread_share=0.5))
COSTS = {"half_spread": 1e-4, "long_rate": 1e-5, "short_rate": 2e-5, "latency": 90 * 60_000_000_000}


@pytest.fixture(scope="module")
def traded():
    bars = make_bars(400)
    target = pd.Series(np.nan, bars.index)
    target.iloc[5::20] = 10_000.0
    target.iloc[15::20] = -10_000.0
    return bars, pd.DataFrame({"target": target})


def test_the_last_rung_is_the_plain_simulation(traded) -> None:
    bars, decisions = traded
    plain = simulate(bars, decisions, SETTINGS, **COSTS)
    found = cost_ladder(simulation_run(bars, decisions, SETTINGS, **COSTS), SETTINGS.capital)
    pd.testing.assert_series_equal(found.last.equity, plain.equity, check_exact=True)
    pd.testing.assert_frame_equal(found.last.trades, plain.trades, check_exact=True)
    assert found.table["net"].iloc[-1] == plain.equity.iloc[-1] - SETTINGS.capital


def test_each_rung_takes_what_its_cost_is(traded) -> None:
    bars, decisions = traded
    found = cost_ladder(simulation_run(bars, decisions, SETTINGS, **COSTS), SETTINGS.capital)
    table = found.table.set_index("rung")
    assert list(table.index) == list(RUNGS)
    # By hand from the fills of a run: prices of the first rung are those of the market.
    free = simulate(bars, decisions, SimulationSettings())
    assert table.loc["no cost", "net"] == pytest.approx(free.equity.iloc[-1] - SETTINGS.capital, abs=1e-9)
    charged = simulate(bars, decisions, SETTINGS, **{**COSTS, "latency": ()})
    units = charged.fills["quantity"].abs()
    reference = charged.fills["reference"]
    spread = float((units * 0.5 * COSTS["half_spread"]).sum())
    slippage = float((units * reference * 2e-4).sum())
    assert table.loc["+ spread", "taken"] == pytest.approx(spread, rel=1e-3)
    assert table.loc["+ slippage", "taken"] == pytest.approx(slippage, rel=1e-3)
    fees = charged.fills["commission"].sum() + charged.trades["financing"].sum()
    assert table.loc["+ fees", "taken"] == pytest.approx(fees, rel=1e-3)
    assert table["taken"].iloc[1:].sum() == pytest.approx(table["net"].iloc[0] - table["net"].iloc[-1], abs=1e-8)
    assert (found.equity.iloc[-1] - SETTINGS.capital).tolist() == table["net"].tolist()


def test_rules_stay_on_every_rung_and_costs_do_not() -> None:
    settings = SimulationSettings(
        lot=5.0,
        margin=0.5,
        slippage=SquareRootSlippage(volume_limit=0.2, spread_share=0.3),
        commission=Commission(per_unit=0.1, multiplier=50.0, currency="EUR"),
    )
    free = charged_settings(settings, RUNGS["no cost"])
    assert (free.lot, free.margin, free.slippage) == (5.0, 0.5, FixedSlippage(volume_limit=0.2, spread_share=0.3))
    assert free.commission == Commission(multiplier=50.0, currency="EUR")
    assert charged_settings(settings, RUNGS["+ spread"]).commission == settings.commission
    assert charged_settings(settings, RUNGS["+ delay"]) is settings


@pytest.mark.parametrize("seed", range(6))
def test_the_last_rung_of_random_cases_is_the_plain_simulation(seed: int) -> None:
    case = Case(seed)
    options = {**case.options, "latency": case.latency}
    found = simulation_run(case.bars, case.decisions, case.settings, **options)(RUNGS["+ delay"])
    plain = simulate(case.bars, case.decisions, case.settings, **options)
    pd.testing.assert_series_equal(found.equity, plain.equity, check_exact=True)


def test_any_account_can_climb() -> None:
    times = pd.date_range("2024-01-01", periods=4, freq="1D", tz="UTC", name="ts")
    asked = []

    def run(charges):
        asked.append(charges)
        equity = pd.DataFrame({"ts": times, "equity": 100.0 - np.arange(4.0) * sum(charges), "cash": 0.0})
        return SimpleNamespace(equity=equity, fills=pd.DataFrame(index=range(3)), trades=pd.DataFrame(index=range(2)))

    found = cost_ladder(run, 100.0, calendar=365)
    assert asked == list(RUNGS.values())
    assert found.table["net"].tolist() == [0.0, -3.0, -6.0, -9.0, -12.0]
    assert found.table[["trades", "fills"]].to_numpy().tolist() == [[2, 3]] * 5
    with pytest.raises(DataError, match="none named 'equity'"):
        equity_of(SimpleNamespace(equity=pd.DataFrame({"cash": [1.0]})))


def test_a_portfolio_climbs_as_its_symbols_do(traded) -> None:
    bars, decisions = traded
    both, wanted = {"A": bars, "B": make_bars(400, seed=1)}, {"A": decisions, "B": decisions}
    terms = SymbolTerms(commission=SETTINGS.commission, slippage=SETTINGS.slippage)
    settings = PortfolioSettings(terms=terms, symbols={"B": terms})
    found = cost_ladder(portfolio_run(both, wanted, settings, **COSTS), settings.capital)
    alone = [
        cost_ladder(simulation_run(frame, decisions, SETTINGS, **COSTS), settings.capital) for frame in both.values()
    ]
    assert found.table["net"].tolist() == pytest.approx((alone[0].table["net"] + alone[1].table["net"]).tolist())
    plain = simulate_portfolio(both, wanted, settings, **COSTS)
    pd.testing.assert_frame_equal(found.last.equity, plain.equity, check_exact=True)
    trades = account_trades(found.last)
    assert math.fsum(trades["net"]) == pytest.approx(found.table["net"].iloc[-1], abs=0.005)
    by_symbol = attribution(trades, trade_keys(trades)["symbol"], samples=20)
    assert by_symbol["net"].tolist() == pytest.approx([one.table["net"].iloc[-1] for one in alone])
    decided = entry_decisions(found.last, found.last.orders)
    assert (decided < found.last.trades["entry_at"]).all()
    held = positions(found.last)
    assert set(np.round(held)) == {0.0, 20_000.0}
