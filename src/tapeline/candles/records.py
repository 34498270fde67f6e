"""What a candle is built from: ticks, trades or finer bars, checked once and taken apart into arrays."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.timeframe import Timeframe

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
TickPrice = Literal["mid", "bid", "ask", "last"]

HAS_VOLUME: Final = 1
HAS_BUY_VOLUME: Final = 2
HAS_SPREAD: Final = 4
HAS_SIDE: Final = 8
FROM_BARS: Final = 16

_NO_FLOATS: Final = np.empty(0)
_NO_INTEGERS: Final = np.empty(0, dtype=np.int64)
_NO_SIDES: Final = np.empty(0, dtype=np.int8)


class Records(NamedTuple):
    """Ticks, trades or bars as arrays: a tick is a bar whose four prices are the same array.

    An array of length 0 stands for a column that is not known. Made by :func:`records_from`, which checks the values;
    the kernels trust them.

    Parameters
    ----------
    ts, known:
        When each record began, and when it was complete: the same array for ticks and trades.
    open, high, low, close:
        Prices, finite and above 0.
    volume, value:
        Quantity traded, and quantity times price; ``value`` is computed from the close where it has length 0.
    buy:
        Volume of the buying side, for bars; for trades ``side`` says it (+1 the buyer was aggressive, -1, 0 unknown).
    spread, spread_close:
        Ask minus bid: mean over the record, and at its end. Negative where a quote is crossed.
    ticks:
        Ticks in each record; 1 each where it has length 0.
    """

    ts: Integers
    known: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    value: Floats
    buy: Floats
    side: NDArray[np.int8]
    spread: Floats
    spread_close: Floats
    ticks: Integers


def columns_of(records: Records) -> int:
    """Which optional columns the records know, as a mask of the ``HAS_`` and ``FROM_BARS`` flags."""
    mask = HAS_VOLUME if records.volume.size else 0
    mask |= HAS_BUY_VOLUME if records.buy.size or records.side.size else 0
    mask |= HAS_SPREAD if records.spread.size else 0
    mask |= HAS_SIDE if records.side.size else 0
    return mask | (FROM_BARS if records.open is not records.close else 0)


def records_from(frame: pd.DataFrame, *, price: TickPrice = "mid", timeframe: Timeframe | None = None) -> Records:
    """Check a frame of ticks, trades or bars and take it apart.

    Parameters
    ----------
    frame:
        On an index of UTC instants that never decreases. Trades: ``price, size`` and optionally ``side``. Bars:
        ``open high low close volume`` and optionally ``close_ts, tick_count, buy_volume, vwap, spread,
        spread_close``. Ticks: ``bid, ask, last, volume``, of which only those that ``price`` needs must be there.
    price:
        The price of a tick: the middle of bid and ask, or one of ``bid``, ``ask`` (MetaTrader's charts show the bid),
        ``last``. Where ticks have both bid and ask, the bars carry the spread whatever the price is.
    timeframe:
        The length of bars that have no ``close_ts``.

    Raises
    ------
    SchemaError
        Columns are missing or are not numbers, or the index is not one of instants in a time zone.
    DataError
        Times decrease or are missing; a price is not finite and above 0; a volume is negative or not finite (for a
        trade: not above 0); a side is none of +1, -1, 0; a bar's high or low contradicts its other prices. The message
        names the column, the value, the row and its time. Crossed quotes (bid above ask) are no error.

    Examples
    --------
    >>> ts = pd.to_datetime(["2014-05-01 00:00:01", "2014-05-01 00:00:02"], utc=True)
    >>> ticks = pd.DataFrame({"bid": [1.25, 1.5], "ask": [1.75, 1.25]}, index=ts)
    >>> records_from(ticks).close, records_from(ticks).spread
    (array([1.5  , 1.375]), array([ 0.5 , -0.25]))
    """
    names = set(frame.columns)
    if {"open", "high", "low", "close"} <= names:
        return frozen(_from_bars(frame, timeframe))
    if {"price", "size"} <= names:
        return frozen(_from_trades(frame))
    if names & {"bid", "ask", "last"}:
        return frozen(_from_ticks(frame, price))
    raise SchemaError(
        f"columns {[str(name) for name in frame.columns]} are neither ticks (bid, ask, last), trades (price, size) "
        "nor bars (open, high, low, close, volume)"
    )


def frozen(records: Records) -> Records:
    """The same arrays, none of them writable.

    pandas hands out some columns as read-only and computed ones are not. To numba those are different types, and it
    would compile a kernel for every mixture of them.
    """
    views: dict[int, Any] = {}
    for array in records:
        if id(array) not in views:
            view = array.view()
            view.flags.writeable = False
            views[id(array)] = view
    return Records(*(views[id(array)] for array in records))


def kind_of(frame: pd.DataFrame) -> Literal["bars", "trades", "ticks"]:
    """What :func:`records_from` takes a frame for, by its columns."""
    names = set(frame.columns)
    if {"open", "high", "low", "close"} <= names:
        return "bars"
    return "trades" if {"price", "size"} <= names else "ticks"


def _from_ticks(frame: pd.DataFrame, price: TickPrice) -> Records:
    if price not in ("mid", "bid", "ask", "last"):
        raise ConfigurationError(f"price = {price!r} is refused", hint="use mid, bid, ask or last")
    needed = ("bid", "ask") if price == "mid" else (price,)
    absent = [name for name in needed if name not in frame.columns]
    if absent:
        raise SchemaError(f"ticks: columns {absent} are missing for the price '{price}'", hint="choose another price")
    stamps = _stamps(frame, "ticks")
    quotes = {name: _positive(frame, name, "ticks") for name in ("bid", "ask") if name in frame.columns}
    spread = quotes["ask"] - quotes["bid"] if len(quotes) == 2 else _NO_FLOATS
    if price == "mid":
        values = (quotes["bid"] + quotes["ask"]) * 0.5
    else:
        values = quotes[price] if price in quotes else _positive(frame, price, "ticks")
    volume = _volume(frame, "volume", "ticks") if "volume" in frame.columns else _NO_FLOATS
    return _ticks(stamps, values, volume, _NO_SIDES, spread)


def _from_trades(frame: pd.DataFrame) -> Records:
    stamps = _stamps(frame, "trades")
    values, size = _positive(frame, "price", "trades"), _positive(frame, "size", "trades")
    return _ticks(stamps, values, size, _sides(frame) if "side" in frame.columns else _NO_SIDES, _NO_FLOATS)


def _ticks(stamps: Integers, price: Floats, volume: Floats, side: NDArray[np.int8], spread: Floats) -> Records:
    return Records(
        stamps, stamps, price, price, price, price, volume, _NO_FLOATS, _NO_FLOATS, side, spread, spread, _NO_INTEGERS
    )


def _from_bars(frame: pd.DataFrame, timeframe: Timeframe | None) -> Records:
    stamps = _stamps(frame, "bars")
    opened, high, low, close = (_positive(frame, name, "bars") for name in ("open", "high", "low", "close"))
    wrong = (high < np.maximum(opened, close)) | (low > np.minimum(opened, close)) | (high < low)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"bars: high {high[row]} and low {low[row]} do not enclose open {opened[row]} and close {close[row]} "
            f"at row {row} ({frame.index[row]})",
            hint="quarantine such rows first",
        )
    if "volume" not in frame.columns:
        raise SchemaError("bars: column 'volume' is missing", hint="use 0 where it is not known")
    volume = _volume(frame, "volume", "bars")
    value = _NO_FLOATS
    if "vwap" in frame.columns:
        average = _numbers(frame, "vwap", "bars")
        # A bar without volume has no average price; what is traded then is zero, not unknown.
        value = volume * np.where(np.isfinite(average), average, close)
    count = _NO_INTEGERS
    if "tick_count" in frame.columns:
        count = _volume(frame, "tick_count", "bars").astype(np.int64)
    optional = {
        name: _numbers(frame, name, "bars") if name in frame.columns else _NO_FLOATS
        for name in ("buy_volume", "spread", "spread_close")
    }
    spread = optional["spread"]
    ending = optional["spread_close"] if optional["spread_close"].size else spread
    for name, values in (("buy_volume", optional["buy_volume"]), ("spread", spread), ("spread_close", ending)):
        _refuse(~np.isfinite(values), values, frame, name, "bars", "must be finite; drop the column if not known")
    known = _known(frame, stamps, timeframe)
    return Records(
        stamps, known, opened, high, low, close, volume, value, optional["buy_volume"], _NO_SIDES, spread, ending, count
    )


def _known(frame: pd.DataFrame, stamps: Integers, timeframe: Timeframe | None) -> Integers:
    if "close_ts" in frame.columns:
        known = _instants(pd.DatetimeIndex(frame["close_ts"]), "bars", "close_ts")
        if (known < stamps).any():
            row = int((known < stamps).argmax())
            raise DataError(f"bars: close_ts {frame['close_ts'].iloc[row]} lies before ts {frame.index[row]}")
        return known
    if timeframe is None:
        raise SchemaError("bars: column 'close_ts' is missing", hint="add it, or say the timeframe of the bars")
    return stamps + timeframe.nanoseconds


def _stamps(frame: pd.DataFrame, kind: str) -> Integers:
    if not isinstance(frame.index, pd.DatetimeIndex):
        raise SchemaError(f"{kind}: the index holds {frame.index.dtype}, expected UTC instants")
    stamps = _instants(frame.index, kind, "ts")
    if not _never_decreases(stamps):
        row = int((np.diff(stamps) < 0).argmax()) + 1
        raise DataError(
            f"{kind}: ts decreases at row {row}: {frame.index[row]} after {frame.index[row - 1]}", hint="sort by ts"
        )
    return stamps


def _instants(index: pd.DatetimeIndex, kind: str, name: str) -> Integers:
    if index.tz is None:
        raise SchemaError(f"{kind}: {name} has no time zone", hint="localize it, then convert it to UTC")
    if index.hasnans:
        raise DataError(f"{kind}: {name} is missing at row {int(index.isna().argmax())}")
    try:
        return index.as_unit("ns").asi8
    except pd.errors.OutOfBoundsDatetime as error:
        raise DataError(f"{kind}: {name} lies outside 1677 to 2262: {error}") from None


def _numbers(frame: pd.DataFrame, name: str, kind: str) -> Floats:
    column = frame[name]
    if isinstance(column, pd.DataFrame):
        raise SchemaError(f"{kind}: column '{name}' is there {column.shape[1]} times")
    try:
        return np.ascontiguousarray(column.to_numpy(dtype=np.float64))
    except (TypeError, ValueError):
        raise SchemaError(f"{kind}: column '{name}' holds {column.dtype}, expected numbers") from None


def _positive(frame: pd.DataFrame, name: str, kind: str) -> Floats:
    values = _numbers(frame, name, kind)
    if not _all_positive(values):
        with np.errstate(invalid="ignore"):
            wrong = ~((values > 0.0) & (values < np.inf))
        _refuse(wrong, values, frame, name, kind, "must be finite and above 0")
    return values


def _volume(frame: pd.DataFrame, name: str, kind: str) -> Floats:
    values = _numbers(frame, name, kind)
    if not _none_negative(values):
        with np.errstate(invalid="ignore"):
            wrong = ~((values >= 0.0) & (values < np.inf))
        _refuse(wrong, values, frame, name, kind, "must be finite and not negative")
    return values


def _sides(frame: pd.DataFrame) -> NDArray[np.int8]:
    column = frame["side"]
    if column.dtype == np.int8:
        sides = np.ascontiguousarray(column.to_numpy())
        values: Floats | NDArray[np.int8] = sides
    else:
        values = _numbers(frame, "side", "trades")
        with np.errstate(invalid="ignore"):
            sides = values.astype(np.int8)
    if not _all_sides(sides) or not (values is sides or np.array_equal(values, sides)):
        wrong = ~np.isin(values, (-1, 0, 1))
        _refuse(wrong, values, frame, "side", "trades", "must be +1 (buyer aggressive), -1 or 0 (not known)")
    return sides


def _refuse(
    wrong: NDArray[np.bool_],
    values: Floats | NDArray[np.int8],
    frame: pd.DataFrame,
    name: str,
    kind: str,
    bound: str,
) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{kind}: {name} is {values[row]} at row {row} ({frame.index[row]}), and {bound}; "
            f"{int(wrong.sum())} of {wrong.size} rows are wrong",
            hint="quarantine such rows first",
        )


# These four look at every value without leaving early, so that the compiler can check several values an instruction.
@njit(cache=True)
def _all_positive(values: Floats) -> bool:
    wrong = 0
    for i in range(values.size):
        wrong += 0 if values[i] > 0.0 and values[i] < np.inf else 1
    return wrong == 0


@njit(cache=True)
def _none_negative(values: Floats) -> bool:
    wrong = 0
    for i in range(values.size):
        wrong += 0 if values[i] >= 0.0 and values[i] < np.inf else 1
    return wrong == 0


@njit(cache=True)
def _all_sides(values: NDArray[np.int8]) -> bool:
    good = True
    for value in values:
        good &= (value >= -1) & (value <= 1)
    return good


@njit(cache=True)
def _never_decreases(values: Integers) -> bool:
    good = True
    for i in range(1, values.size):
        good &= values[i] >= values[i - 1]
    return good
