"""Range bars: complete when high and low lie a given distance apart, fixed or as wide as the market asks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

from numba import njit

from tapeline.candles.candle_type import CandleType, Kernel, Push, require_count, require_interval, require_positive
from tapeline.candles.forming import (
    FAMILY_FLOATS,
    FAMILY_INTEGERS,
    OPTION,
    PARAMETERS,
    PREVIOUS_TS,
    emit,
    grown,
    loaded,
    nothing,
    one_row,
    refuses,
    started,
    store,
    views_at,
)
from tapeline.candles.records import Floats, Integers, Records
from tapeline.candles.regime import regime_finished, regime_loaded, regime_seen, regime_store
from tapeline.core.timeframe import Timeframe

CLOSE_ENOUGH: Final = 1e-9
"""The share of a range or brick by which a price may miss it: 1.1005 - 1.1 is below 0.0005 in binary numbers."""

_INTERVAL, _WINDOW, _FAST = OPTION, OPTION + 1, OPTION + 2
_MULTIPLE, _SMALLEST, _LARGEST = PARAMETERS, PARAMETERS + 1, PARAMETERS + 2
_RANGE: Final = FAMILY_FLOATS
_REGIME_FLOATS, _REGIME_INTEGERS = FAMILY_FLOATS + 1, FAMILY_INTEGERS


@dataclass(frozen=True)
class RangeCandles(CandleType):
    """A bar is complete at the tick that makes its high and low ``size`` apart.

    That tick belongs to the bar, so a jump makes a bar larger than ``size``; no bars are invented inside the jump.
    The next bar opens at the next tick. Of finer bars, a bar's high and low count and it is never divided.

    Source: the range bars of V. Nicolellis (mid-1990s), which close at a fixed range instead of a fixed time.

    Parameters
    ----------
    size:
        The range in units of price.
    """

    size: float

    def __post_init__(self) -> None:
        require_positive(self, "size", self.size)

    @property
    def kernel(self) -> Kernel:
        """The loop over records."""
        return range_kernel

    @property
    def push(self) -> Push:
        """The step for one record."""
        return push_range

    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write the size."""
        floats[PARAMETERS] = self.size


