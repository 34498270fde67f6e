"""Chart patterns between two borders: triangles, wedges, rectangles, broadening formations; flags and pennants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field

from tapeline.charts import pattern_kernels as kernels
from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.chart_patterns import (
    FINE,
    Share,
    Span,
    Wait,
    completed,
    pattern_findings,
    pattern_memory,
    swing_arguments,
)
from tapeline.charts.detector import Found, detector
from tapeline.charts.gaps import Age
from tapeline.charts.pivots import find_pivots
from tapeline.charts.swings import Period, Size, Unit
from tapeline.charts.watch import expires_or_ends_at

Bars = Annotated[int, Field(ge=2, le=1_000)]

REFERENCE: Final = (
    "Lo, Mamaysky, Wang, Foundations of Technical Analysis, Journal of Finance 55 (2000), section II.A; Edwards, "
    "Magee, Technical Analysis of Stock Trends (1948); Bulkowski, Encyclopedia of Chart Patterns, 2nd ed. (2005)"
)

BORDER_KINDS: Final = {
    kernels.ASCENDING_TRIANGLE: "ascending_triangle",
    kernels.DESCENDING_TRIANGLE: "descending_triangle",
    kernels.SYMMETRICAL_TRIANGLE: "symmetrical_triangle",
    kernels.RISING_WEDGE: "rising_wedge",
    kernels.FALLING_WEDGE: "falling_wedge",
    kernels.RECTANGLE: "rectangle",
    kernels.BROADENING: "broadening",
    kernels.RISING_BROADENING: "ascending_broadening",
    kernels.FALLING_BROADENING: "descending_broadening",
}
FLAG_KINDS: Final = {kernels.FLAG: "flag", kernels.PENNANT: "pennant"}


@detector(
    lookback=pattern_memory, reference=REFERENCE, follows=("max_age",), watch=expires_or_ends_at("target", "stop")
)
def bordered_pattern(
    arrays: BarArrays,
    size: Size = 3.0,
    unit: Unit = "atr",
    window: Period = 14,
    tolerance: Share = 0.15,
    flat: Share = 0.15,
    narrow: Share = 0.75,
    max_wait: Wait = 60,
    max_span: Span = 400,
    max_age: Age = 300,
) -> Iterator[Found]:
    """Triangles, wedges, rectangles and broadening formations: five touches of two borders, and a close beyond one.

    With E1 to E5 the pivots, beginning with a high or a low, one border runs through E1 and E5, from which E3 is off by
    at most ``tolerance`` of the pattern's height (highest less lowest pivot), the other through E2 and E4. How far each
    moves from E1 to E5, as a share of that height, says which kind they make; up to ``flat`` either way is flat:

    ==========================  =============  =============  ==================================================
    kind                        upper border   lower border   besides
    ==========================  =============  =============  ==================================================
    ``ascending_triangle``      flat           rises
    ``descending_triangle``     falls          flat
    ``symmetrical_triangle``    falls          rises          Lo, Mamaysky, Wang: E1 > E3 > E5, E2 < E4
    ``rising_wedge``            rises          rises          at E5 at most ``narrow`` as wide as at E1
    ``falling_wedge``           falls          falls          at E5 at most ``narrow`` as wide as at E1
    ``rectangle``               flat           flat
    ``broadening``              rises          falls          Lo, Mamaysky, Wang: E1 < E3 < E5, E2 > E4
    ``ascending_broadening``    rises          flat           Bulkowski: right-angled and ascending
    ``descending_broadening``   flat           falls          Bulkowski: right-angled and descending
    ==========================  =============  =============  ==================================================

    Lo, Mamaysky and Wang measure likeness in percent of the price; a share of the height is the same figure on every
    market and timeframe. Completed by the first close beyond a border from E5's confirmation on, at most ``max_wait``
    bars later and before the borders meet; ``direction`` is that of this close. Target, after Bulkowski's measure
    rule: the border at that close plus (less) the pattern's height; for a wedge that breaks against its slope, its
    lowest (highest) price. Stop: the farthest price on the other side since the last pivot there. A close that is
    past its target already completes nothing.

    ``start`` and ``end`` are E1 and E5; the points are E1 to E5 and the border at the close. ``score`` (0 to 1) is the
    mean of how near E3 is to its border, of the shortest leg over the longest in time, and of 1 where volume recedes
    (0 where it grows, a half where unknown). Invalidated when target or stop is traded, or after ``max_age`` bars.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> def found(*corners):
    ...     frame = bordered_pattern(bars_through([(0, 92), (10, 90), *corners]))
    ...     return frame[["kind", "direction", "target", "stop"]].to_numpy().tolist()
    >>> found((30, 110), (45, 98), (60, 110), (72, 103), (82, 110), (86, 106), (95, 125))
    [['ascending_triangle', 1, 122.0, 103.0]]
    >>> found((30, 104), (45, 97), (60, 108), (72, 103.5), (85, 111.3), (110, 85))
    [['rising_wedge', -1, 97.0, 111.3]]
    >>> found((30, 110), (45, 100), (60, 110), (72, 100), (82, 110), (110, 85))
    [['rectangle', -1, 90.0, 110.0]]
    """
    pivots = find_pivots(arrays, size, unit, window)
    found = completed(
        pivots, kernels.find_borders, arrays.high, arrays.low, arrays.close, arrays.volume,
        *swing_arguments(pivots), tolerance, flat, narrow, max_wait, max_span,
    )  # fmt: skip
    names = {kind: (name, name) for kind, name in BORDER_KINDS.items()}
    yield from pattern_findings(arrays, found, names, 5, max_age)
    yield found.waiting


@detector(
    lookback=lambda max_pole, max_flag, max_wait, window: pattern_memory(max_pole + max_flag, window, max_wait),
    reference=(
        "Edwards, Magee, Technical Analysis of Stock Trends (1948), flags and pennants; Bulkowski, Encyclopedia of "
        "Chart Patterns, 2nd ed. (2005): measure rule from the flagpole"
    ),
    follows=("max_age",),
    watch=expires_or_ends_at("target", "stop"),
)
def flag_pattern(
    arrays: BarArrays,
    size: Size = FINE,
    unit: Unit = "atr",
    window: Period = 14,
    pole: Size = 4.0,
    depth: Share = 0.62,
    narrow: Share = 0.6,
    max_pole: Bars = 12,
    max_flag: Bars = 40,
    max_wait: Wait = 20,
    max_age: Age = 300,
) -> Iterator[Found]:
    """A steep move, a small pause that drifts against it, and the close that goes on along the move.

    Kinds ``flag`` and ``pennant``; ``direction`` is that of the pole. Five pivots of a fine zigzag, E0 to E4:

    =========  ======================================================================================================
    pole       from E0 to E1 at least ``pole`` mean true ranges, as they stood at E0, in at most ``max_pole`` bars
    pause      E1 to E4 in at most ``max_flag`` bars, giving back at most ``depth`` of the pole
    borders    through E1 and E3, and through E2 and E4; the first slopes against the pole (a flag's may be level)
    flag       as wide at E4 as at E1 but for the factor ``narrow``: parallel, not sloping with the pole
    pennant    at E4 at most ``narrow`` as wide as at E1: the borders meet
    completed  the first close beyond the border through E1 and E3, from E4's confirmation on, at most ``max_wait`` bars
               later; a close beyond the pause's far end before that ends the wait
    target     the pause's far end plus the length of the pole (Bulkowski)
    stop       the pause's far end
    =========  ======================================================================================================

    Edwards and Magee bound a pause by three to four weeks of daily bars; here it is bars. ``score`` (0 to 1) is the
    mean of how little of the pole the pause gave back, of how even its two borders are in time, and of 1 where volume
    recedes from the pole on. ``start`` and ``end`` are E0 and E4; the points are E0 to E4 and the border at the close.
    Invalidated when target or stop is traded, or after ``max_age`` bars.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> corners = [(0, 100), (20, 101), (21, 100), (40, 101), (41, 100), (47, 112), (51, 108), (54, 111), (58, 107)]
    >>> found = flag_pattern(bars_through([*corners, (66, 117)]))
    >>> found[["kind", "direction", "target", "stop"]].to_numpy().tolist()
    [['flag', 1, 119.0, 107.0]]
    """
    pivots = find_pivots(arrays, size, unit, window)
    found = completed(
        pivots, kernels.find_flags, arrays.close, arrays.volume, arrays.once(mean_true_range, window),
        *swing_arguments(pivots), pole, max_pole, max_flag, depth, narrow, max_wait,
    )  # fmt: skip
    names = {kind: (name, name) for kind, name in FLAG_KINDS.items()}
    yield from pattern_findings(arrays, found, names, 5, max_age)
    yield found.waiting
