"""Renko bricks of a fixed size or of one that follows the average true range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from numba import njit

from tapeline.candles.candle_type import (
    CandleType,
    Kernel,
    Push,
    require,
    require_count,
    require_interval,
    require_positive,
)
from tapeline.candles.forming import (
    FAMILY_FLOATS,
    FAMILY_INTEGERS,
    LAST_RECORD_TS,
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
from tapeline.candles.range_bars import CLOSE_ENOUGH
from tapeline.candles.records import Floats, Integers, Records
from tapeline.candles.regime import regime_finished, regime_loaded, regime_seen, regime_store
from tapeline.core.timeframe import Timeframe

GapPolicy = Literal["bricks", "merge"]

MAXIMUM_BRICKS: Final = 100_000
"""Bricks that one tick may complete: a wrong price must not fill the memory."""

_INTERVAL, _WINDOW, _FLAGS = OPTION, OPTION + 1, OPTION + 2
_MERGE, _WICKS = 1, 2
_SIZE, _MULTIPLE, _SMALLEST = PARAMETERS, PARAMETERS + 1, PARAMETERS + 2
# Brick borders lie at anchor + level * size: whole numbers do not drift as a running sum of sizes would.
_ANCHOR, _BRICK = FAMILY_FLOATS, FAMILY_FLOATS + 1
_REGIME_FLOATS: Final = FAMILY_FLOATS + 2
_LEVEL, _DIRECTION, _ANCHORED = FAMILY_INTEGERS, FAMILY_INTEGERS + 1, FAMILY_INTEGERS + 2
_REGIME_INTEGERS: Final = FAMILY_INTEGERS + 3


class _Renko(CandleType):
    """What both kinds of bricks share."""

    extra: ClassVar[str | None] = "phantom"
    traded_range: ClassVar[bool] = False
    gaps: GapPolicy
    wicks: bool

    def _check_policies(self) -> None:
        require(self.gaps in ("bricks", "merge"), self, "gaps", self.gaps, "bricks or merge")
        require(isinstance(self.wicks, bool), self, "wicks", self.wicks, "True or False")

    def _flags(self) -> int:
        return (_MERGE if self.gaps == "merge" else 0) | (_WICKS if self.wicks else 0)

    @property
    def kernel(self) -> Kernel:
        """The loop over records."""
        return renko_kernel

    @property
    def push(self) -> Push:
        """The step for one record."""
        return push_renko


@dataclass(frozen=True)
class RenkoCandles(_Renko):
    """A brick each time the price has moved a whole ``size`` beyond the last one; two sizes to turn around.

    The first record's price is the first border. A further brick in the same direction needs one size beyond the last
    brick's close; a brick in the other direction begins at the last brick's *open*, so that it needs two. Ticks
    decide; of finer bars the closes do.

    Source: Nison, Beyond Candlesticks (1994), ch. 8.

    Parameters
    ----------
    size:
        The brick in units of price.
    gaps:
        What becomes of a tick that crosses several borders at once. ``bricks``: one brick for each, of which all but
        the first are marked ``phantom``; they hold no volume and no tick, and nothing traded between their borders.
        ``merge``: one brick over the whole distance.
    wicks:
        True: the low of an up brick (the high of a down brick) is the lowest (highest) price seen since the brick
        before. False, as usual: bricks have none.
    """

    size: float
    gaps: GapPolicy = "bricks"
    wicks: bool = False

    def __post_init__(self) -> None:
        require_positive(self, "size", self.size)
        self._check_policies()

    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write the size and the policies."""
        floats[_SIZE] = self.size
        integers[_FLAGS] = self._flags()


@dataclass(frozen=True)
class AtrRenkoCandles(_Renko):
    """Bricks whose size is a multiple of the average true range that was known when the brick began.

    Charting programs size all bricks by the newest average true range and redraw the past when it changes. Here each
    finished brick fixes the size of the next from the interval bars finished by then, and no brick changes later. The
    borders are counted anew from the last brick's close; turning around takes two of the new bricks.

    Parameters
    ----------
    timeframe, window:
        Wilder's average true range over ``window`` finished bars of that timeframe (Wilder 1978, ch. 3). The ticks
        before that many bars are finished belong to no brick.
    smallest:
        The lower bound of a brick in units of price. It has no default: a flat market would make bricks of size zero.
    multiple:
        Average true ranges in a brick.
    gaps, wicks:
        As for :class:`RenkoCandles`.
    """

    timeframe: Timeframe | str
    smallest: float
    window: int = 14
    multiple: float = 1.0
    gaps: GapPolicy = "bricks"
    wicks: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeframe", require_interval(self, self.timeframe))
        require_positive(self, "smallest", self.smallest)
        require_positive(self, "multiple", self.multiple)
        require_count(self, "window", self.window, 1, 100_000)
        self._check_policies()

    def prepare(self, floats: Floats, integers: Integers) -> None:
        """Write interval, window, bounds and policies."""
        integers[_INTERVAL] = Timeframe.parse(self.timeframe).nanoseconds
        integers[_WINDOW], integers[_FLAGS] = self.window, self._flags()
        floats[_MULTIPLE], floats[_SMALLEST] = self.multiple, self.smallest


