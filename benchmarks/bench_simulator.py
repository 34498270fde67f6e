"""What the simulator costs: a million bars, a thousand parameters, a first call.

The peers are the readable oracle, vectorbt and backtesting.py, named with their versions. They get the same decisions,
filled at the next open with the same commission and slippage; that all of them trade the same is asserted before any
time is believed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
from numba import njit

from benchmarks.harness import cpu_seconds, minute_bars, report
from benchmarks.simulator_peers import CASH, SIZE, backtesting_statistics, vectorbt_portfolio
from tapeline.strategy.costs import Commission
from tapeline.strategy.simulator import SimulationSettings, positions_to_decisions, simulate, sweep
from tapeline.strategy.slippage import FixedSlippage
from tests.strategy.oracle import Oracle

ROWS, PEER_ROWS, SWEEP_ROWS, SETS, BLOCK, PEER_SETS = 1_000_000, 20_000, 100_000, 1_000, 20, 20
FEE_BPS, SLIPPAGE_BPS, STOP, TAKE = 1.0, 0.5, 0.003, 0.006
SETTINGS = SimulationSettings(
    capital=CASH,
    commission=Commission(taker_bps=FEE_BPS, increment=0.0),
    slippage=FixedSlippage(bps=SLIPPAGE_BPS),
    protect_by_distance=True,
)
FREE = SimulationSettings(capital=CASH)
COSTS = {"fee": FEE_BPS / 1e4, "slip": SLIPPAGE_BPS / 1e4}
COLD = "from benchmarks.bench_simulator import cold; cold()"


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    bars = minute_bars(ROWS, volatility=1e-4)
    few = bars.head(SWEEP_ROWS)
    held = [single(bars), against_oracle(bars.head(PEER_ROWS)), *many(few), first_call()]
    return 0 if all(held) else 1


@njit(cache=True)
def cross_targets(sums: np.ndarray, fast: np.ndarray, slow: np.ndarray) -> np.ndarray:
    """Targets of one average above another, a row a pair of windows; NaN while the side does not change."""
    rows = sums.size - 1
    found = np.full((fast.size, rows), np.nan)
    for pair in range(fast.size):
        a, b, side = fast[pair], slow[pair], 0.0
        for row in range(b - 1, rows):
            above = (sums[row + 1] - sums[row + 1 - a]) * b > (sums[row + 1] - sums[row + 1 - b]) * a
            now = SIZE if above else -SIZE
            if now != side:
                found[pair, row] = side = now
    return found


def decisions_of(bars: pd.DataFrame, fast: int = 50, slow: int = 200) -> pd.DataFrame:
    """The cross with a stop and a target to each entry."""
    sums = np.r_[0.0, np.cumsum(bars["close"].to_numpy())]
    target = cross_targets(sums, np.array([fast]), np.array([slow]))[0]
    return pd.DataFrame({"target": target, "stop": STOP, "take": TAKE}, index=bars.index)


def single(bars: pd.DataFrame) -> bool:
    """One cross on a million bars, from decisions to equity and tables, beside both peers."""
    decisions = decisions_of(bars)
    target = decisions["target"].to_numpy()
    found = simulate(bars, decisions, SETTINGS)
    same_trades(bars, decisions)
    seconds = cpu_seconds(lambda: simulate(bars, decisions, SETTINGS), repeats=9)
    name = f"SMA cross with stops, targets and costs, {len(bars)} bars, {len(found.trades)} trades"
    report(name, seconds, "cpu s", target="< 0.05 s", holds=seconds < 0.05)

    def vectorbt() -> None:
        portfolio = vectorbt_portfolio(bars, target[:, None], stop=STOP, take=TAKE, **COSTS)
        portfolio.value()
        _ = portfolio.trades.records

    peer = cpu_seconds(vectorbt, repeats=5)
    report(name, seconds, "cpu s", peer=peer_name("vectorbt"), peer_value=peer, target="4x", holds=peer >= 4 * seconds)
    slow = cpu_seconds(
        lambda: backtesting_statistics(bars, target, stop=STOP, take=TAKE, fee=COSTS["fee"]), repeats=1, warm=False
    )
    report(
        name,
        seconds,
        "cpu s",
        peer=peer_name("backtesting"),
        peer_value=slow,
        target="400x",
        holds=slow >= 400 * seconds,
    )
    return seconds < 0.05 and peer >= 4 * seconds and slow >= 400 * seconds


def same_trades(bars: pd.DataFrame, decisions: pd.DataFrame) -> None:
    """Refuse to measure engines that do not trade the same.

    Without protection all must agree. With it vectorbt begins to watch a stop one bar later and has its own price for a
    stop that a bar opens beyond, so that only the number of fills is compared, and that within one in a hundred.
    """
    plain, target = decisions[["target"]], decisions["target"].to_numpy()
    ours = simulate(bars, plain, SETTINGS)
    portfolio = vectorbt_portfolio(bars, target[:, None], stop=0.0, take=0.0, **COSTS)
    theirs = float(np.asarray(portfolio.final_value()).ravel()[0])
    if len(portfolio.orders.records) != len(ours.fills) or abs(theirs - ours.equity.iloc[-1]) > 1e-6:
        raise AssertionError(f"vectorbt ends at {theirs}, the simulator at {ours.equity.iloc[-1]}")
    protected = vectorbt_portfolio(bars, target[:, None], stop=STOP, take=TAKE, **COSTS)
    fills = len(simulate(bars, decisions, SETTINGS).fills)
    if abs(len(protected.orders.records) - fills) > 0.01 * fills:
        raise AssertionError(f"vectorbt fills {len(protected.orders.records)} orders, the simulator {fills}")
    few = bars.head(PEER_ROWS)
    free = simulate(few, plain.head(PEER_ROWS), FREE).trades
    trades = backtesting_statistics(few, target[:PEER_ROWS], stop=0.0, take=0.0, fee=0.0)._trades
    # The last position is closed at the end there and valued at the close here.
    if len(trades) != len(free) or not np.allclose(trades["PnL"].iloc[:-1], free["net"].iloc[:-1], atol=1e-9):
        raise AssertionError("backtesting.py and the simulator do not make the same trades")


def peer_name(package: str) -> str:
    """The name of a peer with its version."""
    return f"{package} {version(package)}"


def against_oracle(bars: pd.DataFrame) -> bool:
    """The same on fewer bars beside the readable oracle, which must give the same fills and equity."""
    decisions = decisions_of(bars)
    names = ("open", "high", "low", "close", "volume")
    stamps = zip(bars.index.asi8.tolist(), pd.DatetimeIndex(bars["close_ts"]).asi8.tolist(), strict=True)
    plain = [
        {**dict(zip(names, values, strict=True)), "ts": ts, "close_ts": closed}
        for values, (ts, closed) in zip(bars[list(names)].to_numpy().tolist(), stamps, strict=True)
    ]
    wanted = decisions.to_dict("records")
    started = time.process_time()
    oracle = Oracle(plain, wanted, SETTINGS).run()
    peer = time.process_time() - started
    found = simulate(bars, decisions, SETTINGS)
    if found.equity.tolist() != oracle.equity or found.fills["price"].tolist() != [fill[4] for fill in oracle.fills]:
        raise AssertionError("engine and oracle do not agree")
    seconds = cpu_seconds(lambda: simulate(bars, decisions, SETTINGS), repeats=5)
    report(
        f"SMA cross, {len(bars)} bars, the same to the last bit",
        seconds,
        "cpu s",
        peer="readable oracle in plain Python",
        peer_value=peer,
        target="at least 20 times as fast",
        holds=peer >= 20 * seconds,
    )
    return peer >= 20 * seconds


def many(bars: pd.DataFrame) -> list[bool]:
    """A thousand pairs of windows: averages included, and beside vectorbt on targets that are there already."""
    sums = np.r_[0.0, np.cumsum(bars["close"].to_numpy())]
    generator = np.random.default_rng(1)
    fast = generator.integers(5, 100, SETS)
    slow = fast * generator.integers(2, 10, SETS)
    blocks = [(fast[at : at + BLOCK], slow[at : at + BLOCK]) for at in range(0, SETS, BLOCK)]

    def work() -> pd.DataFrame:
        return sweep(bars, (cross_targets(sums, *block) for block in blocks), SETTINGS, stop=STOP, take=TAKE)

    seconds = cpu_seconds(work, repeats=3)
    found = work()
    one = simulate(bars, decisions_of(bars, int(fast[0]), int(slow[0])), SETTINGS)
    if found["equity"][0] != one.equity.iloc[-1] or found["fills"][0] != len(one.fills):
        raise AssertionError("a sweep and a simulation do not agree")
    report(
        f"{SETS} SMA crosses, stops, targets and costs x {len(bars)} bars, {found['fills'].mean():.0f} fills each",
        seconds,
        "cpu s",
        target="< 2 s",
        holds=seconds < 2.0,
    )
    targets = cross_targets(sums, fast[:PEER_SETS], slow[:PEER_SETS])
    ours = cpu_seconds(lambda: sweep(bars, [targets], SETTINGS, stop=STOP, take=TAKE), repeats=9) * SETS / PEER_SETS

    def vectorbt() -> np.ndarray:
        portfolio = vectorbt_portfolio(bars, targets.T, stop=STOP, take=TAKE, **COSTS)
        portfolio.final_value()
        return portfolio.orders.count().to_numpy()

    peer = cpu_seconds(vectorbt, repeats=5) * SETS / PEER_SETS
    if not np.allclose(vectorbt(), found["fills"][:PEER_SETS], rtol=0.01, atol=2):
        raise AssertionError("vectorbt and the sweep do not fill the same orders")
    report(
        f"{SETS} SMA crosses x {len(bars)} bars from given targets, both measured on {PEER_SETS} and scaled",
        ours,
        "cpu s",
        peer=peer_name("vectorbt"),
        peer_value=peer,
        target="20x",
        holds=peer >= 20 * ours,
    )
    return [seconds < 2.0, peer >= 20 * ours]


def cold() -> None:
    """What a new process does first."""
    bars = minute_bars(1_000, volatility=1e-4)
    simulate(bars, positions_to_decisions(np.sign(bars["close"].diff()).fillna(0.0)), SETTINGS)


def first_call() -> bool:
    """A new process with kernels in the cache: imports, loading and one simulation."""
    command = [sys.executable, "-c", COLD]
    subprocess.run(command, check=True)
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    report("a new process to its first simulation, kernels cached", seconds, "s", target="< 3 s", holds=seconds < 3.0)
    return seconds < 3.0


if __name__ == "__main__":
    sys.exit(main())
