"""Fair value gaps: prices that three bars leaped over, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.detector import Found, detector
from tapeline.charts.event_kernels import first_returns
from tapeline.charts.events import Findings
from tapeline.charts.watch import ends_at, pending, watch_levels

Age = Annotated[int, Field(ge=1, le=100_000)]
"""For how many bars after its confirmation a finding is followed."""

Mitigation = Literal["touch", "encroachment", "fill"]
_SHARES: Final = {"touch": 0.0, "encroachment": 0.5, "fill": 1.0}


@dataclass(frozen=True)
class Gaps:
    """Fair value gaps in the order of their third bar: arrays of one length.

    ``third`` is the row of the third bar, whose close confirms the gap; ``direction`` 1 where price leaped up;
    ``low`` and ``high`` are its borders.
    """

    third: Rows
    direction: NDArray[np.int8]
    low: Floats
    high: Floats

    def __len__(self) -> int:
        return len(self.third)

    def reached(self, arrays: BarArrays, share: float) -> Rows:
        """The row at which price first came back through this share of each gap, -1 where it has not.

        0 is the near border, touched; 0.5 the middle, the consequent encroachment; 1 the far border, the gap filled.
        """
        height = self.high - self.low
        level = np.where(self.direction > 0, self.high - share * height, self.low + share * height)
        return self._crossed(arrays.low, arrays.high, level, strict=False)

    def closed_through(self, arrays: BarArrays) -> Rows:
        """The row at whose close price first stood beyond the far border, which turns the gap over; -1 where none."""
        level = np.where(self.direction > 0, self.low, self.high)
        return self._crossed(arrays.close, arrays.close, level, strict=True)

    def _crossed(self, falling: Floats, rising: Floats, level: Floats, *, strict: bool) -> Rows:
        return first_returns(self.direction, falling, rising, self.third, level, strict=strict)


@njit(cache=True, nogil=True)
def _three_bar_gaps(opened: Any, high: Any, low: Any, close: Any, body: Any) -> Any:
    rows: Any = np.empty(high.size, np.int64)
    count: Any = 0
    first_high, first_low, third_high, third_low = high[:-2], low[:-2], high[2:], low[2:]
    middle_open, middle_close = opened[1:-1], close[1:-1]
    for t in range(third_high.size):
        rises, falls = np.int64(third_low[t] > first_high[t]), np.int64(third_high[t] < first_low[t])
        drive = middle_close[t] - middle_open[t]
        # A bar in the middle without numbers is no leap.
        up, down = (drive > 0.0, drive < 0.0) if body else (drive == drive, drive == drive)
        # Written at every bar and counted at some: which bars leap cannot be guessed, so a branch costs more.
        rows[count] = t
        count += rises & np.int64(up) | falls & np.int64(down)
    third, direction = rows[:count] + 2, np.empty(count, np.int8)
    bottom, top = np.empty(count), np.empty(count)
    for i in range(count):
        t = third[i]
        rises = low[t] > high[t - 2]
        direction[i] = 1 if rises else -1
        bottom[i], top[i] = (high[t - 2], low[t]) if rises else (high[t], low[t - 2])
    return third, direction, bottom, top


def find_gaps(bars: pd.DataFrame | BarArrays, *, body: bool = True) -> Gaps:
    """The fair value gaps of bars: the third bar's range lies wholly beyond the first's.

    Parameters
    ----------
    body:
        Count only those whose middle bar has a body in the direction of the leap.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> gaps = find_gaps(example_bars(10, 14, 15, 15))
    >>> gaps.third.tolist(), gaps.low.tolist(), gaps.high.tolist()
    ([2], [11.0], [13.0])
    """
    arrays = BarArrays.of(bars)
    return Gaps(*_three_bar_gaps(arrays.open, arrays.high, arrays.low, arrays.close, body))


def gap_findings(gaps: Gaps, kind: str, close: Floats, invalidated: Rows) -> Findings:
    """Gaps as findings; ``score`` is the height in percent of the middle bar's close, ``stop`` the far border."""
    up = gaps.direction > 0
    first, middle = gaps.third - 2, gaps.third - 1
    return Findings(
        kind,
        direction=gaps.direction,
        start=first,
        end=gaps.third,
        confirmed=gaps.third,
        low=gaps.low,
        high=gaps.high,
        invalidated=invalidated,
        target=(gaps.low + gaps.high) / 2.0,
        stop=np.where(up, gaps.low, gaps.high),
        score=100.0 * (gaps.high - gaps.low) / close[middle],
        point_rows=np.column_stack((first, gaps.third)),
        point_prices=np.where(
            up[:, None], np.column_stack((gaps.low, gaps.high)), np.column_stack((gaps.high, gaps.low))
        ),
    )


def _new_gap(arrays: BarArrays) -> bool:
    """Whether the last three bars leave a gap, with or without a body between."""
    high, low = arrays.high, arrays.low
    return high.size > 2 and bool(low[-1] > high[-3] or high[-1] < low[-3])


