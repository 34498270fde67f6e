"""Candle size: how long a bar and its body are beside those before, and which way its wicks lean."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.registry import feature
from tapeline.features.arrays import STILL, Window, columns, frame, ratio
from tapeline.features.kernels import rolling_mean


@feature(
    lookback=lambda window: window + 1,
    outputs=("body_size_{window}", "range_size_{window}"),
    reference="Nison, Japanese Candlestick Charting Techniques, 2nd ed. (2001), chapter 3: long and short days",
)
def candle_size(bars: pd.DataFrame, window: Window = 10) -> pd.DataFrame:
    """The bar's body and range over their means in the ``window`` bars before; 0 or more, 1 is usual.

    NaN where price has stood still before.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> candle_size(example_bars(10, 11, 12, 15), window=2).iloc[-1].round(4).tolist()
    [3.0, 1.6667]
    """
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    body, height = np.abs(close - opened), high - low
    return frame(
        bars,
        **{
            f"body_size_{window}": ratio(body, _before(rolling_mean(body, window)), STILL * close),
            f"range_size_{window}": ratio(height, _before(rolling_mean(height, window)), STILL * close),
        },
    )


@feature(
    lookback=1,
    outputs=("wick_balance", "body_to_wicks"),
    reference="Morris, Candlestick Charting Explained, 3rd ed. (2006), chapter 1",
)
def wick_ratios(bars: pd.DataFrame) -> pd.DataFrame:
    """Lower less upper wick over both, -1 (all above) to 1 (all below), and the body's share less that of the wicks.

    ``body_to_wicks`` is -1 (a cross without body) to 1 (a body without wicks). NaN where the bar has no wick or no
    range.

    Examples
    --------
    >>> wick_ratios(pd.DataFrame({"open": [2.0], "high": [5.0], "low": [1.0], "close": [2.5]})).round(4).values.tolist()
    [[-0.4286, -0.75]]
    """
    opened, high, low, close = columns(bars, "open", "high", "low", "close")
    upper, lower = high - np.maximum(opened, close), np.minimum(opened, close) - low
    body, height = np.abs(close - opened), high - low
    return frame(
        bars,
        wick_balance=ratio(lower - upper, lower + upper, STILL * close),
        body_to_wicks=ratio(body - upper - lower, height),
    )


@feature(
    lookback=2,
    outputs=("overlap", "range_change"),
    reference="Crabel, Day Trading with Short Term Price Patterns (1990): inside, outside and wide bars",
)
def neighbour(bars: pd.DataFrame) -> pd.DataFrame:
    """What the bar shares with the one before it: overlap of the two ranges, and the log of range over range.

    ``overlap`` is the shared part over the span of both: 1 for the same range, 0 or less with a gap between them.
    NaN where a bar has no range.

    Examples
    --------
    >>> bars = pd.DataFrame({"high": [4.0, 6.0], "low": [2.0, 2.0], "close": [3.0, 3.0]})
    >>> neighbour(bars).iloc[-1].round(4).tolist()
    [0.5, 0.6931]
    """
    high, low, close = columns(bars, "high", "low", "close")
    high_before, low_before = _before(high), _before(low)
    shared = np.minimum(high, high_before) - np.maximum(low, low_before)
    span = np.maximum(high, high_before) - np.minimum(low, low_before)
    grown = ratio(high - low, high_before - low_before, STILL * close)
    return frame(
        bars,
        overlap=ratio(shared, span, STILL * close),
        range_change=np.log(np.where(grown > 0.0, grown, np.nan)),
    )


def _before(values: np.ndarray) -> np.ndarray:
    result = np.full(values.size, np.nan)
    result[1:] = values[:-1]
    return result
