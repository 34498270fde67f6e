from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.evaluation.annual_periods import annual_periods
from tapeline.evaluation.return_statistics import (
    bootstrap_statistics,
    drawdown_table,
    equity_returns,
    equity_statistics,
    return_statistics,
)
from tapeline.sources.base import BarRequest
from tapeline.sources.sample import SampleSource
from tests.evaluation.empyrical_answers import seeded_returns

PEER = json.loads(Path(__file__).with_name("empyrical_answers.json").read_text())


def index_returns() -> pd.DataFrame:
    """Daily returns of the two share indices of the packaged sample."""
    closes = {
        name: SampleSource().fetch(BarRequest(Symbol.parse(name), Timeframe.parse("D1"))).bars["close"]
        for name in ("NASDAQ", "SP500")
    }
    return pd.DataFrame(closes).dropna().pct_change().iloc[1:]


def case(name: str):
    if name != "indices":
        return seeded_returns()[name]
    real = index_returns()
    return real["NASDAQ"].to_numpy(), real["SP500"].to_numpy(), 252.0


@pytest.mark.parametrize("name", list(PEER["answers"]))
def test_figures_agree_with_empyrical(name: str) -> None:
    returns, benchmark, year = case(name)
    found = return_statistics(returns, year, benchmark=benchmark, risk_free=1e-5, required=2e-5)
    assert PEER["version"] == "0.7.1"
    assert len(PEER["answers"][name]) == 20
    for figure, value in PEER["answers"][name].items():
        assert getattr(found, figure) == pytest.approx(value, rel=1e-9, abs=1e-9), figure


def plain_drawdowns(levels: list[float]) -> list[tuple[int, int, int, float]]:
    """Peak, trough, recovery and depth of each fall, slowly."""
    found, row = [], 0
    while row + 1 < len(levels):
        if levels[row + 1] >= levels[row]:
            row += 1
            continue
        back = next((k for k in range(row + 1, len(levels)) if levels[k] >= levels[row]), None)
        inside = range(row + 1, len(levels) if back is None else back)
        trough = max(inside, key=lambda k: 1 - levels[k] / levels[row])
        found.append((row, trough, -1 if back is None else back, 1 - levels[trough] / levels[row]))
        row = len(levels) if back is None else back
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_drawdowns_are_those_found_slowly(levels: list[int]) -> None:
    times = pd.date_range("2024-01-01", periods=len(levels), freq="1h", tz="UTC")
    plain = plain_drawdowns([6.0, *map(float, levels)])
    found = drawdown_table(pd.Series(levels, times, dtype=float), 6.0, count=100)
    order = sorted(range(len(plain)), key=lambda k: -plain[k][3])
    assert found["depth"].tolist() == [plain[k][3] for k in order]
    assert found["periods_down"].tolist() == [plain[k][1] - plain[k][0] for k in order]
    assert found["periods_up"].tolist() == [-1 if plain[k][2] < 0 else plain[k][2] - plain[k][1] for k in order]
    assert found["trough"].tolist() == [times[plain[k][1] - 1] for k in order]
    assert found["end"].isna().tolist() == [plain[k][2] < 0 for k in order]
    whole = equity_statistics(pd.Series(levels, times, dtype=float), 6.0, calendar=100)
    below = sum((len(levels) + 1 if back < 0 else back) - peak - 1 for peak, _, back, _ in plain)
    assert whole.maximum_drawdown == pytest.approx(max([depth for *_, depth in plain], default=0.0), abs=1e-12)
    assert whole.time_in_drawdown == pytest.approx(below / len(levels))


def test_a_sharpe_ratio_of_independent_returns_errs_as_lo_says() -> None:
    # Lo 2002, table 1: standard errors of the estimator for monthly returns, 12, 60 and 120 observations at ratio 0.5.
    draw = np.random.default_rng(0)
    for length, published in ((12, 0.306), (60, 0.137), (120, 0.097)):
        returns = draw.normal(0, 1, length)
        returns = 0.01 * ((returns - returns.mean()) / returns.std(ddof=1) + 0.5)
        found = return_statistics(returns, 1)
        assert found.sharpe == pytest.approx(0.5)
        assert found.sharpe_error == pytest.approx(published, abs=6e-4)


def test_both_errors_are_those_of_repeated_samples_and_dependence_is_seen_by_one() -> None:
    draw = np.random.default_rng(1)
    noise = draw.normal(0.05, 1, (400, 1_001)) * 0.01
    alone = [return_statistics(row[1:], 1) for row in noise]
    linked = [return_statistics(row[1:] + 0.6 * row[:-1], 1) for row in noise]
    for found, robust_only in ((alone, False), (linked, True)):
        spread = float(np.std([one.sharpe for one in found], ddof=1))
        assert np.mean([one.sharpe_error_robust for one in found]) == pytest.approx(spread, rel=0.12)
        plain = float(np.mean([one.sharpe_error for one in found]))
        assert (plain < 0.8 * spread) if robust_only else plain == pytest.approx(spread, rel=0.12)


