"""Filtered price as features: how far the close lies from its smooth course, where that heads, and what surprises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from tapeline.cleaning import filters, smoothers
from tapeline.cleaning.normalization import robust_zscore
from tapeline.cleaning.signal_array import Floats, delay_of
from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import (
    WILDER_MEMORY,
    Window,
    average_true_range,
    changes,
    columns,
    frame,
    log_changes,
    ratio,
)

RECURSIVE = Tolerance(relative=1e-6, absolute=1e-6)
FilterName = Literal[
    "super_smoother", "butterworth", "hodrick_prescott", "hull_average", "loess", "savitzky_golay", "median_filter"
]

_FILTERS: Final[dict[str, tuple[Callable[..., Any], Callable[[int], dict[str, float]]]]] = {
    "super_smoother": (smoothers.super_smoother, lambda window: {"period": window}),
    "butterworth": (filters.butterworth, lambda window: {"period": max(window, 3), "order": 2}),
    # The penalty under which waves longer than the window pass with more than half their amplitude.
    "hodrick_prescott": (
        smoothers.hodrick_prescott,
        lambda window: {"smoothness": (2.0 * math.sin(math.pi / max(window, 2))) ** -4},
    ),
    "hull_average": (smoothers.hull_average, lambda window: {"window": window}),
    "loess": (smoothers.loess, lambda window: {"window": max(window, 3)}),
    "savitzky_golay": (filters.savitzky_golay, lambda window: {"window": max(window, 3)}),
    "median_filter": (filters.median_filter, lambda window: {"window": window}),
}
_RECURSIVE: Final = ("super_smoother", "butterworth", "hodrick_prescott")


def _lookback(method: str, window: int, atr_window: int) -> int:
    # The recursive ones forget like exp(-sqrt(2) pi / window) a bar: exp(-30) is left after 7 windows.
    own = 7 * window + 60 if method in _RECURSIVE else window + math.isqrt(window) + 3
    return max(own, WILDER_MEMORY * atr_window)


def _delay(method: str, window: int) -> float:
    function, parameters = _FILTERS[method]
    return delay_of(function, **parameters(window))


def _filtered(close: Floats, method: str, window: int) -> Floats:
    function, parameters = _FILTERS[method]
    return function(close, **parameters(window))


@feature(
    lookback=_lookback,
    outputs=("{method}_distance_{window}", "{method}_slope_{window}"),
    reference="Ehlers, Cycle Analytics for Traders (2013), chapter 3; each filter's own in tapeline.cleaning",
    tolerance=RECURSIVE,
    delay=_delay,
)
def filtered_close(
    bars: pd.DataFrame, method: FilterName = "super_smoother", window: Window = 20, atr_window: Window = 14
) -> pd.DataFrame:
    """Distance of the close above its filtered course and the slope of that course a bar, in average true ranges.

    ``window`` is the filter's window or the shortest wave, in bars, that it lets pass. Both are unbounded, around 0.
    The course is late by the declared delay. NaN where price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> filtered_close(example_bars(10, 10, 10, 10), window=3, atr_window=2).iloc[-1].round(9).tolist()
    [0.0, 0.0]
    """
    (close,) = columns(bars, "close")
    course = _filtered(close, method, window)
    unit, floor = average_true_range(bars, atr_window)
    return frame(
        bars,
        **{
            f"{method}_distance_{window}": ratio(close - course, unit, floor),
            f"{method}_slope_{window}": ratio(changes(course), unit, floor),
        },
    )


@feature(
    lookback=lambda window: window + 2,
    outputs=("return_surprise_{window}", "range_surprise_{window}"),
    reference="Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993), chapter 3",
)
def surprise(bars: pd.DataFrame, window: Window = 100) -> pd.DataFrame:
    """How unusual the bar's log return and its range are against the ``window`` bars before, in robust deviations.

    Median and median absolute deviation of the bars before, so that neither the bar itself nor past outliers blunt the
    score. Clipped to 100 either way. NaN where price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> surprise(example_bars(100, 101, 103, 104, 120), window=3).iloc[-1].round(1).tolist()
    [100.0, 94.7]
    """
    high, low, close = columns(bars, "high", "low", "close")
    scored = {
        # Rounded, so that a scale of prices cannot push apart returns that are equal.
        f"return_surprise_{window}": robust_zscore(np.round(log_changes(close), 12), window, before=1),
        f"range_surprise_{window}": robust_zscore(np.round((high - low) / close, 12), window, before=1),
    }
    return frame(bars, **{name: np.clip(values, -100.0, 100.0) for name, values in scored.items()})
