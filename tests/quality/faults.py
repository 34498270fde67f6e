"""Faults of known kind and place, planted into real bars, and how well each method finds them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from tapeline.quality.anomalies import METHODS, find_anomalies

PLACES = np.arange(350, 6_000, 300)
"""Where a fault begins: far enough apart that none lies in another's window."""


def _scale(bars: pd.DataFrame, at: int) -> float:
    changes = np.diff(np.log(bars["close"].to_numpy()[at - 201 : at]))
    return float(1.4826 * np.median(np.abs(changes - np.median(changes))))


def _set(bars: pd.DataFrame, rows: slice | int, name: str, value: object) -> None:
    bars.iloc[rows, bars.columns.get_loc(name)] = value


def _widen(bars: pd.DataFrame, at: int) -> None:
    row = bars.iloc[at]
    _set(bars, at, "high", row[["open", "high", "close"]].max())
    _set(bars, at, "low", row[["open", "low", "close"]].min())


def bad_close(bars: pd.DataFrame, at: int, sign: int) -> int:
    """One close is off by 15 deviations; the next bar is right again."""
    _set(bars, at, "close", bars["close"].iloc[at] * np.exp(15 * sign * _scale(bars, at)))
    _widen(bars, at)
    return 2


def bad_wick(bars: pd.DataFrame, at: int, sign: int) -> int:
    """One high or low is off by 20 deviations; the close is right."""
    name = "high" if sign > 0 else "low"
    _set(bars, at, name, bars[name].iloc[at] * np.exp(20 * sign * _scale(bars, at)))
    return 1


def level_shift(bars: pd.DataFrame, at: int, sign: int) -> int:
    """All prices from here on are 20 deviations higher or lower: a roll, or another instrument."""
    factor = np.exp(20 * sign * _scale(bars, at))
    for name in ("open", "high", "low", "close"):
        _set(bars, slice(at, None), name, bars[name].iloc[at:].to_numpy() * factor)
    return 1


def frozen(bars: pd.DataFrame, at: int, sign: int) -> int:
    """For 12 bars the feed repeats the last close."""
    for name in ("open", "high", "low", "close"):
        _set(bars, slice(at, at + 12), name, bars["close"].iloc[at - 1])
    return 12


def burst(bars: pd.DataFrame, at: int, sign: int) -> int:
    """For 20 bars every bar moves six times as far around the last close."""
    anchor = bars["close"].iloc[at - 1]
    for name in ("open", "high", "low", "close"):
        rows = bars[name].iloc[at : at + 20].to_numpy()
        _set(bars, slice(at, at + 20), name, anchor * (rows / anchor) ** 6)
    return 20


def volume(bars: pd.DataFrame, at: int, sign: int) -> int:
    """One volume is a thousand times what it was."""
    _set(bars, at, "volume", bars["volume"].iloc[at] * 1_000)
    return 1


FAULTS: dict[str, Callable[[pd.DataFrame, int, int], int]] = {
    "bad close": bad_close,
    "bad wick": bad_wick,
    "level shift": level_shift,
    "frozen 12 bars": frozen,
    "burst 20 bars": burst,
    "volume x1000": volume,
}


def measure(bars: pd.DataFrame) -> pd.DataFrame:
    """Recall, precision and median delay (bars) of each method for each fault.

    A finding counts as right where its bar lies within the fault; everything else, real events included, is counted
    against precision.
    """
    position = pd.Series(np.arange(len(bars)), index=bars.index)
    rows = []
    for fault, plant in FAULTS.items():
        planted = bars.copy()
        length = 0
        for number, at in enumerate(PLACES):
            length = plant(planted, int(at), 1 if number % 2 else -1)
        found = find_anomalies(planted, "H1")
        where = position[pd.DatetimeIndex(found["ts"])].to_numpy()
        known = position[pd.DatetimeIndex(found["known_at"]) - pd.Timedelta(hours=1)].to_numpy()
        for method in METHODS:
            mine = (found["method"] == method).to_numpy()
            inside = (where[mine, None] >= PLACES) & (where[mine, None] < PLACES + length)
            hit = inside.any(axis=0)
            first = [known[mine][inside[:, i]].min() - at for i, at in enumerate(PLACES) if hit[i]]
            rows.append(
                {
                    "fault": fault,
                    "method": method,
                    "recall": hit.mean(),
                    "precision": inside.any(axis=1).mean() if mine.any() else np.nan,
                    "delay": float(np.median(first)) if first else np.nan,
                }
            )
    return pd.DataFrame(rows)


def table(measured: pd.DataFrame) -> str:
    """The measured numbers as the Markdown table that stands in docs/validation.md: recall / precision / delay."""
    lines = ["| fault | " + " | ".join(f"`{name}`" for name in METHODS) + " |", "|---" * (len(METHODS) + 1) + "|"]
    for fault in FAULTS:
        row = measured[measured["fault"] == fault].set_index("method")
        cells = [
            "-"
            if row.loc[m, "recall"] == 0
            else f"{row.loc[m, 'recall']:.2f} / {row.loc[m, 'precision']:.2f} / {row.loc[m, 'delay']:.0f}"
            for m in METHODS
        ]
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
