"""Volume-weighted average price of the day, week or month, of a window, or since an anchor, with its bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numba import njit
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.detector import Found, detector
from tapeline.charts.event_kernels import first_returns
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.pivot_lines import Minute, Span, bar_periods
from tapeline.charts.pivots import PIVOT_MEMORY, find_pivots
from tapeline.charts.swings import Period, Size, Unit
from tapeline.charts.watch import Watch, watch_standing
from tapeline.core.errors import DataError
from tapeline.core.registry import Tolerance, feature

Longest = Annotated[int, Field(ge=2, le=50_000)]
Deviations = Annotated[float, Field(gt=0.0, le=10.0)]
Age = Annotated[int, Field(ge=1, le=10_000)]

SOURCE: Final = (
    "Berkowitz, Logue, Noser, The Total Cost of Transactions on the NYSE, Journal of Finance 43 (1988); bands by the "
    "volume-weighted standard deviation; anchored: Shannon, Maximum Trading Gains with Anchored VWAP (2023)"
)
_SAME: Final = Tolerance(relative=1e-9, absolute=1e-7)
FEWEST: Final = 3
"""Bars after which a deviation is taken for one."""


@dataclass(frozen=True)
class Average:
    """By bar: the average price, the deviation around it, and how many bars they are made of."""

    price: Floats
    deviation: Floats
    bars: Floats

    def place_of(self, close: Floats) -> Floats:
        """The distance of the close from the average in deviations; NaN while there is no deviation to speak of."""
        result = np.full(close.size, np.nan)
        enough = (self.bars >= FEWEST) & (self.deviation > 1e-9 * self.price)
        np.divide(close - self.price, self.deviation, out=result, where=enough)
        return result


@njit(cache=True, nogil=True)
def _from_first(price: Any, volume: Any, first: Any, longest: Any, mean: Any, deviation: Any, bars: Any) -> None:
    total, centre, spread, begun = 0.0, 0.0, 0.0, -1
    for t in range(price.size):
        if first[t] != begun:
            total, centre, spread, begun = 0.0, 0.0, 0.0, first[t]
        mean[t], deviation[t], bars[t] = np.nan, np.nan, t - begun + 1
        if begun < 0:
            bars[t] = np.nan
            continue
        weight = volume[t]
        if weight > 0.0 and not np.isnan(price[t]):
            # West (1979): the sums never hold squares of prices, whose difference would be nothing but rounding.
            total += weight
            # The first price is the centre itself: a step from 0 would leave its rounding in the spread.
            step = price[t] - centre if total > weight else 0.0
            centre = centre if total > weight else price[t]
            centre += step * weight / total
            spread += weight * step * (price[t] - centre)
        if total > 0.0 and t - begun < longest:
            mean[t], deviation[t] = centre, np.sqrt(max(spread, 0.0) / total)


@njit(cache=True, nogil=True)
def _of_window(price: Any, volume: Any, window: Any, mean: Any, deviation: Any, bars: Any) -> None:
    for t in range(price.size):
        mean[t], deviation[t], bars[t] = np.nan, np.nan, min(t + 1, window)
        if t + 1 < window:
            continue
        total, centre, spread = 0.0, 0.0, 0.0
        for j in range(t - window + 1, t + 1):
            weight = volume[j]
            if weight > 0.0 and not np.isnan(price[j]):
                total += weight
                step = price[j] - centre if total > weight else 0.0
                centre = centre if total > weight else price[j]
                centre += step * weight / total
                spread += weight * step * (price[j] - centre)
        if total > 0.0:
            mean[t], deviation[t] = centre, np.sqrt(max(spread, 0.0) / total)


def typical_price(arrays: BarArrays) -> Floats:
    """The mean of high, low and close."""
    return (arrays.high + arrays.low + arrays.close) / 3.0


def average_since(bars: pd.DataFrame | BarArrays, first: Rows, longest: int = 50_000) -> Average:
    """The average of each bar since the row ``first`` says for it, -1 for none; ``first`` never falls.

    NaN where nothing was traded since, and beyond ``longest`` bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> average_since(example_bars(10, 10, 10, 10), np.array([0, 0, 2, 2])).bars.tolist()
    [1.0, 2.0, 1.0, 2.0]
    """
    arrays = BarArrays.of(bars)
    found = Average(*(np.empty(len(arrays)) for _ in range(3)))
    _from_first(arrays.once(typical_price), arrays.volume, first, longest, found.price, found.deviation, found.bars)
    return found


def average_of_span(arrays: BarArrays, span: Span, zone: str, start_minute: int, longest: int) -> Average:
    """The average of each bar's day, week or month so far."""
    numbers = arrays.once(bar_periods, span, zone, start_minute)
    return average_since(arrays, _begins(numbers), longest)


