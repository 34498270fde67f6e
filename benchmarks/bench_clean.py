"""The cleaning chain on a million M1 bars: times, checks, duplicates, absent bars, repairs and flags.

Run alone: ``python -m benchmarks.bench_clean``. The peer does the same steps as one would with pandas and numpy;
both see the same faults, and the run stops if they do not give the same bars, the same refused rows and the same flags.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, report
from tapeline.cleaning.chain import Cleaned, clean
from tapeline.cleaning.missing_policy import MissingPolicy
from tapeline.cleaning.outlier_methods import METHODS, outlier_bounds
from tapeline.cleaning.outliers import MINIMUM, THRESHOLD, WINDOW
from tapeline.cleaning.policy import CleaningPolicy
from tapeline.quality.calendars import MarketCalendar

ROWS = 1_000_000
LIMIT = 5
POLICY = CleaningPolicy(missing=MissingPolicy(method="forward", limit=LIMIT))


def faulty_bars() -> pd.DataFrame:
    """A million minutes of a random walk with faults of each kind, absent minutes, repeated rows, out of order."""
    generator = np.random.default_rng(11)
    ts = pd.date_range("2020-01-01", periods=ROWS, freq="1min", tz="UTC", name="ts", unit="ns")
    close = 1.1 * np.exp(np.cumsum(generator.normal(0, 1e-5, ROWS)))
    opened = np.r_[1.1, close[:-1]]
    wick = np.abs(generator.normal(0, 2e-5, (2, ROWS)))
    bars = pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * (1 + wick[0]),
            "low": np.minimum(opened, close) * (1 - wick[1]),
            "close": close,
            "volume": generator.integers(1, 1000, ROWS).astype(float),
        },
        index=ts,
    )
    rows = generator.choice(np.arange(1, ROWS - 1), 4_000, replace=False).reshape(8, 500)
    for at, (name, value) in zip(
        rows[:6],
        [("open", np.nan), ("high", np.inf), ("low", -1.0), ("high", 0.5), ("volume", -1.0), ("volume", np.nan)],
        strict=True,
    ):
        bars.iloc[at, bars.columns.get_loc(name)] = value
    bars.iloc[rows[6], bars.columns.get_loc("high")] *= 1.01  # spikes, which are flagged and stay
    absent = np.zeros(ROWS, dtype=bool)
    for start in rows[7]:
        absent[start : start + 1 + start % 9] = True
    absent[[0, -1]] = False
    batch = pd.concat([bars[~absent], bars[~absent].iloc[generator.choice(ROWS - 5_000, 1_000, replace=False)]])
    order = np.argsort(np.arange(len(batch)) + generator.integers(0, 50, len(batch)), kind="stable")
    return batch.iloc[order]


def naive(batch: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The same steps one after the other with pandas and numpy: bars with flags, and how many rows were refused."""
    prices = ["open", "high", "low", "close"]
    bars = batch.sort_index(kind="stable")
    bad = ~np.isfinite(bars[prices]).all(axis=1) | np.isinf(bars["volume"]) | (bars[prices] <= 0).any(axis=1)
    bad |= (bars["high"] < bars["low"]) | (bars["open"] > bars["high"]) | (bars["open"] < bars["low"])
    bad |= (bars["close"] > bars["high"]) | (bars["close"] < bars["low"]) | (bars["volume"] < 0)
    bad |= bars.index.floor("1min") != bars.index
    good = bars[~bad]
    good = good[~good.index.duplicated(keep="first")]
    refused = len(batch) - len(good)
    good = good.assign(volume=good["volume"].fillna(0.0))

    change = good["close"].diff()
    past = change.shift().rolling(WINDOW, min_periods=MINIMUM)
    middle = past.median()
    windows = np.lib.stride_tricks.sliding_window_view(np.r_[np.full(WINDOW, np.nan), change.to_numpy()], WINDOW)
    scale = np.full(len(good), np.nan)
    for start in range(0, len(good), 20_000):
        part = windows[start : start + 20_000]
        centre = middle.to_numpy()[start : start + len(part), None]
        away = np.abs(part[: len(centre)] - centre)
        # Rows with a hole at the beginning are few; the rest has no missing value and takes the faster function.
        whole = ~np.isnan(away).any(axis=1)
        scale[start : start + len(centre)][whole] = 1.4826 * np.median(away[whole], axis=1)
        if (~whole).any():
            with np.errstate(all="ignore"):
                scale[start : start + len(centre)][~whole] = 1.4826 * np.array(
                    [np.nanmedian(row) if (~np.isnan(row)).sum() >= MINIMUM else np.nan for row in away[~whole]]
                )
    before = good["close"].shift()
    stray = np.maximum((good["high"] - before - middle).abs(), (good["low"] - before - middle).abs())
    good = good.assign(outlier=(stray > THRESHOLD * scale).to_numpy())

    full = good.reindex(pd.date_range(good.index[0], good.index[-1], freq="1min", name="ts"))
    empty = full["close"].isna()
    full["close"] = full["close"].ffill(limit=LIMIT)
    for name in ("open", "high", "low"):
        full[name] = full[name].where(~empty, full["close"])
    full["volume"] = full["volume"].where(~empty, 0.0)
    full["outlier"] = full["outlier"].where(~empty, False).astype(bool)
    return full.assign(filled=empty)[full["close"].notna()], refused


def assert_same(ours: Cleaned, peer: pd.DataFrame, refused: int, batch: pd.DataFrame) -> None:
    """Stop unless both give the same bars."""
    bars = ours.bars
    assert len(ours.refused) == refused
    filled = bars["filled"].fillna(False).to_numpy(dtype=bool)
    assert len(bars) - int(filled.sum()) + len(ours.refused) == len(batch)
    assert bars.index.equals(peer.index)
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(bars[name], peer[name])
    np.testing.assert_array_equal(filled, peer["filled"])
    np.testing.assert_array_equal(bars["outlier"], peer["outlier"])
    assert int(bars["outlier"].sum()) >= 490
    assert int(filled.sum()) > 1500


def main() -> int:
    """Measure, compare, print; 1 where a target is missed."""
    batch = faulty_bars()
    always = MarketCalendar.parse("24x7")

    def chain() -> Cleaned:
        return clean(batch, "M1", POLICY, calendar=always)

    peer_bars, refused = naive(batch)
    assert_same(chain(), peer_bars, refused, batch)
    figures = []
    seconds = cpu_seconds(chain)
    peer = cpu_seconds(lambda: naive(batch), repeats=1, warm=False)
    figures.append(
        report(
            "cleaning.chain_of_1M",
            seconds,
            "cpu s",
            target="< 1.5 and below the peer",
            holds=seconds < min(1.5, peer),
            peer="pandas and numpy, same bars, flags and refused rows",
            peer_value=peer,
        )
    )
    sound = clean(batch, "M1", CleaningPolicy()).bars
    seconds = cpu_seconds(lambda: clean(sound, "M1"))
    figures.append(report("cleaning.chain_of_1M_clean", seconds, "cpu s", target="< 1.5", holds=seconds < 1.5))
    change = np.diff(np.log(sound["close"].to_numpy()))
    for method in METHODS:
        seconds = cpu_seconds(lambda method=method: outlier_bounds(change, method), repeats=1)
        figures.append(report(f"cleaning.bounds.{method}", seconds, "cpu s", target="< 4", holds=seconds < 4))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
