"""Bars of any timeframe from what there is: ticks, trades, or bars of a shorter timeframe."""

from __future__ import annotations

from typing import Final

import pandas as pd

from tapeline.candles.builder import build_candles
from tapeline.candles.records import TickPrice, kind_of, records_from
from tapeline.candles.time_bars import EmptyPolicy, TimeCandles
from tapeline.core.errors import SchemaError
from tapeline.core.schemas import OHLCV
from tapeline.core.timeframe import Timeframe

LAKE_COLUMNS: Final = (*OHLCV, "spread", "tick_count", "close_ts")
"""The columns of the one bar schema that building bars decides; arrival, source and revision are added on writing."""


def resample(
    bars: pd.DataFrame,
    timeframe: Timeframe | str,
    *,
    bars_timeframe: Timeframe | str | None = None,
    empty: EmptyPolicy = "skip",
    now: pd.Timestamp | None = None,
    forming: bool = False,
) -> pd.DataFrame:
    """Join finer bars into coarser ones, the closed ones only.

    Open, high, low, close, times, tick counts and the spread at the close are those of building from the ticks, to the
    bit. Sums (volume, buy volume) are too where they are exact in binary, such as whole numbers; else they may differ
    in the last digits, as any sum of rounded sums does, and so do the mean spread and the volume-weighted price.

    Parameters
    ----------
    bars:
        Bars on ``ts`` with ``open high low close volume`` and optionally ``close_ts, tick_count, buy_volume, vwap,
        spread, spread_close``.
    timeframe:
        The wanted timeframe; that of the bars must divide it.
    bars_timeframe:
        That of the bars, where they have no ``close_ts``.
    empty:
        As for :class:`~tapeline.candles.time_bars.TimeCandles`.
    now:
        The clock. A coarser bar is closed when its end has passed by it or, without one, by the newest close among
        the bars: never because it comes last.
    forming:
        True adds the bar that is not closed yet.

    Raises
    ------
    SchemaError, DataError
        As :func:`~tapeline.candles.records.records_from` for bars; DataError also where a bar reaches over the border
        of two coarser ones.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=7, freq="1min", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 1.0, "high": 2.0, "low": 1.0, "close": 2.0, "volume": 3.0}, index=ts)
    >>> resample(bars, "M5", bars_timeframe="M1")["volume"].tolist()
    [15.0]
    """
    if kind_of(bars) != "bars":
        raise SchemaError(f"resample: columns {[str(name) for name in bars.columns]} are not those of bars")
    length = None if bars_timeframe is None else Timeframe.parse(bars_timeframe)
    records = records_from(bars, timeframe=length)
    return build_candles(records, TimeCandles(timeframe, empty=empty), now=now, forming=forming)


def extract_bars(
    frame: pd.DataFrame,
    timeframe: Timeframe | str,
    *,
    frame_timeframe: Timeframe | str | None = None,
    price: TickPrice = "mid",
    now: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Bars of a timeframe from ticks, trades or finer bars, in the columns of the one bar schema.

    Parameters
    ----------
    frame:
        What a source or the lake holds; see :func:`~tapeline.candles.records.records_from` for what it may be.
    timeframe:
        The wanted timeframe.
    frame_timeframe:
        That of the frame, where it holds bars without ``close_ts``.
    price:
        The price of ticks.
    now:
        The clock, which closes the last bar; see :func:`resample`.

    Returns
    -------
    Closed bars on ``ts``: ``open high low close volume spread tick_count close_ts``. ``spread`` is NaN where it is not
    known; volume is 0 where the ticks have none.

    Examples
    --------
    >>> ts = pd.to_datetime(["2014-05-01 00:00:01", "2014-05-01 00:01:02"], utc=True)
    >>> ticks = pd.DataFrame({"bid": [1.25, 1.5], "ask": [1.75, 1.25]}, index=ts)
    >>> extract_bars(ticks, "M1", price="bid")[["close", "spread", "tick_count"]].to_numpy().tolist()
    [[1.25, 0.5, 1.0]]
    """
    length = None if frame_timeframe is None else Timeframe.parse(frame_timeframe)
    bars = build_candles(records_from(frame, price=price, timeframe=length), TimeCandles(timeframe), now=now)
    if "spread" not in bars.columns:
        bars["spread"] = float("nan")
    return bars[list(LAKE_COLUMNS)]