def average_of_window(bars: pd.DataFrame | BarArrays, window: int) -> Average:
    """The average of the last ``window`` bars."""
    arrays = BarArrays.of(bars)
    found = Average(*(np.empty(len(arrays)) for _ in range(3)))
    _of_window(arrays.once(typical_price), arrays.volume, window, found.price, found.deviation, found.bars)
    return found


def anchored_average(bars: pd.DataFrame | BarArrays, anchor: pd.Timestamp) -> pd.DataFrame:
    """The average since the bar that opens at an instant, with its deviation; NaN before it.

    Whoever chooses an anchor by what came after it, such as the low of the year, looks ahead: such anchors come from
    ``anchored_vwap``, which knows a turn when it is confirmed.

    Raises
    ------
    DataError
        No bar opens at that instant.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 12, 14)
    >>> anchored_average(bars, bars.index[1])["vwap"].round(2).tolist()
    [nan, 11.33, 12.53]
    """
    arrays = BarArrays.of(bars)
    place = int(np.searchsorted(arrays.opened, anchor.as_unit("ns").value))
    if place == len(arrays) or arrays.opened[place] != anchor.as_unit("ns").value:
        raise DataError(f"no bar opens at {anchor}", hint="anchor at the ts of a bar")
    first = np.where(np.arange(len(arrays)) >= place, place, -1)
    found = average_since(arrays, first)
    return pd.DataFrame({"vwap": found.price, "deviation": found.deviation}, index=arrays.bars.index)


def _begins(numbers: Rows) -> Rows:
    """The row at which the period of each row began."""
    if not numbers.size:
        return numbers
    new = np.concatenate(([True], numbers[1:] != numbers[:-1]))
    return np.maximum.accumulate(np.where(new, np.arange(numbers.size), 0))


@feature(
    lookback=lambda longest: longest + 1,
    outputs=("{span}_vwap", "{span}_vwap_upper", "{span}_vwap_lower", "{span}_vwap_upper_2", "{span}_vwap_lower_2"),
    reference=SOURCE,
    scale=(1, 0),
    tolerance=_SAME,
    stackable=False,
)
def vwap_bands(
    bars: pd.DataFrame,
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    longest: Longest = 1_500,
) -> pd.DataFrame:
    """The average price of the day, week or month so far, with one and two deviations around it, in price.

    Typical price (high, low, close) weighted by volume. It begins anew with each period and knows it only so far. A
    period of more than ``longest`` bars has no average beyond them: the default holds a day of minutes.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> vwap_bands(example_bars(10, 12, 14))["day_vwap"].round(2).tolist()
    [10.0, 10.89, 12.11]
    """
    arrays = BarArrays.of(bars)
    found = arrays.once(average_of_span, span, zone, start_minute, longest)
    bands = {f"{span}_vwap": found.price}
    for count in (1, 2):
        name = "" if count == 1 else "_2"
        bands[f"{span}_vwap_upper{name}"] = found.price + count * found.deviation
        bands[f"{span}_vwap_lower{name}"] = found.price - count * found.deviation
    return pd.DataFrame(bands, index=bars.index)