@dataclass(frozen=True)
class AdaptiveCandles(CandleType):
    """Range bars whose range follows volatility and trade activity: dynamic candles of candle-range theory.

    When a candle opens, its range is set to ``multiple * ATR * sqrt(fast / slow)`` and held within the bounds. ATR is
    Wilder's average true range of the finished interval bars; ``fast`` and ``slow`` are mean tick counts of those bars
    over the last few and over ``window``. ATR says how far price moved over a long stretch; the ratio says how much
    busier than that stretch the market is now. The root is what follows where variance is proportional to the number
    of trades. All of it is known when the candle opens: no candle's range depends on what comes after.

    Source: Clark (1973), Econometrica 41; Ane and Geman (2000), Journal of Finance 55, for variance and trade counts.

    Parameters
    ----------
    timeframe:
        The interval over which volatility and activity are measured.
    smallest, largest:
        Bounds of the range in units of price. The lower one has no default: without it a quiet hour would make every
        tick a candle. A few spreads is a sensible value.
    multiple:
        Ranges of the interval bars in one candle.
    window:
        Intervals in the average true range and the slow tick count; no candle opens before that many are finished,
        and the ticks before belong to none.
    fast:
        Intervals in the fast tick count.

    The column ``range`` is the range that the candle was given.
    """

    timeframe: Timeframe | str
    smallest: float
    largest: float = math.inf
    multiple: float = 2.0
    window: int = 20
    fast: int = 3
    extra: ClassVar[str | None] = "range"

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeframe", require_interval(self, self.timeframe))
        require_positive(self, "smallest", self.smallest)
        if self.largest != math.inf:
            require_positive(self, "largest", self.largest - self.smallest)
        require_positive(self, "multiple", self.multiple)
        require_count(self, "window", self.window, 1, 100_000)
        require_count(self, "fast", self.fast, 1, self.window)

    @property
    def kernel(self) -> Kernel:
        """The loop over records."""
        return adaptive_kernel

    @property
    def push(self) -> Push:
        """The step for one record."""
        return push_adaptive

    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write interval, windows and bounds."""
        integers[_INTERVAL] = Timeframe.parse(self.timeframe).nanoseconds
        integers[_WINDOW], integers[_FAST] = self.window, self.fast
        floats[_MULTIPLE], floats[_SMALLEST], floats[_LARGEST] = self.multiple, self.smallest, self.largest


@njit(cache=True)
def range_kernel(
    records: Records, floats: Floats, integers: Integers, out_floats: Floats, out_integers: Integers, start: int
) -> tuple[int, int, int]:
    """Range bars; see :data:`~tapeline.candles.candle_type.Kernel`."""
    enough = floats[PARAMETERS] * (1.0 - CLOSE_ENOUGH)
    previous = integers[PREVIOUS_TS]
    rows, capacity = records.ts.size, out_integers.shape[1]
    bar = loaded(floats, integers)
    i, k = start, 0
    while i < rows and k < capacity:
        if bar.rows == 0:
            bar = started(records, i, records.ts[i])
        bar = grown(bar, records, i, 1.0)
        i += 1
        if bar.high - bar.low >= enough:
            previous = max(bar.ts, previous + 1)
            emit(bar, previous, max(bar.known, previous), 0.0, out_floats, out_integers, k)
            k += 1
            bar = nothing()
    store(bar, floats, integers)
    integers[PREVIOUS_TS] = previous
    return i, k, 1


@njit(cache=True)
def adaptive_kernel(
    records: Records, floats: Floats, integers: Integers, out_floats: Floats, out_integers: Integers, start: int
) -> tuple[int, int, int]:
    """Range bars of a causal range; see :data:`~tapeline.candles.candle_type.Kernel`."""
    interval, window, fast_window = integers[_INTERVAL], integers[_WINDOW], integers[_FAST]
    size = floats[_RANGE]
    previous = integers[PREVIOUS_TS]
    regime = regime_loaded(floats, integers, _REGIME_FLOATS, _REGIME_INTEGERS)
    rows, capacity = records.ts.size, out_integers.shape[1]
    bar = loaded(floats, integers)
    i, k = start, 0
    while i < rows and k < capacity:
        ts = records.ts[i]
        end = regime.end
        # Only intervals that ended before this record may set the range of a candle that opens with it.
        if regime.ticks > 0 and ts >= end:
            regime = regime_finished(regime, window, fast_window)
        if regime.ticks == 0:
            end = ts // interval * interval + interval
        if regime.bars >= window:
            if bar.rows == 0:
                bar = started(records, i, ts)
                wanted = floats[_MULTIPLE] * regime.true_range * math.sqrt(regime.fast / regime.slow)
                size = min(max(wanted, floats[_SMALLEST]), floats[_LARGEST])
            bar = grown(bar, records, i, 1.0)
            if bar.high - bar.low >= size * (1.0 - CLOSE_ENOUGH):
                previous = max(bar.ts, previous + 1)
                emit(bar, previous, max(bar.known, previous), size, out_floats, out_integers, k)
                k += 1
                bar = nothing()
        count = records.ticks[i] if records.ticks.size else 1
        regime = regime_seen(regime, records.high[i], records.low[i], records.close[i], count, end)
        i += 1
    store(bar, floats, integers)
    regime_store(regime, floats, integers, _REGIME_FLOATS, _REGIME_INTEGERS)
    floats[_RANGE] = size
    integers[PREVIOUS_TS] = previous
    return i, k, 1


@njit(cache=True)
def push_range(address: int, ts: int, price: float, size: float, side: int, spread: float) -> int:
    """One tick or trade; see :data:`~tapeline.candles.candle_type.Push`."""
    floats, integers, out_floats, out_integers = views_at(address)
    if refuses(integers, ts, price, size, side, spread):
        return -1
    records = one_row(floats, integers, ts, price, size, side, spread)
    return range_kernel(records, floats, integers, out_floats, out_integers, 0)[1]


@njit(cache=True)
def push_adaptive(address: int, ts: int, price: float, size: float, side: int, spread: float) -> int:
    """One tick or trade; see :data:`~tapeline.candles.candle_type.Push`."""
    floats, integers, out_floats, out_integers = views_at(address)
    if refuses(integers, ts, price, size, side, spread):
        return -1
    records = one_row(floats, integers, ts, price, size, side, spread)
    return adaptive_kernel(records, floats, integers, out_floats, out_integers, 0)[1]