def test_a_year_is_stated_and_never_assumed() -> None:
    minutes = pd.date_range("2024-01-01", periods=525_600 // 2, freq="1min", tz="UTC")
    assert annual_periods(minutes, "crypto").per_year == 525_600
    assert annual_periods(minutes).per_year == pytest.approx(365.2425 * 1440)
    days = pd.bdate_range("2020-01-01", periods=1_000, tz="UTC")
    assert annual_periods(days, "stocks").per_year == 252
    assert annual_periods(days).per_year == pytest.approx(261, abs=1)
    sessions = days[:20].repeat(7) + pd.to_timedelta(np.tile(np.arange(14, 21), 20), unit="h")
    assert annual_periods(sessions, "stocks") == (252 * 7, "252 sessions of 7 periods")
    assert "too short" in annual_periods(sessions).basis
    assert annual_periods(sessions, 52).basis == "given"
    with pytest.raises(ConfigurationError, match="longer than a session"):
        annual_periods(days[::5], "stocks")
    with pytest.raises(ConfigurationError, match="'forex' is unknown"):
        annual_periods(days, "forex")
    with pytest.raises(ConfigurationError, match="not above 0"):
        annual_periods(days, 0)
    with pytest.raises(DataError, match="not after the one before"):
        annual_periods(days[::-1])


def test_the_real_indices_have_their_known_worst_days() -> None:
    real = index_returns()
    prices = (1 + real["SP500"]).cumprod()
    table = drawdown_table(prices, 1.0, count=2)
    # From 9 October 2007 to 9 March 2009, 56.8 percent; before it the fall of 2000 to 2002, 49.1 percent.
    assert table["depth"].round(3).tolist() == [0.568, 0.491]
    assert table["trough"].dt.strftime("%Y-%m-%d").tolist() == ["2009-03-09", "2002-10-09"]
    assert table["start"].dt.strftime("%Y-%m-%d").tolist() == ["2007-10-09", "2000-03-24"]
    assert annual_periods(pd.DatetimeIndex(real.index)).per_year == pytest.approx(252, abs=1)


def test_an_account_without_equity_returns_nothing_more() -> None:
    returns, ruined = equity_returns([50.0, -1.0, 30.0], 100.0)
    assert (returns.tolist(), ruined) == ([-0.5, -1.0, 0.0], True)
    times = pd.date_range("2024-01-01", periods=3, freq="1D", tz="UTC")
    found = equity_statistics(pd.Series([50.0, -1.0, 30.0], times), 100.0, calendar=252)
    assert found.ruined
    assert (found.total_return, found.annual_return, found.maximum_drawdown) == (-1.0, -1.0, 1.0)
    assert math.isnan(found.stability)


def test_an_account_that_does_nothing_has_no_ratios() -> None:
    found = return_statistics(np.zeros(50), 252, benchmark=np.zeros(50))
    assert (found.total_return, found.annual_volatility, found.maximum_drawdown, found.idle) == (0, 0, 0, 1)
    for name in ("sharpe", "sharpe_error", "sharpe_error_robust", "sortino", "calmar", "omega", "skewness", "beta"):
        assert math.isnan(getattr(found, name)), name
    steady = return_statistics(np.full(50, 0.001), 252)
    assert math.isnan(steady.sharpe)
    assert steady.annual_volatility == 0


def test_exposure_and_turnover_count_what_was_held_and_traded() -> None:
    times = pd.date_range("2024-01-01", periods=4, freq="1D", tz="UTC")
    equity = pd.Series([100.0, 110.0, 90.0, 100.0], times)
    found = equity_statistics(equity, 100.0, calendar=4, position=[0, 5, -5, 0], traded=300.0, benchmark=equity)
    assert (found.exposure, found.turnover) == (0.5, 3.0)
    assert found.beta == pytest.approx(1.0)
    with pytest.raises(DataError, match="another index"):
        equity_statistics(equity, 100.0, calendar=4, benchmark=equity.iloc[1:])


@pytest.mark.parametrize("bad", [[], [0.1, math.nan], [0.1, math.inf], [-1.5], [[0.1, 0.2]]])
def test_returns_that_are_none_are_refused(bad) -> None:
    with pytest.raises(DataError, match="returns h"):
        return_statistics(bad, 252)
    with pytest.raises(DataError, match=r"benchmark h"):
        return_statistics([0.1, 0.2], 252, benchmark=bad)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draw = np.random.default_rng(3)
    held = 0
    for seed in range(100):
        returns = draw.normal(0.001, 0.01, 250)
        found = bootstrap_statistics(returns, 1, mean_block=5, samples=200, confidence=0.9, seed=seed)
        held += found.loc["sharpe", "low"] <= 0.1 <= found.loc["sharpe", "high"]
        assert (found["low"] <= found["high"]).all()
    assert 80 <= held <= 97
    again = [bootstrap_statistics(returns, 1, samples=20, seed=1) for _ in range(2)]
    pd.testing.assert_frame_equal(*again)
    with pytest.raises(ConfigurationError, match="mean_block = 0"):
        bootstrap_statistics(returns, 1, mean_block=0)