@feature(
    lookback=lambda longest, window: max(longest + 1, window),
    outputs=("vwap_place_{span}", "vwap_place_{window}", "vwap_slope_{window}"),
    reference=SOURCE,
    tolerance=_SAME,
    stackable=False,
)
def vwap_place(
    bars: pd.DataFrame,
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    longest: Longest = 1_500,
    window: Period = 48,
) -> pd.DataFrame:
    """Where the close lies towards the averages, without unit.

    Returns
    -------
    ``vwap_place_{span}`` and ``vwap_place_{window}``: the distance of the close from the average of the period so far
    and from that of the last ``window`` bars, in their deviations; 0 while there are fewer than three bars, nothing
    traded or no deviation. ``vwap_slope_{window}``: how far the average of the window has moved over the last bar, in
    its deviations.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> vwap_place(example_bars(10, 12, 14, 16), window=2)["vwap_place_day"].round(2).tolist()
    [0.0, 0.0, 1.45, 1.39]
    """
    arrays = BarArrays.of(bars)
    period = arrays.once(average_of_span, span, zone, start_minute, longest)
    rolling = arrays.once(average_of_window, window)
    slope = np.full(len(arrays), np.nan)
    moving = (rolling.deviation > 1e-9 * rolling.price)[1:]
    np.divide(np.diff(rolling.price), rolling.deviation[1:], out=slope[1:], where=moving)
    warm = np.arange(len(arrays)) >= window
    return pd.DataFrame(
        {
            f"vwap_place_{span}": np.nan_to_num(period.place_of(arrays.close)),
            f"vwap_place_{window}": np.where(warm, np.nan_to_num(rolling.place_of(arrays.close)), np.nan),
            f"vwap_slope_{window}": np.where(warm, np.nan_to_num(slope), np.nan),
        },
        index=bars.index,
    )


@feature(
    lookback=lambda longest: PIVOT_MEMORY + longest,
    outputs=("anchored_vwap_high", "anchored_vwap_low"),
    reference=SOURCE,
    scale=(1, 0),
    tolerance=_SAME,
)
def anchored_vwap(
    bars: pd.DataFrame, size: Size = 3.0, unit: Unit = "atr", window: Period = 14, longest: Longest = 1_500
) -> pd.DataFrame:
    """The average price since the last confirmed swing high and since the last confirmed swing low, in price.

    The anchor changes at the bar that confirms a new swing, and the average then goes back to its extreme. NaN before
    the first and where the anchor lies more than ``longest`` bars back.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = anchored_vwap(example_bars(10, 14, 18, 15, 12, 16), size=20.0, unit="percent")
    >>> found["anchored_vwap_high"].round(2).tolist()
    [nan, nan, nan, 16.29, 14.92, 14.83]
    """
    arrays = BarArrays.of(bars)
    pivots = find_pivots(arrays, size=size, unit=unit, window=window)
    data = {}
    for side, name in ((1, "anchored_vwap_high"), (-1, "anchored_vwap_low")):
        mine = pivots.side == side
        data[name] = _since_anchors(arrays, pivots.row[mine], pivots.confirmed[mine], longest)
    return pd.DataFrame(data, index=bars.index)


def _since_anchors(arrays: BarArrays, row: Rows, confirmed: Rows, longest: int) -> Floats:
    result = np.full(len(arrays), np.nan)
    _anchored(arrays.once(typical_price), arrays.volume, row, confirmed, longest, result)
    return result


@njit(cache=True, nogil=True)
def _anchored(price: Any, volume: Any, row: Any, confirmed: Any, longest: Any, result: Any) -> None:
    for i in range(row.size):
        end = confirmed[i + 1] if i + 1 < row.size else price.size
        total, centre = 0.0, 0.0
        for t in range(row[i], min(end, row[i] + longest)):
            if volume[t] > 0.0 and not np.isnan(price[t]):
                total += volume[t]
                centre += (price[t] - centre) * volume[t] / total
            if t >= confirmed[i] and total > 0.0:
                result[t] = centre


def _signals_followed(arrays: BarArrays, found: Sequence[Findings], max_age: int) -> Watch:
    returned = [part for part in found if part.kind == "vwap_band_return"]
    passed = [part for part in found if part.kind != "vwap_band_return"]
    return watch_standing(passed, ("low",), closes=True) | watch_standing(
        returned, ("target", "stop"), rows=len(arrays), max_age=max_age
    )


def _changes_place(
    arrays: BarArrays, span: Span, zone: str, start_minute: int, deviations: float, longest: int
) -> bool:
    """Whether the last close lies on another side of the average or of a band than the one before."""
    place = arrays.once(_places, span, zone, start_minute, longest)[-2:]
    if place.size < 2 or np.isnan(place).any():
        return False
    before, now = place.tolist()
    return before * now < 0.0 or (abs(before) <= deviations) != (abs(now) <= deviations)