@njit(cache=True)
def renko_kernel(
    records: Records, floats: Floats, integers: Integers, out_floats: Floats, out_integers: Integers, start: int
) -> tuple[int, int, int]:
    """Renko bricks; see :data:`~tapeline.candles.candle_type.Kernel`."""
    interval, window = integers[_INTERVAL], integers[_WINDOW]
    merge, wicks = integers[_FLAGS] & _MERGE != 0, integers[_FLAGS] & _WICKS != 0
    adaptive = interval > 0
    anchor, brick = floats[_ANCHOR], floats[_BRICK]
    level, direction, anchored = integers[_LEVEL], integers[_DIRECTION], integers[_ANCHORED]
    previous = integers[PREVIOUS_TS]
    regime = regime_loaded(floats, integers, _REGIME_FLOATS, _REGIME_INTEGERS)
    rows, capacity = records.ts.size, out_integers.shape[1]
    bar = loaded(floats, integers)
    above, below = _triggers(anchor, brick, level, direction)
    i, k, needed = start, 0, 0
    while i < rows and k < capacity:
        price = records.close[i]
        if adaptive:
            ts = records.ts[i]
            if regime.ticks > 0 and ts >= regime.end:
                regime = regime_finished(regime, window, window)
            end = regime.end if regime.ticks > 0 else ts // interval * interval + interval
            if anchored == 0 and regime.bars < window:
                count = records.ticks[i] if records.ticks.size else 1
                regime = regime_seen(regime, records.high[i], records.low[i], price, count, end)
                i += 1
                continue
        if anchored == 0:
            anchored, anchor, level, direction = 1, price, 0, 0
            brick = max(floats[_MULTIPLE] * regime.true_range, floats[_SMALLEST]) if adaptive else floats[_SIZE]
            above, below = _triggers(anchor, brick, level, direction)
        heading, bricks = 0, 0
        if price >= above:
            heading = 1
        elif price <= below:
            heading = -1
        if heading != 0:
            first = level + (heading if direction == -heading else 0)
            bricks = _bricks(price, anchor, brick, first, heading)
            needed = 1 if merge else bricks
            if k + needed > capacity:
                break
        if bar.rows == 0:
            bar = started(records, i, records.ts[i])
        bar = grown(bar, records, i, 1.0)
        if bricks > 0:
            known, stamp = bar.known, bar.ts
            high, low, spread_close = bar.high, bar.low, bar.spread_close
            for j in range(needed):
                lower = anchor + (first + heading * j) * brick
                upper = anchor + (first + heading * (bricks if merge else j + 1)) * brick
                previous = max(stamp, previous + 1)
                emit(bar, previous, max(known, previous), 1.0 if j > 0 else 0.0, out_floats, out_integers, k)
                out_floats[0, k], out_floats[3, k] = lower, upper
                out_floats[1, k], out_floats[2, k] = max(lower, upper), min(lower, upper)
                if wicks and j == 0 and heading > 0:
                    out_floats[2, k] = min(low, lower)
                elif wicks and j == 0:
                    out_floats[1, k] = max(high, lower)
                out_floats[8, k] = spread_close
                k += 1
                # What was traded since the last brick belongs to the first; the others begin and end with this tick.
                bar, stamp = nothing(), known
            bar = nothing()
            level = first + heading * bricks
            direction = heading
            if adaptive:
                anchor, level = anchor + level * brick, 0
                brick = max(floats[_MULTIPLE] * regime.true_range, floats[_SMALLEST])
            above, below = _triggers(anchor, brick, level, direction)
        if adaptive:
            count = records.ticks[i] if records.ticks.size else 1
            regime = regime_seen(regime, records.high[i], records.low[i], price, count, end)
        i += 1
    store(bar, floats, integers)
    regime_store(regime, floats, integers, _REGIME_FLOATS, _REGIME_INTEGERS)
    floats[_ANCHOR], floats[_BRICK] = anchor, brick
    integers[_LEVEL], integers[_DIRECTION], integers[_ANCHORED] = level, direction, anchored
    integers[PREVIOUS_TS] = previous
    return i, k, needed


@njit(cache=True)
def _triggers(anchor: float, brick: float, level: int, direction: int) -> tuple[float, float]:
    """The prices at which the next brick up and the next brick down are complete."""
    slack = CLOSE_ENOUGH * brick
    above = anchor + (level + (2 if direction < 0 else 1)) * brick - slack
    below = anchor + (level - (2 if direction > 0 else 1)) * brick + slack
    return above, below


@njit(cache=True)
def _bricks(price: float, anchor: float, brick: float, first: int, heading: int) -> int:
    """How many whole bricks lie between the border ``first`` and the price; at least one."""
    slack = CLOSE_ENOUGH * brick
    # The quotient is a first guess; the borders themselves, as they will be written, decide.
    bricks = max(math.floor(heading * (price - anchor) / brick) - heading * first - 1, 1)
    while heading * (price - (anchor + (first + heading * (bricks + 1)) * brick)) >= -slack:
        bricks += 1
    return bricks


@njit(cache=True)
def push_renko(address: int, ts: int, price: float, size: float, side: int, spread: float) -> int:
    """One tick or trade; see :data:`~tapeline.candles.candle_type.Push`."""
    floats, integers, out_floats, out_integers = views_at(address)
    before = integers[LAST_RECORD_TS]
    if refuses(integers, ts, price, size, side, spread):
        return -1
    records = one_row(floats, integers, ts, price, size, side, spread)
    consumed, bars, _ = renko_kernel(records, floats, integers, out_floats, out_integers, 0)
    if consumed == 0:
        # More bricks than there is room for: nothing has been added yet, the growing path takes the tick.
        integers[LAST_RECORD_TS] = before
        return -1
    return bars
