"""What filters, smoothers and normalisers cost on a million values, against pandas, scipy and TA-Lib; equal answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import talib
from scipy.signal import butter, lfilter, savgol_coeffs, sosfilt, sosfilt_zi

from benchmarks.harness import cpu_seconds, report
from tapeline.cleaning import filters, normalization, smoothers

ROWS, WINDOW = 1_000_000, 51


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    values = 1.1 * np.exp(np.cumsum(np.random.default_rng(0).standard_t(4, ROWS) * 1e-5))
    figures = [measure(*case, values.size) for case in cases(values)]
    return 0 if all(figures) else 1


def cases(x: np.ndarray) -> list[tuple[str, Callable[[], Any], str, Callable[[], Any], float, float]]:
    """By case: its name, ours, the peer's name, the peer's, how near they must be, how much of its time is allowed."""
    series = pd.Series(x)
    rolled = series.rolling(WINDOW)
    sections = butter(2, 2.0 / 20.0, output="sos")
    start = sosfilt_zi(sections) * x[0]
    ends = savgol_coeffs(WINDOW, 2, pos=WINDOW - 1)
    c1, c2, c3 = smoothers.super_smoother_coefficients(10.0)
    return [
        ("simple average", lambda: smoothers.simple_average(x, WINDOW), "pandas", lambda: rolled.mean(), 1e-9, 1.0),
        ("median", lambda: filters.median_filter(x, WINDOW), "pandas", lambda: rolled.median(), 1e-12, 1.0),
        (
            "exponential average",
            lambda: smoothers.exponential_average(x, WINDOW),
            "pandas",
            lambda: series.ewm(span=WINDOW, adjust=False).mean(),
            1e-9,
            1.0,
        ),
        (
            "weighted average",
            lambda: smoothers.weighted_average(x, WINDOW),
            "a convolution by numpy",
            lambda: np.convolve(x, np.arange(WINDOW, 0, -1) / (WINDOW * (WINDOW + 1) / 2))[: x.size],
            1e-9,
            1.0,
        ),
        # TA-Lib's loop is several times faster: it neither looks for NaN nor sums its path anew.
        (
            "Kaufman's average",
            lambda: smoothers.adaptive_average(x, 10),
            "TA-Lib",
            lambda: talib.KAMA(x, 10),
            1e-9,
            10.0,
        ),
        (
            "Butterworth",
            lambda: filters.butterworth(x, 20.0, 2),
            "scipy sosfilt",
            lambda: sosfilt(sections, x, zi=start)[0],
            1e-9,
            1.0,
        ),
        (
            "Savitzky-Golay, causal",
            lambda: filters.savitzky_golay(x, WINDOW, 2),
            "scipy lfilter",
            lambda: lfilter(ends, 1.0, x),
            1e-9,
            1.0,
        ),
        (
            "SuperSmoother",
            lambda: smoothers.super_smoother(x, 10.0),
            "scipy lfilter",
            lambda: lfilter([c1 / 2, c1 / 2], [1.0, -c2, -c3], x),
            1e-9,
            1.0,
        ),
        (
            "rolling z-score",
            lambda: normalization.rolling_zscore(x, WINDOW),
            "pandas",
            lambda: (series - rolled.mean()) / rolled.std(),
            1e-4,
            1.0,
        ),
        (
            "exponential z-score",
            lambda: normalization.ewm_zscore(x, WINDOW),
            "pandas",
            lambda: (series - series.ewm(span=WINDOW).mean()) / series.ewm(span=WINDOW).std(),
            1e-4,
            1.0,
        ),
    ]


def measure(
    name: str, ours: Callable[[], Any], peer: str, theirs: Callable[[], Any], near: float, part: float, rows: int
) -> bool:
    """Hold one case equal beyond its warm-up, time both."""
    # Recursive peers start elsewhere: 2000 values later nothing is left of that.
    np.testing.assert_allclose(np.asarray(ours())[2000:], np.asarray(theirs())[2000:], rtol=near, atol=near)
    seconds, peer_seconds = cpu_seconds(ours), cpu_seconds(theirs)
    holds = seconds <= part * peer_seconds
    report(
        f"{name}, {rows} values",
        seconds,
        "s",
        target=f"at most {part:g} of the peer's time",
        holds=holds,
        peer=peer,
        peer_value=peer_seconds,
    )
    return holds


if __name__ == "__main__":
    raise SystemExit(main())