def _places(arrays: BarArrays, span: Span, zone: str, start_minute: int, longest: int) -> Floats:
    return arrays.once(average_of_span, span, zone, start_minute, longest).place_of(arrays.close)


@detector(
    lookback=lambda longest, max_age: longest + max_age + 2,
    reference=SOURCE,
    watch=_signals_followed,
    probe=_changes_place,
)
def vwap_signal(
    arrays: BarArrays,
    span: Span = "day",
    zone: str = "UTC",
    start_minute: Minute = 0,
    deviations: Deviations = 2.0,
    longest: Longest = 1_500,
    max_age: Age = 300,
) -> Iterator[Found]:
    """Closes through the average of the period, out of its bands, and back into them, confirmed at that close.

    Kinds ``vwap_cross`` (the close changes sides of the average), ``vwap_band_break`` (the close leaves the band of
    ``deviations``, in the direction of the break) and ``vwap_band_return`` (the close comes back into the band, in the
    direction of the return; ``target`` is the average, ``stop`` the highest high, or lowest low, outside). ``low`` and
    ``high`` are the line as it stood, ``score`` the close's place in deviations. A cross and a break are invalidated by
    the first close back beyond the line as it stood then, a return by target or stop.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 10, 10, 12, 9, 8, 12)
    >>> vwap_signal(bars, deviations=1.0)[["kind", "direction"]].to_numpy().tolist()
    [['vwap_cross', -1], ['vwap_cross', 1]]
    """
    found = arrays.once(average_of_span, span, zone, start_minute, longest)
    place, close = arrays.once(_places, span, zone, start_minute, longest), arrays.close
    # A period's first bars have no place: what is compared lies in one period.
    before = np.concatenate(([np.nan], place[:-1])) if place.size else place
    with np.errstate(invalid="ignore"):
        crossed = np.flatnonzero(place * before < 0.0)
        left = np.flatnonzero((np.abs(place) > deviations) & (np.abs(before) <= deviations))
        returned = np.flatnonzero((np.abs(place) <= deviations) & (np.abs(before) > deviations))
    for kind, row, side in (
        ("vwap_cross", crossed, np.sign(place[crossed])),
        ("vwap_band_break", left, np.sign(place[left])),
    ):
        line = found.price[row] if kind == "vwap_cross" else found.price[row] + side * deviations * found.deviation[row]
        direction = side.astype(np.int8)
        until = _back_beyond(close, row, direction, line, max_age)
        yield _signal(kind, direction, row, line, until, place[row])
    direction = (-np.sign(before[returned])).astype(np.int8)
    line = found.price[returned] - direction * deviations * found.deviation[returned]
    stop = _farthest_outside(arrays.high, arrays.low, place, deviations, returned, direction)
    target = found.price[returned]
    until = fates(arrays, returned, direction, target, stop, max_age).row
    yield _signal("vwap_band_return", direction, returned, line, until, place[returned], target=target, stop=stop)


def _signal(
    kind: str,
    direction: Any,
    row: Rows,
    line: Floats,
    until: Rows,
    score: Floats,
    target: Floats | None = None,
    stop: Floats | None = None,
) -> Findings:
    return Findings(
        kind, direction=direction, start=np.maximum(row - 1, 0), end=row, confirmed=row, low=line, high=line,
        invalidated=until, target=target, stop=stop, score=score, point_rows=row[:, None], point_prices=line[:, None],
    )  # fmt: skip


def _back_beyond(close: Floats, row: Rows, direction: Any, line: Floats, max_age: int) -> Rows:
    until = first_returns(direction, close, close, row, line, strict=True)
    return np.where(until - row <= max_age, until, -1)


@njit(cache=True, nogil=True)
def _farthest_outside(high: Any, low: Any, place: Any, deviations: Any, returned: Any, direction: Any) -> Any:
    """The extreme of the bars outside the band before each return, and of the returning bar."""
    result = np.empty(returned.size)
    for i in range(returned.size):
        t = returned[i]
        extreme = low[t] if direction[i] > 0 else high[t]
        j = t - 1
        while j >= 0 and abs(place[j]) > deviations:
            extreme = min(extreme, low[j]) if direction[i] > 0 else max(extreme, high[j])
            j -= 1
        result[i] = extreme
    return result
