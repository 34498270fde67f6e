"""Finished bars as users see them: a frame, or one tuple a bar."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tapeline.candles.candle_type import CandleType
from tapeline.candles.forming import OUT_EXTRA
from tapeline.candles.records import HAS_BUY_VOLUME, HAS_SPREAD, HAS_VOLUME, Floats, Integers


class Candle(NamedTuple):
    """One finished bar as :meth:`CandleBuilder.push` gives it: ``ts`` and ``close_ts`` in ns since the epoch, UTC.

    Unknown values are NaN; ``extra`` is the value of the column that only this candle type has.
    """

    ts: int
    close_ts: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    tick_count: int
    buy_volume: float
    vwap: float
    spread: float
    spread_close: float
    extra: float


def bars_frame(
    candle: CandleType, columns: int, bars: Floats, times: Integers, average: Floats | None = None
) -> pd.DataFrame:
    """Output columns of a kernel as a frame on ``ts``; ``columns`` is the mask of what the records know.

    ``average`` is the volume-weighted price where ``bars`` no longer hold the prices it belongs to.
    """
    counts = times[2]
    values: dict[str, Any] = {name: bars[j] for j, name in enumerate(("open", "high", "low", "close", "volume"))}
    values["close_ts"] = pd.DatetimeIndex(times[1].view("M8[ns]")).tz_localize("UTC")
    values["tick_count"] = counts
    if columns & HAS_BUY_VOLUME:
        values["buy_volume"] = bars[6]
    if columns & HAS_VOLUME:
        average = average_price(bars) if average is None else average
        # An average cannot lie outside what it averages; its last bit can.
        values["vwap"] = np.clip(average, bars[2], bars[1]) if candle.traded_range else average
    if columns & HAS_SPREAD:
        with np.errstate(invalid="ignore", divide="ignore"):
            values["spread"] = np.where(counts > 0, bars[7] / counts, np.nan)
        values["spread_close"] = bars[8]
    if candle.extra is not None and not (candle.extra == "filled" and getattr(candle, "empty", "") == "skip"):
        extra = bars[OUT_EXTRA]
        values[candle.extra] = extra == 1.0 if candle.extra in ("filled", "phantom") else extra
    index = pd.DatetimeIndex(times[0].view("M8[ns]"), name="ts").tz_localize("UTC")
    return pd.DataFrame(values, index=index)


def candle_rows(candle: CandleType, columns: int, bars: Floats, times: Integers) -> list[Candle]:
    """Output columns of a kernel as one tuple a bar: the way without a frame."""
    has_volume, has_buys, has_spread = columns & HAS_VOLUME, columns & HAS_BUY_VOLUME, columns & HAS_SPREAD
    found = []
    for bar, (ts, close_ts, count) in zip(bars.T.tolist(), times.T.tolist(), strict=True):
        opened, high, low, close, volume, value, buys, spread, spread_close, extra = bar
        average = value / volume if has_volume and volume > 0 else np.nan
        if candle.traded_range and volume > 0 and has_volume:
            average = min(max(average, low), high)
        found.append(
            Candle(
                ts,
                close_ts,
                opened,
                high,
                low,
                close,
                volume,
                count,
                buys if has_buys else np.nan,
                average,
                spread / count if has_spread and count else np.nan,
                spread_close if has_spread else np.nan,
                extra,
            )
        )
    return found


def average_price(bars: Floats) -> Floats:
    """Value over volume; NaN where nothing was traded."""
    result = np.full(bars.shape[1], np.nan)
    np.divide(bars[5], bars[4], out=result, where=bars[4] > 0.0)
    return result
