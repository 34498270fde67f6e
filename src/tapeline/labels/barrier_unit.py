"""Barrier units: what a distance from the entry is counted in, percent of it or the volatility known at the bar."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.labels.volatility import MEMORY, causal_volatility

BarrierUnit = Literal["fixed", "atr", "volatility"]
Side = Literal["long", "short"]
Prices = NDArray[np.float64]


def unit_lookback(unit: str, volatility_window: int) -> int:
    """The bars before the labelled one that decide a distance: none for percent.

    Examples
    --------
    >>> unit_lookback("fixed", 24), unit_lookback("atr", 24)
    (0, 720)
    """
    return 0 if unit == "fixed" else MEMORY * volatility_window


def unit_width(bars: pd.DataFrame, unit: BarrierUnit, volatility_window: int) -> NDArray[np.float64]:
    """One unit as a share of price at each bar: 0.01 for ``fixed``, else the volatility known at its close.

    Examples
    --------
    >>> unit_width(pd.DataFrame({"high": [2.0], "low": [1.0], "close": [1.0]}), "fixed", 24)
    array([0.01])
    """
    if unit == "fixed":
        return np.full(len(bars), 0.01)
    high, low, close = (
        np.ascontiguousarray(bars[name].to_numpy(dtype=np.float64)) for name in ("high", "low", "close")
    )
    return causal_volatility(high, low, close, kind="atr" if unit == "atr" else "ewm", window=volatility_window)


def price_arrays(bars: pd.DataFrame) -> tuple[Prices, Prices, Prices, Prices]:
    """Open, high, low and close as contiguous arrays.

    Examples
    --------
    >>> price_arrays(pd.DataFrame({"open": [1], "high": [2], "low": [1], "close": [2]}))[3]
    array([2.])
    """
    opened, high, low, close = (
        np.ascontiguousarray(bars[name].to_numpy(dtype=np.float64)) for name in ("open", "high", "low", "close")
    )
    return opened, high, low, close
