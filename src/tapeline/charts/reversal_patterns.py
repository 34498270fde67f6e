"""Chart patterns that end a move: head and shoulders, double and triple tops and bottoms, rounding, cup with handle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.bowl_kernels import find_cups, find_roundings, lowest_between
from tapeline.charts.chart_patterns import (
    Share,
    Span,
    Wait,
    completed,
    completed_findings,
    pattern_findings,
    pattern_memory,
    swing_arguments,
)
from tapeline.charts.detector import Found, detector
from tapeline.charts.gaps import Age
from tapeline.charts.pattern_kernels import DOUBLE, HEAD_AND_SHOULDERS, TRIPLE, find_reversals
from tapeline.charts.pivots import find_pivots
from tapeline.charts.swings import Period, Size, Unit
from tapeline.charts.watch import expires_or_ends_at

Rise = Annotated[float, Field(ge=0.0, le=20.0)]

NAMES: Final = {
    HEAD_AND_SHOULDERS: ("head_and_shoulders_top", "head_and_shoulders_bottom"),
    DOUBLE: ("double_top", "double_bottom"),
    TRIPLE: ("triple_top", "triple_bottom"),
}
"""The kinds of each shape: the top, which speaks for falling prices, and the bottom."""


@detector(
    lookback=pattern_memory,
    reference=(
        "Lo, Mamaysky, Wang, Foundations of Technical Analysis, Journal of Finance 55 (2000), section II.A; Edwards, "
        "Magee, Technical Analysis of Stock Trends (1948); Bulkowski, Encyclopedia of Chart Patterns, 2nd ed. (2005)"
    ),
    follows=("max_age",),
    watch=expires_or_ends_at("target", "stop"),
)
def reversal_pattern(
    arrays: BarArrays,
    size: Size = 3.0,
    unit: Unit = "atr",
    window: Period = 14,
    shoulders: Share = 0.3,
    peaks: Share = 0.15,
    max_wait: Wait = 60,
    max_span: Span = 500,
    max_age: Age = 300,
) -> Iterator[Found]:
    """Head and shoulders, double and triple tops, and their bottoms, completed by the close through the neckline.

    ``direction`` is -1 for the tops and 1 for the bottoms, which are the same upside down. With E1 to E5 the pivots,
    the first of them a high, and E0 the low before them, which lies below all troughs: there is a rise to end.

    ==============================  =========================================  ======================================
    kind                            shape                                      neckline, and height above it
    ==============================  =========================================  ======================================
    ``head_and_shoulders_top``,     E3 above E1 and E5 by more than ``peaks``  the line through E2 and E4, carried on;
    ``head_and_shoulders_bottom``   of the height; E1 and E5 alike, and E2     from it to E3
                                    and E4, within ``shoulders`` of it
    ``double_top``,                 E1 and E3 alike within ``peaks`` of the    E2; from it to the higher peak
    ``double_bottom``               height
    ``triple_top``,                 E1, E3 and E5 alike within ``peaks`` of    the lower of E2 and E4; from it to the
    ``triple_bottom``               the height                                 highest peak
    ==============================  =========================================  ======================================

    The shapes are those of Lo, Mamaysky and Wang (the triple is Edwards and Magee's). They ask for levels within 1.5
    percent of the price, which is forty mean true ranges on minute bars of a currency and half a one on a volatile
    share; what the eye judges is the proportion within the figure, and that is the same on every market, so likeness
    is a share of the height here. For the same reason two peaks are as far apart as the zigzag's ``size`` makes them,
    not 22 days. No five pivots are both head and shoulders and a triple top; the last two peaks of a triple may make a
    double as well.

    Completed by the first close beyond the neckline, from the last peak's confirmation on and at most ``max_wait`` bars
    later; a close beyond the stop ends the wait. Target: the neckline at that close less the height (Bulkowski's
    measure rule); a close past it already completes nothing. Stop: the right shoulder, or the highest peak.

    ``start`` and ``end`` are the first and the last peak, ``low`` and ``high`` the extremes of the points: the pivots
    and the neckline at the completing close. ``score`` (0 to 1) is the mean of how alike the levels are, of how even
    the two halves are in time, and of 1 where the later half trades less volume a bar, as Bulkowski finds it mostly
    does (0 where more, a half where volume is unknown). Invalidated when the target or the stop is traded, or after
    ``max_age`` bars.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> def found(*corners):
    ...     frame = reversal_pattern(bars_through([(0, 95), (10, 90), *corners]))
    ...     return frame[["kind", "direction", "target", "stop"]].to_numpy().tolist()
    >>> found((30, 105), (40, 100), (55, 110), (70, 100), (80, 105), (100, 85))
    [['head_and_shoulders_top', -1, 90.0, 105.0]]
    >>> found((30, 110), (40, 104), (50, 110), (70, 95))
    [['double_top', -1, 98.0, 110.0]]
    >>> found((30, 110), (40, 104), (50, 110), (60, 103), (70, 109.5), (90, 92))
    [['double_top', -1, 98.0, 110.0], ['triple_top', -1, 96.0, 110.0]]
    """
    pivots = find_pivots(arrays, size, unit, window)
    for shape, tolerance, points in ((HEAD_AND_SHOULDERS, shoulders, 5), (DOUBLE, peaks, 3), (TRIPLE, peaks, 5)):
        found = completed(
            pivots, find_reversals, arrays.close, arrays.volume, *swing_arguments(pivots),
            shape, tolerance, peaks, max_wait, max_span,
        )  # fmt: skip
        yield from pattern_findings(arrays, found, {shape: NAMES[shape]}, points, max_age)
        yield found.waiting


@detector(
    lookback=lambda max_span, window: pattern_memory(3 * max_span, window),
    reference=(
        "O'Neil, How to Make Money in Stocks (1988), cup with handle; Edwards, Magee, Technical Analysis of Stock "
        "Trends (1948), rounding turns; Bulkowski, Encyclopedia of Chart Patterns, 2nd ed. (2005): measure rule"
    ),
    follows=("max_age",),
    watch=expires_or_ends_at("target", "stop"),
)
def bowl_pattern(
    arrays: BarArrays,
    size: Size = 2.0,
    unit: Unit = "atr",
    window: Period = 14,
    fit: Share = 0.8,
    centre: Share = 0.4,
    rims: Share = 0.25,
    rise: Rise = 1.0,
    handle: Share = 0.5,
    min_span: Span = 20,
    max_span: Span = 450,
    max_age: Age = 300,
) -> Iterator[Found]:
    """Rounding bottoms and cups with handle, and the same upside down: slow turns in the form of a bowl.

    Kinds ``rounding_bottom`` and ``cup_with_handle`` (``direction`` 1), ``rounding_top`` and
    ``inverted_cup_with_handle`` (-1). Closes from one row to another make a bowl where the least-squares parabola
    through them opens upwards, explains ``fit`` of their variance (R squared), has its lowest point within ``centre``
    of the middle (0 the middle, 1 the ends), and lies nearer to them than two straight lines to their lowest close do.
    The last is needed because a parabola explains 94 percent of a V as well.

    Rounding: the rim is a confirmed high; the first close above it, ``min_span`` to ``max_span`` bars after it,
    completes the pattern where the closes up to it make a bowl. Target: the rim plus the bowl's height; stop: its
    lowest price. ``start`` is the rim, ``end`` the completing bar.

    Cup with handle, O'Neil's rules, with what he gives in percent and weeks of daily shares put as proportions:

    ==========  ====================================================================================================
    before it   a rise into the left rim of at least ``rise`` cup depths, within as many bars as the cup is long (his
                30 percent before a cup 12 to 33 percent deep)
    cup         two confirmed highs, no higher one between them, their prices within ``rims`` of the depth; the closes
                between make a bowl; ``min_span`` to ``max_span`` bars
    handle      a pullback from the right rim that stays within ``handle`` of the depth (the upper half) and is at most
                half as long as the cup
    completed   the first close above the right rim, no earlier than that rim's confirmation
    target      the right rim plus the depth (Bulkowski's measure rule)
    stop        the handle's lowest price
    ==========  ====================================================================================================

    ``start`` is the left rim, ``end`` the right one. ``score`` (0 to 1) is the mean of R squared, of how well the
    lowest point is in the middle (a cup: how level its rims are), and of 1 where volume recedes into the bottom (a cup:
    over it). Invalidated when the target or the stop is traded, or after ``max_age`` bars.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_of_closes
    >>> def found(*closes):
    ...     frame = bowl_pattern(bars_of_closes(np.concatenate(closes)))
    ...     return frame[["kind", "direction", "target", "stop"]].to_numpy().tolist()
    >>> bowl = 100.0 + 12.0 * (np.arange(-30, 34) / 30.0) ** 2
    >>> found(np.linspace(105, 111, 20), bowl)
    [['rounding_bottom', 1, 124.0, 100.0]]
    >>> found(np.linspace(90, 111, 40), bowl[:61], np.linspace(111, 108, 6), np.linspace(109, 115, 9))[-1]
    ['cup_with_handle', 1, 124.0, 108.0]
    """
    pivots = find_pivots(arrays, size, unit, window)
    columns = arrays.high, arrays.low, arrays.close, arrays.volume
    turns = completed(pivots, find_roundings, *columns, *swing_arguments(pivots), fit, centre, min_span, max_span)
    for way, name in ((1, "rounding_bottom"), (-1, "rounding_top")):
        mine = turns.take(turns.direction == way)
        if len(mine):
            rim = pivots.row[mine.last]
            bottom = lowest_between(arrays.high, arrays.low, mine.direction, rim, mine.row)
            rows, prices = np.column_stack((rim, bottom)), np.column_stack((mine.border, mine.stop))
            yield completed_findings(arrays, mine, name, rows, prices, max_age, end=mine.row)
    cups = completed(
        pivots, find_cups, *columns, *swing_arguments(pivots), fit, centre, rims, rise, handle, min_span, max_span
    )
    for way, name in ((1, "cup_with_handle"), (-1, "inverted_cup_with_handle")):
        mine = cups.take(cups.direction == way)
        if len(mine):
            left, right = pivots.row[mine.first], pivots.row[mine.last]
            bottom = lowest_between(arrays.high, arrays.low, mine.direction, left, right)
            pullback = lowest_between(arrays.high, arrays.low, mine.direction, right + 1, mine.row)
            deepest = 2.0 * mine.border - mine.target
            rows = np.column_stack((left, bottom, right, pullback))
            prices = np.column_stack((pivots.price[mine.first], deepest, mine.border, mine.stop))
            yield completed_findings(arrays, mine, name, rows, prices, max_age, end=right)
    yield turns.waiting | cups.waiting
