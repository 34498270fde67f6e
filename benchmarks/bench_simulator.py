"""What the simulator costs: a million bars, a thousand parameters, a first call; the plain oracle is the peer."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pandas as pd
from numba import njit

from benchmarks.harness import cpu_seconds, minute_bars, report
from tapeline.strategy.costs import Commission
from tapeline.strategy.simulator import SimulationSettings, positions_to_decisions, simulate, sweep
from tapeline.strategy.slippage import FixedSlippage
from tests.strategy.oracle import Oracle

ROWS, PEER_ROWS, SWEEP_ROWS, SETS, BLOCK = 1_000_000, 20_000, 100_000, 1_000, 20
SETTINGS = SimulationSettings(
    commission=Commission(taker_bps=1.0), slippage=FixedSlippage(bps=0.5), protect_by_distance=True
)
HALF_SPREAD, STOP, TAKE = 0.005, 0.5, 1.5
COLD = "from benchmarks.bench_simulator import cold; cold()"


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    bars = minute_bars(ROWS, volatility=1e-4)
    return (
        0 if all([single(bars), against_oracle(bars.head(PEER_ROWS)), many(bars.head(SWEEP_ROWS)), first_call()]) else 1
    )


@njit(cache=True)
def cross_targets(sums: np.ndarray, fast: np.ndarray, slow: np.ndarray) -> np.ndarray:
    """Targets of one average above another, a row a pair of windows; NaN while the side does not change."""
    rows = sums.size - 1
    found = np.full((fast.size, rows), np.nan)
    for pair in range(fast.size):
        a, b, side = fast[pair], slow[pair], 0.0
        for row in range(b - 1, rows):
            above = (sums[row + 1] - sums[row + 1 - a]) * b > (sums[row + 1] - sums[row + 1 - b]) * a
            now = 100.0 if above else -100.0
            if now != side:
                found[pair, row] = side = now
    return found


def decisions_of(bars: pd.DataFrame, fast: int = 50, slow: int = 200) -> pd.DataFrame:
    """The cross with a stop and a target to each entry."""
    sums = np.r_[0.0, np.cumsum(bars["close"].to_numpy())]
    target = cross_targets(sums, np.array([fast]), np.array([slow]))[0]
    return pd.DataFrame({"target": target, "stop": STOP, "take": TAKE}, index=bars.index)


def single(bars: pd.DataFrame) -> bool:
    """One cross on a million bars, from decisions to equity and tables."""
    decisions = decisions_of(bars)
    found = simulate(bars, decisions, SETTINGS, half_spread=HALF_SPREAD)
    seconds = cpu_seconds(lambda: simulate(bars, decisions, SETTINGS, half_spread=HALF_SPREAD), repeats=5)
    holds = seconds < 0.05
    report(
        f"SMA cross with stops, targets and costs, {len(bars)} bars, {len(found.trades)} trades",
        seconds,
        "cpu s",
        target="< 0.05 s",
        holds=holds,
    )
    return holds


def against_oracle(bars: pd.DataFrame) -> bool:
    """The same on fewer bars beside the readable oracle, which must give the same fills and equity."""
    decisions = decisions_of(bars)
    names = ("open", "high", "low", "close", "volume")
    stamps = zip(bars.index.asi8.tolist(), pd.DatetimeIndex(bars["close_ts"]).asi8.tolist(), strict=True)
    plain = [
        {**dict(zip(names, values, strict=True)), "ts": ts, "close_ts": closed, "half_spread": HALF_SPREAD}
        for values, (ts, closed) in zip(bars[list(names)].to_numpy().tolist(), stamps, strict=True)
    ]
    wanted = decisions.to_dict("records")
    started = time.process_time()
    oracle = Oracle(plain, wanted, SETTINGS).run()
    peer = time.process_time() - started
    found = simulate(bars, decisions, SETTINGS, half_spread=HALF_SPREAD)
    if found.equity.tolist() != oracle.equity or found.fills["price"].tolist() != [fill[4] for fill in oracle.fills]:
        raise AssertionError("engine and oracle do not agree")
    seconds = cpu_seconds(lambda: simulate(bars, decisions, SETTINGS, half_spread=HALF_SPREAD), repeats=5)
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


def many(bars: pd.DataFrame) -> bool:
    """A thousand pairs of windows, averages included."""
    sums = np.r_[0.0, np.cumsum(bars["close"].to_numpy())]
    generator = np.random.default_rng(1)
    fast = generator.integers(5, 100, SETS)
    slow = fast * generator.integers(2, 10, SETS)

    def work() -> pd.DataFrame:
        blocks = (cross_targets(sums, fast[at : at + BLOCK], slow[at : at + BLOCK]) for at in range(0, SETS, BLOCK))
        return sweep(bars, blocks, SETTINGS, stop=STOP, take=TAKE, half_spread=HALF_SPREAD)

    sweep(bars, [cross_targets(sums, fast[:1], slow[:1])], SETTINGS, stop=STOP, take=TAKE, half_spread=HALF_SPREAD)
    started = time.process_time()
    found = work()
    seconds = time.process_time() - started
    one = simulate(bars, decisions_of(bars, int(fast[0]), int(slow[0])), SETTINGS, half_spread=HALF_SPREAD)
    if found["equity"][0] != one.equity.iloc[-1]:
        raise AssertionError("a sweep and a simulation do not agree")
    holds = seconds < 2.0
    report(
        f"{SETS} SMA crosses, stops, targets and costs x {len(bars)} bars, {found['fills'].mean():.0f} fills each",
        seconds,
        "cpu s",
        target="< 2 s",
        holds=holds,
    )
    return holds


def cold() -> None:
    """What a new process does first."""
    bars = minute_bars(1_000, volatility=1e-4)
    simulate(bars, positions_to_decisions(np.sign(bars["close"].diff()).fillna(0.0)), SETTINGS, half_spread=HALF_SPREAD)


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
