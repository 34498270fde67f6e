"""Faults planted at known places in real bars, and how well each outlier method finds them.

``python -m tests.cleaning.faults`` prints the table of docs/cleaning.md; a test holds the page against it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd

from tapeline.cleaning.isolation import isolation_flags, isolation_flags_whole
from tapeline.cleaning.outlier_methods import METHODS, flag_outliers, outlier_bounds, outlier_bounds_whole
from tapeline.cleaning.outliers import hampel_flags
from tapeline.quality.anomalies import find_anomalies
from tests.quality.batches import sample_bars

Flags = Callable[[pd.DataFrame], np.ndarray]

PLANTED: Final = 20
TOLERANCE: Final = 12
"""A fault counts as found when a bar of it, or one of so many after its beginning, is flagged."""

KINDS: Final = ("spike", "spike_and_return", "hundredfold", "frozen", "level_shift")


def plant(bars: pd.DataFrame, kind: str, seed: int = 5) -> tuple[pd.DataFrame, np.ndarray, int]:
    """Bars with :data:`PLANTED` faults of a kind, where they begin, and how many bars each lasts.

    ``spike``: the high reaches 1 % too far. ``spike_and_return``: one whole bar stands 1 % off. ``hundredfold``: one
    bar in another unit. ``frozen``: 12 bars repeat a close. ``level_shift``: from a bar on everything stands 1 % off.
    """
    generator = np.random.default_rng(seed)
    out = bars.copy()
    at = np.sort(generator.choice(np.arange(2500, len(bars) - 50, 40), PLANTED, replace=False))
    prices = out[["open", "high", "low", "close"]].to_numpy().copy()
    for start, sign in zip(at, generator.choice([-1.0, 1.0], PLANTED), strict=True):
        if kind == "spike":
            prices[start, 1] *= 1.01
        elif kind == "spike_and_return":
            prices[start] *= 1 + 0.01 * sign
        elif kind == "hundredfold":
            prices[start] *= 100
        elif kind == "frozen":
            prices[start : start + 12] = prices[start - 1, 3]
        else:
            prices[start:] *= 1 + 0.01 * sign
    out[["open", "high", "low", "close"]] = prices
    return out, at, 12 if kind == "frozen" else 1


def methods() -> dict[str, Flags]:
    """The causal methods, then the textbook forms that read the whole sample."""
    out: dict[str, Flags] = {}
    for name in METHODS:
        out[name] = lambda bars, name=name: _on_changes(bars, outlier_bounds(_changes(bars), name))
    out["hampel on bars"] = hampel_flags
    out["isolation forest"] = isolation_flags
    out["spike_and_return*"] = lambda bars: _anomalies(bars, "spike_and_return")
    out["frozen_price*"] = lambda bars: _anomalies(bars, "frozen_price")
    for name in METHODS:
        out[f"{name}_whole"] = lambda bars, name=name: _on_changes(bars, outlier_bounds_whole(_changes(bars), name))
    out["isolation_whole"] = isolation_flags_whole
    return out


def measure(bars: pd.DataFrame, find: Flags, kind: str) -> tuple[float, float, float]:
    """Precision, recall and median delay in bars of a method on a kind of fault.

    A flag within a fault, or within :data:`TOLERANCE` bars of its beginning, is right; every other flag is wrong, also
    on bars that are violent by themselves. The delay is that of the first flag of each fault that was found.
    """
    faulty, at, length = plant(bars, kind)
    flags = np.flatnonzero(find(faulty))
    span = max(length, 1) + TOLERANCE
    near = np.array([flags[(flags >= start) & (flags < start + span)].size for start in at])
    delays = [int(flags[(flags >= start) & (flags < start + span)][0] - start) for start in at[near > 0]]
    precision = near.sum() / flags.size if flags.size else np.nan
    return float(precision), float((near > 0).mean()), float(np.median(delays)) if delays else np.nan


def table() -> str:
    """The table as Markdown: precision / recall / delay."""
    bars = sample_bars()
    lines = ["| method | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    for name, find in methods().items():
        cells = []
        for kind in KINDS:
            precision, recall, delay = measure(bars, find, kind)
            cells.append(" / ".join("-" if np.isnan(v) else f"{v:.{d}f}" for v, d in
                                    ((precision, 2), (recall, 2), (delay, 0))))  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _changes(bars: pd.DataFrame) -> np.ndarray:
    return np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan)


def _on_changes(bars: pd.DataFrame, bounds: object) -> np.ndarray:
    return flag_outliers(_changes(bars), bounds)  # type: ignore[arg-type]


def _anomalies(bars: pd.DataFrame, method: str) -> np.ndarray:
    found = find_anomalies(bars, "H1", methods=[method])
    # A finding counts from when it is known: a spike is one only once the price is back.
    known = pd.DatetimeIndex(found["known_at"]) - pd.Timedelta(hours=1)
    return bars.index.isin(known)


if __name__ == "__main__":
    print(table())  # noqa: T201
