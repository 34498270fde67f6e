"""One builder for every candle type: whole histories, chunks or single ticks, and the same bars to the last bit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from tapeline.candles.candle_type import CandleType
from tapeline.candles.finished import Candle, average_price, bars_frame, candle_rows
from tapeline.candles.forming import (
    CLOSED_UNTIL,
    COLUMNS,
    FAMILY_FLOATS,
    FLOATS,
    INTEGERS,
    LAST_RECORD_TS,
    OPTION,
    OUT_EXTRA,
    OUT_FLOATS,
    OUT_INTEGERS,
    PARAMETERS,
    PREVIOUS_TS,
    new_memory,
    views,
)
from tapeline.candles.heikin_ashi import STATE, HeikinAshiCandles, heikin_ashi_kernel
from tapeline.candles.records import (
    FROM_BARS,
    HAS_BUY_VOLUME,
    HAS_SIDE,
    HAS_SPREAD,
    HAS_VOLUME,
    Floats,
    Integers,
    Records,
    TickPrice,
    columns_of,
    frozen,
    records_from,
)
from tapeline.candles.renko_bars import MAXIMUM_BRICKS
from tapeline.candles.time_bars import TimeCandles, close_by_clock, fill_empty
from tapeline.core.errors import ConfigurationError, DataError

Column = Literal["volume", "side", "spread"]

_BLOCK: Final = 16_384
_STATE_FORMAT: Final = 1
_FLAGS: Final[Mapping[str, int]] = {"volume": HAS_VOLUME, "side": HAS_SIDE | HAS_BUY_VOLUME, "spread": HAS_SPREAD}
_UNKNOWN: Final = -1
_ALL_COLUMNS: Final = HAS_VOLUME | HAS_BUY_VOLUME | HAS_SPREAD | HAS_SIDE | FROM_BARS


class CandleBuilder:
    """Bars from ticks, trades or finer bars as they come, in any portions, with the same bits as in one batch.

    Parameters
    ----------
    candle:
        The type with its parameters, such as ``TimeCandles("M1")``.
    price:
        The price of ticks; see :func:`~tapeline.candles.records.records_from`.
    columns:
        What single ticks given to :meth:`push` carry. Not needed where the first data come through :meth:`update`.

    Examples
    --------
    >>> from tapeline.candles.threshold_bars import TickCandles
    >>> ts = pd.date_range("2017-01-02", periods=5, freq="1s", tz="UTC", name="ts")
    >>> trades = pd.DataFrame({"price": [1.0, 3.0, 2.0, 4.0, 5.0], "size": 1.0}, index=ts)
    >>> builder = CandleBuilder(TickCandles(2))
    >>> builder.update(trades)[["open", "high", "low", "close"]].to_numpy().tolist()
    [[1.0, 3.0, 1.0, 3.0], [2.0, 4.0, 2.0, 4.0]]
    >>> builder.forming()["open"].tolist()
    [5.0]
    """

    def __init__(
        self, candle: CandleType, *, price: TickPrice = "mid", columns: Collection[Column] | None = None
    ) -> None:
        self.candle = candle
        self.price: TickPrice = price
        self._memory = new_memory()
        self._address = int(self._memory.ctypes.data)
        self._floats, self._integers, self._pushed_floats, self._pushed_times = views(self._memory)
        candle.prepare(self._floats, self._integers)
        self._integers[COLUMNS] = _UNKNOWN
        if columns is not None:
            unknown = sorted(set(columns) - set(_FLAGS))
            if unknown:
                raise ConfigurationError(f"columns {unknown} are unknown", hint=f"use {', '.join(_FLAGS)}")
            self._integers[COLUMNS] = sum(_FLAGS[name] for name in set(columns))
        self._push = candle.push
        self._fast = self._can_push()

    def update(self, chunk: pd.DataFrame | Records, *, now: pd.Timestamp | None = None) -> pd.DataFrame:
        """Add records and return the bars that they complete, perhaps none.

        Parameters
        ----------
        chunk:
            The next records, with the same columns as those before and none earlier. Records that were made by
            :func:`~tapeline.candles.records.records_from` are not checked again.
        now:
            Time bars only: what the clock says after these records. A bar whose end it has passed is complete without
            waiting for the next tick; a tick that arrives for it later is refused.

        Returns
        -------
        Bars on ``ts``: ``open high low close volume close_ts tick_count`` and, where known, ``buy_volume vwap spread
        spread_close`` and the type's own column.

        Raises
        ------
        SchemaError, DataError
            As :func:`~tapeline.candles.records.records_from`; also where the records go back behind the last one or
            behind the clock, or have other columns than the first. A refused chunk changes nothing.
        """
        records = chunk if isinstance(chunk, Records) else self._checked(chunk)
        saved = self._floats.copy(), self._integers.copy()
        try:
            blocks = self._run(records) if records.ts.size else []
            return self._finish(blocks, self._clock(records, now))
        except BaseException:
            self._floats[:], self._integers[:] = saved
            raise

    def advance(self, now: pd.Timestamp) -> pd.DataFrame:
        """Time bars that are complete by the clock alone; see ``now`` of :meth:`update`."""
        empty = np.empty(0)
        none = np.empty(0, dtype=np.int64)
        sides = np.empty(0, dtype=np.int8)
        nothing = Records(none, none, empty, empty, empty, empty, empty, empty, empty, sides, empty, empty, none)
        return self.update(nothing, now=now)

    def push(
        self, ts: int, price: float, size: float = 0.0, side: int = 0, spread: float = 0.0
    ) -> list[Candle] | tuple[()]:
        """Add one tick or trade without a frame, and return the bars that it completes.

        Parameters
        ----------
        ts:
            Nanoseconds since the epoch, UTC.
        price, size, side, spread:
            As in the records; what the builder's columns do not name is ignored.

        Raises
        ------
        ConfigurationError
            It is not known which columns the ticks carry: neither ``columns`` nor an update said so.
        DataError
            As :meth:`update`.
        """
        if self._fast:
            count = self._push(self._address, ts, float(price), float(size), side, float(spread))
            if count == 0:
                return ()
            if count > 0:
                return candle_rows(
                    self.candle,
                    int(self._integers[COLUMNS]),
                    self._pushed_floats[:, :count],
                    self._pushed_times[:, :count],
                )
        return self._push_checked(ts, price, size, side, spread)

    def forming(self) -> pd.DataFrame:
        """The bar that is being formed, in one row as it stands; no row where there is none.

        ``close_ts`` is the time of its last record (for time bars the end of the interval): the bar is not complete,
        and its values may still change. A forming Renko brick shows the prices traded since the last one.
        """
        if self._integers[0] == 0:
            return self._as_frame(np.empty((OUT_FLOATS, 0)), np.empty((OUT_INTEGERS, 0), dtype=np.int64))
        state, integers = self._floats, self._integers
        bars = np.full((OUT_FLOATS, 1), np.nan)
        bars[:9, 0] = state[[0, 1, 2, 3, 4, 6, 8, 10, 12]]
        bars[OUT_EXTRA, 0] = 0.0 if self.candle.extra in ("filled", "phantom") else np.nan
        ts = int(integers[1])
        close = int(integers[2])
        if isinstance(self.candle, TimeCandles):
            close = ts + self.candle.length
        else:
            ts = max(ts, int(integers[PREVIOUS_TS]) + 1)
        times = np.array([[ts], [max(close, ts)], [integers[3]]], dtype=np.int64)
        average = average_price(bars)
        if isinstance(self.candle, HeikinAshiCandles):
            heikin_ashi_kernel(bars, state[STATE].copy())
        return self._as_frame(bars, times, average)

    def state(self) -> dict[str, Any]:
        """Everything the builder knows, as plain JSON values; floats as hexadecimal text, which loses no bit."""
        return {
            "format": _STATE_FORMAT,
            "candle": self.candle.describe(),
            "price": self.price,
            "floats": [float(value).hex() for value in self._floats],
            "integers": [int(value) for value in self._integers],
        }

    @classmethod
    def restore(cls, candle: CandleType, state: Mapping[str, Any]) -> CandleBuilder:
        """A builder that goes on where :meth:`state` was taken.

        Raises
        ------
        ConfigurationError
            The state is of another candle type or of other parameters.
        DataError
            It is not a state: damaged, or of an unknown format.
        """
        if not isinstance(state, Mapping) or state.get("format") != _STATE_FORMAT:
            raise DataError(f"this is no candle state of format {_STATE_FORMAT}", hint="build the candles anew")
        if state.get("candle") != candle.describe():
            raise ConfigurationError(
                f"the state is of {state.get('candle')}, not of {candle.describe()}", hint="build the candles anew"
            )
        try:
            floats = np.array([float.fromhex(text) for text in state["floats"]])
            integers = np.array(state["integers"], dtype=np.int64)
            price = state["price"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"the candle state is damaged: {error}", hint="build the candles anew") from None
        if floats.shape != (FLOATS,) or integers.shape != (INTEGERS,) or price not in ("mid", "bid", "ask", "last"):
            raise DataError(
                f"the candle state is damaged: {floats.size} floats and {integers.size} integers, price {price!r}",
                hint="build the candles anew",
            )
        builder = cls(candle, price=price)
        same = np.array_equal(builder._floats[PARAMETERS:FAMILY_FLOATS], floats[PARAMETERS:FAMILY_FLOATS])
        same &= np.array_equal(builder._integers[OPTION:CLOSED_UNTIL], integers[OPTION:CLOSED_UNTIL])
        if not same or not _UNKNOWN <= integers[COLUMNS] <= _ALL_COLUMNS or integers[0] < 0:
            raise DataError("the candle state is damaged: its parameters are not its type's", hint="build anew")
        builder._floats[:], builder._integers[:] = floats, integers
        builder._fast = builder._can_push()
        return builder

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy needs memory of its own: the address of the original's means nothing in another builder or process.
        return CandleBuilder.restore, (self.candle, self.state())

    def _can_push(self) -> bool:
        """Whether a single tick may go straight to the kernel: its columns are known, nothing follows the kernel."""
        columns = int(self._integers[COLUMNS])
        plain = not isinstance(self.candle, HeikinAshiCandles) and getattr(self.candle, "empty", "skip") == "skip"
        return plain and columns != _UNKNOWN and not columns & FROM_BARS

    def _checked(self, chunk: pd.DataFrame) -> Records:
        return records_from(chunk, price=self.price)

    def _run(self, records: Records) -> list[tuple[Floats, Integers]]:
        integers = self._integers
        columns = columns_of(records)
        if integers[COLUMNS] == _UNKNOWN:
            integers[COLUMNS] = columns
        elif integers[COLUMNS] != columns:
            raise DataError(
                f"the records know {_names(columns)}, those before knew {_names(int(integers[COLUMNS]))}",
                hint="a builder takes one kind of records",
            )
        first = int(records.ts[0])
        if first < integers[LAST_RECORD_TS]:
            raise DataError(
                f"the first record ({_time(first)}) is earlier than the last one ({_time(integers[LAST_RECORD_TS])})",
                hint="records must not go back in time",
            )
        if first < integers[CLOSED_UNTIL]:
            raise DataError(
                f"the record at {_time(first)} belongs to a bar that was closed by the clock at "
                f"{_time(integers[CLOSED_UNTIL])}",
                hint="give late ticks to a rebuild of that bar",
            )
        self.candle.check(records, bool(columns & FROM_BARS))
        self._fast = self._can_push()
        integers[LAST_RECORD_TS] = records.ts[-1]
        blocks, start, capacity = [], 0, min(records.ts.size + 2, _BLOCK)
        while start < records.ts.size:
            floats, times = np.empty((OUT_FLOATS, capacity)), np.empty((OUT_INTEGERS, capacity), dtype=np.int64)
            start, bars, needed = self.candle.kernel(records, self._floats, integers, floats, times, start)
            blocks.append((floats[:, :bars], times[:, :bars]))
            if needed > MAXIMUM_BRICKS:
                raise DataError(
                    f"the record at {_time(records.ts[start])} with the price {records.close[start]} would make "
                    f"{needed} bars, more than {MAXIMUM_BRICKS}",
                    hint="check the price, or choose larger bars",
                )
            capacity = max(capacity, needed)
        return blocks

    def _clock(self, records: Records, now: pd.Timestamp | None) -> int:
        seen = int(records.known[-1]) if records.ts.size else int(self._integers[LAST_RECORD_TS])
        if now is None:
            return seen
        if not isinstance(self.candle, TimeCandles):
            raise ConfigurationError("now is given, but only time bars are closed by a clock", hint="leave it out")
        if not isinstance(now, pd.Timestamp) or now.tz is None or now is pd.NaT:
            raise ConfigurationError(f"now = {now!r} is refused", hint="pass an instant with a time zone")
        return max(seen, now.as_unit("ns").value)

    def _finish(self, blocks: list[tuple[Floats, Integers]], clock: int) -> pd.DataFrame:
        candle = self.candle
        if isinstance(candle, TimeCandles):
            blocks.append(close_by_clock(self._floats, self._integers, clock))
        if len(blocks) == 1:
            bars, times = blocks[0]
        elif blocks:
            bars, times = (np.concatenate([block[j] for block in blocks], axis=1) for j in (0, 1))
        else:
            bars, times = np.empty((OUT_FLOATS, 0)), np.empty((OUT_INTEGERS, 0), dtype=np.int64)
        if isinstance(candle, TimeCandles) and candle.empty != "skip":
            bars, times = fill_empty(bars, times, self._floats, self._integers, clock=clock, policy=candle.empty)
        average = average_price(bars)
        if isinstance(candle, HeikinAshiCandles):
            bars = np.ascontiguousarray(bars)
            heikin_ashi_kernel(bars, self._floats[STATE])
        return self._as_frame(bars, times, average)

    def _as_frame(self, bars: Floats, times: Integers, average: Floats | None = None) -> pd.DataFrame:
        columns = int(self._integers[COLUMNS])
        return bars_frame(self.candle, 0 if columns == _UNKNOWN else columns, bars, times, average)

    def _push_checked(self, ts: int, price: float, size: float, side: int, spread: float) -> list[Candle]:
        columns = int(self._integers[COLUMNS])
        if columns == _UNKNOWN or columns & FROM_BARS:
            raise ConfigurationError(
                "push does not know which columns the ticks carry",
                hint="pass columns=('volume', 'side') or the like to the builder",
            )
        index = pd.DatetimeIndex(np.array([ts], dtype=np.int64).view("M8[ns]"), name="ts").tz_localize("UTC")
        if columns & HAS_SIDE:
            row = pd.DataFrame({"price": [price], "size": [size], "side": [side]}, index=index)
            records = records_from(row)
        else:
            row = pd.DataFrame({"last": [price]}, index=index)
            if columns & HAS_VOLUME:
                row["volume"] = size
            records = records_from(row, price="last")
        if columns & HAS_SPREAD:
            if not np.isfinite(spread):
                raise DataError(f"ticks: spread is {spread} at {index[0]}, and must be finite")
            records = records._replace(spread=np.array([float(spread)]), spread_close=np.array([float(spread)]))
        if not columns & HAS_VOLUME:
            records = records._replace(volume=np.empty(0))
        bars = self.update(frozen(records))
        nan = pd.Series(np.nan, index=bars.index)
        extra = bars[self.candle.extra] if self.candle.extra in bars.columns else pd.Series(0.0, index=bars.index)
        optional = [bars.get(name, nan).tolist() for name in ("buy_volume", "vwap", "spread", "spread_close")]
        prices = bars[["open", "high", "low", "close", "volume"]].to_numpy().tolist()
        times = zip(_nanoseconds(bars.index), _nanoseconds(pd.DatetimeIndex(bars["close_ts"])), strict=True)
        rows = zip(times, prices, bars["tick_count"].tolist(), zip(*optional, strict=True), extra.tolist(), strict=True)
        return [
            Candle._make((*stamps, *price, count, *others, float(last))) for stamps, price, count, others, last in rows
        ]


def _nanoseconds(index: Any) -> list[int]:
    return index.as_unit("ns").asi8.tolist()


def build_candles(
    frame: pd.DataFrame | Records,
    candle: CandleType,
    *,
    price: TickPrice = "mid",
    now: pd.Timestamp | None = None,
    forming: bool = False,
) -> pd.DataFrame:
    """All bars of a history in one call; see :class:`CandleBuilder` for the parameters and what comes back.

    Parameters
    ----------
    forming:
        True adds the unfinished last bar, which the data still in the future can change.

    Examples
    --------
    >>> ts = pd.to_datetime(["2017-01-02 00:00:10", "2017-01-02 00:00:50", "2017-01-02 00:03:00"], utc=True)
    >>> trades = pd.DataFrame({"price": [1.0, 2.0, 4.0], "size": [1.0, 3.0, 1.0]}, index=ts)
    >>> bars = build_candles(trades, TimeCandles("M1"))
    >>> bars[["open", "close", "volume", "vwap", "tick_count"]].to_numpy().tolist()
    [[1.0, 2.0, 4.0, 1.75, 2.0]]
    >>> len(build_candles(trades, TimeCandles("M1", empty="flag"), forming=True))
    4
    """
    builder = CandleBuilder(candle, price=price)
    bars = builder.update(frame, now=now)
    if forming:
        last = builder.forming()
        if len(last):
            bars = pd.concat([bars, last])
    return bars


def _names(columns: int) -> str:
    known = [name for name, flag in _FLAGS.items() if columns & flag]
    return ("bars with " if columns & FROM_BARS else "ticks with ") + (", ".join(known) or "nothing but prices")


def _time(nanoseconds: int) -> str:
    return f"{np.datetime64(int(nanoseconds), 'ns')}Z"
