"""Candle-range theory on bars: accumulation range, sweep of its high or low, distribution to the other side."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numba import njit

from tapeline.candles.candle_type import require_count, require_positive
from tapeline.candles.records import Floats, Integers, records_from
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe


class Phase(IntEnum):
    """What a bar was, known at its close."""

    NONE = 0
    ACCUMULATION = 1
    SWEEP = 2
    DISTRIBUTION = 3


_FORMAT: Final = 1
# The integer state, then the float state; the ring buffers of the last highs and lows follow.
_PHASE, _DIRECTION, _AGE, _BARS, _LAST_TS = range(5)
_TOP, _BOTTOM, _EXTREME, _TRUE_RANGE, _CLOSE = range(5)
_RING: Final = 5


class PhaseMarker:
    """Mark the phases of candle-range theory on bars as they close.

    A range is *accumulated* when the last ``bars_in_range`` bars lie within ``widest`` average true ranges; its high
    and low are fixed at that close. It stands while bars close inside without leaving it. A bar that leaves it on one
    side and closes back inside *sweeps* that side: stops beyond were taken and the price was refused. *Distribution*
    is the bar that then closes at or beyond the target: the other side of the range, or its middle. The idea fails,
    and the search starts anew with the next bars, when a bar closes outside the range without a sweep, leaves it on
    both sides at once, closes beyond the extreme of the sweep, or when nothing comes of it within ``patience`` bars.

    With ``bars_in_range=1`` and ``widest=math.inf`` this is the three-candle model: every candle's range can be swept
    by the next and distributed by the one after.

    There is no canonical text of this theory (it is taught in trading courses); the definition here is ours and exact.

    Parameters
    ----------
    bars_in_range:
        Bars that make up a range.
    widest:
        The greatest height of a range in average true ranges, over the bars before the range's last one included;
        infinite for no bound.
    window:
        Bars of Wilder's average true range.
    patience:
        Bars for which a range waits for its sweep, and a sweep for its distribution.
    target:
        Where distribution is confirmed: ``opposite`` side or ``middle``.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": [10.0, 9.5, 9.8], "high": [11.0, 10.0, 11.5], "low": [9.0, 8.5, 9.7],
    ...     "close": [9.5, 9.8, 11.2], "volume": 1.0, "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> PhaseMarker(bars_in_range=1, widest=float("inf"), window=1).update(bars)[["phase", "direction"]].values.tolist()
    [[1, 0], [2, 1], [3, 1]]
    """

    def __init__(
        self,
        *,
        bars_in_range: int = 4,
        widest: float = 2.0,
        window: int = 14,
        patience: int = 12,
        target: Literal["opposite", "middle"] = "opposite",
    ) -> None:
        require_count(self, "bars_in_range", bars_in_range, 1, 10_000)
        if widest != float("inf"):
            require_positive(self, "widest", widest)
        require_count(self, "window", window, 1, 100_000)
        require_count(self, "patience", patience, 1, 100_000)
        if target not in ("opposite", "middle"):
            raise ConfigurationError(f"PhaseMarker: target = {target!r} is refused", hint="use opposite or middle")
        self._parameters: dict[str, Any] = {
            "bars_in_range": bars_in_range,
            "widest": widest,
            "window": window,
            "patience": patience,
            "target": target,
        }
        self._floats = np.zeros(_RING + 2 * bars_in_range)
        self._integers = np.zeros(5, dtype=np.int64)
        self._integers[_LAST_TS] = -(2**62)

    def update(self, bars: pd.DataFrame, *, timeframe: Timeframe | None = None) -> pd.DataFrame:
        """Mark the next closed bars.

        Parameters
        ----------
        bars:
            Closed bars, later than those before.
        timeframe:
            Their length where they have no ``close_ts``.

        Returns
        -------
        On the bars' index: ``phase`` (:class:`Phase`), ``direction`` (+1 after the low was swept, -1 after the high, 0
        before), ``range_high`` and ``range_low`` of the range in question, ``sweep_extreme``, and ``confirmed_at``, the
        bar's close: nothing in the row was known before. NaN where there is none.

        Raises
        ------
        SchemaError, DataError
            As :func:`~tapeline.candles.records.records_from` for bars; DataError where the bars go back in time.
        """
        records = records_from(bars, timeframe=timeframe)
        if records.open is records.close:
            raise DataError("phases are marked on bars, not on ticks", hint="build bars first")
        if records.ts.size and records.ts[0] <= self._integers[_LAST_TS]:
            raise DataError(f"the bar at {bars.index[0]} is not later than the last one", hint="give each bar once")
        if records.ts.size:
            self._integers[_LAST_TS] = records.ts[-1]
        options = self._parameters
        phase, direction, levels = _mark(
            records.high,
            records.low,
            records.close,
            self._floats,
            self._integers,
            options["bars_in_range"],
            float(options["widest"]),
            options["window"],
            options["patience"],
            options["target"] == "middle",
        )
        known = pd.DatetimeIndex(records.known.view("M8[ns]")).tz_localize("UTC")
        return pd.DataFrame(
            {
                "phase": phase,
                "direction": direction,
                "range_high": levels[0],
                "range_low": levels[1],
                "sweep_extreme": levels[2],
                "confirmed_at": known,
            },
            index=bars.index,
        )

    def state(self) -> dict[str, Any]:
        """Everything the marker knows, as plain JSON values."""
        return {
            "format": _FORMAT,
            "parameters": {name: str(value) for name, value in self._parameters.items()},
            "floats": [float(value).hex() for value in self._floats],
            "integers": [int(value) for value in self._integers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of a marker with the same parameters; others raise ConfigurationError."""
        own = self.state()
        if state.get("format") != _FORMAT or state.get("parameters") != own["parameters"]:
            raise ConfigurationError(f"the state is of {state.get('parameters')}, not of {own['parameters']}")
        try:
            floats = np.array([float.fromhex(text) for text in state["floats"]])
            integers = np.array(state["integers"], dtype=np.int64)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"the phase state is damaged: {error}") from None
        if floats.shape != self._floats.shape or integers.shape != self._integers.shape:
            raise DataError(f"the phase state is damaged: {floats.size} floats and {integers.size} integers")
        self._floats, self._integers = floats, integers


