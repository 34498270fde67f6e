"""Gann's angles and squares: fans of lines from confirmed swings, and the Square of Nine.

A Gann angle is a rise of so many units of price in so many bars, so it means nothing before it is said how much price
counts as much as one bar: drawn on a screen it changes with the size of the window. Every function here asks for that
number or for the rule that gives it. The same holds for the Square of Nine: the root of a price depends on its unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, mean_true_range
from tapeline.charts.detector import Found, detector
from tapeline.charts.events import Findings
from tapeline.charts.fate import fates
from tapeline.charts.gaps import Age
from tapeline.charts.pivots import PIVOT_MEMORY, find_pivots
from tapeline.charts.swings import Period, Size, Unit
from tapeline.charts.watch import Watch, expires_or_ends_at
from tapeline.core.errors import ConfigurationError

ANGLES: Final[tuple[float, ...]] = (1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.0, 2.0, 3.0, 4.0, 8.0)
"""Units of price a bar: 1x8 (an eighth of a unit each bar) up to 8x1 (eight units each bar)."""

Scale = Annotated[float, Field(gt=0.0, le=1_000.0)]
ScaleRule = Literal["true_range", "square_root", "percent"]
"""What one unit of price is, ``scale`` times: the mean true range at the swing's confirmation; the price that turns the
Square of Nine by one degree from the swing's price, in its fourth significant figure; one percent of the swing's price.
"""

_SLOPES: Final = np.array(ANGLES)


def unit_of(price: ArrayLike, figures: int = 4) -> Any:
    """The price of one step in the last of so many significant figures: 0.001 for 1.0842, 0.1 for 184.2.

    A stated unit for what depends on one. Quotes in cents and in dollars get units that match, because they differ by
    a power of ten; at a power of ten the unit jumps.

    Raises
    ------
    ConfigurationError
        A price that is not positive, or no figure.

    Examples
    --------
    >>> unit_of([1.0842, 184.2, 18420.0]).tolist()
    [0.001, 0.1, 10.0]
    """
    values = np.asarray(price, dtype=np.float64)
    if not (values > 0.0).all() or figures < 1:
        raise ConfigurationError(f"prices must be positive and figures at least 1, not {figures}")
    return 10.0 ** (np.floor(np.log10(values)) - (figures - 1))


def square_of_nine(price: float, degrees: ArrayLike, *, unit: float) -> Floats:
    """The prices that lie so many degrees from a price on the Square of Nine.

    The square winds the whole numbers in a spiral, and one turn of 360 degrees adds 2 to the root:
    ``(sqrt(price / unit) + degrees / 180) ** 2 * unit``; negative degrees go inwards.

    ``unit`` is the price that counts as one, such as a cent, a point or a pip. It decides the levels: 90 degrees above
    100 dollars are 110.25 in dollars and 101.00 in cents. So the levels do not scale with price, and a detector of
    their touches would find other events in the same market quoted in another currency: there is none here.

    Parameters
    ----------
    degrees:
        45, 90, 180 and 360 are in use.

    Returns
    -------
    One price for each of the degrees; NaN where the turn goes inwards beyond the centre.

    Raises
    ------
    ConfigurationError
        A price or a unit that is not positive.

    Examples
    --------
    >>> square_of_nine(100.0, [90, 360, -360], unit=1.0).tolist()
    [110.25, 144.0, 64.0]
    >>> square_of_nine(100.0, [90], unit=0.01).round(2).tolist()
    [101.0]
    """
    for name, value in (("price", price), ("unit", unit)):
        if not value > 0.0:
            raise ConfigurationError(f"{name} = {value} is refused", hint="a positive price")
    root = np.sqrt(price / unit) + np.asarray(degrees, dtype=np.float64) / 180.0
    return np.where(root < 0.0, np.nan, np.square(root) * unit)


def price_per_bar(
    rule: ScaleRule, price: ArrayLike, true_range: ArrayLike, *, scale: float = 1.0, figures: int = 4
) -> Floats:
    """How much price counts as one bar in a fan from a swing.

    Parameters
    ----------
    rule, scale:
        As :data:`ScaleRule` says.
    price, true_range:
        The swing's price, and the mean true range of the bar that confirmed it.
    figures:
        For ``square_root``: the significant figures whose last one is the unit (:func:`unit_of`). One degree a bar is
        Gann's year on the circle: a full turn takes 360 bars.

    Examples
    --------
    >>> [float(price_per_bar(rule, 100.0, 2.0)) for rule in ("true_range", "percent")]
    [2.0, 1.0]
    >>> float(price_per_bar("square_root", 100.0, 2.0).round(3))
    0.035
    """
    prices = np.asarray(price, dtype=np.float64)
    if rule == "true_range":
        return scale * np.asarray(true_range, dtype=np.float64)
    if rule == "percent":
        return scale * prices / 100.0
    if rule != "square_root":
        raise ConfigurationError(f"scale rule '{rule}' is unknown", hint="true_range, square_root or percent")
    unit = unit_of(prices, figures)
    return (np.square(np.sqrt(prices / unit) + scale / 180.0) - prices / unit) * unit


def gann_fan(
    row: int,
    price: float,
    rows: ArrayLike,
    *,
    price_per_bar: float,
    rising: bool = True,
    angles: Sequence[float] = ANGLES,
) -> Floats:
    """The prices of a fan's lines at some rows.

    Parameters
    ----------
    row, price:
        The swing it starts from; lines rise from a low and fall from a high.
    price_per_bar:
        How much price counts as one bar: the 1x1 moves by it each bar.

    Returns
    -------
    Shape (angles, rows); NaN before the swing.

    Raises
    ------
    ConfigurationError
        ``price_per_bar`` that is not positive.

    Examples
    --------
    >>> gann_fan(10, 100.0, [10, 14], price_per_bar=0.5, angles=(0.5, 1.0, 2.0)).tolist()
    [[100.0, 101.0], [100.0, 102.0], [100.0, 104.0]]
    """
    if not price_per_bar > 0.0:
        raise ConfigurationError(
            f"price_per_bar = {price_per_bar} is refused", hint="without a scale an angle means nothing"
        )
    at = np.asarray(rows, dtype=np.float64) - row
    lines = price + (1.0 if rising else -1.0) * price_per_bar * np.outer(np.asarray(angles, dtype=np.float64), at)
    return np.where(at < 0.0, np.nan, lines)


@njit(cache=True, nogil=True)
def _crossings(close: Any, row: Any, confirmed: Any, side: Any, price: Any, scale: Any, found: Any, level: Any) -> Any:
    """Fill ``found`` with (row, index of the swing, place of the angle, direction), ``level`` with the prices there.

    ``level`` holds the crossed line, the next one in the direction of the crossing and the one before, NaN where none.
    """
    count = 0
    angles = _SLOPES.size
    crossed = np.empty(angles, np.bool_)
    for i in range(row.size):
        if not scale[i] > 0.0:
            continue
        rising = -np.float64(side[i])
        # Until the next swing of this side is confirmed, which starts a fan of its own.
        last = confirmed[i + 2] if i + 2 < row.size else close.size - 1
        before = -1
        crossed[:] = False
        for t in range(confirmed[i], last + 1):
            if np.isnan(close[t]):
                continue
            passed = rising * (close[t] - price[i])
            if passed < 0.0:
                # A close beyond the swing: the fan's origin no longer stands.
                break
            a_bar = passed / scale[i] / (t - row[i])
            place = 0
            while place < angles and _SLOPES[place] < a_bar:
                place += 1
            if before >= 0 and place != before:
                # Of several lines crossed by one bar the last one: it is where the close stands now.
                step = 1 if place > before else -1
                k = place - 1 if step > 0 else place
                if not crossed[k]:
                    found[count, 0], found[count, 1], found[count, 2] = t, i, k
                    found[count, 3] = np.int64(step * rising)
                    unit = rising * scale[i] * (t - row[i])
                    level[count, 0] = price[i] + unit * _SLOPES[k]
                    ahead, behind = k + step, k - step
                    level[count, 1] = price[i] + unit * _SLOPES[ahead] if 0 <= ahead < angles else np.nan
                    level[count, 2] = price[i] + unit * _SLOPES[behind] if 0 <= behind < angles else np.nan
                    count += 1
                for j in range(min(place, before), max(place, before)):
                    crossed[j] = True
            before = place
    return count


@detector(
    lookback=PIVOT_MEMORY,
    reference="Gann, The Basis of My Forecasting Method for Grain (1935), the geometrical angles",
    watch=expires_or_ends_at("target", "stop"),
)
def gann_angle(
    arrays: BarArrays,
    size: Size = 6.0,
    unit: Unit = "atr",
    window: Period = 14,
    rule: ScaleRule = "true_range",
    scale: Scale = 0.25,
    max_age: Age = 100,
) -> Iterator[Found]:
    """Closes that cross an angle of the fan from a confirmed swing, from 1x8 to 8x1.

    Kind ``gann_angle_cross``: the first time that the close crosses an angle of a fan; where a bar crosses several, the
    last of them. Fans rise from lows and fall from highs; each lives until the next swing of its side is confirmed or a
    close lies beyond the swing. ``direction`` is the way the close crossed;
    ``score`` is the angle, in units of price a bar: 2 is 2x1, 0.125 is 1x8. ``low`` and ``high`` are the line's price
    at the bar that crossed. The target is the next angle in the direction of the crossing at that bar, the stop the
    angle on the other side; NaN beyond the outermost. Points: the swing and the crossing. Invalidated when target or
    stop is traded, or after ``max_age`` bars.

    Parameters
    ----------
    rule, scale:
        How much price counts as one bar, which every angle hangs on: ``scale`` mean true ranges at the swing's
        confirmation, ``scale`` degrees of the Square of Nine from the swing's price in its fourth significant figure,
        or ``scale`` percent of the swing's price. Only ``square_root`` changes with the unit of the quote. The default
        puts the 1x1 amid the slopes of ordinary legs; it is a convention, as any scale is.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> bars = bars_through([(0, 108.0), (20, 100.0), (30, 110.0), (60, 112.0)])
    >>> gann_angle(bars)[["direction", "score"]].tail(2).to_numpy().tolist()
    [[-1.0, 4.0], [-1.0, 3.0]]
    """
    pivots = find_pivots(arrays, size, unit, window)
    if not len(pivots):
        return
    usual = arrays.once(mean_true_range, window)[pivots.confirmed]
    steps = price_per_bar(rule, pivots.price, usual, scale=scale)
    most = _SLOPES.size * len(pivots)
    found, level = np.empty((most, 4), np.int64), np.empty((most, 3))
    count = _crossings(
        arrays.close, pivots.row, pivots.confirmed, pivots.side, pivots.price, steps, found, level
    )  # fmt: skip
    # The fans that no later swing of their side has ended: those of the last two.
    rise = -pivots.side[-2:, None] * steps[-2:, None] * np.concatenate(([0.0], _SLOPES))
    lines = pivots.price[-2:, None] + rise * (len(arrays) - 1 - pivots.row[-2:, None])
    yield Watch(lines.ravel(), rise.ravel(), closes=np.ones(lines.size))
    if not count:
        return
    row, swing, angle, way = found[:count].T
    direction = way.astype(np.int8)
    line, target, stop = level[:count, 0].copy(), level[:count, 1].copy(), level[:count, 2].copy()
    until = fates(arrays, row, direction, target, stop, max_age).row
    yield Findings(
        "gann_angle_cross",
        direction=direction,
        start=pivots.row[swing],
        end=row,
        confirmed=row,
        low=line,
        high=line,
        invalidated=until,
        target=target,
        stop=stop,
        score=_SLOPES[angle],
        point_rows=np.column_stack((pivots.row[swing], row)),
        point_prices=np.column_stack((pivots.price[swing], line)),
    )
