"""Divergence alerts: price makes a new extreme, its RSI or MACD does not; told at the close that confirms the pivot.

A pivot is a bar whose low (high) lies beyond those of ``SPAN`` bars on either side, so it is known ``SPAN`` bars later.
It is compared with the pivot before it, at most ``REACH`` bars back (Murphy, Technical Analysis of the Financial
Markets, 1999, chapter 10: regular divergence).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from tapeline.alerts.catalogue import NAME_OF, TIMEFRAME, Built, Context, Function, Parameter, declared
from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.engine.layout import TIMEFRAMES, Indicator
from tapeline.alerts.external import External
from tapeline.alerts.operands import compare, external
from tapeline.core.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

SPAN: Final = 3
REACH: Final = 60
INDICATORS: Final = ("rsi", "macd")
_WINDOW: Final = REACH + 2 * SPAN + 2


def divergence_key(indicator: str, timeframe: int) -> str:
    """The series of divergences of an indicator on the bars of one timeframe."""
    return f"divergence:{indicator}:{NAME_OF[timeframe]}"


@njit(cache=True)
def divergences(high: Any, low: Any, values: Any, span: Any, reach: Any) -> Any:
    """By bar: 1 where its close confirms a bullish divergence, -1 a bearish one, 0 else.

    Parameters
    ----------
    high, low, values:
        Prices and the indicator by bar, float64 of one length; an indicator that is not known is NaN.

    Notes
    -----
    What is found at a bar follows from the ``reach + 2 * span + 1`` newest bars alone.
    """
    found = np.zeros(high.size, np.int8)
    for side in (1, -1):
        before = -1
        for at in range(span, high.size - span):
            pivot = True
            for step in range(1, span + 1):
                if side == 1:
                    pivot = pivot and low[at] < low[at - step] and low[at] < low[at + step]
                else:
                    pivot = pivot and high[at] > high[at - step] and high[at] > high[at + step]
            if not pivot:
                continue
            if before >= 0 and at - before <= reach:
                if side == 1 and low[at] < low[before] and values[at] > values[before]:
                    found[at + span] = 1
                elif side == -1 and high[at] > high[before] and values[at] < values[before]:
                    found[at + span] = -1
            before = at
    return found


def from_history(keys: Iterable[str], symbol: str, bars_of: Callable[[int], pd.DataFrame]) -> list[External]:
    """The records of the keys that are divergences, on closed bars by timeframe."""
    found: list[External] = []
    for key in sorted(keys):
        if not key.startswith("divergence:"):
            continue
        _, indicator, name = key.split(":")
        bars = bars_of(TIMEFRAMES[name])
        columns = [bars[column].to_numpy(np.float64) for column in ("high", "low", "close")]
        rows = divergences(columns[0], columns[1], _series(indicator, columns[2]), SPAN, REACH)
        closes = bars["close_ts"].astype("int64").to_numpy()
        found.extend(
            External(int(closes[row]), symbol, key, float(rows[row]), event=True)
            for row in np.flatnonzero(rows).tolist()
        )
    return found


class DivergenceFeed:
    """The same, bar by bar: the indicator is the engine's own, and each bar costs the same.

    Parameters
    ----------
    history:
        Closed bars with ``close_ts`` that have been taken already; nothing is told of them.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> feed = DivergenceFeed("BTCUSDT", "rsi", TIMEFRAMES["1h"])
    >>> [feed.push(*bar) for bar in example_bars(10, 14, 15).itertuples()]
    [[], [], []]
    """

    def __init__(self, symbol: str, indicator: str, timeframe: int, *, history: pd.DataFrame | None = None) -> None:
        if indicator not in INDICATORS:
            raise ConfigurationError(f"indicator = {indicator!r} is none of {', '.join(INDICATORS)}")
        self.symbol, self.timeframe, self.key = symbol, timeframe, divergence_key(indicator, timeframe)
        lengths = {"n": 14} if indicator == "rsi" else {"n": 12, "n2": 26, "n3": 9}
        kind = kinds.RSI if indicator == "rsi" else kinds.MACD
        self._reading = Indicator(kind, timeframe, closed=True, **lengths), 0  # type: ignore[arg-type]
        self._engine = Evaluator([symbol])
        self._engine.add(CompiledRule("divergence", (compare(self._reading, ">", 0.0),)), [symbol])
        self._rows: deque[tuple[float, float, float]] = deque(maxlen=_WINDOW)
        if history is not None and len(history):
            self._begin(history)

    def _begin(self, history: pd.DataFrame) -> None:
        """All bars but the newest at once, and those of the window one by one."""
        opened = history.index.as_unit("ns").asi8  # type: ignore[attr-defined]
        columns = {name: history[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume")}
        split = max(len(history) - _WINDOW, 0)
        before = {name: column[:split] for name, column in columns.items()}
        self._engine.load(self.symbol, self.timeframe, {"ts": opened[:split], **before})
        for row in range(split, len(history)):
            bar = {name: column[row : row + 1] for name, column in columns.items()}
            self._engine.load(self.symbol, self.timeframe, {"ts": opened[row : row + 1], **bar})
            value = self._engine.value(self.symbol, self._reading)
            self._rows.append((float(bar["high"][0]), float(bar["low"][0]), value))

    def push(
        self,
        ts: pd.Timestamp,
        open: float,
        high: float,
        low: float,
        close: float,
        volume: float,
        close_ts: pd.Timestamp,
    ) -> list[External]:
        """Take the next closed bar; what it confirms."""
        bar: dict[str, list[float]] = {"ts": [ts.as_unit("ns").value], "open": [open], "high": [high], "low": [low]}
        self._engine.load(self.symbol, self.timeframe, {**bar, "close": [close], "volume": [volume]})
        self._rows.append((high, low, self._engine.value(self.symbol, self._reading)))
        high_row, low_row, values = np.ascontiguousarray(np.array(self._rows, np.float64).T)
        told = int(divergences(high_row, low_row, values, SPAN, REACH)[-1])
        at = close_ts.as_unit("ns").value
        return [External(at, self.symbol, self.key, float(told), event=True)] if told else []


def _series(indicator: str, close: np.ndarray) -> np.ndarray:
    import talib

    if close.size == 0:
        return close
    return np.asarray(talib.RSI(close, 14) if indicator == "rsi" else talib.MACD(close, 12, 26, 9)[0], np.float64)


def _divergence(given: Mapping[str, Any], context: Context) -> Built:
    event = external(divergence_key(given["indicator"], given["timeframe"]))
    return compare(event, ">" if given["direction"] == "up" else "<", 0.0)


FUNCTIONS: Final = declared(
    Function(
        "divergence",
        (
            Parameter("indicator", "choice", "rsi", choices=INDICATORS),
            Parameter("direction", "choice", choices=("up", "down")),
            TIMEFRAME,
        ),
        _divergence,
        "Price made a lower low and its RSI (14) or MACD (12, 26) did not: up; or the reverse at highs: down.",
        'divergence("rsi", "up", "1h")',
        event=True,
    ),
)
RANGES: Final = {"divergence:": (-1.0, 1.0)}
