from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation import return_plots
from tapeline.strategy.cost_ladder import cost_ladder, portfolio_run, simulation_run
from tapeline.strategy.costs import Commission
from tapeline.strategy.portfolio_account import PortfolioSettings, SymbolTerms
from tapeline.strategy.simulator import SimulationSettings
from tapeline.strategy.tear_sheet import (
    TearSheet,
    buy_and_hold,
    daily_returns,
    monthly_table,
    render_tear_sheet,
    write_tear_sheet,
)
from tapeline.strategy.trade_analysis import stop_scenarios
from tests.support import make_bars

HOSTILE = "<script>alert(1)</script> $x_{1}$ \"'&"
SETTINGS = SimulationSettings(commission=Commission(taker_bps=1.0), protect_by_distance=True)


@pytest.fixture(scope="module")
def sheet() -> TearSheet:
    bars = make_bars(2_000)
    target = pd.Series(np.nan, bars.index)
    target.iloc[5::20] = 20_000.0
    target.iloc[15::20] = -20_000.0
    decisions = pd.DataFrame({"target": target, "stop": 0.004})
    ladder = cost_ladder(simulation_run(bars, decisions, SETTINGS, half_spread=1e-4), SETTINGS.capital)
    return TearSheet(
        title=HOSTILE,
        symbol=HOSTILE,
        timeframe="H1",
        account=ladder.last,
        capital=SETTINGS.capital,
        bars=bars,
        ladder=ladder,
        costs=["Commission 1 bp", HOSTILE],
        trials=40,
        sample="in sample",
        currency="EUR",
        tags=[HOSTILE] * len(ladder.last.trades),
        regimes=pd.Series([HOSTILE], pd.DatetimeIndex([bars["close_ts"].iloc[500]])),
        stops=stop_scenarios(bars, decisions, SETTINGS, factors=(0.5, 1), half_spread=1e-4),
        facts={HOSTILE: HOSTILE},
    )


@pytest.fixture(scope="module")
def page(sheet: TearSheet) -> str:
    return render_tear_sheet(sheet)


def plain(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r'src="[^"]*"', "", page)))


def test_nothing_in_the_page_runs_or_is_fetched(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r'(src|href)\s*=\s*"(?!data:)', page)
    assert "url(" not in page
    assert page.count("data:image/svg+xml;base64,") == 7
    assert "default-src 'none'" in page


def test_the_page_says_what_the_tables_hold(sheet: TearSheet, page: str) -> None:
    text = plain(page)
    table = sheet.ladder.table
    for rung in table["rung"]:
        assert rung in text
    net = table["net"].iloc[-1]
    trades = sheet.account.trades
    verb = "made" if net > 0 else "lost"
    assert f"{len(trades)} trades {verb} {abs(net):,.0f} EUR after all costs" in text
    assert f"before costs {table['net'].iloc[0]:+,.0f}" in text
    assert "40 configurations were tried" in text
    assert "best of so many worthless ones" in text
    assert "In sample: what was traded was chosen on these same bars" in text
    assert "measured: 2,000 periods in" in text
    for word in (
        "By tag",
        "By regime",
        "By hour",
        "Implementation shortfall",
        "Stops nearer and farther",
        "Excursions",
    ):
        assert word in text
    assert "unknown" in text  # trades before the first regime was known
    assert "few trades" in text


@pytest.fixture(scope="module")
def idle() -> TearSheet:
    """An account that never traded, of which nothing was said that need not be."""
    bars = make_bars(50)
    none = pd.DataFrame({"target": [np.nan]}, index=bars.index[:1])
    ladder = cost_ladder(simulation_run(bars, none, SETTINGS), SETTINGS.capital)
    return TearSheet("idle", "EURUSD", "H1", ladder.last, SETTINGS.capital, bars, ladder, (), trials=1)


def test_what_was_not_said_is_taken_at_its_worst(idle: TearSheet, tmp_path) -> None:
    path = write_tear_sheet(idle, tmp_path / "new")
    assert path == (tmp_path / "new" / "tear_sheet.html").resolve()
    assert [found.name for found in path.parent.iterdir()] == ["tear_sheet.html"]
    text = plain(path.read_text())
    assert "It made no trade." in text
    assert "too few, or too equal" in text
    assert "take it as in sample" in text
    assert "None: this is a result before costs." in text
    assert "One configuration was tried." in text
    assert "By tag" not in text


def test_the_same_result_gives_the_same_bytes(sheet: TearSheet, monkeypatch) -> None:
    first, again = (return_plots.cost_steps(["no cost"], [1.0]) for _ in range(2))
    assert first == again
    # One picture stands for all, which are drawn by one function and cost most of a page's time.
    monkeypatch.setattr("tapeline.strategy.tear_sheet._pictures", lambda *_: [("picture", "data:")] * 7)
    assert render_tear_sheet(sheet) == render_tear_sheet(sheet)


def test_a_page_that_would_mislead_is_refused(idle: TearSheet) -> None:
    with pytest.raises(ConfigurationError, match="trials = 0"):
        render_tear_sheet(replace(idle, trials=0))
    with pytest.raises(ConfigurationError, match="sample 'hindsight'"):
        render_tear_sheet(replace(idle, sample="hindsight"))


def test_a_portfolio_has_a_page_and_its_symbols_a_table() -> None:
    bars = {"A": make_bars(300), "B": make_bars(300, seed=1)}
    wanted = {name: pd.DataFrame({"target": [5e3, -5e3, 0.0]}, index=bars[name].index[[5, 90, 200]]) for name in bars}
    settings = PortfolioSettings(terms=SymbolTerms(commission=Commission(taker_bps=1.0)))
    ladder = cost_ladder(portfolio_run(bars, wanted, settings), settings.capital)
    sheet = TearSheet("two", "A", "H1", ladder.last, settings.capital, bars["A"], ladder, ["1 bp"], trials=1)
    text = plain(render_tear_sheet(sheet))
    assert "By symbol" in text
    assert "4 trades" in text


def test_months_and_days_multiply_to_the_whole(sheet: TearSheet) -> None:
    equity = sheet.account.equity
    total = equity.iloc[-1] / sheet.capital
    months = monthly_table(equity, sheet.capital)
    assert np.nanprod(1 + months[list(range(1, 13))].to_numpy()) == pytest.approx(total)
    assert np.prod(1 + months["year"].to_numpy()) == pytest.approx(total)
    days = daily_returns(equity, sheet.capital)
    assert math.prod(1 + days) == pytest.approx(total)
    assert len(days) == equity.index.normalize().nunique()


def test_what_is_compared_with_stands_at_the_accounts_times() -> None:
    bars = make_bars(10)
    closes = pd.DatetimeIndex(bars["close_ts"])
    at_opens = buy_and_hold(bars, bars.index, 100.0)
    at_closes = buy_and_hold(bars, closes[2:], 100.0)
    assert at_opens.iloc[-1] == pytest.approx(100 * bars["close"].iloc[-1] / bars["close"].iloc[0])
    assert at_closes.iloc[-1] == pytest.approx(100 * bars["close"].iloc[-1] / bars["close"].iloc[2])
    with pytest.raises(DataError, match="no price above 0"):
        buy_and_hold(bars.assign(close=0.0), bars.index, 100.0)
