"""Bars that are hard on a component: real ones, and random ones with gaps, quiet stretches and jumps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd

from tests.support import make_bars


def rough_bars(rows: int, seed: int = 11) -> pd.DataFrame:
    """Random bars with weekends, holes of a few bars, stretches in which nothing moves, spikes and a bar without range.

    One quiet stretch is so long that Wilder averages over 14 bars fall below what counts as movement, one is short.
    """
    bars = make_bars(rows + 40, seed=seed)
    generator = np.random.default_rng(seed)
    holes = generator.choice(np.arange(rows // 4, rows), size=12, replace=False)
    bars = bars.drop(bars.index[np.unique(np.concatenate([holes + i for i in range(3)]))]).iloc[:rows]
    prices = ["open", "high", "low", "close"]
    for start, length in ((rows // 2 + 20, 12), (rows - 260, 160)):
        still = bars["close"].iloc[start - 1]
        bars.iloc[start : start + length, [bars.columns.get_loc(name) for name in prices]] = still
        bars.iloc[start : start + length, bars.columns.get_loc("volume")] = 0.0
    for row in generator.choice(np.arange(rows // 2 - 60, rows // 2), size=4, replace=False):
        bars.iloc[row, bars.columns.get_loc("high")] *= 1.05
        bars.iloc[row, bars.columns.get_loc("volume")] *= 500.0
    return bars


def eurusd() -> pd.DataFrame:
    """The hourly EURUSD bars of 2017 that come with gym-anytrading (real ask prices, GMT)."""
    spec = importlib.util.find_spec("gym_anytrading")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).parent / "datasets" / "data" / "FOREX_EURUSD_1H_ASK.csv"
    frame = pd.read_csv(file)
    ts = pd.DatetimeIndex(pd.to_datetime(frame.pop("Time"), format="%d.%m.%Y %H:%M:%S.%f", utc=True), name="ts")
    bars = frame.rename(columns=str.lower).set_index(ts.as_unit("ns")).astype(float)
    return bars.assign(close_ts=bars.index + pd.Timedelta(hours=1))
