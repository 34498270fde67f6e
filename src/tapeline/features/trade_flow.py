"""Trade and tick flow per bar: counts, bought and sold volume, delta, cumulative delta, sizes, large trades."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.candles.records import Integers, records_from
from tapeline.candles.time_bars import TimeCandles
from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.core.timeframe import Timeframe
from tapeline.features.arrays import Floats
from tapeline.features.flow_bars import FlowBars, Rows, read_only
from tapeline.features.trade_sign import Signs

UnknownSide = Literal["tick_rule", "leave"]

MAXIMUM_MEMORY: Final = 100_000
_COUNTS: Final = ("trade_count", "buy_count", "sell_count", "uptick_count", "downtick_count")
_SUMS: Final = ("traded", "bought", "sold", "delta", "cumulative_delta", "large", "signed_root_value")
_LAST_PRICE, _SIGN, _CUMULATIVE, _PERIOD, _SEEN, _RING = range(6)


class TradeFlow(FlowBars):
    """What was traded in each bar, and who took it.

    The rows are trades: ``price``, ``size`` and optionally ``side`` (1 a buyer took liquidity, -1 a seller, 0 not
    said) on ``ts``, as in ``RAW_TRADES``.

    Columns of a bar, besides ``known_at`` (its close):

    - ``trade_count``, ``buy_count``, ``sell_count``: trades, and those of each side.
    - ``uptick_count``, ``downtick_count``: trades above and below the price of the trade before.
    - ``traded``, ``bought``, ``sold``: quantity in all, and of each side.
    - ``delta``: ``bought - sold``; ``cumulative_delta`` (CVD): the sum of it since the first trade or the last reset.
    - ``large``: quantity in large trades; NaN before ``memory`` bars have been seen, unless ``large_size`` is given.
    - ``signed_root_value``: sum of sign times the root of price times size, which Hasbrouck's lambda is of.
    - ``mean_size``: ``traded / trade_count``; ``large_share``: ``large / traded``.

    Parameters
    ----------
    timeframe:
        Of the bars.
    unknown_side:
        What becomes of trades without a side: ``tick_rule`` takes the sign of the last change of price, ``leave``
        counts them on neither side.
    large_size:
        A trade of this size or more is large. None: from ``large_multiple`` times the mean size of the trades of the
        ``memory`` bars before, so that the bar itself has no part in its own measure.
    reset:
        The cumulative delta begins at 0 with each period of this timeframe, such as ``D1``; None: never.

    Examples
    --------
    >>> ts = pd.to_datetime(["2017-01-02 00:00:10", "2017-01-02 00:00:50", "2017-01-02 00:01:00"], utc=True)
    >>> trades = pd.DataFrame({"price": [1.0, 2.0, 2.0], "size": [3.0, 1.0, 5.0], "side": [-1, 1, 1]}, index=ts)
    >>> flow = TradeFlow("M1")
    >>> flow.update(trades)[["trade_count", "bought", "sold", "delta"]].to_numpy().tolist()
    [[2.0, 1.0, 3.0, -2.0]]
    >>> flow.update(trades[:0], now=pd.Timestamp("2017-01-02 00:02", tz="UTC"))["cumulative_delta"].tolist()
    [3.0]
    """

    def __init__(
        self,
        timeframe: Timeframe | str,
        *,
        unknown_side: UnknownSide = "tick_rule",
        large_size: float | None = None,
        large_multiple: float = 10.0,
        memory: int = 24,
        reset: Timeframe | str | None = None,
    ) -> None:
        super().__init__(timeframe)
        if unknown_side not in ("tick_rule", "leave"):
            raise ConfigurationError(f"unknown_side = {unknown_side!r} is refused", hint="use tick_rule or leave")
        for name, value in (("large_size", large_size), ("large_multiple", large_multiple)):
            if value is not None and not 0.0 < value < math.inf:
                raise ConfigurationError(f"{name} = {value} must be positive and finite")
        if not 1 <= memory <= MAXIMUM_MEMORY:
            raise ConfigurationError(f"memory = {memory} must be from 1 to {MAXIMUM_MEMORY} bars")
        self._use_ticks = unknown_side == "tick_rule"
        self._large_size = math.nan if large_size is None else float(large_size)
        self._multiple = float(large_multiple)
        self._reset = (0, 0)
        if reset is not None:
            grid = TimeCandles(reset)
            if grid.length % self._length:
                raise ConfigurationError(f"reset = {reset} is no multiple of {self.timeframe}")
            self._reset = (grid.length, grid.offset)
        # Last price, last sign, cumulative delta, its period, bars seen, then traded and counted of each bar before.
        self._state = np.zeros(_RING + 2 * memory)
        self._state[_LAST_PRICE] = math.nan
        self._state[_PERIOD] = math.nan

    def _read(self, frame: pd.DataFrame) -> Rows:
        absent = [name for name in ("price", "size") if name not in frame.columns]
        if absent:
            raise SchemaError(f"trades: columns {absent} are missing")
        names = [name for name in ("price", "size", "side") if name in frame.columns]
        records = records_from(frame[names])
        side = records.side if "side" in names else np.zeros(len(frame), dtype=np.int8)
        return {"ts": records.ts, "price": records.close, "size": records.volume, "side": side}

    def _bars(self, rows: Rows, starts: Integers) -> dict[str, NDArray[Any]]:
        periods = np.zeros(starts.size - 1)
        if self._reset[0]:
            periods = ((rows["ts"][starts[:-1]] - self._reset[1]) // self._reset[0]).astype(np.float64)
        state = self._state.copy()
        price, size, side = (read_only(rows[name]) for name in ("price", "size", "side"))
        counts, sums = trade_bars(
            price, size, side, starts, periods, self._use_ticks, self._large_size, self._multiple, state
        )
        self._state = state
        columns: dict[str, NDArray[Any]] = dict(zip(_COUNTS, counts, strict=True))
        columns |= dict(zip(_SUMS, sums, strict=True))
        columns["mean_size"] = columns["traded"] / columns["trade_count"]
        columns["large_share"] = columns["large"] / columns["traded"]
        return columns


def trade_flow(
    trades: pd.DataFrame, timeframe: Timeframe | str, *, now: pd.Timestamp | None = None, **options: Any
) -> pd.DataFrame:
    """The flow of a whole history of trades in one call: the complete bars; see :class:`TradeFlow`.

    Examples
    --------
    >>> ts = pd.to_datetime(["2017-01-02 00:00:10", "2017-01-02 00:00:50", "2017-01-02 00:01:00"], utc=True)
    >>> trades = pd.DataFrame({"price": [1.0, 2.0, 2.0], "size": [3.0, 1.0, 5.0], "side": [-1, 1, 1]}, index=ts)
    >>> trade_flow(trades, "M1", large_size=3.0)[["mean_size", "large_share"]].to_numpy().tolist()
    [[2.0, 0.75]]
    """
    return TradeFlow(timeframe, **options).update(trades, now=now)


def trades_of_ticks(ticks: pd.DataFrame) -> pd.DataFrame:
    """Ticks as trades, so that the flow of a feed without trades can be counted.

    The price is ``last`` where the tick has one, else the middle of bid and ask; the size is ``volume`` where the tick
    has one, else 1: a tick counts as one. The side is MetaTrader's flag (32 a buyer, 64 a seller) where just one of
    the two is set, else not known.

    Parameters
    ----------
    ticks:
        ``bid``, ``ask``, ``last``, ``volume``, ``flags`` on ``ts``, as in ``RAW_TICKS``; ``known_at`` is kept.

    Raises
    ------
    SchemaError
        A column is missing.

    Examples
    --------
    >>> ts = pd.to_datetime(["2017-01-02 00:00:10", "2017-01-02 00:00:50"], utc=True)
    >>> ticks = pd.DataFrame({"bid": [1.0, 2.0], "ask": [2.0, 3.0], "last": [float("nan"), 2.0],
    ...     "volume": [float("nan"), 4.0], "flags": [6, 32]}, index=ts)
    >>> trades_of_ticks(ticks).to_numpy().tolist()
    [[1.5, 1.0, 0.0], [2.0, 4.0, 1.0]]
    """
    absent = [name for name in ("bid", "ask", "last", "volume", "flags") if name not in ticks.columns]
    if absent:
        raise SchemaError(f"ticks: columns {absent} are missing")
    bid, ask, last, volume = (ticks[name].to_numpy(dtype=np.float64) for name in ("bid", "ask", "last", "volume"))
    flags = ticks["flags"].to_numpy(dtype=np.int64)
    bought, sold = (flags & 32) != 0, (flags & 64) != 0
    columns: dict[str, Any] = {
        "price": np.where(last > 0.0, last, 0.5 * (bid + ask)),
        "size": np.where(volume > 0.0, volume, 1.0),
        "side": bought.astype(np.int8) - sold.astype(np.int8),
    }
    if "known_at" in ticks.columns:
        columns["known_at"] = ticks["known_at"]
    return pd.DataFrame(columns, index=ticks.index)


@njit(cache=True, nogil=True)
def trade_bars(
    price: Floats,
    size: Floats,
    side: Signs,
    starts: Integers,
    periods: Floats,
    use_ticks: bool,
    large_size: float,
    multiple: float,
    state: Floats,
) -> tuple[Integers, Floats]:
    """Counts [5, bars] and sums [7, bars] in the order of :class:`TradeFlow`; ``state`` is brought up to date.

    Examples
    --------
    >>> state = np.zeros(7)
    >>> counts, sums = trade_bars(np.array([1.0, 4.0]), np.array([2.0, 1.0]), np.array([1, -1], dtype=np.int8),
    ...     np.array([0, 2]), np.zeros(1), True, 2.0, 1.0, state)
    >>> counts[:, 0], sums[:, 0].round(4)
    (array([2, 1, 1, 2, 0]), array([ 3.    ,  2.    ,  1.    ,  1.    ,  1.    ,  2.    , -0.5858]))
    """
    bars = starts.size - 1
    counts = np.zeros((5, bars), dtype=np.int64)
    sums = np.zeros((7, bars))
    memory = (state.size - 5) // 2
    before = state[0]
    sign = int(state[1])
    for k in range(bars):
        threshold = large_size
        seen = int(state[4])
        if np.isnan(large_size) and seen >= memory:
            # Summed anew, so that a bar's threshold does not depend on what was added and taken out before.
            volume, trades = 0.0, 0.0
            for j in range(memory):
                volume += state[5 + j]
                trades += state[5 + memory + j]
            threshold = multiple * volume / trades
        buys, sells, ups, downs = 0, 0, 0, 0
        traded, bought, sold, large, root = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(starts[k], starts[k + 1]):
            now, quantity = price[i], size[i]
            # Without branches: sides come as good as at random, and a wrong guess costs more than the arithmetic.
            up, down = now > before, now < before
            sign = 1 if up else (-1 if down else sign)
            before = now
            taken = sign if (use_ticks and side[i] == 0) else int(side[i])
            buy, sell = taken > 0, taken < 0
            ups += up
            downs += down
            buys += buy
            sells += sell
            traded += quantity
            bought += quantity if buy else 0.0
            sold += quantity if sell else 0.0
            large += quantity if quantity >= threshold else 0.0
            root += taken * math.sqrt(now * quantity)
        rows = int(starts[k + 1] - starts[k])
        if periods[k] != state[3]:
            state[2] = 0.0
            state[3] = periods[k]
        state[2] += bought - sold
        counts[0, k], counts[1, k], counts[2, k], counts[3, k], counts[4, k] = rows, buys, sells, ups, downs
        sums[0, k], sums[1, k], sums[2, k], sums[3, k] = traded, bought, sold, bought - sold
        sums[4, k], sums[6, k] = state[2], root
        sums[5, k] = large if not np.isnan(threshold) else np.nan
        place = seen % memory
        state[5 + place], state[5 + memory + place] = traded, rows
        state[4] = seen + 1
    state[0], state[1] = before, sign
    return counts, sums
