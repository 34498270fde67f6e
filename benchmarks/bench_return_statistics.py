"""What the figures of a backtest cost: a million bars, from a simulation to all statistics; vectorbt is the peer."""

from __future__ import annotations

import math
import sys
import time

import pandas as pd

from benchmarks.bench_simulator import COSTS, SETTINGS, decisions_of
from benchmarks.harness import cpu_seconds, minute_bars, report
from benchmarks.simulator_peers import vectorbt_portfolio
from tapeline.evaluation.return_statistics import ReturnStatistics, drawdown_table, equity_statistics
from tapeline.strategy.simulator import Simulation, simulate
from tapeline.strategy.trade_analysis import excursions, holding_times, positions, trade_statistics, traded_value

ROWS = 1_000_000


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    bars = minute_bars(ROWS, volatility=1e-4)
    decisions = decisions_of(bars)[["target"]]
    found = simulate(bars, decisions, SETTINGS)
    seconds = cpu_seconds(lambda: all_statistics(bars, found), repeats=5)
    name = f"all statistics of {ROWS} bars and {len(found.trades)} trades"
    report(name, seconds, "cpu s", target="< 0.5 s", holds=seconds < 0.5)
    return 0 if seconds < 0.5 and against_vectorbt(bars, decisions, found, seconds) else 1


def all_statistics(bars: pd.DataFrame, found: Simulation) -> tuple[ReturnStatistics, pd.Series]:
    """Figures of returns with a benchmark, of trades with intervals, drawdowns, excursions and holding times."""
    figures = equity_statistics(
        found.equity,
        SETTINGS.capital,
        calendar="crypto",
        benchmark=bars["close"],
        position=positions(found),
        traded=traded_value(found.fills),
    )
    traded = trade_statistics(found.trades)
    drawdown_table(found.equity, SETTINGS.capital)
    excursions(found.trades)
    holding_times(found.trades, bars["close_ts"].iloc[-1])
    return figures, traded


def against_vectorbt(bars: pd.DataFrame, decisions: pd.DataFrame, found: Simulation, seconds: float) -> bool:
    """The peer's ``stats()`` of the same trades, of which six figures must be the same."""
    portfolio = vectorbt_portfolio(bars, decisions["target"].to_numpy()[:, None], stop=0.0, take=0.0, **COSTS)
    started = time.process_time()
    theirs = portfolio.stats(column=0, silence_warnings=True)
    taken = time.process_time() - started
    mine, _ = all_statistics(bars, found)
    pairs = {
        "Total Return [%]": 100 * mine.total_return,
        "Max Drawdown [%]": 100 * mine.maximum_drawdown,
        "Sharpe Ratio": mine.sharpe,
        "Sortino Ratio": mine.sortino,
        "Calmar Ratio": mine.calmar,
        "Omega Ratio": mine.omega,
    }
    for name, value in pairs.items():
        if not math.isclose(float(theirs[name]), float(value), rel_tol=1e-6, abs_tol=1e-9):
            raise AssertionError(f"{name}: {theirs[name]} there, {value} here")
    report(
        f"all statistics of {ROWS} bars, {len(pairs)} of them the same to 1e-6",
        seconds,
        "cpu s",
        peer="vectorbt, stats() of the same trades",
        peer_value=taken,
        target="10x",
        holds=taken >= 10 * seconds,
    )
    return taken >= 10 * seconds


if __name__ == "__main__":
    sys.exit(main())