def candle_range_phases(
    bars: pd.DataFrame,
    *,
    bars_in_range: int = 4,
    widest: float = 2.0,
    window: int = 14,
    patience: int = 12,
    target: Literal["opposite", "middle"] = "opposite",
    timeframe: Timeframe | None = None,
) -> pd.DataFrame:
    """Mark the phases of candle-range theory on a whole history; see :class:`PhaseMarker`."""
    marker = PhaseMarker(bars_in_range=bars_in_range, widest=widest, window=window, patience=patience, target=target)
    return marker.update(bars, timeframe=timeframe)


@njit(cache=True)
def _mark(
    high: Floats,
    low: Floats,
    close: Floats,
    floats: Floats,
    integers: Integers,
    bars_in_range: int,
    widest: float,
    window: int,
    patience: int,
    to_middle: bool,
) -> tuple[Integers, Integers, Floats]:
    rows = close.size
    phases, directions = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    levels = np.full((3, rows), np.nan)
    phase, direction, age, bars = integers[_PHASE], integers[_DIRECTION], integers[_AGE], integers[_BARS]
    top, bottom, extreme = floats[_TOP], floats[_BOTTOM], floats[_EXTREME]
    true_range, last = floats[_TRUE_RANGE], floats[_CLOSE]
    highs, lows = floats[_RING : _RING + bars_in_range], floats[_RING + bars_in_range :]
    for t in range(rows):
        span = high[t] - low[t] if bars == 0 else max(high[t], last) - min(low[t], last)
        slot = bars % bars_in_range
        highs[slot], lows[slot] = high[t], low[t]
        bars += 1
        true_range += (span - true_range) / min(bars, window)
        last = close[t]
        age += 1
        ended = False
        if phase == 3:
            phase, direction = 0, 0
        if phase == 1:
            over, under = high[t] > top, low[t] < bottom
            inside = bottom <= close[t] <= top
            if not inside or (over and under):
                ended = True
            elif over or under:
                phase, direction, age = 2, -1 if over else 1, 0
                extreme = high[t] if over else low[t]
            elif age > patience:
                ended = True
        elif phase == 2:
            middle = 0.5 * (top + bottom)
            goal = middle if to_middle else (top if direction > 0 else bottom)
            if (direction > 0 and close[t] >= goal) or (direction < 0 and close[t] <= goal):
                phase = 3
            elif (direction > 0 and close[t] < extreme) or (direction < 0 and close[t] > extreme) or age > patience:
                ended = True
        if ended:
            phase, direction = 0, 0
        if phase == 0 and bars >= max(bars_in_range, window):
            ceiling, floor = highs.max(), lows.min()
            if ceiling - floor <= widest * true_range:
                phase, direction, age, top, bottom = 1, 0, 0, ceiling, floor
        phases[t], directions[t] = phase, direction
        if phase > 0:
            levels[0, t], levels[1, t] = top, bottom
        if phase > 1:
            levels[2, t] = extreme
    integers[_PHASE], integers[_DIRECTION], integers[_AGE], integers[_BARS] = phase, direction, age, bars
    floats[_TOP], floats[_BOTTOM], floats[_EXTREME] = top, bottom, extreme
    floats[_TRUE_RANGE], floats[_CLOSE] = true_range, last
    return phases, directions, levels