@detector(
    lookback=3,
    reference="the three-bar imbalance of Huddleston's (ICT) teaching, as smart-money-concepts defines it",
    follows=("mitigation",),
    watch=ends_at("low", "target", "high"),
    probe=_new_gap,
)
def fair_value_gap(arrays: BarArrays, mitigation: Mitigation = "touch", body: bool = True) -> Iterator[Found]:
    """Gaps between the first and the third of three bars, confirmed at the third bar's close.

    Kind ``fair_value_gap``, ``direction`` 1 where price leaped up, ``low`` and ``high`` the borders, ``target`` the
    middle (consequent encroachment), ``stop`` the far border, ``score`` the height in percent of the price.
    ``invalidated_at`` is its mitigation: the close of the first later bar that reaches the near border (``touch``),
    the middle (``encroachment``) or the far border (``fill``). With ``body`` the middle bar must have closed in the
    direction of the leap.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = fair_value_gap(example_bars(10, 14, 15, 15, 12))
    >>> found[["direction", "low", "target", "high"]].to_numpy().tolist()
    [[1.0, 11.0, 12.0, 13.0]]
    >>> str(found["confirmed_at"].iloc[0]), str(found["invalidated_at"].iloc[0])
    ('2017-01-02 03:00:00+00:00', '2017-01-02 05:00:00+00:00')
    """
    gaps = arrays.once(find_gaps, body=body)
    yield gap_findings(gaps, "fair_value_gap", arrays.close, gaps.reached(arrays, _SHARES[mitigation]))


@detector(
    lookback=lambda max_age: max_age + 3,
    reference="Huddleston (ICT): inverse fair value gap, a gap that price closes through and returns to from beyond",
    watch=ends_at("stop", closes=True),
    probe=_new_gap,
)
def inverse_fair_value_gap(arrays: BarArrays, max_age: Age = 500, body: bool = True) -> Iterator[Found]:
    """Gaps that a close went through to the other side, confirmed at that close.

    Kind ``inverse_fair_value_gap`` with the borders of the gap and the opposite ``direction``; ``start`` is the first
    bar of the gap, ``end`` the bar that closed through it within ``max_age`` bars of the gap's third; ``stop`` the
    border at which it would be turned over again, ``invalidated_at`` the first close beyond that; ``score`` the height
    in percent of the price.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = inverse_fair_value_gap(example_bars(10, 14, 15, 15, 12, 10))
    >>> found[["direction", "low", "high", "stop"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([[-1.0, 11.0, 13.0, 13.0]], '2017-01-02 06:00:00+00:00')
    """
    close = arrays.close
    gaps = arrays.once(find_gaps, body=body)
    turned = gaps.closed_through(arrays)
    chosen = np.flatnonzero((turned >= 0) & (turned - gaps.third <= max_age))
    chosen = chosen[np.argsort(turned[chosen], kind="stable")]
    at = turned[chosen]
    over = Gaps(at, (-gaps.direction[chosen]).astype(np.int8), gaps.low[chosen], gaps.high[chosen])
    first = gaps.third[chosen] - 2
    up = over.direction > 0
    yield Findings(
        "inverse_fair_value_gap",
        direction=over.direction,
        start=first,
        end=at,
        confirmed=at,
        low=over.low,
        high=over.high,
        invalidated=over.closed_through(arrays),
        stop=np.where(up, over.low, over.high),
        score=100.0 * (over.high - over.low) / close[first + 1],
        point_rows=np.column_stack((first, first + 2, at)),
        point_prices=np.column_stack((over.low, over.high, close[at])),
    )
    yield watch_levels(pending(turned, np.where(gaps.direction > 0, gaps.low, gaps.high)), closes=True)


@detector(
    lookback=lambda max_age: max_age + 3,
    reference="Huddleston (ICT): consequent encroachment, the middle of a gap",
    watch=ends_at(),
    probe=_new_gap,
)
def gap_encroachment(arrays: BarArrays, max_age: Age = 500, body: bool = True) -> Iterator[Found]:
    """Returns of price to the middle of a fair value gap, confirmed at the close of the bar that reached it.

    Kind ``gap_encroachment`` with borders and ``direction`` of the gap; ``start`` is the gap's first bar, ``end`` the
    bar that reached the middle within ``max_age`` bars of the gap's third; ``score`` the bars it took.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = gap_encroachment(example_bars(10, 14, 15, 15, 13, 13))
    >>> found[["low", "high", "score"]].to_numpy().tolist(), str(found["confirmed_at"].iloc[0])
    ([[11.0, 13.0, 2.0]], '2017-01-02 05:00:00+00:00')
    """
    gaps = arrays.once(find_gaps, body=body)
    met = gaps.reached(arrays, 0.5)
    chosen = np.flatnonzero((met >= 0) & (met - gaps.third <= max_age))
    chosen = chosen[np.argsort(met[chosen], kind="stable")]
    at, third = met[chosen], gaps.third[chosen]
    middle = (gaps.low[chosen] + gaps.high[chosen]) / 2.0
    yield Findings(
        "gap_encroachment",
        direction=gaps.direction[chosen],
        start=third - 2,
        end=at,
        confirmed=at,
        low=gaps.low[chosen],
        high=gaps.high[chosen],
        score=(at - third).astype(np.float64),
        point_rows=np.column_stack((third, at)),
        point_prices=np.column_stack((middle, middle)),
    )
    yield watch_levels(pending(met, gaps.low + 0.5 * (gaps.high - gaps.low)))
