"""What the tick simulator costs: ticks a second on one core, beside the readable loop in plain Python."""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, report
from tapeline.strategy.costs import Commission
from tapeline.strategy.resting_orders import Queue
from tapeline.strategy.tick_simulator import TickSettings, simulate_ticks
from tests.strategy.tick_oracle import SECOND, TickOracle

ROWS, PEER_ROWS, EVERY = 4_000_000, 20_000, 500
TAKING = TickSettings(commission=Commission(taker_bps=0.5), protect_by_distance=True)
RESTING = TAKING.model_copy(update={"queue": Queue()})
WAIT = 5_000_000


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    ticks = random_ticks(ROWS)
    holds = []
    for name, settings in (("market orders, stops and targets", TAKING), ("limits in the queue", RESTING)):
        holds += [rate(name, ticks, settings), against_oracle(name, ticks.head(PEER_ROWS), settings)]
    return 0 if all(holds) else 1


def random_ticks(rows: int, seed: int = 0) -> pd.DataFrame:
    """Random quotes, every fifth row a trade between them: made up, to measure time only."""
    draw = np.random.default_rng(seed)
    bid = np.round(1_000.0 + np.cumsum(draw.integers(-1, 2, rows)) * 0.01, 2)
    ts = pd.DatetimeIndex(
        pd.Timestamp("2024-01-01", tz="UTC")
        + pd.to_timedelta(np.cumsum(draw.integers(0, 20_000_000, rows)), unit="ns"),
        name="ts",
    )
    frame = pd.DataFrame({"bid": bid, "ask": np.round(bid + 0.02, 2)}, index=ts)
    frame["bid_size"], frame["ask_size"] = draw.integers(1, 50, (2, rows)).astype(np.float64)
    traded = np.arange(rows) % 5 == 4
    frame["side"] = np.where(traded, draw.choice([-1.0, 1.0], rows), np.nan)
    frame["price"] = np.where(frame["side"] > 0, frame["ask"], frame["bid"])
    frame["size"] = draw.integers(1, 20, rows).astype(np.float64)
    frame.loc[traded, ["bid", "ask"]] = np.nan
    frame.loc[~traded, ["price", "size"]] = np.nan
    return frame


def decisions_of(ticks: pd.DataFrame, resting: bool) -> pd.DataFrame:
    """A turn every few hundred ticks, by the move since the last one."""
    seen = ticks["bid"].ffill().iloc[::EVERY]
    rising = np.sign(seen.diff()).fillna(1.0)
    found = pd.DataFrame({"target": rising * 10.0, "stop": 0.3, "take": 0.6}, index=seen.index)
    if resting:
        found["limit"] = seen - rising * 0.02
    return found


def rate(name: str, ticks: pd.DataFrame, settings: TickSettings) -> bool:
    """Ticks a second, from frames to tables."""
    decisions = decisions_of(ticks, settings.queue is not None)
    found = simulate_ticks(ticks, decisions, settings, latency=WAIT)
    seconds = cpu_seconds(lambda: simulate_ticks(ticks, decisions, settings, latency=WAIT), repeats=3, warm=False)
    holds = len(ticks) / seconds >= 5_000_000
    report(
        f"{name}: {len(ticks)} ticks, {len(decisions)} decisions, {len(found.fills)} fills",
        len(ticks) / seconds,
        "ticks/cpu s",
        target=">= 5,000,000 on one core",
        holds=holds,
    )
    return holds


def against_oracle(name: str, ticks: pd.DataFrame, settings: TickSettings) -> bool:
    """The same on fewer ticks beside the readable loop, which must give the same fills and equity."""
    decisions = decisions_of(ticks, settings.queue is not None)
    plain = [
        {**row, "ts": ts, "volume": np.nan}
        for ts, row in zip(ticks.index.asi8.tolist(), ticks.to_dict("records"), strict=True)
    ]
    wanted = [
        {"limit": np.nan, "trigger": np.nan, **row, "decided_at": at, "wait": WAIT}
        for at, row in zip(decisions.index.as_unit("ns").asi8.tolist(), decisions.to_dict("records"), strict=True)
    ]
    started = time.process_time()
    oracle = TickOracle(plain, wanted, settings).run()
    peer = time.process_time() - started
    found = simulate_ticks(ticks, decisions, settings, latency=WAIT)
    if found.equity.tolist() != oracle.equity or found.fills["price"].tolist() != [fill[4] for fill in oracle.fills]:
        raise AssertionError("engine and loop do not agree")
    seconds = cpu_seconds(lambda: simulate_ticks(ticks, decisions, settings, latency=WAIT), repeats=5)
    holds = peer >= 10 * seconds
    report(
        f"{name}: {len(ticks)} ticks in {(ticks.index[-1] - ticks.index[0]).value / SECOND:.0f} s of market, same bits",
        seconds,
        "cpu s",
        peer="readable loop in plain Python",
        peer_value=peer,
        target="at least 10 times as fast, tables included",
        holds=holds,
    )
    return holds


if __name__ == "__main__":
    sys.exit(main())
