"""How a benchmark measures and what it prints: one JSON line a figure, CPU seconds, the peer in the same run."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``ratio`` is value / peer_value; ``holds`` says whether ``target`` is met."""

    name: str
    value: float
    unit: str
    peer: str | None
    peer_value: float | None
    ratio: float | None
    target: str
    holds: bool


def cpu_seconds(work: Callable[[], Any], *, repeats: int = 3, warm: bool = True) -> float:
    """The median CPU time (user and system, all threads of this process) of a call, after one call to warm up."""
    if warm:
        work()
    return statistics.median(_once(work) for _ in range(repeats))


def report(
    name: str,
    value: float,
    unit: str,
    *,
    target: str,
    holds: bool,
    peer: str | None = None,
    peer_value: float | None = None,
) -> Figure:
    """Print one figure as a JSON line and return it."""
    ratio = None if peer_value is None else round(value / peer_value, 4) if peer_value else None
    figure = Figure(
        name, round(value, 6), unit, peer, None if peer_value is None else round(peer_value, 6), ratio, target, holds
    )
    json.dump(asdict(figure), sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
    return figure


def _once(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def minute_bars(rows: int, *, seed: int = 0, volatility: float = 1e-5) -> pd.DataFrame:
    """Random minute bars with heavy tails: made up, to measure time only."""
    generator = np.random.default_rng(seed)
    close = 1.1 * np.exp(np.cumsum(generator.standard_t(4, rows) * volatility))
    opened = np.r_[close[:1], close[:-1]]
    reach = np.abs(generator.normal(0, volatility, (2, rows)))
    ts = pd.date_range("2017-01-02", periods=rows, freq="1min", tz="UTC", name="ts").as_unit("ns")
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * (1 + reach[0]),
            "low": np.minimum(opened, close) * (1 - reach[1]),
            "close": close,
            "volume": generator.integers(1, 1000, rows).astype(float),
            "close_ts": ts + pd.Timedelta(minutes=1),
        },
        index=ts,
    )
