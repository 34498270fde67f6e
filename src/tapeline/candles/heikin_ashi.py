"""Heikin-Ashi: candles whose open is the middle of the one before and whose close is the mean of four prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import pandas as pd
from numba import njit

from tapeline.candles.candle_type import require
from tapeline.candles.forming import FAMILY_FLOATS
from tapeline.candles.records import Floats, records_from
from tapeline.candles.time_bars import TimeCandles

_OPEN, _CLOSE = FAMILY_FLOATS + 2, FAMILY_FLOATS + 3
STATE: Final = slice(_OPEN, _CLOSE + 1)


@dataclass(frozen=True)
class HeikinAshiCandles(TimeCandles):
    """Heikin-Ashi candles of time bars built from ticks, trades or finer bars; parameters as for ``TimeCandles``.

    Intervals without a tick make no candle: ``empty`` must be ``skip``.
    """

    traded_range: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.empty == "skip", self, "empty", self.empty, "skip: an average of nothing is no candle")


def heikin_ashi(bars: pd.DataFrame) -> pd.DataFrame:
    """Replace the prices of bars by those of Heikin-Ashi candles; all other columns stay.

    ``close = (open + high + low + close) / 4``; ``open`` is the middle of the previous candle's open and close (of
    the first: of the bar's own); ``high`` and ``low`` also enclose the two. Each candle is known when its bar is. The
    prices are averages: nobody traded at them, so they must not be used to fill an order.

    Source: Valcu (2004), Technical Analysis of Stocks & Commodities 22(2), 'Using the Heikin-Ashi Technique'.

    Raises
    ------
    SchemaError, DataError
        As :func:`~tapeline.candles.records.records_from` for bars.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=2, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": [1.0, 2.0], "high": [2.0, 4.0], "low": [1.0, 2.0], "close": [2.0, 4.0],
    ...     "volume": 1.0, "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> heikin_ashi(bars)[["open", "close"]].to_numpy().tolist()
    [[1.5, 1.5], [1.5, 3.0]]
    """
    checked = bars if "close_ts" in bars.columns else bars.assign(close_ts=bars.index)
    records = records_from(checked)
    prices = np.array([records.open, records.high, records.low, records.close])
    heikin_ashi_kernel(prices, np.zeros(2))
    return bars.assign(**dict(zip(("open", "high", "low", "close"), prices, strict=True)))


@njit(cache=True)
def heikin_ashi_kernel(prices: Floats, state: Floats) -> None:
    """Turn rows 0 to 3 (open, high, low, close) into Heikin-Ashi in place; ``state`` is the last open and close.

    A state of zeros means that there was no candle yet: prices are above 0.
    """
    opened, close = state[0], state[1]
    for k in range(prices.shape[1]):
        first, high, low, last = prices[0, k], prices[1, k], prices[2, k], prices[3, k]
        opened = (opened + close) * 0.5 if close > 0.0 else (first + last) * 0.5
        close = (first + high + low + last) * 0.25
        prices[0, k], prices[3, k] = opened, close
        prices[1, k], prices[2, k] = max(high, opened, close), min(low, opened, close)
    state[0], state[1] = opened, close
