"""Higher timeframe: what bars ``factor`` times as long look like, each from the moment it has closed."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.pit import asof_join
from tapeline.core.registry import feature
from tapeline.features.arrays import Window, changes, columns, frame, ratio, talib
from tapeline.features.kernels import rolling_mean
from tapeline.features.position import MONDAY_NANOSECONDS

Blocks = tuple[np.ndarray, np.ndarray]

Factor = Annotated[int, Field(ge=2, le=10_080)]
"""How many bars make one higher bar: of hours, 4 make H4 and 24 make D1."""


@feature(
    # window changes need window + 1 closed bars, and the open one may hold up to factor - 1 bars more.
    lookback=lambda factor, window: factor * (window + 2),
    outputs=(
        "higher_{factor}_rsi_{window}",
        "higher_{factor}_efficiency_{window}",
        "higher_{factor}_position_{window}",
    ),
    requires=("close_ts",),
    reference="Elder, Trading for a Living (1993), section 43; RSI with simple means after Cutler",
)
def higher_timeframe(bars: pd.DataFrame, factor: Factor = 4, window: Window = 14) -> pd.DataFrame:
    """Three numbers of the newest closed higher bar: RSI, efficiency, and the close's place in its range.

    Higher bars lie on the UTC grid (weeks from Monday), so that the same bar closes at the same time whatever history
    precedes it. They are joined as of each bar's close: an open higher bar is never seen.

    Returns
    -------
    RSI of the higher closes, 0 to 100; net change over path of the last ``window`` higher closes, -1 to 1; the place
    of the current close in the range of the last ``window`` closed higher bars, 0 to 1 inside it and beyond outside.
    NaN where nothing has moved.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> higher = higher_timeframe(example_bars(10, 11, 12, 13, 14, 15, 14), factor=2, window=2)
    >>> higher["higher_2_rsi_2"].tolist()
    [nan, nan, nan, nan, nan, 100.0, 100.0]
    >>> higher["higher_2_position_2"].round(2).tolist()
    [nan, nan, nan, 0.8, 1.0, 0.83, 0.67]
    """
    (close,) = columns(bars, "close")
    higher, known_at, blocks = _higher_bars(bars, factor, window)
    joined = asof_join(bars[[]], higher, at=pd.DatetimeIndex(bars["close_ts"]), known_at=known_at, by=blocks)
    low, high = joined["low"].to_numpy(), joined["high"].to_numpy()
    return frame(
        bars,
        **{
            f"higher_{factor}_rsi_{window}": joined["rsi"],
            f"higher_{factor}_efficiency_{window}": joined["efficiency"],
            f"higher_{factor}_position_{window}": ratio(close - low, high - low),
        },
    )


def _higher_bars(bars: pd.DataFrame, factor: int, window: int) -> tuple[pd.DataFrame, pd.DatetimeIndex, Blocks | None]:
    """What each higher bar says, and when it closes. A bar that is still open is among them; the join never sees it.

    Where several symbols stand one behind the other, the blocks that bars and higher bars belong to come along.
    """
    high, low, close = columns(bars, "high", "low", "close")
    opens = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    length = factor * int((closes - opens).min()) if opens.size else 1
    number = (opens - MONDAY_NANOSECONDS) // length
    first = np.flatnonzero(np.diff(number, prepend=number[:1] - 1))
    last = np.append(first[1:], opens.size) - 1 if first.size else first
    higher_close = close[last]
    change = changes(higher_close)
    moved = rolling_mean(np.abs(change), window)
    result = pd.DataFrame(
        {
            "rsi": 100.0 * ratio(rolling_mean(np.maximum(change, 0.0), window), moved),
            "efficiency": ratio(rolling_mean(change, window), moved),
            "high": talib("MAX", np.maximum.reduceat(high, first) if first.size else high, timeperiod=window),
            "low": talib("MIN", np.minimum.reduceat(low, first) if first.size else low, timeperiod=window),
        }
    )
    known_at = pd.to_datetime((number[first] + 1) * length + MONDAY_NANOSECONDS, unit="ns", utc=True)
    block = np.cumsum(np.diff(opens, prepend=opens[:1]) < 0)
    return result, pd.DatetimeIndex(known_at), (block, block[first]) if block.any() else None
