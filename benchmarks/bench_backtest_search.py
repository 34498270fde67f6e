"""What a search over a thousand sets of parameters costs, walk, probability of overfitting and deflation included."""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd

from benchmarks.harness import minute_bars, report
from tapeline.strategy.backtest_search import BacktestSearch, SearchPlan, search_backtest
from tapeline.strategy.costs import Commission
from tapeline.strategy.search_walk import statistic_of
from tapeline.strategy.simulator import SimulationSettings, simulate
from tapeline.strategy.slippage import FixedSlippage

ROWS, PEER_SETS = 100_000, 10
FAST, TIMES = range(5, 105, 2), range(2, 22)
PLAN = SearchPlan(windows=8, periods=480)
SETTINGS = SimulationSettings(
    commission=Commission(taker_bps=1.0), slippage=FixedSlippage(bps=0.5), protect_by_distance=True
)
HALF_SPREAD, STOP, TAKE = 1e-5, 0.003, 0.006


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    bars = minute_bars(ROWS, volatility=1e-4)
    search(bars.head(5_000), {"fast": [5, 9], "times": [2, 3]})
    started = time.process_time()
    found = search(bars, {"fast": list(FAST), "times": list(TIMES)})
    seconds = time.process_time() - started
    peer = one_by_one(bars, found) * len(found.sets) / PEER_SETS
    holds = seconds < 10.0 and peer > 2 * seconds
    report(
        f"search with walk-forward, PBO and deflated Sharpe ratio, {len(found.sets)} sets x {ROWS} bars",
        seconds,
        "cpu s",
        peer=f"a simulation and its equity by period for each set ({PEER_SETS} measured)",
        peer_value=peer,
        target="< 10 s, at least 2 times as fast",
        holds=holds,
    )
    return 0 if holds else 1


def decide(bars: pd.DataFrame, fast: int, times: int) -> pd.DataFrame:
    """One average above another, with a stop and a target."""
    sums = np.r_[0.0, np.cumsum(bars["close"].to_numpy())]
    slow = fast * times
    above = (sums[slow:] - sums[slow - fast : -fast]) * times > sums[slow:] - sums[:-slow]
    side = np.zeros(len(bars))
    side[slow - 1 :] = np.where(above, 100.0, -100.0)
    changes = np.diff(side, prepend=0.0) != 0.0
    return pd.DataFrame({"target": np.where(changes, side, np.nan), "stop": STOP, "take": TAKE})


def search(bars: pd.DataFrame, space: dict[str, list[int]]) -> BacktestSearch:
    return search_backtest(bars, decide, space, SETTINGS, PLAN, half_spread=HALF_SPREAD)


def one_by_one(bars: pd.DataFrame, found: BacktestSearch) -> float:
    """CPU seconds of the first sets, each simulated by itself; what they earn must be what the search says."""
    ends = np.linspace(0, len(bars), PLAN.periods + 1).round().astype(int)[1:] - 1
    started = time.process_time()
    returns = []
    for one in found.sets[["fast", "times"]].head(PEER_SETS).to_dict("records"):
        decisions = decide(bars, one["fast"], one["times"]).set_axis(bars.index)
        equity = simulate(bars, decisions, SETTINGS, half_spread=HALF_SPREAD).equity.to_numpy()
        returns.append(np.diff(equity[ends], prepend=SETTINGS.capital) / SETTINGS.capital)
    seconds = time.process_time() - started
    if not np.array_equal(np.column_stack(returns), found.returns.to_numpy()[:, :PEER_SETS]):
        raise AssertionError("search and simulations do not agree")
    if not np.allclose(statistic_of(np.column_stack(returns), "sharpe"), found.sets["sharpe"].head(PEER_SETS)):
        raise AssertionError("search and simulations do not agree")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
